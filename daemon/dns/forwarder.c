/*
 * Forwarding.
 *
 * A request has one leg for each resolver, and a leg (leg.h) up to two tries: UDP, from a
 * socket of its own that is connected (so the kernel chose a fresh random port, drops what
 * comes from elsewhere, and tells refusals), and TCP, which begins after some
 * silence, when UDP failed, or when it told a client that can take a long answer
 * only part of one. While neither has answered the datagram is sent again now and then. Behind the
 * tunnel it is the same by other means: UDP from a random port that is ours as long as the leg
 * waits, TCP by a socket whose other end the dialler joins to the mesh.
 *
 * The first good answer ends the request. A leg is over when it said SERVFAIL or
 * REFUSED or both tries failed; when all are, the client gets what dns.h says.
 *
 * Nothing is kept after the answer. A finished request is freed at the next
 * one, since callbacks of its own may be running.
 */
#include "daemon/dns/forwarder.h"

#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "daemon/dns/answer.h"
#include "daemon/dns/exchange.h"
#include "daemon/dns/leg.h"
#include "daemon/dns/message.h"
#include "daemon/loop.h"
#include "shared/log.h"
#include "shared/util.h"
#include "shared/wire.h"

#define FOREIGN_MAX 1024 /* wrong answers until a try is given up */

/* ---- the end ---- */

/* The answer's bytes are often the request's own, and another may be asked from inside done(). */
static void end(struct request *r, uint8_t *answer, size_t len)
{
	struct forwarder *f = r->forwarder;

	if (r->is_over)
		return;
	r->is_over = true;
	for (unsigned i = 0; i < r->leg_count; i++) {
		leg_close_udp(&r->leg[i]);
		leg_close_tcp(&r->leg[i]);
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
			leg_free_bytes(&r->leg[i]);
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

void leg_over(struct leg *leg)
{
	struct request *r = leg->request;

	leg_close_udp(leg);
	leg_close_tcp(leg);
	leg_free_bytes(leg);
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

/* Something came by UDP (or out of a TCP exchange). May end the request. */
void leg_judge(struct leg *leg, uint8_t *bytes, size_t len, bool by_tcp)
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
			leg_udp_failed(leg);
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
			leg_judge(leg, f->buffer, MIN(len, (size_t)DNS_UDP_MAX), false);
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
	bool is_first = r->spent_ms == to_tcp_ms(r->is_tcp);
	unsigned wait_ms = MIN(FORWARDER_AGAIN_MS, FORWARDER_QUERY_MS - r->spent_ms);
	struct timeval wait = after_ms(wait_ms);

	(void)fd;
	(void)what;
	if (wait_ms == 0 || event_add(&r->timer, &wait) != 0) {
		end_badly(r);
		return;
	}
	r->spent_ms += wait_ms;
	for (unsigned i = 0; i < r->leg_count && !r->is_over; i++) {
		if (r->leg[i].is_over)
			continue;
		if (is_first) /* one that cannot even begin changes nothing: UDP may still answer */
			leg_start_tcp(&r->leg[i]);
		else
			leg_repeat_udp(&r->leg[i]);
	}
}

static void start_leg(struct leg *leg)
{
	leg->is_over = !leg_start_udp(leg) && !leg_start_tcp(leg);
}

static void add_legs(struct request *r, const struct endpoint *upstream, unsigned count)
{
	for (unsigned i = 0; i < count && r->leg_count < DNS_RESOLVERS_MAX; i++) {
		struct leg *leg = &r->leg[r->leg_count++];

		*leg = (struct leg){ .request = r,
				     .upstream = upstream[i],
				     .is_tunnel = forwarder_place(r->forwarder,
								  &upstream[i].addr) == DNS_TUNNEL,
				     .udp = -1,
				     .tcp = -1 };
		start_leg(leg);
	}
}

/* Queries under way to the same resolvers: dead ones shall not use up what others need. */
static unsigned count_of(const struct forwarder *f, const struct endpoint *first)
{
	unsigned count = 0;

	for (const struct request *r = f->all; r; r = r->next)
		count += endpoint_equal(&r->leg[0].upstream, first);
	return count;
}

int forwarder_ask(struct forwarder *f, const uint8_t *query, size_t len, bool is_tcp,
		  const struct endpoint *upstream, unsigned count, forwarder_done *done, void *arg)
{
	const struct timeval to_tcp = after_ms(to_tcp_ms(is_tcp));
	struct request *r;
	unsigned open = 0;

	reap(f);
	if (len > DNS_QUERY_MAX || count == 0)
		return -EHOSTUNREACH;
	if (f->count == DNS_IN_FLIGHT_ALL || count_of(f, upstream) >= DNS_IN_FLIGHT_MAX)
		return -EBUSY;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	*r = (struct request){ .forwarder = f, .done = done, .arg = arg, .is_tcp = is_tcp };
	r->spent_ms = to_tcp_ms(is_tcp);
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

enum dns_place forwarder_place(const struct forwarder *f, const struct ip_addr *ip)
{
	return f->tunnel.place ? f->tunnel.place(f->tunnel.owner, ip) : DNS_OUTSIDE;
}

bool forwarder_find(const struct forwarder *f, const struct endpoint *resolver, struct endpoint *at)
{
	enum dns_place place = forwarder_place(f, &resolver->addr);

	*at = *resolver;
	if (place == DNS_OWN)
		return f->tunnel.find_own(f->tunnel.owner, resolver, at);
	return place != DNS_NOBODY;
}
