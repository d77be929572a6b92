/* One flow, for flow.c, outbound.c and inbound.c. */
#ifndef MESHWRAP_DAEMON_EDGE_FLOW_PRIVATE_H
#define MESHWRAP_DAEMON_EDGE_FLOW_PRIVATE_H

/* A table that cannot grow says so instead of ending the daemon. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "daemon/edge/dial.h"
#include "daemon/edge/gather.h"
#include "daemon/edge/private.h"

enum flow_state {
	FLOW_DIALLING, /* the far side was asked */
	FLOW_MEETING,  /* it answered; our socket is to meet the program's */
	FLOW_FAILING,  /* it did not; the program's connect is to be ended */
	FLOW_CALLING,  /* inbound: the local listener is being called */
	FLOW_OPEN,
	FLOW_DEAD
};

enum flow_hearing {
	HEARS,
	HEARS_AND_HAS_ASKED, /* the far side, which may be silent */
	IS_DEAF              /* to the program, whose kernel then finds that silence itself */
};

#define FLOW_RESET_WAIT_NS (2 * NS_PER_S) /* for what goes before a reset to be taken */

struct flow {
	struct edge *edge;
	enum flow_state state;
	bool is_inbound;
	bool is_service;         /* there is no far side: see service.h */
	struct endpoint program; /* its end on loopback; inbound: the listener */
	struct endpoint local, remote;
	uint32_t peer_mirror;
	const void *holder;    /* of the address at its begin; only compared */
	bool is_missed;        /* that one was gone at the last look */
	struct tcp_conn *conn; /* NULL: none, or released */
	struct stream stream;
	struct edge_timer timer;
	uint64_t give_up_ns;
	unsigned tries;
	/* outbound */
	struct map_ends key; /* in the table by_program */
	bool is_keyed;
	struct mapfile_flow entry;
	const struct hold *hold; /* where the program's connect goes */
	struct app *asker;
	uint64_t announced_ns; /* when the program said that it will connect */
	/* dialled from inside: see dial.h; dialled NULL: it is a program's */
	dial_done *dialled;
	void *dial_arg;
	/* inbound */
	struct targets targets; /* where it looks for a listener */
	unsigned target;        /* which of them it is at */
	bool is_parked;         /* in the table by_conn */
	uint64_t pair;          /* key in MAP_TCP_IN, 0: none */
	UT_hash_handle by_program, by_conn;
	struct flow *prev, *next; /* of all, or (next only) of the dead */
	TAILQ_ENTRY(flow) by_busy;
	bool is_busy;
	struct gather_item gather;
	TAILQ_ENTRY(flow) by_held;
	bool is_held;    /* in that list */
	bool is_warm;    /* it ran since it was asked last */
	uint32_t ticket; /* of its socket, which is stowed; 0: it is not */
	bool is_untaken; /* then: the kernel held bytes that the program had not taken */
	/* The far side is dead: bytes that the program has not taken yet, and since when so many.
	 */
	size_t rest;
	uint64_t rest_ns;
	/* See flow_silence.c. */
	struct edge_timer look_timer;
	enum flow_hearing hearing;
	bool kernel_waits, kernel_counts_anew;
	uint64_t asked_ns, look_pause_ns;
	uint64_t kernel_asks_ns; /* when the program's kernel was to ask next, by keepalive */
};

struct flow_tables {
	struct flow *by_program, *by_conn;
};

/* NULL at the limit or without memory. */
struct flow *flow_create(struct edge *edge, const struct endpoint *local,
			 const struct endpoint *remote, enum flow_state state);
void flow_set_state(struct flow *flow, enum flow_state state);
/* fd is established and now the flow's: OPEN, unless memory is short, then DEAD. */
void flow_open(struct flow *flow, int fd);
/* Ends both sides: reset says how the program is told; the mesh side is aborted if it lives. */
void flow_kill(struct flow *flow, bool reset);
/* Everything but the mesh side. */
void flow_bury(struct flow *flow, bool reset);
/* Does the program still hold its end of an open flow? */
enum sock_life flow_program_life(struct flow *flow);
/* Our end on loopback, as the program's kernel has it; not of those that the proxy has dialled. */
struct endpoint flow_our_end(const struct flow *flow);
/* No descriptor was left for this flow: says so, and what helps. */
void flow_lacks_descriptor(const struct flow *flow);
/* A program's connect as its kernel knows it. */
struct map_ends flow_key(const struct endpoint *program, uint32_t peer_mirror,
			 const struct hold *hold);
void flow_enter(struct flow *flow);
void flow_unkey(struct flow *flow);

/* ---- flow_stow.c ---- */
void flows_stow_init(struct flows *flows);
void flows_stow_finish(struct flows *flows); /* resets what is stowed */
void flows_stow_round_ended(struct flows *flows);
/* It has opened, with this descriptor. */
void flow_hold_descriptor(struct flow *flow);
/*
 * A stowed flow gets its socket back and may run. False: there is no descriptor now, and
 * the timer will try again; or memory was short, and it is dead.
 */
bool flow_fetch(struct flow *flow);
/* It dies: the stream has its socket once more, to close it, if it was open at all. */
void flow_leave_stow(struct flow *flow);

/* ---- patience.c ---- */
/* May they decide on it? Root and our own user on all, others where its program's socket is theirs.
 */
struct ucred;
bool flow_is_of(struct flow *flow, const struct ucred *who);

/* ---- flow_silence.c ---- */
/* It has opened. */
void flow_watch_silence(struct flow *flow);
/* A program says so; of one that has not opened yet, too. */
void flow_keepalive_changed(struct flow *flow);
/* The far side is there, or does not matter any more. */
void flow_hear_again(struct flow *flow);

/* ---- flow_lost.c ---- */
/* Its far side fell silent: who is reset by that may see it in the map. */
void flow_tell_lost(struct flow *flow);
/* An inbound flow begins where one may have been lost before. */
void flow_forget_lost(struct flow *flow);

/* ---- flow_reset.c ---- */
/* The program has reset its end, and all that it wrote before was read. */
void flow_program_reset(struct flow *flow);
void flow_far_side_failed(struct flow *flow);
/* How much of what was written to its socket the program has not taken. Not of a stowed one. */
size_t flow_untaken_in_socket(const struct flow *flow);
/* While there is a rest: whatever has happened. */
void flow_deliver_rest(struct flow *flow);

/* ---- outbound.c, inbound.c, dial.c ---- */
/* What a program has dialled from there to this mirror; NULL: nothing. */
struct flow *flow_find_dialled(struct edge *edge, const struct endpoint *program,
			       uint32_t peer_mirror, const struct hold *hold);
/* Fetched if need be, and run. */
void flow_wake(struct flow *flow);
void dial_tcp_event(struct flow *flow, unsigned events);
void outbound_tcp_event(struct flow *flow, unsigned events);
void outbound_timer(struct flow *flow, uint64_t now_ns);
void inbound_timer(struct flow *flow, uint64_t now_ns);
void inbound_unpark(struct flow *flow);
/* Nobody answers the SYN that waits. */
void inbound_ignore(struct flow *flow);

#endif
