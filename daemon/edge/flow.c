/*
 * Flows: the table, the common life of both directions, and the rounds.
 *
 * A flow that dies stays in memory until flows_reap(), which is called where
 * no callback of a flow can be below us on the stack.
 *
 * Fairness: a stream moves STREAM_ROUND bytes and then waits for its turn in
 * the list of busy flows. The pump, which runs the first of them, is an event
 * that is activated at the end of a round, so the next one does not block; and
 * a round stays short however many are busy, for those who want little. What bulk
 * streams have gathered (gather.h) is delivered before the next look at the sockets.
 *
 * TIME_WAIT. A program that closes first leaves a TIME_WAIT (before our FIN:
 * FIN_WAIT2) at its own mirror and port, which keeps that port from bind(0)
 * for a minute: 28,000 connects and the mirror is used up. So when both
 * directions have ended, and the kernel says that no process holds the
 * program's socket any more, our side ends by a reset. It loses nothing: every
 * byte of the program was read up to its FIN, and nobody is left to read
 * ours. A program that only shut down its sending side still holds its socket
 * and gets the FIN; its TIME_WAIT, which begins with that, is ended from
 * outside (hold.c).
 *
 * A program that is gone while the far side never finishes would leave its
 * flow for ever. The kernel gives such a socket a minute (FIN_WAIT2), and so
 * do we, but not before the far side has taken all that the program said.
 */
#include "daemon/edge/flow.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/edge/flow_private.h"
#include "shared/log.h"
#include "shared/util.h"

#define PUMP_FLOWS     2 /* that move a round's bytes in one round of the loop */
#define HALF_CLOSED_NS (60 * NS_PER_S)

static const char *const state_name[] = { "DIALLING", "MEETING", "FAILING",
					  "CALLING",  "OPEN",    "DEAD" };

static bool is_legal(enum flow_state from, enum flow_state to)
{
	switch (to) {
	case FLOW_MEETING:
		return from == FLOW_DIALLING;
	case FLOW_FAILING:
		return from == FLOW_DIALLING || from == FLOW_MEETING;
	case FLOW_OPEN:
		return from == FLOW_MEETING || from == FLOW_CALLING;
	case FLOW_DEAD:
		return from != FLOW_DEAD;
	default:
		return false;
	}
}

void flow_set_state(struct flow *flow, enum flow_state state)
{
	assert(is_legal(flow->state, state));
	if (log_level() >= LOG_DEBUG) {
		char local[ENDPOINT_TEXT_MAX], remote[ENDPOINT_TEXT_MAX];

		log_debug("edge: %s %s %s: %s -> %s", endpoint_format(&flow->local, local),
			  flow->is_inbound ? "from" : "to", endpoint_format(&flow->remote, remote),
			  state_name[flow->state], state_name[state]);
	}
	flow->state = state;
}

static void look_for_program(struct flow *flow, uint64_t now_ns);

static void timer_fired(struct edge_timer *timer, uint64_t now_ns)
{
	struct flow *flow = CONTAINER_OF(timer, struct flow, timer);

	if (flow->ticket)
		flow_wake(flow);
	else if (flow->rest)
		flow_deliver_rest(flow);
	else if (flow->state == FLOW_OPEN)
		look_for_program(flow, now_ns);
	else if (flow->is_inbound)
		inbound_timer(flow, now_ns);
	else
		outbound_timer(flow, now_ns);
}

struct flow *flow_create(struct edge *edge, const struct endpoint *local,
			 const struct endpoint *remote, enum flow_state state)
{
	struct flows *flows = &edge->flows;
	struct flow *flow = flows->count < FLOWS_MAX ? calloc(1, sizeof(*flow)) : NULL;

	if (!flow)
		return NULL;
	flow->edge = edge;
	flow->state = state;
	flow->is_inbound = state == FLOW_CALLING;
	flow->local = *local;
	flow->remote = *remote;
	flow->holder = edge_holder_of(edge, &remote->addr);
	flow->stream.fd = -1;
	flow->timer.fired = timer_fired;
	flow->next = flows->all;
	if (flow->next)
		flow->next->prev = flow;
	flows->all = flow;
	flows->count++;
	return flow;
}

void flow_lacks_descriptor(const struct flow *flow)
{
	struct flows *flows = &flow->edge->flows;

	log_limited(
		&flows->descriptor_gate, loop_now(flow->edge->loop), LOG_WARN,
		"edge: no descriptor is left for another flow, each of %u has one and %u that are "
		"idle do without: new ones fail until some end; a higher hard limit of open files "
		"(ulimit -Hn) allows more",
		flows->count - flows_stowed(flows), flows_stowed(flows));
}

struct map_ends flow_key(const struct endpoint *program, uint32_t peer_mirror,
			 const struct hold *hold)
{
	return (struct map_ends){ ip_v4(&program->addr), peer_mirror, program->port, hold->port };
}

void flow_enter(struct flow *flow)
{
	struct flow_tables *tables = flow->edge->flows.tables;

	flow->key = flow_key(&flow->program, flow->peer_mirror, flow->hold);
	HASH_ADD(by_program, tables->by_program, key, sizeof(flow->key), flow);
	flow->is_keyed = flow->by_program.tbl != NULL;
}

void flow_unkey(struct flow *flow)
{
	if (flow->is_keyed)
		HASH_DELETE(by_program, flow->edge->flows.tables->by_program, flow);
	flow->is_keyed = false;
}

static void unlink_busy(struct flow *flow)
{
	if (flow->is_busy)
		TAILQ_REMOVE(&flow->edge->flows.busy, flow, by_busy);
	flow->is_busy = false;
}

static void unlink_flow(struct flow *flow)
{
	struct flows *flows = &flow->edge->flows;

	if (flow->prev)
		flow->prev->next = flow->next;
	else
		flows->all = flow->next;
	if (flow->next)
		flow->next->prev = flow->prev;
	flows->count--;
	flow->next = flows->dead;
	flows->dead = flow;
}

void flow_bury(struct flow *flow, bool reset)
{
	struct edge *edge = flow->edge;

	flow_set_state(flow, FLOW_DEAD);
	flow_leave_stow(flow);
	stream_close(&flow->stream, reset);
	edge_timer_cancel(&edge->timers, &flow->timer);
	edge_timer_cancel(&edge->timers, &flow->look_timer);
	unlink_busy(flow);
	gather_leave(&edge->flows.gather, &flow->gather);
	flow_unkey(flow);
	inbound_unpark(flow);
	mapfile_flow_end(edge->mapfile, &flow->entry);
	if (flow->pair)
		mapfile_pair_remove(edge->mapfile, MAP_TCP_IN, flow->pair);
	unlink_flow(flow);
}

void flow_kill(struct flow *flow, bool reset)
{
	bool was_parked = flow->is_parked;

	if (flow->asker) {
		struct app *asker = flow->asker;

		flow->asker = NULL;
		app_answer(asker, ECONNREFUSED, NULL, 0);
	}
	flow_bury(flow, reset);
	if (!flow->conn)
		return;
	if (was_parked)
		tcp_refuse(flow->conn, loop_now(flow->edge->loop));
	else
		tcp_abort(flow->conn, loop_now(flow->edge->loop));
	flow->conn = NULL;
}

struct endpoint flow_our_end(const struct flow *flow)
{
	if (!flow->is_inbound)
		return sock_endpoint(flow->peer_mirror, flow->hold->port);
	if (!ip_is_v4(&flow->program.addr))
		return (struct endpoint){ flow->program.addr, (uint16_t)flow->pair };
	return flow->pair ? sock_endpoint((uint32_t)(flow->pair >> 16), (uint16_t)flow->pair)
			  : sock_endpoint(flow->peer_mirror, flow->remote.port);
}

enum sock_life flow_program_life(struct flow *flow)
{
	struct endpoint ours;

	if (flow->ticket && !flow_fetch(flow))
		return SOCK_UNKNOWN;
	if (flow->stream.fd < 0)
		return SOCK_UNKNOWN;
	if (!flow->dialled)
		ours = flow_our_end(flow);
	else if (sock_local(flow->stream.fd, &ours) != 0)
		return SOCK_UNKNOWN;
	return socktable_life(flow->edge->socket_table, &flow->program, &ours);
}

/* Both directions have ended. */
static void finish(struct flow *flow)
{
	struct tcp_conn *conn = flow->conn;
	struct edge *edge = flow->edge;
	enum sock_life life = flow->is_inbound ? SOCK_UNKNOWN : flow_program_life(flow);

	flow_bury(flow, life == SOCK_ORPHAN);
	if (life == SOCK_HELD && !flow->dialled)
		hold_end_wait(flow->hold, edge->socket_table, flow->peer_mirror, &flow->program);
	flow->conn = NULL;
	tcp_release(conn, loop_now(edge->loop));
}

/* The endpoint goes on by itself, with what the program said last. */
static void let_go(struct flow *flow)
{
	struct tcp_conn *conn = flow->conn;

	flow_bury(flow, true);
	flow->conn = NULL;
	tcp_release(conn, loop_now(flow->edge->loop));
}

/* Half closed by the program, and nothing for a while: is it still there? */
static void look_for_program(struct flow *flow, uint64_t now_ns)
{
	enum sock_life life = flow->stream.is_reset ? SOCK_NONE : flow_program_life(flow);

	if (life != SOCK_NONE && life != SOCK_ORPHAN)
		edge_timer_set(&flow->edge->timers, &flow->timer, now_ns + HALF_CLOSED_NS);
	else if (flow->stream.is_reset || tcp_send_is_done(flow->conn))
		flow_kill(flow, true);
	else
		let_go(flow);
}

static void run(struct flow *flow)
{
	struct flows *flows = &flow->edge->flows;
	bool had_ended = flow->stream.program_ended, was_reset = flow->stream.is_reset;
	enum stream_verdict verdict;

	if (flow->rest) {
		flow_deliver_rest(flow);
		return;
	}
	loop_mark(flow->edge->loop);
	flow->is_warm = true;
	gather_leave(&flows->gather, &flow->gather);
	verdict = stream_run(&flow->stream);
	if (flow->stream.program_ended && !had_ended)
		edge_timer_set(&flow->edge->timers, &flow->timer,
			       loop_now(flow->edge->loop) + HALF_CLOSED_NS);
	if (flow->stream.is_reset && (!was_reset || flow->stream.has_read))
		edge_timer_set(&flow->edge->timers, &flow->timer,
			       loop_now(flow->edge->loop) + FLOW_RESET_WAIT_NS);
	switch (verdict) {
	case STREAM_WAITS:
		break;
	case STREAM_BUSY:
		if (!flow->is_busy) {
			flow->is_busy = true;
			TAILQ_INSERT_TAIL(&flows->busy, flow, by_busy);
		}
		break;
	case STREAM_ENDED:
		finish(flow);
		break;
	case STREAM_BROKEN:
		flow_program_reset(flow);
		break;
	}
}

void flow_wake(struct flow *flow)
{
	if (flow_fetch(flow))
		run(flow);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct flow *flow = arg;

	(void)fd;
	stream_event(&flow->stream, what);
	if (!flow->is_busy)
		run(flow);
}

void flow_open(struct flow *flow, int fd)
{
	if (flow->is_service) {
		/* The map remembers the flow, for getpeername(). */
		flow_kill(flow, false);
		service_stream(flow->edge, fd);
		return;
	}
	flow_set_state(flow, FLOW_OPEN);
	edge_timer_cancel(&flow->edge->timers, &flow->timer);
	if (stream_open(&flow->stream, loop_base(flow->edge->loop), fd, flow->conn, on_event,
			flow) != 0) {
		flow_kill(flow, true);
		return;
	}
	flow_hold_descriptor(flow);
	/*
	 * A program speaks as soon as its connect() returns, often before this is reached. Then
	 * what it says goes with the acknowledgement that the far side's SYN is owed.
	 */
	flow->stream.is_readable = !flow->is_inbound;
	flow_watch_silence(flow);
	run(flow);
}

static bool wants_pump(const struct flows *flows)
{
	return (!TAILQ_EMPTY(&flows->busy) || !gather_is_empty(&flows->gather)) &&
	       !flows->is_pumping;
}

bool flows_want_round(const struct flows *flows)
{
	return wants_pump(flows) || flows->pressed > 0;
}

static void start_pump(struct flows *flows)
{
	if (!wants_pump(flows))
		return;
	flows->is_pumping = true;
	event_active(&flows->pump, EV_TIMEOUT, 0);
}

/* Bytes of a bulk stream, and nothing else has happened to it. */
static bool waits_for_more(struct flow *flow, unsigned events)
{
	return events == TCP_EVENT_READABLE &&
	       gather_waits(&flow->edge->flows.gather, &flow->gather, tcp_recv_unread(flow->conn));
}

void flow_tcp_event(struct flow *flow, unsigned events)
{
	struct flows *flows = &flow->edge->flows;

	if (flow->state == FLOW_DIALLING || flow->state == FLOW_MEETING) {
		if (flow->dialled)
			dial_tcp_event(flow, events);
		else
			outbound_tcp_event(flow, events);
		return;
	}
	if (flow->hearing == IS_DEAF)
		flow_hear_again(flow);
	if (events & TCP_EVENT_FAILED)
		flow_far_side_failed(flow);
	else if (flow->ticket && stream_has_news(&flow->stream))
		flow_wake(flow);
	else if (flow->state == FLOW_OPEN && !flow->is_busy && !flow->ticket &&
		 !waits_for_more(flow, events))
		run(flow);
	/* Events come at the end of a round: too late for that end's own look. */
	start_pump(flows);
}

/* ---- rounds ---- */

static void deliver(struct gather_item *item)
{
	run(CONTAINER_OF(item, struct flow, gather));
}

static void pump(evutil_socket_t fd, short what, void *arg)
{
	struct flows *flows = arg;
	struct flow *flow;

	(void)fd;
	(void)what;
	flows->is_pumping = false;
	gather_look(&flows->gather, deliver);
	for (unsigned i = 0; i < PUMP_FLOWS && (flow = TAILQ_FIRST(&flows->busy)); i++) {
		unlink_busy(flow);
		run(flow);
	}
}

void flows_round_ended(struct flows *flows)
{
	flows_reap(flows);
	flows_stow_round_ended(flows);
	start_pump(flows);
}

int flows_open(struct flows *flows, struct edge *edge)
{
	flows->edge = edge;
	TAILQ_INIT(&flows->busy);
	flows_stow_init(flows);
	gather_init(&flows->gather);
	flows->tables = calloc(1, sizeof(*flows->tables));
	if (!flows->tables)
		return -ENOMEM;
	if (event_assign(&flows->pump, loop_base(edge->loop), -1, EV_PERSIST, pump, flows) != 0)
		return -ENOMEM;
	flows->has_pump = true;
	return 0;
}

void flows_close(struct flows *flows)
{
	flows_stow_finish(flows);
	while (flows->all)
		flow_kill(flows->all, true);
	flows_reap(flows);
	if (flows->has_pump)
		event_del(&flows->pump);
	flows->has_pump = false;
	free(flows->tables);
	flows->tables = NULL;
}

bool flows_leave_gone_peers(struct flows *flows, bool at_once)
{
	struct edge *edge = flows->edge;
	bool are_missed = false;
	struct flow *next;

	for (struct flow *flow = flows->all; flow; flow = next) {
		bool is_over = at_once || flow->is_missed;

		next = flow->next; /* not of the dead */
		flow->is_missed = !flow->is_service &&
				  edge_holder_of(edge, &flow->remote.addr) != flow->holder;
		if (!flow->is_missed)
			continue;
		if (!is_over)
			are_missed = true;
		else if (flow->is_parked)
			inbound_ignore(flow);
		else if (flow->conn)
			tcp_cut_off(flow->conn, EHOSTUNREACH, loop_now(edge->loop));
	}
	return are_missed;
}

void flows_break_off(struct flows *flows, bool (*leaves)(const void *holder))
{
	struct edge *edge = flows->edge;

	for (struct flow *flow = flows->all; flow; flow = flow->next) {
		const void *holder = edge_holder_of(edge, &flow->remote.addr);

		/* One that waits for a listener has the far side waiting, which hears nothing
		 * either way. */
		if (!flow->is_service && !flow->is_parked && flow->conn && holder &&
		    holder == flow->holder && leaves(holder))
			tcp_break_off(flow->conn, EHOSTUNREACH, loop_now(edge->loop));
	}
}

void flows_keep_mirrors(const struct flows *flows, struct plan *plan)
{
	for (const struct flow *flow = flows->all; flow; flow = flow->next)
		plan_keep(plan, flow->peer_mirror);
}

void flows_reap(struct flows *flows)
{
	while (flows->dead) {
		struct flow *flow = flows->dead;

		flows->dead = flow->next;
		free(flow);
	}
}
