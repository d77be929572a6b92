/*
 * Reassembly.
 *
 * Each datagram has one buffer of the largest size IP can carry and a sorted
 * list of the spans that have come. So memory is bounded by the number of
 * datagrams alone (64 x 64 KiB), fragments in order keep one span, and a
 * complete datagram is one span from 0 to the end.
 *
 * Overlaps are never resolved (RFC 5722): a fragment that repeats bytes exactly
 * is a duplicate and ignored; any other overlap spoils the datagram, whose
 * entry then stays without a buffer until its time is over, so that later
 * fragments of it do not begin a new one.
 *
 * The table is searched from end to end: 64 entries, and fragments are rare
 * here since TCP makes none. One address may hold a quarter of it, and one peer, which
 * may have many addresses, twice what is free: it pushes out its own datagrams only.
 */
#include "daemon/stack/reassembly.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEADROOM IPV6_HEADER

struct span {
	uint32_t start, end;
};

struct entry {
	bool is_used;
	const void *peer;
	struct ip_addr src, dst;
	uint32_t id;
	uint8_t protocol;
	uint64_t deadline_ns;
	uint8_t *buffer; /* NULL: spoilt */
	uint32_t total;  /* 0: the last fragment has not come */
	unsigned span_count;
	struct span span[REASSEMBLY_MAX_SPANS];
};

struct reassembly {
	struct entry entry[REASSEMBLY_MAX];
	unsigned used;
	uint8_t *finished; /* what reassembly_add() has given out */
	uint64_t evicted;
};

struct reassembly *reassembly_create(void)
{
	return calloc(1, sizeof(struct reassembly));
}

static void entry_free(struct reassembly *r, struct entry *e)
{
	r->used -= e->is_used;
	free(e->buffer);
	memset(e, 0, sizeof(*e));
}

void reassembly_destroy(struct reassembly *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < REASSEMBLY_MAX; i++)
		entry_free(r, &r->entry[i]);
	free(r->finished);
	free(r);
}

static bool entry_matches(const struct entry *e, const struct ip_packet *f)
{
	/* IPv4 tells datagrams of different protocols apart, IPv6 does not (RFC 8200, 4.5). */
	return e->is_used && e->id == f->fragment.id && ip_equal(&e->src, &f->src) &&
	       ip_equal(&e->dst, &f->dst) && (f->is_v6 || e->protocol == f->protocol);
}

static void keep_older(struct entry **oldest, struct entry *e)
{
	if (!*oldest || e->deadline_ns < (*oldest)->deadline_ns)
		*oldest = e;
}

/* A free entry, or the oldest of an address or a peer that has too many, or the oldest of all. */
static struct entry *make_room(struct reassembly *r, const void *peer, const struct ip_addr *src)
{
	struct entry *free_one = NULL, *oldest = NULL, *of_src = NULL, *of_peer = NULL, *victim;
	unsigned src_count = 0, peer_count = 0;

	for (unsigned i = 0; i < REASSEMBLY_MAX; i++) {
		struct entry *e = &r->entry[i];

		if (!e->is_used) {
			free_one = e;
			continue;
		}
		keep_older(&oldest, e);
		if (e->peer != peer)
			continue;
		keep_older(&of_peer, e);
		peer_count++;
		if (!ip_equal(&e->src, src))
			continue;
		keep_older(&of_src, e);
		src_count++;
	}
	if (src_count >= REASSEMBLY_MAX_SOURCE)
		victim = of_src;
	else if (peer_count > 0 && peer_count >= 2 * (REASSEMBLY_MAX - r->used))
		victim = of_peer;
	else
		victim = free_one ? NULL : oldest;
	if (!victim)
		return free_one;
	r->evicted++;
	entry_free(r, victim);
	return victim;
}

static struct entry *find_entry(struct reassembly *r, const void *peer, const struct ip_packet *f,
				uint64_t now_ns)
{
	struct entry *e;
	uint8_t *buffer;

	for (unsigned i = 0; i < REASSEMBLY_MAX; i++) {
		if (entry_matches(&r->entry[i], f))
			return &r->entry[i];
	}
	buffer = malloc(HEADROOM + IP_PACKET_MAX);
	if (!buffer)
		return NULL;
	e = make_room(r, peer, &f->src);
	e->is_used = true;
	r->used++;
	e->peer = peer;
	e->src = f->src;
	e->dst = f->dst;
	e->id = f->fragment.id;
	e->protocol = f->protocol;
	e->deadline_ns = now_ns + REASSEMBLY_TIMEOUT_NS;
	e->buffer = buffer;
	return e;
}

enum verdict { SPAN_NEW, SPAN_DUPLICATE, SPAN_BAD };

/* Puts start..end among the spans, joined with its neighbours where they touch. */
static enum verdict insert_span(struct entry *e, const uint8_t *data, uint32_t start, uint32_t end)
{
	unsigned at = 0;

	while (at < e->span_count && e->span[at].end < start)
		at++;
	if (at < e->span_count && e->span[at].end > start && e->span[at].start < end) {
		bool is_inside = e->span[at].start <= start && end <= e->span[at].end;

		return is_inside && memcmp(e->buffer + HEADROOM + start, data, end - start) == 0
			       ? SPAN_DUPLICATE
			       : SPAN_BAD;
	}
	if (at < e->span_count && e->span[at].end == start) {
		struct span *next = at + 1 < e->span_count ? &e->span[at + 1] : NULL;

		if (next && next->start < end)
			return SPAN_BAD;
		e->span[at].end = end;
		if (next && next->start == end) {
			e->span[at].end = next->end;
			e->span_count--;
			memmove(next, next + 1, (e->span_count - at - 1) * sizeof(*next));
		}
		return SPAN_NEW;
	}
	if (at < e->span_count && e->span[at].start == end) {
		e->span[at].start = start;
		return SPAN_NEW;
	}
	if (e->span_count == REASSEMBLY_MAX_SPANS)
		return SPAN_BAD;
	memmove(&e->span[at + 1], &e->span[at], (e->span_count - at) * sizeof(e->span[0]));
	e->span[at] = (struct span){ start, end };
	e->span_count++;
	return SPAN_NEW;
}

/* Is this fragment possible, by itself and with what its datagram has told so far? */
static bool is_plausible(const struct entry *e, const struct ip_packet *f, uint32_t end)
{
	uint32_t header = f->is_v6 ? 0 : IPV4_HEADER;
	uint32_t seen = e->span_count ? e->span[e->span_count - 1].end : 0;

	if (f->payload_len == 0 || (f->fragment.has_more && f->payload_len % 8 != 0) ||
	    end + header > IP_PACKET_MAX)
		return false;
	if (!f->fragment.has_more)
		return e->total ? e->total == end : seen <= end;
	return !e->total || end <= e->total;
}

/* Only the first fragment may tell the protocol of an IPv6 datagram. */
static void take_first(struct entry *e, const struct ip_packet *f)
{
	if (f->fragment.offset == 0)
		e->protocol = f->protocol;
}

static void finish_entry(struct reassembly *r, struct entry *e, uint8_t **whole, size_t *len)
{
	uint32_t header = ip_is_v4(&e->src) ? IPV4_HEADER : IPV6_HEADER;
	uint8_t *start = e->buffer + HEADROOM - header;

	ip_header_write(start, &e->src, &e->dst, e->protocol, e->total, NULL);
	*whole = start;
	*len = header + e->total;
	r->finished = e->buffer;
	e->buffer = NULL;
	entry_free(r, e);
}

int reassembly_add(struct reassembly *r, const void *peer, const struct ip_packet *f,
		   uint64_t now_ns, uint8_t **whole, size_t *len)
{
	uint32_t start = f->fragment.offset, end = start + f->payload_len;
	struct entry *e = find_entry(r, peer, f, now_ns);
	enum verdict verdict;

	*whole = NULL;
	free(r->finished);
	r->finished = NULL;
	if (!e)
		return -ENOMEM;
	if (!e->buffer)
		return 0; /* spoilt, and counted then */
	verdict = is_plausible(e, f, end) ? insert_span(e, ip_payload(f), start, end) : SPAN_BAD;
	if (verdict == SPAN_DUPLICATE)
		return 0;
	if (verdict == SPAN_BAD) {
		free(e->buffer);
		e->buffer = NULL;
		return -EBADMSG;
	}
	memcpy(e->buffer + HEADROOM + start, ip_payload(f), f->payload_len);
	take_first(e, f);
	if (!f->fragment.has_more)
		e->total = end;
	if (e->total && e->span_count == 1 && e->span[0].start == 0 && e->span[0].end == e->total)
		finish_entry(r, e, whole, len);
	return 0;
}

uint64_t reassembly_deadline(const struct reassembly *r)
{
	uint64_t deadline_ns = NEVER_NS;

	for (unsigned i = 0; r->used > 0 && i < REASSEMBLY_MAX; i++) {
		if (r->entry[i].is_used)
			deadline_ns = MIN(deadline_ns, r->entry[i].deadline_ns);
	}
	return deadline_ns;
}

unsigned reassembly_expire(struct reassembly *r, uint64_t now_ns)
{
	unsigned failed = 0;

	for (unsigned i = 0; r->used > 0 && i < REASSEMBLY_MAX; i++) {
		struct entry *e = &r->entry[i];

		if (!e->is_used || e->deadline_ns > now_ns)
			continue;
		failed += e->buffer != NULL; /* the spoilt ones were counted */
		entry_free(r, e);
	}
	return failed;
}

uint64_t reassembly_evicted(const struct reassembly *r)
{
	return r->evicted;
}
