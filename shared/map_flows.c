/* Flows in the shared map: hash tables whose slots are read without a lock. */
#include <string.h>

#include "shared/map.h"
#include "shared/map_read.h"

static uint32_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	return (uint32_t)(x >> 7);
}

uint32_t map_flow_slot(const struct map_ends *ends)
{
	uint64_t addresses = mix((uint64_t)ends->local_addr << 32 | ends->peer_addr);

	return mix(addresses << 32 | (uint32_t)ends->local_port << 16 | ends->peer_port) %
	       MAP_FLOW_SLOTS;
}

uint32_t map_pair_slot(uint64_t key)
{
	return mix(key) % MAP_PAIR_SLOTS;
}

/* A consistent copy of one slot; false when the writer would not let go of it. */
static bool copy_flow(const struct map_flow *slot, struct map_flow *copy)
{
	uint32_t seq;

	for (int i = 0; i < READ_TRIES; i++) {
		if (!read_begin(&slot->seq, &seq))
			continue;
		memcpy(copy, slot, sizeof(*copy));
		if (read_ended_well(&slot->seq, seq))
			return true;
	}
	return false;
}

bool map_find_flow(const struct map *map, const struct map_ends *ends, struct map_flow *found)
{
	uint32_t slot = map_flow_slot(ends);
	struct map_flow copy;

	for (uint32_t i = 0; i < MAP_PROBE_LIMIT; i++) {
		if (!copy_flow(&map->flows[(slot + i) % MAP_FLOW_SLOTS], &copy))
			continue;
		if (copy.state == MAP_FLOW_FREE && copy.generation == 0)
			return false; /* never used: the chain ends here */
		if (copy.state != MAP_FLOW_FREE && map_ends_equal(&copy.ends, ends)) {
			*found = copy;
			return true;
		}
	}
	return false;
}

bool map_find_pair(const struct map *map, enum map_table table, uint32_t addr, uint16_t port,
		   uint32_t *value_addr, uint16_t *value_port)
{
	uint64_t key = map_pack(addr, port), seen, value;
	uint32_t slot = map_pair_slot(key);

	if (atomic_load_explicit(&map->pair_count[table], memory_order_relaxed) == 0)
		return false;
	for (uint32_t i = 0; i < MAP_PROBE_LIMIT; i++) {
		const struct map_pair *pair = &map->pairs[table][(slot + i) % MAP_PAIR_SLOTS];

		seen = atomic_load_explicit(&pair->key, memory_order_acquire);
		if (seen == 0)
			return false;
		if (seen != key)
			continue;
		value = atomic_load_explicit(&pair->value, memory_order_acquire);
		/* The slot may have been given to another key in between. */
		if (atomic_load_explicit(&pair->key, memory_order_relaxed) != key)
			return false;
		*value_addr = (uint32_t)(value >> 16);
		*value_port = (uint16_t)value;
		return true;
	}
	return false;
}
