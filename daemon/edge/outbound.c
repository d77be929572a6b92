/*
 * A program's connect to the mesh.
 *
 * With SYN hold the answer comes at once: the program then connects to the
 * hold port at the peer's mirror and stays in SYN_SENT. When the far side has
 * answered, our socket meets the program's. The socket is made before the
 * dial, so that a lack of descriptors is an error the program is told, and
 * not one that is found when nothing can be told any more.
 *
 * The far side may be faster than the program's own connect(): its port then
 * refuses. So meeting is tried again with growing delays, for as long as the
 * port is bound at all; a program that has closed its socket is seen there.
 *
 * A failure is first written to the map, then met and reset: who wakes by the
 * reset finds the true errno.
 *
 * A dial that was posted has no answer: what would have been said there is a failure like any
 * other, and met like one. Its port is its program's alone, so what was dialled from there before
 * is over. The kernel's table cannot be asked for that: it may show the new socket already. But it
 * says whose that is, so that nobody ends what another user has dialled.
 *
 * "Dial first" (no SYN hold, or a socket that cannot be held): the answer to
 * the program waits for the far side, and its connection is then accepted at an
 * ordinary listener and found by its source.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "daemon/edge/flow_private.h"
#include "daemon/edge/patience.h"
#include "shared/log.h"
#include "shared/util.h"

#define FIRST_DELAY_NS (100 * NS_PER_US)
#define LAST_DELAY_NS  (20 * NS_PER_MS)
#define PORT_TRIES     16
#define PATIENCE_NS    (5 * NS_PER_S)   /* for the program's own connect() */
#define COMING_NS      (20 * NS_PER_MS) /* which mostly comes that soon */

struct flow *flow_find_dialled(struct edge *edge, const struct endpoint *program,
			       uint32_t peer_mirror, const struct hold *hold)
{
	struct map_ends key = flow_key(program, peer_mirror, hold);
	struct flow *flow;

	HASH_FIND(by_program, edge->flows.tables->by_program, &key, sizeof(key), flow);
	return flow;
}

/*
 * Its program, which shares the port, may be about to come. If it comes in this very moment it
 * either finds this in the map (see connect.c of the shim) or is seen here, and stays.
 */
static bool is_given_up(struct edge *edge, struct flow *old, const struct endpoint *remote)
{
	struct map_flow was;

	if (old->hold->works && !endpoint_equal(&old->remote, remote) &&
	    loop_now(edge->loop) - old->announced_ns < COMING_NS)
		return false;
	if (!map_find_flow(mapfile_map(edge->mapfile), &old->key, &was))
		return true;
	mapfile_flow_set(edge->mapfile, &old->entry, MAP_FLOW_FAILED, EADDRNOTAVAIL);
	if (flow_program_life(old) != SOCK_HELD)
		return true;
	mapfile_flow_set(edge->mapfile, &old->entry, was.state, was.error);
	return false;
}

/*
 * The port is used anew, towards the same mirror. Where the old socket is there (they share the
 * port, SO_REUSEADDR), the kernel will refuse this connect, and what it had dialled would meet the
 * other one. Else a dial was given up; and an open flow whose program has gone may still carry its
 * last bytes: it only loses its key. 0 or a positive errno.
 */
static int make_way(struct edge *edge, const struct endpoint *program,
		    const struct endpoint *remote, uint32_t peer_mirror, const struct hold *hold,
		    bool is_posted)
{
	struct flow *old = flow_find_dialled(edge, program, peer_mirror, hold);

	if (!old)
		return 0;
	if (!is_posted && flow_program_life(old) == SOCK_HELD)
		return EADDRNOTAVAIL;
	if (old->state == FLOW_OPEN)
		flow_unkey(old);
	else if (old->state == FLOW_DEAD)
		return 0; /* a stowed one that cannot come back died of the look */
	else if (is_posted || is_given_up(edge, old, remote))
		flow_kill(old, true);
	else
		return EADDRNOTAVAIL;
	return 0;
}

/*
 * On the mesh the flow has the program's own port, unless that is still in use
 * there: a program's port is free again at once, the mesh's after a round trip.
 */
static int dial(struct flow *flow)
{
	struct edge *edge = flow->edge;
	struct tcp *tcp = netstack_tcp(edge->ns);
	uint64_t now_ns = loop_now(edge->loop);
	int err = -EADDRINUSE;

	for (int i = 0; i < PORT_TRIES && err == -EADDRINUSE; i++) {
		err = tcp_connect(tcp, &flow->local, &flow->remote, flow, now_ns, &flow->conn);
		if (err == -EADDRINUSE)
			flow->local.port = port_range_at(&edge->ports, (uint32_t)edge->random++);
	}
	if (err)
		flow->conn = NULL;
	return -err;
}

/* What is needed before the far side is asked: 0 or a positive errno. */
static int prepare(struct flow *flow, const struct endpoint *program)
{
	struct edge *edge = flow->edge;
	int err;

	flow->program = *program;
	flow_enter(flow);
	if (!flow->is_keyed)
		return ENOBUFS;
	err = -mapfile_flow_begin(edge->mapfile, &flow->key, &flow->remote, &flow->entry);
	if (err || !flow->hold->works)
		return err;
	flow->stream.fd = hold_socket(flow->hold, flow->peer_mirror);
	if (flow->stream.fd == -EMFILE && flows_free_descriptors(&edge->flows))
		flow->stream.fd = hold_socket(flow->hold, flow->peer_mirror);
	if (flow->stream.fd < 0) {
		err = -flow->stream.fd;
		flow->stream.fd = -1;
		if (err == EMFILE || err == ENFILE)
			flow_lacks_descriptor(flow);
		/* What the daemon lacks is no fault of the program's descriptors. */
		return err == EMFILE ? ENFILE : err;
	}
	return 0;
}

/* posted_to: the mirror that a posted dial goes to, else 0. 0 or a positive errno. */
static int start(struct edge *edge, const struct endpoint *program, const struct endpoint *remote,
		 bool is_first, uint32_t posted_to, struct flow **out)
{
	const struct hold *hold = is_first || !edge->hold.works ? &edge->first : &edge->hold;
	struct map_own own;
	struct flow *flow;
	uint32_t peer_mirror;
	bool is_service = service_find(edge, remote, &peer_mirror);
	int err = is_service ? 0 : edge_check_peer(edge, &remote->addr, &peer_mirror);

	if (is_service && remote->port != MAP_DNS_PORT)
		return ECONNREFUSED;
	if (err)
		return err;
	if (posted_to && peer_mirror != posted_to)
		return ENETUNREACH; /* what the program has read is no longer true */
	if (!ip_is_v4(&program->addr))
		return EAFNOSUPPORT;
	if ((!edge->ns && !is_service) ||
	    !edge_own_address(edge, ip_v4(&program->addr), !ip_is_v4(&remote->addr), &own))
		return ENETUNREACH;
	err = make_way(edge, program, remote, peer_mirror, hold, posted_to != 0);
	if (err)
		return err;
	flow = flow_create(edge, &(struct endpoint){ own.addr, program->port }, remote,
			   FLOW_DIALLING);
	if (!flow)
		return ENOBUFS;
	flow->peer_mirror = peer_mirror;
	flow->hold = hold;
	flow->announced_ns = loop_now(edge->loop);
	flow->is_service = is_service;
	err = prepare(flow, program);
	if (err == 0 && !is_service)
		err = dial(flow);
	if (err) {
		mapfile_flow_set(edge->mapfile, &flow->entry, MAP_FLOW_FAILED, err);
		flow_kill(flow, false);
		return err == EADDRINUSE ? EADDRNOTAVAIL : err;
	}
	*out = flow;
	return 0;
}

void flow_asker_gone(struct flow *flow)
{
	flow->asker = NULL;
	flow_kill(flow, true);
}

static void met(struct flow *flow)
{
	struct endpoint program = flow->program;
	int fd = flow->stream.fd;

	if (flow->state == FLOW_FAILING) {
		/* flow_kill() closes with a reset, and the program wakes by that. */
		flow_kill(flow, true);
		rest_port(&flow->edge->rests, &program);
		return;
	}
	flow->stream.fd = -1;
	flow_open(flow, fd);
}

/*
 * The program's connect is not there, yet or any more, but a listener at the same port
 * (SO_REUSEPORT), which would take us for a peer that calls.
 */
static bool would_call_listener(struct flow *flow)
{
	int table = flow->edge->socket_table;

	return socktable_taker(table, SOCK_STREAM, &flow->program) != TAKER_NONE &&
	       flow_program_life(flow) == SOCK_NONE;
}

/* A refused post may lack a descriptor yet, because it was refused for that. */
static int meet(struct flow *flow)
{
	if (would_call_listener(flow))
		return -ECONNREFUSED;
	if (flow->stream.fd < 0)
		flow->stream.fd = hold_socket(flow->hold, flow->peer_mirror);
	if (flow->stream.fd >= 0)
		return hold_meet(flow->stream.fd, &flow->program);
	flow->stream.fd = -1;
	return -EINPROGRESS;
}

static void try_to_meet(struct flow *flow, uint64_t now_ns)
{
	uint64_t delay = FIRST_DELAY_NS << MIN(flow->tries, 16u);
	int err = meet(flow);

	if (err == 0) {
		met(flow);
		return;
	}
	/* Nobody there, and nobody who could still come: the program has given up. */
	if (now_ns >= flow->give_up_ns || (err != -EINPROGRESS && flow->tries > 0 &&
					   !sock_is_bound(&flow->program, SOCK_STREAM))) {
		log_debug("edge: the program has left its connect");
		flow_kill(flow, true);
		return;
	}
	flow->tries++;
	edge_timer_set(&flow->edge->timers, &flow->timer, now_ns + MIN(delay, LAST_DELAY_NS));
}

static void answer_asker(struct flow *flow, int error)
{
	struct endpoint mirror = sock_endpoint(flow->peer_mirror, flow->hold->port);
	struct app *asker = flow->asker;

	flow->asker = NULL;
	if (asker)
		app_answer(asker, error, &mirror, IPC_REPLY_DIALLED);
}

static void dial_answered(struct flow *flow)
{
	struct edge *edge = flow->edge;
	uint64_t now_ns = loop_now(edge->loop);

	flow_set_state(flow, FLOW_MEETING);
	/* Before the kernel's socket is connected: who wakes by that finds it true. */
	mapfile_flow_set(edge->mapfile, &flow->entry, MAP_FLOW_OPEN, 0);
	flow->give_up_ns = now_ns + PATIENCE_NS;
	if (flow->hold->works) {
		try_to_meet(flow, now_ns);
		return;
	}
	edge_timer_set(&edge->timers, &flow->timer, flow->give_up_ns);
	answer_asker(flow, 0);
}

void flow_dial(struct edge *edge, struct app *app, const struct endpoint *program,
	       const struct endpoint *remote, bool is_first, const struct ipc_patience *patience)
{
	struct tcp_patience own;
	struct endpoint mirror;
	struct flow *flow = NULL;
	int err = start(edge, program, remote, is_first, 0, &flow);

	if (err) {
		edge->stats.dial_failed++;
		app_answer(app, err, NULL, 0);
		return;
	}
	edge->stats.dialled++;
	if (patience && flow->conn) {
		own = patience_of(patience);
		tcp_set_patience(flow->conn, &own, loop_now(edge->loop));
	}
	if (flow->hold->works) {
		mirror = sock_endpoint(flow->peer_mirror, flow->hold->port);
		app_answer(app, 0, &mirror, 0);
	} else {
		flow->asker = app;
		app_wait_for(app, flow);
	}
	if (flow->is_service)
		dial_answered(flow);
}

/* The program is still to be met, and then reset. */
static void fail_held(struct flow *flow, int error)
{
	uint64_t now_ns = loop_now(flow->edge->loop);

	mapfile_flow_set(flow->edge->mapfile, &flow->entry, MAP_FLOW_FAILED, error);
	flow_set_state(flow, FLOW_FAILING);
	flow->give_up_ns = now_ns + PATIENCE_NS;
	flow->tries = 0;
	try_to_meet(flow, now_ns);
}

static void refuse_post(struct edge *edge, const struct ipc_post *post,
			const struct endpoint *program, const struct endpoint *remote, int error)
{
	struct flow *flow = flow_create(edge, program, remote, FLOW_DIALLING);

	if (error == ENFILE || error == ENOBUFS || !flow)
		posts_pause(&edge->posts);
	if (!flow) {
		log_warn("edge: no memory to refuse a dial with: its program waits until the "
			 "kernel gives up");
		return;
	}
	make_way(edge, program, remote, post->mirror, &edge->hold, true);
	flow->hold = &edge->hold;
	flow->peer_mirror = post->mirror;
	prepare(flow, program); /* if not wholly: the errno is lost, or met later */
	fail_held(flow, error);
}

/* Another user's program is there: the sender does not have that port alone. */
static bool is_of_another_user(struct flow *flow, const struct ucred *who)
{
	return !flow_is_of(flow, who) && flow_program_life(flow) == SOCK_HELD;
}

void flow_dial_posted(struct edge *edge, const struct ipc_post *post, const struct ucred *who)
{
	const struct ipc_request *request = &post->dial.request;
	struct endpoint program = { request->local, request->local_port };
	struct endpoint remote = { request->remote, request->remote_port };
	struct tcp_patience patience = patience_of(&post->dial);
	struct flow *flow = NULL, *old;
	int err;

	if (!edge->hold.works)
		return; /* the map has no hold port either */
	old = flow_find_dialled(edge, &program, post->mirror, &edge->hold);
	if (old && is_of_another_user(old, who)) {
		log_debug("edge: a user has posted a dial from another one's port");
		return;
	}
	err = start(edge, &program, &remote, false, post->mirror, &flow);
	if (err) {
		edge->stats.dial_failed++;
		refuse_post(edge, post, &program, &remote, err);
		return;
	}
	edge->stats.dialled++;
	if (flow->conn)
		tcp_set_patience(flow->conn, &patience, loop_now(edge->loop));
	if (flow->is_service)
		dial_answered(flow);
}

static void dial_failed(struct flow *flow)
{
	struct edge *edge = flow->edge;
	int error = tcp_conn_error(flow->conn);

	error = error ? error : ECONNRESET;
	tcp_release(flow->conn, loop_now(edge->loop));
	flow->conn = NULL;
	edge->stats.dial_failed++;
	if (flow->hold->works) {
		fail_held(flow, error); /* from MEETING too */
		return;
	}
	mapfile_flow_set(edge->mapfile, &flow->entry, MAP_FLOW_FAILED, error);
	answer_asker(flow, error);
	flow_kill(flow, true);
}

void outbound_tcp_event(struct flow *flow, unsigned events)
{
	if (events & TCP_EVENT_FAILED)
		dial_failed(flow);
	else if ((events & TCP_EVENT_CONNECTED) && flow->state == FLOW_DIALLING)
		dial_answered(flow);
}

void outbound_timer(struct flow *flow, uint64_t now_ns)
{
	if (flow->hold->works)
		try_to_meet(flow, now_ns);
	else
		flow_kill(flow, true); /* told that it is connected, it did not come */
}

void flow_accept(struct edge *edge, int fd)
{
	struct endpoint from, to;
	struct flow *flow = NULL;
	int one = 1;

	if (sock_peer(fd, &from) == 0 && sock_local(fd, &to) == 0)
		flow = flow_find_dialled(edge, &from, ip_v4(&to.addr), &edge->first);
	sock_reset_on_close(fd);
	if (!flow || flow->state != FLOW_MEETING || flow->hold->works ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0) {
		close(fd);
		return;
	}
	flow_open(flow, fd);
}
