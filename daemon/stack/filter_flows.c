/*
 * The flow table: one array of entries, chained from buckets by index, in the lists
 * of fair.h. Nothing is allocated after init and no entry is ever free again: when the
 * array is full, one is taken over. So a peer who makes us answer from many ports costs
 * old flows, its own before those of others, and no memory. The hash is keyed, since peers
 * choose the ports of datagrams that programs answer.
 */
#include "daemon/stack/filter_flows.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct filter_flow {
	struct filter_flow_key key;
	uint32_t hash;
	uint32_t next; /* in its bucket */
	struct fair_entry fair;
};

_Static_assert(sizeof(struct filter_flow_key) == 40, "no padding");

int filter_flows_init(struct filter_flows *flows, uint32_t max, const uint8_t secret[static 16])
{
	uint32_t buckets = 1;

	while (buckets < max)
		buckets *= 2;
	*flows = (struct filter_flows){ .max = max, .mask = buckets - 1 };
	memcpy(flows->secret, secret, sizeof(flows->secret));
	fair_init(&flows->fair, secret);
	flows->flow = calloc(max, sizeof(*flows->flow));
	flows->bucket = calloc(buckets, sizeof(*flows->bucket));
	return flows->flow && flows->bucket ? 0 : -ENOMEM;
}

void filter_flows_finish(struct filter_flows *flows)
{
	free(flows->flow);
	free(flows->bucket);
	sodium_memzero(flows, sizeof(*flows));
}

static struct filter_flow *at(struct filter_flows *flows, uint32_t index)
{
	return &flows->flow[index - 1];
}

static uint32_t hash_of(const struct filter_flows *flows, const struct filter_flow_key *key)
{
	uint64_t hash;

	crypto_shorthash((uint8_t *)&hash, (const uint8_t *)key, sizeof(*key), flows->secret);
	return (uint32_t)hash;
}

static struct filter_flow *find(struct filter_flows *flows, const struct filter_flow_key *key)
{
	struct fair_entry *newest = fair_newest(&flows->fair);
	struct filter_flow *flow;
	uint32_t hash;

	/* Most packets belong to the flow of the packet before. */
	if (newest) {
		flow = CONTAINER_OF(newest, struct filter_flow, fair);
		if (memcmp(&flow->key, key, sizeof(*key)) == 0)
			return flow;
	}
	hash = hash_of(flows, key);
	for (uint32_t index = flows->bucket[hash & flows->mask]; index; index = flow->next) {
		flow = at(flows, index);
		if (flow->hash == hash && memcmp(&flow->key, key, sizeof(*key)) == 0)
			return flow;
	}
	return NULL;
}

bool filter_flows_use(struct filter_flows *flows, const struct filter_flow_key *key,
		      uint64_t now_ns)
{
	struct filter_flow *flow = find(flows, key);

	if (flow)
		fair_used(&flows->fair, &flow->fair, now_ns);
	return flow != NULL;
}

/* Takes one out of its bucket and the lists. */
static uint32_t evict(struct filter_flows *flows, uint64_t now_ns)
{
	struct filter_flow *flow =
		CONTAINER_OF(fair_evict(&flows->fair, now_ns), struct filter_flow, fair);
	uint32_t index = 1 + (uint32_t)(flow - flows->flow);
	uint32_t *link = &flows->bucket[flow->hash & flows->mask];

	while (*link != index)
		link = &at(flows, *link)->next;
	*link = flow->next;
	return index;
}

void filter_flows_add(struct filter_flows *flows, const struct filter_flow_key *key,
		      const void *peer, uint64_t now_ns)
{
	uint32_t hash = hash_of(flows, key);
	uint32_t index = flows->count < flows->max ? ++flows->count : evict(flows, now_ns);
	struct filter_flow *flow = at(flows, index);

	flow->key = *key;
	flow->hash = hash;
	flow->next = flows->bucket[hash & flows->mask];
	flows->bucket[hash & flows->mask] = index;
	fair_enter(&flows->fair, &flow->fair, peer, now_ns);
}
