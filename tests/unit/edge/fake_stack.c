/*
 * A mesh without a network: the parts of netstack.h and endpoint.h that the
 * edge calls, where every connection is two rings of bytes. Stacks find one
 * another by address. Some far-side ports have a fate instead of a listener,
 * see fake_stack.h.
 */
#include "tests/unit/edge/fake_stack.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define STACKS 4
#define RING   (1u << 20)

struct ring {
	uint8_t *bytes;
	size_t head, used;
	bool is_finished;
};

struct tcp_conn {
	struct tcp *tcp;
	struct endpoint local, remote;
	void *user;
	struct tcp_conn *peer, *next;
	struct ring in; /* what the far side has sent */
	struct tcp_patience patience;
	unsigned events;
	int error;
	bool is_parked, is_announced, is_released, was_short, is_dead;
};

struct tcp {
	struct netstack *ns;
	struct tcp_conn *conns;
};

struct netstack {
	struct ip_addr own[8];
	unsigned own_count;
	struct tcp tcp;
	struct netstack_callbacks callbacks;
	void (*incoming)(void *, struct tcp_conn *, const struct endpoint *,
			 const struct endpoint *);
	void (*event)(void *, struct tcp_conn *, void *, unsigned);
	void (*cancelled)(void *, struct tcp_conn *);
	void *owner;
	bool is_blocked;
};

static struct netstack *stacks[STACKS];

static struct netstack *stack_of(const struct ip_addr *addr)
{
	for (unsigned i = 0; i < STACKS; i++)
		for (unsigned j = 0; stacks[i] && j < stacks[i]->own_count; j++)
			if (ip_equal(&stacks[i]->own[j], addr))
				return stacks[i];
	return NULL;
}

struct netstack *netstack_create(const struct ip_addr *own, unsigned own_count,
				 const struct tcp_config *tcp_config,
				 const struct netstack_callbacks *callbacks,
				 void (*incoming)(void *, struct tcp_conn *,
						  const struct endpoint *, const struct endpoint *),
				 void (*event)(void *, struct tcp_conn *, void *, unsigned),
				 void (*cancelled)(void *, struct tcp_conn *), void *owner)
{
	struct netstack *ns = calloc(1, sizeof(*ns));
	unsigned i = 0;

	(void)tcp_config;
	memcpy(ns->own, own, own_count * sizeof(*own));
	ns->own_count = own_count;
	ns->tcp.ns = ns;
	ns->callbacks = *callbacks;
	ns->incoming = incoming;
	ns->event = event;
	ns->cancelled = cancelled;
	ns->owner = owner;
	while (stacks[i])
		i++;
	assert(i < STACKS);
	stacks[i] = ns;
	return ns;
}

static void free_conn(struct tcp_conn *conn)
{
	if (conn->peer)
		conn->peer->peer = NULL;
	free(conn->in.bytes);
	free(conn);
}

void netstack_destroy(struct netstack *ns)
{
	for (unsigned i = 0; i < STACKS; i++)
		if (stacks[i] == ns)
			stacks[i] = NULL;
	while (ns->tcp.conns) {
		struct tcp_conn *conn = ns->tcp.conns;

		ns->tcp.conns = conn->next;
		free_conn(conn);
	}
	free(ns);
}

struct tcp *netstack_tcp(struct netstack *ns)
{
	return &ns->tcp;
}

static struct tcp_conn *new_conn(struct tcp *tcp, const struct endpoint *local,
				 const struct endpoint *remote)
{
	struct tcp_conn *conn = calloc(1, sizeof(*conn));

	conn->tcp = tcp;
	conn->local = *local;
	conn->remote = *remote;
	conn->in.bytes = malloc(RING);
	conn->next = tcp->conns;
	tcp->conns = conn;
	return conn;
}

static void fail(struct tcp_conn *conn, int error)
{
	if (!conn)
		return;
	if (conn->peer)
		conn->peer->peer = NULL;
	conn->peer = NULL;
	conn->error = error;
	conn->events |= TCP_EVENT_FAILED;
}

int tcp_connect(struct tcp *tcp, const struct endpoint *local, const struct endpoint *remote,
		void *user, uint64_t now_ns, struct tcp_conn **out)
{
	struct netstack *far = stack_of(&remote->addr);
	struct tcp_conn *conn;

	(void)now_ns;
	if (remote->port == FAKE_PORT_NO_BUFFERS)
		return -ENOBUFS;
	for (conn = tcp->conns; conn; conn = conn->next)
		if (!conn->is_dead && endpoint_equal(&conn->local, local) &&
		    endpoint_equal(&conn->remote, remote))
			return -EADDRINUSE;
	conn = new_conn(tcp, local, remote);
	conn->user = user;
	*out = conn;
	if (remote->port == FAKE_PORT_TIMES_OUT)
		fail(conn, ETIMEDOUT);
	else if (remote->port == FAKE_PORT_UNREACHABLE)
		fail(conn, EHOSTUNREACH);
	else if (far && remote->port != FAKE_PORT_SILENT) {
		conn->peer = new_conn(&far->tcp, remote, local);
		conn->peer->peer = conn;
		conn->peer->is_parked = true;
	}
	return 0;
}

void tcp_accept(struct tcp_conn *conn, void *user, uint64_t now_ns)
{
	(void)now_ns;
	assert(conn->is_parked);
	conn->is_parked = false;
	conn->user = user;
	conn->events |= TCP_EVENT_CONNECTED;
	conn->peer->events |= TCP_EVENT_CONNECTED;
}

void tcp_refuse(struct tcp_conn *conn, uint64_t now_ns)
{
	(void)now_ns;
	assert(conn->is_parked);
	fail(conn->peer, ECONNREFUSED);
	conn->is_dead = true;
}

void tcp_ignore(struct tcp_conn *conn)
{
	assert(conn->is_parked);
	if (conn->peer)
		conn->peer->peer = NULL;
	conn->peer = NULL;
	conn->is_dead = true;
}

size_t tcp_send_space(struct tcp_conn *conn, struct iovec space[static 2])
{
	struct ring *ring = conn->peer ? &conn->peer->in : NULL;
	size_t at, room;

	if (!ring || ring->used == RING) {
		conn->was_short = true;
		return 0;
	}
	at = (ring->head + ring->used) % RING;
	room = RING - ring->used;
	space[0] = (struct iovec){ ring->bytes + at, MIN(room, RING - at) };
	space[1] = (struct iovec){ ring->bytes, room - space[0].iov_len };
	return room;
}

void tcp_send_commit(struct tcp_conn *conn, size_t len)
{
	conn->peer->in.used += len;
	conn->peer->events |= TCP_EVENT_READABLE;
}

void tcp_send_finish(struct tcp_conn *conn)
{
	if (!conn->peer)
		return;
	conn->peer->in.is_finished = true;
	conn->peer->events |= TCP_EVENT_READABLE;
}

bool tcp_send_is_done(const struct tcp_conn *conn)
{
	return !conn->peer || conn->peer->in.used == 0;
}

size_t tcp_recv_data(struct tcp_conn *conn, struct iovec *data, unsigned max, unsigned *count)
{
	struct ring *ring = &conn->in;
	size_t first = MIN(ring->used, RING - ring->head);

	assert(max >= 2);
	data[0] = (struct iovec){ ring->bytes + ring->head, first };
	data[1] = (struct iovec){ ring->bytes, ring->used - first };
	*count = ring->used == 0 ? 0 : ring->used > first ? 2 : 1;
	return ring->used;
}

uint32_t tcp_recv_unread(const struct tcp_conn *conn)
{
	return (uint32_t)conn->in.used;
}

void tcp_recv_consume(struct tcp_conn *conn, size_t len)
{
	conn->in.head = (conn->in.head + len) % RING;
	conn->in.used -= len;
	if (conn->peer && conn->peer->was_short) {
		conn->peer->was_short = false;
		conn->peer->events |= TCP_EVENT_WRITABLE;
	}
}

bool tcp_recv_ended(const struct tcp_conn *conn)
{
	return conn->in.is_finished && conn->in.used == 0;
}

void tcp_set_patience(struct tcp_conn *conn, const struct tcp_patience *patience, uint64_t now_ns)
{
	(void)now_ns;
	conn->patience = *patience;
}

void tcp_conn_info(const struct tcp_conn *conn, struct tcp_conn_info *info)
{
	*info = (struct tcp_conn_info){ .local = conn->local, .remote = conn->remote };
}

/* The far side is always there. */
uint64_t tcp_heard_ns(const struct tcp_conn *conn)
{
	(void)conn;
	return NEVER_NS;
}

bool tcp_ask(struct tcp_conn *conn)
{
	(void)conn;
	return true;
}

void tcp_owner_waits(struct tcp_conn *conn, bool waits)
{
	(void)conn;
	(void)waits;
}

struct tcp_conn *tcp_find(struct tcp *tcp, const struct endpoint *local,
			  const struct endpoint *remote)
{
	for (struct tcp_conn *conn = tcp->conns; conn; conn = conn->next)
		if (!conn->is_dead && !conn->is_released && endpoint_equal(&conn->local, local) &&
		    endpoint_equal(&conn->remote, remote))
			return conn;
	return NULL;
}

void *tcp_conn_user(const struct tcp_conn *conn)
{
	return conn->user;
}

int tcp_conn_error(const struct tcp_conn *conn)
{
	return conn->error;
}

bool tcp_conn_fell_silent(const struct tcp_conn *conn)
{
	(void)conn;
	return false; /* none does once it is open */
}

void tcp_cut_off(struct tcp_conn *conn, int error, uint64_t now_ns)
{
	(void)now_ns;
	if (!(conn->events & TCP_EVENT_FAILED) && !conn->error)
		fail(conn, error);
}

void tcp_break_off(struct tcp_conn *conn, int error, uint64_t now_ns)
{
	fail(conn->peer, ECONNRESET);
	tcp_cut_off(conn, error, now_ns);
}

void tcp_abort(struct tcp_conn *conn, uint64_t now_ns)
{
	(void)now_ns;
	assert(!conn->is_dead);
	fail(conn->peer, ECONNRESET);
	conn->is_dead = true;
}

/* Bytes committed are with the far side already. */
void tcp_finish_by_reset(struct tcp_conn *conn, uint64_t now_ns)
{
	tcp_abort(conn, now_ns);
}

void tcp_release(struct tcp_conn *conn, uint64_t now_ns)
{
	assert(!conn->is_dead && !conn->is_released);
	if (conn->in.used) {
		tcp_abort(conn, now_ns);
		return;
	}
	tcp_send_finish(conn);
	conn->is_released = true;
	if (!conn->peer || conn->peer->is_released) {
		conn->is_dead = true;
		if (conn->peer)
			conn->peer->is_dead = true;
	}
}

static bool deliver(struct netstack *ns, struct tcp_conn *conn)
{
	unsigned events = conn->events;

	if (conn->is_parked && !conn->is_announced) {
		conn->is_announced = true;
		ns->incoming(ns->owner, conn, &conn->local, &conn->remote);
		return true;
	}
	if (conn->is_released && (events & TCP_EVENT_FAILED))
		conn->is_dead = true;
	if (!events || conn->is_released || conn->is_dead)
		return false;
	conn->events = 0;
	if (conn->is_parked) {
		if (!(events & TCP_EVENT_FAILED))
			return false;
		conn->is_dead = true;
		ns->cancelled(ns->owner, conn);
	} else {
		ns->event(ns->owner, conn, conn->user, events);
	}
	return true;
}

static bool flush_one(struct netstack *ns)
{
	bool did = false;

	for (struct tcp_conn *conn = ns->tcp.conns; conn; conn = conn->next)
		did |= deliver(ns, conn);
	for (struct tcp_conn **at = &ns->tcp.conns; *at;) {
		struct tcp_conn *conn = *at;

		if (!conn->is_dead) {
			at = &conn->next;
			continue;
		}
		*at = conn->next;
		free_conn(conn);
	}
	return did;
}

void netstack_flush(struct netstack *ns, uint64_t now_ns)
{
	bool did = true;

	(void)ns;
	(void)now_ns;
	for (int round = 0; did && round < 16; round++) {
		did = false;
		for (unsigned i = 0; i < STACKS; i++)
			if (stacks[i])
				did |= flush_one(stacks[i]);
	}
}

uint64_t netstack_deadline(const struct netstack *ns)
{
	(void)ns;
	for (unsigned i = 0; i < STACKS; i++)
		for (struct tcp_conn *c = stacks[i] ? stacks[i]->tcp.conns : NULL; c; c = c->next)
			if (c->events && !c->is_released && !c->is_parked)
				return 0;
	return NEVER_NS;
}

void netstack_expire(struct netstack *ns, uint64_t now_ns)
{
	netstack_flush(ns, now_ns);
}

void netstack_input(struct netstack *ns, const struct filter_source *source, struct packet *packets,
		    unsigned count, uint64_t now_ns)
{
	(void)ns;
	(void)source;
	(void)packets;
	(void)count;
	(void)now_ns;
}

void netstack_set_blocked(struct netstack *ns, bool blocked)
{
	ns->is_blocked = blocked;
}

int netstack_send_udp(struct netstack *ns, const struct endpoint *local,
		      const struct endpoint *remote, const uint8_t *data, size_t len,
		      uint64_t now_ns)
{
	struct netstack *far = stack_of(&remote->addr);
	uint8_t *copy;

	(void)now_ns;
	if (len > 65507)
		return -EMSGSIZE;
	if (ip_is_v4(&local->addr) != ip_is_v4(&remote->addr))
		return -EAFNOSUPPORT;
	if (ns->is_blocked)
		return -EAGAIN;
	if (!far)
		return 0;
	/* Of just its size, so that a sanitizer sees who reads beyond. */
	copy = malloc(len ? len : 1);
	memcpy(copy, data, len);
	far->callbacks.udp_received(far->owner, remote, local, copy, len);
	free(copy);
	return 0;
}

void netstack_refuse_udp(struct netstack *ns, const struct endpoint *local,
			 const struct endpoint *remote, const uint8_t *data, size_t len,
			 uint64_t now_ns)
{
	struct netstack *far = stack_of(&remote->addr);

	(void)ns;
	(void)data;
	(void)len;
	(void)now_ns;
	if (far)
		far->callbacks.udp_failed(far->owner, remote, local, ECONNREFUSED);
}

void tcp_config_defaults(struct tcp_config *config, uint32_t mtu)
{
	*config = (struct tcp_config){ .mtu = mtu };
}
