/*
 * Forwarding.
 *
 * A request has one leg for each resolver, and a leg up to two tries: UDP, from a
 * socket of its own that is connected (so the kernel chose a fresh random port, drops what
 * comes from elsewhere, and tells refusals), and TCP, which begins after some
 * silence, when UDP failed, or when it told a client that can take a long answer
 * only part of one. Behind the tunnel it is the same by other means: UDP from a
 * random port that is ours as long as the leg waits, TCP by a socket whose
 * other end the dialler joins to the mesh.
 *
 * The first good answer ends the request. A leg is over when it said SERVFAIL or
 * REFUSED or both tries failed; when all are, the client gets what dns.h says.
 *
 * Nothing is kept after the answer. A finished request is freed at the next
 * one, since callbacks of its own may be running.
 */
#include "daemon/dns/forwarder.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/dns/answer.h"
#include "daemon/dns/exchange.h"
#include "daemon/dns/message.h"
#include "daemon/loop.h"
#include "shared/log.h"
#include "shared/util.h"
#include "shared/wire.h"

#define DATAGRAMS_PER_EVENT 16
#define FOREIGN_MAX         1024 /* wrong answers until a try is given up */
#define TUNNEL_PORT_FIRST   49152
#define TUNNEL_PORT_COUNT   16384

enum try_state { TRY_NONE, TRY_WAITS, TRY_OVER };

struct leg {
	struct request *request;
	struct endpoint upstream;
	bool is_tunnel, is_over;
	enum try_state udp_state, tcp_state;
	int udp, tcp; /* -1: none */
	void *dial;   /* under way: there is no tcp yet */
	struct event udp_event, tcp_event;
	uint16_t tunnel_port;
	unsigned foreign;
	/* TCP: the length prefix and what follows, in both directions. */
	size_t sent, got, room;
	uint8_t *in;
};

struct request {
	struct forwarder *forwarder;
	struct request *prev, *next;
	forwarder_done *done;
	void *arg;
	bool is_tcp, is_over;
	struct event timer;
	bool is_late; /* the timer is the last one */
	unsigned leg_count;
	struct leg leg[DNS_RESOLVERS_MAX];
	/* What is told when no good answer comes: copies. */
	uint8_t *truncated, *servfail, *refused;
	size_t truncated_len, servfail_len, refused_len;
	unsigned said_refused;
	size_t query_len;
	uint8_t query[2 + DNS_QUERY_MAX]; /* behind the length prefix */
};

struct forwarder {
	struct loop *loop;
	struct dns_tunnel tunnel;
	struct dns_dialler dialler;
	struct request *all, *dead;
	unsigned count;
	uint64_t spoofed;
	struct log_gate spoof_gate;
	uint8_t buffer[DNS_UDP_MAX + 1];
};

/* ---- the end ---- */

static void close_udp(struct leg *leg)
{
	if (leg->udp >= 0) {
		event_del(&leg->udp_event);
		close(leg->udp);
	}
	leg->udp = -1;
	leg->tunnel_port = 0;
	if (leg->udp_state == TRY_WAITS)
		leg->udp_state = TRY_OVER;
}

static void close_tcp(struct leg *leg)
{
	const struct dns_dialler *dialler = &leg->request->forwarder->dialler;

	if (leg->dial)
		dialler->cancel(dialler->owner, leg->dial);
	leg->dial = NULL;
	if (leg->tcp >= 0) {
		event_del(&leg->tcp_event);
		close(leg->tcp);
	}
	leg->tcp = -1;
	if (leg->tcp_state == TRY_WAITS)
		leg->tcp_state = TRY_OVER;
}

static void free_bytes(struct leg *leg)
{
	free(leg->in);
	leg->in = NULL;
	leg->got = leg->room = 0;
}

/* The answer's bytes are often the request's own, and another may be asked from inside done(). */
static void end(struct request *r, uint8_t *answer, size_t len)
{
	struct forwarder *f = r->forwarder;

	if (r->is_over)
		return;
	r->is_over = true;
	for (unsigned i = 0; i < r->leg_count; i++) {
		close_udp(&r->leg[i]);
		close_tcp(&r->leg[i]);
	}
	event_del(&r->timer);
	*(r->prev ? &r->prev->next : &f->all) = r->next;
	if (r->next)
		r->next->prev = r->prev;
	f->count--;
	r->done(r->arg, answer, len);
	r->next = f->dead;
	f->dead = r;
}

static void reap(struct forwarder *f)
{
	while (f->dead) {
		struct request *r = f->dead;

		f->dead = r->next;
		for (unsigned i = 0; i < r->leg_count; i++)
			free_bytes(&r->leg[i]);
		free(r->truncated);
		free(r->servfail);
		free(r->refused);
		free(r);
	}
}

static void end_badly(struct request *r)
{
	struct dns_answer failure;

	if (r->truncated) {
		end(r, r->truncated, r->truncated_len);
	} else if (r->refused && r->said_refused == r->leg_count) {
		end(r, r->refused, r->refused_len);
	} else if (r->servfail) {
		end(r, r->servfail, r->servfail_len);
	} else {
		dns_answer_failure(r->query + 2, r->query_len, &failure);
		end(r, failure.bytes, failure.len);
	}
}

static void leg_over(struct leg *leg)
{
	struct request *r = leg->request;

	close_udp(leg);
	close_tcp(leg);
	free_bytes(leg);
	leg->is_over = true;
	for (unsigned i = 0; i < r->leg_count; i++)
		if (!r->leg[i].is_over)
			return;
	end_badly(r);
}

/* ---- answers ---- */

static void keep(uint8_t **copy, size_t *copy_len, const uint8_t *bytes, size_t len)
{
	if (*copy)
		return;
	*copy = malloc(len);
	if (*copy) {
		memcpy(*copy, bytes, len);
		*copy_len = len;
	}
}

static void udp_failed(struct leg *leg);

/* Something came by UDP (or out of a TCP exchange). May end the request. */
static void judge(struct leg *leg, uint8_t *bytes, size_t len, bool by_tcp)
{
	struct request *r = leg->request;
	struct forwarder *f = r->forwarder;

	switch (exchange_judge(r->query + 2, r->query_len, bytes, len)) {
	case EXCHANGE_FOREIGN:
		f->spoofed++;
		log_limited(&f->spoof_gate, loop_now(f->loop), LOG_DEBUG,
			    "dns: an answer that fits no query is ignored");
		if (by_tcp || ++leg->foreign == FOREIGN_MAX)
			leg_over(leg);
		return;
	case EXCHANGE_TRUNCATED:
		if (r->is_tcp && !by_tcp) {
			keep(&r->truncated, &r->truncated_len, bytes, len);
			udp_failed(leg);
			return;
		}
		end(r, bytes, len);
		return;
	case EXCHANGE_GOOD:
		end(r, bytes, len);
		return;
	case EXCHANGE_SERVFAIL:
		keep(&r->servfail, &r->servfail_len, bytes, len);
		leg_over(leg);
		return;
	case EXCHANGE_REFUSED:
		r->said_refused++;
		keep(&r->refused, &r->refused_len, bytes, len);
		leg_over(leg);
		return;
	}
}

/* ---- TCP ---- */

static void tcp_failed(struct leg *leg)
{
	close_tcp(leg);
	free_bytes(leg);
	if (leg->udp_state != TRY_WAITS)
		leg_over(leg);
}

static bool tcp_grow(struct leg *leg, size_t room)
{
	uint8_t *grown;

	if (room <= leg->room)
		return true;
	grown = realloc(leg->in, room);
	if (!grown)
		return false;
	leg->in = grown;
	leg->room = room;
	return true;
}

/* -1: it failed; 0: more is to come; 1: whole. */
static int tcp_read(struct leg *leg)
{
	for (;;) {
		size_t want = leg->got < 2 ? 2 : 2 + (size_t)load_be16(leg->in);
		ssize_t n;

		if (leg->got >= 2 && leg->got == want)
			return 1;
		if (!tcp_grow(leg, want))
			return -1;
		n = recv(leg->tcp, leg->in + leg->got, want - leg->got, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		leg->got += (size_t)n;
	}
}

static void on_tcp(evutil_socket_t fd, short what, void *arg);

static bool watch_tcp(struct leg *leg, short what)
{
	return event_assign(&leg->tcp_event, loop_base(leg->request->forwarder->loop), leg->tcp,
			    (short)(what | EV_PERSIST), on_tcp, leg) == 0 &&
	       event_add(&leg->tcp_event, NULL) == 0;
}

static void on_tcp(evutil_socket_t fd, short what, void *arg)
{
	struct leg *leg = arg;
	struct request *r = leg->request;
	size_t len = 2 + r->query_len;
	int got;

	(void)what;
	if (leg->sent < len) {
		ssize_t n = send(fd, r->query + leg->sent, len - leg->sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			tcp_failed(leg);
			return;
		}
		leg->sent += n > 0 ? (size_t)n : 0;
		if (leg->sent < len)
			return;
		event_del(&leg->tcp_event);
		if (!watch_tcp(leg, EV_READ))
			tcp_failed(leg);
		return;
	}
	got = tcp_read(leg);
	if (got < 0)
		tcp_failed(leg);
	else if (got > 0)
		judge(leg, leg->in + 2, leg->got - 2, true);
}

static int open_socket(const struct endpoint *to, int type)
{
	int family = ip_is_v4(&to->addr) ? AF_INET : AF_INET6, fd, err;
	struct sockaddr_storage addr;
	socklen_t len = endpoint_to_sockaddr(to, family, &addr);

	fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, len) != 0 && errno != EINPROGRESS) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* The socket is the leg's now. */
static bool take_tcp(struct leg *leg, int fd)
{
	leg->tcp = fd;
	leg->sent = 0;
	if (watch_tcp(leg, EV_WRITE))
		return true;
	close(fd);
	leg->tcp = -1;
	return false;
}

static void dialled(void *arg, int fd)
{
	struct leg *leg = arg;

	leg->dial = NULL;
	if (fd < 0 || !take_tcp(leg, fd))
		tcp_failed(leg);
}

/* False: there will be no answer by TCP. */
static bool start_tcp(struct leg *leg)
{
	const struct dns_dialler *dialler = &leg->request->forwarder->dialler;
	bool is_open;
	int fd;

	if (leg->tcp_state != TRY_NONE)
		return leg->tcp_state == TRY_WAITS;
	if (leg->is_tunnel) {
		is_open = dialler->start && dialler->start(dialler->owner, &leg->upstream, dialled,
							   leg, &leg->dial) == 0;
	} else {
		fd = open_socket(&leg->upstream, SOCK_STREAM);
		is_open = fd >= 0 && take_tcp(leg, fd);
	}
	leg->tcp_state = is_open ? TRY_WAITS : TRY_OVER;
	return is_open;
}

/* ---- UDP ---- */

static void udp_failed(struct leg *leg)
{
	close_udp(leg);
	if (!start_tcp(leg))
		leg_over(leg);
}

static void on_udp(evutil_socket_t fd, short what, void *arg)
{
	struct leg *leg = arg;
	struct forwarder *f = leg->request->forwarder;

	(void)what;
	for (int i = 0; i < DATAGRAMS_PER_EVENT && leg->udp == fd; i++) {
		ssize_t n = recv(fd, f->buffer, DNS_UDP_MAX, MSG_DONTWAIT | MSG_TRUNC);
		size_t len;

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			udp_failed(leg);
			return;
		}
		len = MIN((size_t)n, (size_t)DNS_UDP_MAX);
		if ((size_t)n > len)
			dns_message_set_flags(f->buffer,
					      dns_message_flags(f->buffer) | DNS_FLAG_TC);
		judge(leg, f->buffer, len, false);
	}
}

static bool is_port_used(const struct forwarder *f, uint16_t port)
{
	for (const struct request *r = f->all; r; r = r->next)
		for (unsigned i = 0; i < r->leg_count; i++)
			if (r->leg[i].tunnel_port == port)
				return true;
	return false;
}

static bool start_tunnel(struct leg *leg)
{
	struct request *r = leg->request;
	struct forwarder *f = r->forwarder;
	uint16_t port = 0;

	for (int i = 0; i < 8 && port == 0; i++) {
		uint16_t random;

		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return false;
		port = (uint16_t)(TUNNEL_PORT_FIRST + random % TUNNEL_PORT_COUNT);
		if (is_port_used(f, port))
			port = 0;
	}
	if (port == 0 || f->tunnel.send_udp(f->tunnel.owner, port, &leg->upstream, r->query + 2,
					    r->query_len) != 0)
		return false;
	leg->tunnel_port = port;
	leg->udp_state = TRY_WAITS;
	return true;
}

static bool start_udp(struct leg *leg)
{
	struct request *r = leg->request;
	int fd;

	leg->udp_state = TRY_OVER;
	if (leg->is_tunnel)
		return start_tunnel(leg);
	fd = open_socket(&leg->upstream, SOCK_DGRAM);
	if (fd < 0)
		return false;
	if (send(fd, r->query + 2, r->query_len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ||
	    event_assign(&leg->udp_event, loop_base(r->forwarder->loop), fd, EV_READ | EV_PERSIST,
			 on_udp, leg) != 0 ||
	    event_add(&leg->udp_event, NULL) != 0) {
		close(fd);
		return false;
	}
	leg->udp = fd;
	leg->udp_state = TRY_WAITS;
	return true;
}

bool forwarder_tunnel_received(struct forwarder *f, const struct endpoint *from,
			       uint16_t local_port, const uint8_t *data, size_t len)
{
	if (local_port == 0)
		return false;
	for (struct request *r = f->all; r; r = r->next) {
		for (unsigned i = 0; i < r->leg_count; i++) {
			struct leg *leg = &r->leg[i];

			if (leg->tunnel_port != local_port || !endpoint_equal(&leg->upstream, from))
				continue;
			memcpy(f->buffer, data, MIN(len, (size_t)DNS_UDP_MAX));
			if (len > DNS_UDP_MAX)
				dns_message_set_flags(f->buffer,
						      dns_message_flags(f->buffer) | DNS_FLAG_TC);
			judge(leg, f->buffer, MIN(len, (size_t)DNS_UDP_MAX), false);
			return true;
		}
	}
	return false;
}

/* ---- requests ---- */

static struct timeval after_ms(unsigned ms)
{
	return (struct timeval){ ms / 1000, ms % 1000 * 1000 };
}

static unsigned to_tcp_ms(bool is_tcp)
{
	return is_tcp ? FORWARDER_TO_TCP_LONG_MS : FORWARDER_TO_TCP_MS;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct request *r = arg;
	struct timeval rest = after_ms(FORWARDER_QUERY_MS - to_tcp_ms(r->is_tcp));

	(void)fd;
	(void)what;
	if (r->is_late || event_add(&r->timer, &rest) != 0) {
		end_badly(r);
		return;
	}
	r->is_late = true;
	/* A try that cannot even begin changes nothing: UDP may still answer. */
	for (unsigned i = 0; i < r->leg_count; i++)
		if (!r->leg[i].is_over)
			start_tcp(&r->leg[i]);
}

static void start_leg(struct leg *leg)
{
	leg->is_over = !start_udp(leg) && !start_tcp(leg);
}

static void add_legs(struct request *r, const struct endpoint *upstream, unsigned count)
{
	for (unsigned i = 0; i < count && r->leg_count < DNS_RESOLVERS_MAX; i++) {
		struct leg *leg = &r->leg[r->leg_count++];

		*leg = (struct leg){ .request = r,
				     .upstream = upstream[i],
				     .is_tunnel =
					     forwarder_is_mesh(r->forwarder, &upstream[i].addr),
				     .udp = -1,
				     .tcp = -1 };
		start_leg(leg);
	}
}

int forwarder_ask(struct forwarder *f, const uint8_t *query, size_t len, bool is_tcp,
		  const struct endpoint *upstream, unsigned count, forwarder_done *done, void *arg)
{
	const struct timeval to_tcp = after_ms(to_tcp_ms(is_tcp));
	struct request *r;
	unsigned open = 0;

	reap(f);
	if (f->count == DNS_IN_FLIGHT_MAX)
		return -EBUSY;
	if (len > DNS_QUERY_MAX || count == 0)
		return -EHOSTUNREACH;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct request){ .forwarder = f, .done = done, .arg = arg, .is_tcp = is_tcp };
	r->query_len = len;
	store_be16(r->query, (uint16_t)len);
	memcpy(r->query + 2, query, len);
	dns_message_clamp_opt(r->query + 2, len);
	if (event_assign(&r->timer, loop_base(f->loop), -1, 0, on_timer, r) != 0 ||
	    event_add(&r->timer, &to_tcp) != 0) {
		free(r);
		return -ENOMEM;
	}
	add_legs(r, upstream, count);
	for (unsigned i = 0; i < r->leg_count; i++)
		open += !r->leg[i].is_over;
	if (open == 0) {
		event_del(&r->timer);
		free(r);
		return -EHOSTUNREACH;
	}
	r->next = f->all;
	if (r->next)
		r->next->prev = r;
	f->all = r;
	f->count++;
	return 0;
}

struct forwarder *forwarder_create(struct loop *loop)
{
	struct forwarder *f = calloc(1, sizeof(*f));

	if (f)
		f->loop = loop;
	return f;
}

void forwarder_destroy(struct forwarder *f)
{
	if (!f)
		return;
	while (f->all)
		end(f->all, NULL, 0);
	reap(f);
	free(f);
}

void forwarder_set_tunnel(struct forwarder *f, const struct dns_tunnel *tunnel)
{
	f->tunnel = *tunnel;
}

unsigned forwarder_in_flight(const struct forwarder *f)
{
	return f->count;
}

uint64_t forwarder_spoofed(const struct forwarder *f)
{
	return f->spoofed;
}

void forwarder_set_dialler(struct forwarder *f, const struct dns_dialler *dialler)
{
	f->dialler = *dialler;
}

bool forwarder_is_mesh(const struct forwarder *f, const struct ip_addr *ip)
{
	return f->tunnel.is_mesh && f->tunnel.is_mesh(f->tunnel.owner, ip);
}
