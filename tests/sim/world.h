/*
 * Two TCP endpoints joined by two virtual links, and the clock they live by.
 */
#ifndef MESHWRAP_TESTS_SIM_WORLD_H
#define MESHWRAP_TESTS_SIM_WORLD_H

#include "daemon/tcp/endpoint.h"
#include "link.h"
#include "strict.h"

struct world;

struct side {
	struct world *world;
	unsigned index;
	struct tcp *tcp;
	struct endpoint address; /* port 0 */
	struct link link;        /* what this side sends goes in here */
	struct link_packet *reserved;
	unsigned in_batch, batch_max; /* packets since unblocked; 0: no limit */
	uint64_t unblock_ns;          /* NEVER_NS: not blocked */
	uint64_t awake_ns;            /* it naps until then */
	struct strict *strict;        /* NULL: it takes what it can */
};

/* What the application does; owner of the endpoints' callbacks is the side. */
struct world_app {
	void (*incoming)(struct side *side, struct tcp_conn *conn, const struct endpoint *local,
			 const struct endpoint *remote);
	void (*event)(struct side *side, struct tcp_conn *conn, void *user, unsigned events);
	void (*cancelled)(struct side *side, struct tcp_conn *conn); /* NULL: it does not care */
	/* The application's own next deadline, and what it does then; NULL: it has none. */
	uint64_t (*next_ns)(struct world *world);
	void (*run)(struct world *world);
};

struct world {
	uint64_t now_ns;
	uint64_t random;
	uint64_t nap_ns; /* a busy machine: a side that had work has no turn for up to so long */
	/* One that is taken away now and then: one side has no turn for up to so long. */
	uint64_t hiccup_ns, hiccup_every_ns, next_hiccup_ns;
	struct side side[2];
	const struct world_app *app;
	void *app_state;
	uint64_t steps;
	bool is_traced; /* a line for each packet sent */
};

/* links[i]: from side i. batch_max: after so many packets a side is blocked for a while. */
void world_init(struct world *w, const struct tcp_config *config,
		const struct link_config links[static 2], bool is_v6, uint64_t seed);
void world_finish(struct world *w);
/* To the next moment at which anything happens. False: nothing ever will. */
bool world_step(struct world *w);
void world_flush(struct world *w);

#endif
