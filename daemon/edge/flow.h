/*
 * TCP flows between programs and the mesh, in both directions.
 *
 *	outbound: DIALLING -> MEETING -> OPEN
 *	          DIALLING | MEETING -> FAILING
 *	inbound:  CALLING -> OPEN
 *	any -> DEAD
 */
#ifndef MESHWRAP_DAEMON_EDGE_FLOW_H
#define MESHWRAP_DAEMON_EDGE_FLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/edge/gather.h"
#include "daemon/edge/mapfile.h"
#include "daemon/edge/stream.h"
#include "daemon/edge/timer.h"
#include "shared/endpoint.h"
#include "shared/log.h"

#define FLOWS_MAX 49152 /* three quarters of the map's slots */

struct app;
struct edge;
struct flow;
struct flow_tables;
struct ipc_patience;
struct ipc_post;
struct ucred;
struct plan;
struct stow;

struct flows {
	struct edge *edge;
	struct flow_tables *tables;
	struct flow *all, *dead;
	TAILQ_HEAD(, flow) busy;
	struct gather gather;
	struct event pump; /* runs busy flows, and those that waited for more, in the next round */
	bool has_pump, is_pumping;
	unsigned count;
	struct log_gate descriptor_gate;
	/* Descriptors: see flow_stow.c. */
	TAILQ_HEAD(, flow) held; /* open flows that have one; who comes first is asked first */
	struct stow *stow;       /* NULL until it is needed */
	struct event stow_event;
	int pressure_fd;          /* so high a descriptor says that few are left; INT_MAX: never */
	unsigned pressed;         /* such descriptors in this round */
	uint64_t search_again_ns; /* no flow was idle: not before */
	bool has_told_pressure;   /* the log */
	bool has_lost;            /* an inbound one: see flow_lost.c */
};

/* 0 or -ENOMEM. */
int flows_open(struct flows *flows, struct edge *edge);
/* Resets all. */
void flows_close(struct flows *flows);
/* Frees dead flows. Not from inside a flow's callback. */
void flows_reap(struct flows *flows);
/* Busy flows shall run in the next round: called when this one ends. */
void flows_round_ended(struct flows *flows);
/* flows_round_ended() is to be called, whatever the time is. */
bool flows_want_round(const struct flows *flows);

/* Those whose holders are about to leave fail, too, and the far side is told: RST. */
void flows_break_off(struct flows *flows, bool (*leaves)(const void *holder));
/*
 * Those whose address has another holder than at their begin, or none, fail: EHOSTUNREACH. Unless
 * at_once only where the call before found so, too; true: some are to be looked at again.
 */
bool flows_leave_gone_peers(struct flows *flows, bool at_once);

/* plan_keep() for the mirror of each. */
void flows_keep_mirrors(const struct flows *flows, struct plan *plan);

/* Idle flows give up their descriptors, some at least: was there one? */
bool flows_free_descriptors(struct flows *flows);
/* The same for a question of a program, which shall have its answer when there is really none left.
 */
bool flows_free_for_question(struct flows *flows);
/* Open flows without a descriptor. */
unsigned flows_stowed(const struct flows *flows);

/* Serves IPC_CONNECT: answers app now or later. patience: NULL, the program has asked for none. */
void flow_dial(struct edge *edge, struct app *app, const struct endpoint *program,
	       const struct endpoint *remote, bool is_first, const struct ipc_patience *patience);
/* The same for a program that does not wait for an answer; who: has posted it. */
void flow_dial_posted(struct edge *edge, const struct ipc_post *post, const struct ucred *who);
/* The program that waits for this flow's answer does not wait any more. */
void flow_asker_gone(struct flow *flow);
/* "dial first": a program's connection has come in. */
void flow_accept(struct edge *edge, int fd);

/* What edge_tcp_*() report. */
void flow_incoming(struct edge *edge, struct tcp_conn *conn, const struct endpoint *local,
		   const struct endpoint *remote);
void flow_tcp_event(struct flow *flow, unsigned events);
void flow_cancelled(struct edge *edge, struct tcp_conn *conn);

#endif
