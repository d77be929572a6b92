/*
 * Seeded applications on both ends of a world: they dial, accept, refuse,
 * write in pieces, read slowly, half-close, close and abort, and check every
 * byte and every end they see.
 */
#ifndef MESHWRAP_TESTS_SIM_FLOWS_H
#define MESHWRAP_TESTS_SIM_FLOWS_H

#include "world.h"

#define FLOWS_MAX 40

enum flow_kind { FLOW_DIALLED, FLOW_SIMULTANEOUS, FLOW_REFUSED };

enum flow_close {
	CLOSE_FINISH, /* after the last byte; reads on to the end */
	CLOSE_LATE,   /* when the far side has ended */
	CLOSE_BLIND,  /* releases after the last byte; the far side sends nothing */
	CLOSE_ABORT   /* resets somewhere on the way */
};

struct flow;

struct flow_end {
	struct flow *flow;
	struct side *side;
	struct tcp_conn *conn;
	enum flow_close close;
	uint64_t key; /* of the content it sends */
	uint64_t to_send, sent, received, abort_after;
	uint32_t write_max, read_max;
	uint64_t pause_ns;                     /* between reads and writes, at most; 0: none */
	uint64_t read_ns, write_ns, decide_ns; /* NEVER_NS: nothing planned */
	uint64_t poll_ns;                      /* asks for space at this time, and writes nothing */
	bool was_open, has_finished, has_ended, is_done, was_aborted;
};

struct flow {
	unsigned id;
	enum flow_kind kind;
	uint64_t dial_ns;
	struct tcp_conn *parked;
	struct flow_end end[2]; /* end[0] dials; end[i] may be on either side */
};

struct flows {
	struct flow flow[FLOWS_MAX];
	unsigned count;
	uint64_t progress_ns; /* when anything last came forward */
	char wrong[200];      /* what was wrong, or empty */
};

extern const struct world_app flows_app;

/* w->app_state must be flows. */
void flows_init(struct flows *flows, struct world *w);
bool flows_are_done(const struct flows *flows);
void flows_describe(const struct flows *flows);

#endif
