/*
 * From a flow's four values to its connection or TIME_WAIT record.
 *
 * A chained table with a keyed hash (SipHash), so that a peer who chooses
 * ports cannot choose buckets. One entry is remembered: a batch from the
 * tunnel is mostly one flow, and comparing 40 bytes is cheaper than hashing.
 */
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"

#define FIRST_BUCKETS 256u

_Static_assert(crypto_shorthash_KEYBYTES == 16 && crypto_shorthash_BYTES == 8, "SipHash");

static bool key_equal(const struct tcp_flow_key *a, const struct tcp_flow_key *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int tcp_table_init(struct tcp_table *table, const uint8_t key[static 16])
{
	memset(table, 0, sizeof(*table));
	table->buckets = calloc(FIRST_BUCKETS, sizeof(struct tcp_flow *));
	if (!table->buckets)
		return -ENOMEM;
	table->mask = FIRST_BUCKETS - 1;
	memcpy(table->hash_key, key, sizeof(table->hash_key));
	return 0;
}

void tcp_table_finish(struct tcp_table *table)
{
	free(table->buckets);
	sodium_memzero(table, sizeof(*table));
}

uint64_t tcp_table_hash(const struct tcp_table *table, const struct tcp_flow_key *key)
{
	uint64_t hash;

	crypto_shorthash((uint8_t *)&hash, (const uint8_t *)key, sizeof(*key), table->hash_key);
	return hash;
}

struct tcp_flow *tcp_table_find(struct tcp_table *table, const struct tcp_flow_key *key,
				uint64_t *hash)
{
	struct tcp_flow *flow = table->last;

	if (flow && key_equal(&flow->key, key)) {
		*hash = flow->hash;
		return flow;
	}
	*hash = tcp_table_hash(table, key);
	for (flow = table->buckets[*hash & table->mask]; flow; flow = flow->next)
		if (flow->hash == *hash && key_equal(&flow->key, key)) {
			table->last = flow;
			return flow;
		}
	return NULL;
}

static void grow(struct tcp_table *table)
{
	uint32_t size = (table->mask + 1) * 2;
	struct tcp_flow **buckets = calloc(size, sizeof(*buckets));

	if (!buckets)
		return; /* longer chains still work */
	for (uint32_t i = 0; i <= table->mask; i++) {
		struct tcp_flow *flow = table->buckets[i];

		while (flow) {
			struct tcp_flow *next = flow->next;

			flow->next = buckets[flow->hash & (size - 1)];
			buckets[flow->hash & (size - 1)] = flow;
			flow = next;
		}
	}
	free(table->buckets);
	table->buckets = buckets;
	table->mask = size - 1;
}

void tcp_table_add(struct tcp_table *table, struct tcp_flow *flow)
{
	struct tcp_flow **bucket;

	if (table->count > table->mask)
		grow(table);
	bucket = &table->buckets[flow->hash & table->mask];
	flow->next = *bucket;
	*bucket = flow;
	table->count++;
}

void tcp_table_remove(struct tcp_table *table, struct tcp_flow *flow)
{
	struct tcp_flow **at = &table->buckets[flow->hash & table->mask];

	while (*at != flow)
		at = &(*at)->next;
	*at = flow->next;
	table->count--;
	if (table->last == flow)
		table->last = NULL;
}

struct tcp_flow_key tcp_flow_key(const struct endpoint *local, const struct endpoint *remote)
{
	return (struct tcp_flow_key){ remote->addr, local->addr, remote->port, local->port, 0 };
}
