/*
 * The flow table: one array of entries, chained from buckets by index, in a
 * list by last use. Nothing is allocated after init and no entry is ever free
 * again: when the array is full, the one unused longest is taken over. So a peer
 * who makes us answer from many ports costs old flows, not memory. The hash is
 * keyed, since peers choose the ports of datagrams that programs answer.
 */
#include "daemon/stack/filter_flows.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct filter_flow {
	struct filter_flow_key key;
	uint32_t hash;
	uint32_t next;         /* in its bucket */
	uint32_t newer, older; /* by last use */
};

_Static_assert(sizeof(struct filter_flow_key) == 40, "no padding");

int filter_flows_init(struct filter_flows *flows, uint32_t max, const uint8_t secret[static 16])
{
	uint32_t buckets = 1;

	while (buckets < max)
		buckets *= 2;
	*flows = (struct filter_flows){ .max = max, .mask = buckets - 1 };
	memcpy(flows->secret, secret, sizeof(flows->secret));
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

static void unlink_used(struct filter_flows *flows, struct filter_flow *flow)
{
	if (flow->newer)
		at(flows, flow->newer)->older = flow->older;
	else
		flows->newest = flow->older;
	if (flow->older)
		at(flows, flow->older)->newer = flow->newer;
	else
		flows->oldest = flow->newer;
}

static void link_newest(struct filter_flows *flows, uint32_t index)
{
	struct filter_flow *flow = at(flows, index);

	flow->newer = 0;
	flow->older = flows->newest;
	if (flows->newest)
		at(flows, flows->newest)->newer = index;
	else
		flows->oldest = index;
	flows->newest = index;
}

static uint32_t hash_of(const struct filter_flows *flows, const struct filter_flow_key *key)
{
	uint64_t hash;

	crypto_shorthash((uint8_t *)&hash, (const uint8_t *)key, sizeof(*key), flows->secret);
	return (uint32_t)hash;
}

/* Most packets belong to the flow of the packet before. */
static bool is_newest(struct filter_flows *flows, const struct filter_flow_key *key)
{
	return flows->newest && memcmp(&at(flows, flows->newest)->key, key, sizeof(*key)) == 0;
}

static bool find(struct filter_flows *flows, const struct filter_flow_key *key, uint32_t hash)
{
	uint32_t index = flows->bucket[hash & flows->mask];

	while (index) {
		struct filter_flow *flow = at(flows, index);

		if (flow->hash == hash && memcmp(&flow->key, key, sizeof(*key)) == 0) {
			unlink_used(flows, flow);
			link_newest(flows, index);
			return true;
		}
		index = flow->next;
	}
	return false;
}

/* Takes the oldest entry out of its bucket and the list. */
static uint32_t evict(struct filter_flows *flows)
{
	uint32_t index = flows->oldest;
	struct filter_flow *flow = at(flows, index);
	uint32_t *link = &flows->bucket[flow->hash & flows->mask];

	while (*link != index)
		link = &at(flows, *link)->next;
	*link = flow->next;
	unlink_used(flows, flow);
	flows->evicted++;
	return index;
}

void filter_flows_note(struct filter_flows *flows, const struct filter_flow_key *key)
{
	uint32_t hash, index;
	struct filter_flow *flow;

	if (is_newest(flows, key))
		return;
	hash = hash_of(flows, key);
	if (find(flows, key, hash))
		return;
	index = flows->count < flows->max ? ++flows->count : evict(flows);
	flow = at(flows, index);
	flow->key = *key;
	flow->hash = hash;
	flow->next = flows->bucket[hash & flows->mask];
	flows->bucket[hash & flows->mask] = index;
	link_newest(flows, index);
}

bool filter_flows_use(struct filter_flows *flows, const struct filter_flow_key *key)
{
	return is_newest(flows, key) || find(flows, key, hash_of(flows, key));
}
