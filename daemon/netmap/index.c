/*
 * Open addressing with linear probing, at most half full; a chain that goes is
 * filled from behind, so that there are no tombstones. The hash is keyed, since
 * names and addresses are chosen by others.
 *
 * One place for each hash, and a list of the nodes under it. With a place for each
 * node, thousands of peers that announce the same routes stood one behind the
 * other, and each that was added or removed passed them all.
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

/* Where the hash stands, or the empty place where it would. */
static struct index_chain *place(struct index_chain *chain, size_t mask, uint64_t hash)
{
	size_t at = hash & mask;

	while (chain[at].first && chain[at].first->hash != hash)
		at = (at + 1) & mask;
	return &chain[at];
}

static int resize(struct index *ix, size_t size)
{
	struct index_chain *chain = calloc(size, sizeof(*chain));

	if (!chain)
		return -ENOMEM;
	for (size_t i = 0; ix->mask && i <= ix->mask; i++) {
		if (ix->chain[i].first)
			*place(chain, size - 1, ix->chain[i].first->hash) = ix->chain[i];
	}
	free(ix->chain);
	ix->chain = chain;
	ix->mask = size - 1;
	return 0;
}

int index_reserve(struct index *ix, size_t more)
{
	size_t size = ix->mask ? ix->mask + 1 : FIRST_SIZE;

	while (size / 2 < ix->count + more)
		size *= 2;
	return ix->mask && size == ix->mask + 1 ? 0 : resize(ix, size);
}

void index_trim(struct index *ix)
{
	size_t size = FIRST_SIZE;

	while (size / 2 < ix->count)
		size *= 2;
	if (ix->mask && size < (ix->mask + 1) / 2)
		resize(ix, size); /* without memory for the small one the large one stays */
}

void index_add(struct index *ix, struct index_entry *entry)
{
	struct index_chain *chain = place(ix->chain, ix->mask, entry->hash);

	entry->next = NULL;
	if (chain->first) {
		entry->prev = chain->first->prev;
		entry->prev->next = entry;
	} else {
		assert(ix->mask && ix->count < (ix->mask + 1) / 2);
		ix->count++;
		entry->prev = entry;
		chain->first = entry;
	}
	chain->first->prev = entry;
	chain->best = NULL;
	chain->round = 0;
}

/* What stands behind and would no longer be found moves into the hole. */
static void close_hole(struct index *ix, size_t hole)
{
	for (size_t at = (hole + 1) & ix->mask; ix->chain[at].first; at = (at + 1) & ix->mask) {
		size_t home = ix->chain[at].first->hash & ix->mask;

		if (((at - home) & ix->mask) >= ((at - hole) & ix->mask)) {
			ix->chain[hole] = ix->chain[at];
			hole = at;
		}
	}
	ix->chain[hole] = (struct index_chain){ .first = NULL };
	ix->count--;
}

void index_remove(struct index *ix, struct index_entry *entry)
{
	struct index_chain *chain = place(ix->chain, ix->mask, entry->hash);
	struct index_entry *last = chain->first->prev;

	if (entry == chain->first)
		chain->first = entry->next;
	else
		entry->prev->next = entry->next;
	if (entry->next)
		entry->next->prev = entry->prev;
	if (chain->first)
		chain->first->prev = entry == last ? entry->prev : last;
	chain->best = NULL;
	chain->round = 0;
	if (!chain->first)
		close_hole(ix, (size_t)(chain - ix->chain));
}

struct index_chain *index_find(const struct index *ix, uint64_t hash)
{
	struct index_chain *chain = ix->mask ? place(ix->chain, ix->mask, hash) : NULL;

	return chain && chain->first ? chain : NULL;
}

void index_finish(struct index *ix)
{
	free(ix->chain);
	ix->chain = NULL;
	ix->mask = ix->count = 0;
}
