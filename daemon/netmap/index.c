/*
 * Open addressing with linear probing, at most half full; an entry that goes is
 * filled from behind, so that there are no tombstones. The hash is keyed, since
 * names and addresses are chosen by others.
 */
#include "daemon/netmap/index.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 64u
#define HASHED_MAX 256u

uint64_t index_hash(const struct index *ix, enum index_kind kind, const void *bytes, size_t len)
{
	uint8_t data[1 + HASHED_MAX] = { (uint8_t)kind };
	uint64_t hash;

	assert(len <= HASHED_MAX);
	memcpy(data + 1, bytes, len);
	crypto_shorthash((uint8_t *)&hash, data, 1 + len, ix->secret);
	return hash;
}

static void put(struct index_entry *entry, size_t mask, uint64_t hash, struct node_item *item)
{
	size_t at = hash & mask;

	while (entry[at].item)
		at = (at + 1) & mask;
	entry[at] = (struct index_entry){ hash, item };
}

int index_reserve(struct index *ix, size_t more)
{
	size_t size = ix->mask ? ix->mask + 1 : FIRST_SIZE;
	struct index_entry *entry;

	while (size / 2 < ix->count + more)
		size *= 2;
	if (ix->mask && size == ix->mask + 1)
		return 0;
	entry = calloc(size, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	for (size_t i = 0; ix->mask && i <= ix->mask; i++) {
		if (ix->entry[i].item)
			put(entry, size - 1, ix->entry[i].hash, ix->entry[i].item);
	}
	free(ix->entry);
	ix->entry = entry;
	ix->mask = size - 1;
	return 0;
}

void index_add(struct index *ix, uint64_t hash, struct node_item *item)
{
	assert(ix->mask && ix->count < (ix->mask + 1) / 2);
	put(ix->entry, ix->mask, hash, item);
	ix->count++;
}

void index_remove(struct index *ix, uint64_t hash, const struct node_item *item)
{
	size_t hole = hash & ix->mask, at;

	while (ix->entry[hole].item != item || ix->entry[hole].hash != hash) {
		assert(ix->entry[hole].item);
		hole = (hole + 1) & ix->mask;
	}
	/* What stands behind and would no longer be found moves into the hole. */
	for (at = (hole + 1) & ix->mask; ix->entry[at].item; at = (at + 1) & ix->mask) {
		size_t home = ix->entry[at].hash & ix->mask;

		if (((at - home) & ix->mask) >= ((at - hole) & ix->mask)) {
			ix->entry[hole] = ix->entry[at];
			hole = at;
		}
	}
	ix->entry[hole].item = NULL;
	ix->count--;
}

struct node_item *index_next(const struct index *ix, uint64_t hash, size_t *at)
{
	while (ix->mask) {
		const struct index_entry *e = &ix->entry[(hash + (*at)++) & ix->mask];

		if (!e->item)
			return NULL;
		if (e->hash == hash)
			return e->item;
	}
	return NULL;
}

void index_finish(struct index *ix)
{
	free(ix->entry);
	ix->entry = NULL;
	ix->mask = ix->count = 0;
}
