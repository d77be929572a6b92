/*
 * A virtual link. Packets stand in one list in order of arrival; only a
 * reordered one is not simply the last, so inserting looks from the end.
 * Everything random comes from the seed: the same seed, the same misfortune.
 */
#include "link.h"

#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

uint64_t link_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

void link_init(struct link *link, const struct link_config *config, uint64_t seed)
{
	memset(link, 0, sizeof(*link));
	link->config = *config;
	link->random = seed;
}

static void free_list(struct link_packet *p)
{
	while (p) {
		struct link_packet *next = p->next;

		free(p);
		p = next;
	}
}

void link_finish(struct link *link)
{
	free_list(link->first);
	free_list(link->unused);
	memset(link, 0, sizeof(*link));
}

void link_trim(struct link *link)
{
	free_list(link->unused);
	link->unused = NULL;
}

struct link_packet *link_packet(struct link *link)
{
	struct link_packet *p = link->unused;

	if (p) {
		link->unused = p->next;
		return p;
	}
	p = malloc(sizeof(*p));
	if (!p)
		abort();
	return p;
}

void link_give_back(struct link *link, struct link_packet *packet)
{
	packet->next = link->unused;
	link->unused = packet;
}

static bool chance(struct link *link, uint32_t per_million)
{
	return per_million > 0 && link_random(&link->random) % 1000000 < per_million;
}

static void insert(struct link *link, struct link_packet *p)
{
	struct link_packet *before = link->last;

	while (before && before->at_ns > p->at_ns)
		before = before->earlier;
	p->earlier = before;
	p->next = before ? before->next : link->first;
	if (before)
		before->next = p;
	else
		link->first = p;
	if (p->next)
		p->next->earlier = p;
	else
		link->last = p;
}

/* When a packet sent now leaves the queue, or NEVER_NS: the queue is full. */
static uint64_t serialise(struct link *link, size_t len, uint64_t now_ns)
{
	const struct link_config *c = &link->config;
	uint64_t start, burst_ns;

	if (c->bits_per_s == 0)
		return now_ns;
	burst_ns = c->burst_bytes * 8 * NS_PER_S / c->bits_per_s;
	start = MAX(now_ns + burst_ns, link->busy_until_ns) - burst_ns;
	if (c->queue_bytes > 0 &&
	    (start - now_ns) * c->bits_per_s / 8 / NS_PER_S + len > c->queue_bytes)
		return NEVER_NS;
	link->busy_until_ns = MAX(now_ns, link->busy_until_ns) + len * 8 * NS_PER_S / c->bits_per_s;
	if (burst_ns == 0)
		return link->busy_until_ns;
	link->line_until_ns =
		MAX(start, link->line_until_ns) + len * 8 * NS_PER_S / c->burst_bits_per_s;
	return link->line_until_ns;
}

void link_send(struct link *link, struct link_packet *p, uint64_t now_ns)
{
	const struct link_config *c = &link->config;
	uint64_t leaves_ns = serialise(link, p->len, now_ns);

	link->stats.packets++;
	if (leaves_ns == NEVER_NS || chance(link, c->loss)) {
		if (leaves_ns == NEVER_NS)
			link->stats.queue_drops++;
		else
			link->stats.losses++;
		link_give_back(link, p);
		return;
	}
	p->at_ns = leaves_ns + c->delay_ns;
	if (chance(link, c->reorder)) {
		p->at_ns += link_random(&link->random) % (c->reorder_ns + 1);
		link->stats.reordered++;
	}
	if (chance(link, c->duplicate)) {
		struct link_packet *twin = link_packet(link);

		memcpy(twin->data, p->data, p->len);
		twin->len = p->len;
		twin->at_ns = p->at_ns + link_random(&link->random) % (c->reorder_ns + 1);
		insert(link, twin);
		link->stats.duplicates++;
	}
	if (chance(link, c->corrupt)) {
		uint64_t r = link_random(&link->random);

		p->data[(r >> 8) % p->len] ^= (uint8_t)(1u << (r & 7));
		link->stats.corrupted++;
	}
	insert(link, p);
}

struct link_packet *link_receive(struct link *link, uint64_t now_ns)
{
	struct link_packet *p = link->first;

	if (!p || p->at_ns > now_ns)
		return NULL;
	link->first = p->next;
	if (p->next)
		p->next->earlier = NULL;
	else
		link->last = NULL;
	return p;
}

uint64_t link_next_ns(const struct link *link)
{
	return link->first ? link->first->at_ns : NEVER_NS;
}
