/*
 * Open addressing with linear probing. The keys are random numbers of our own
 * making, so their low bits are the hash; removal shifts later entries back,
 * so there are no tombstones. At most half full: room is made when a peer is
 * added, since a handshake must not fail for want of a slot.
 *
 * Not uthash: this look-up happens for every packet, and here it is one
 * cache line.
 */
#include "daemon/wg/index.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include <sodium.h>

#define MIN_SLOTS 64

static struct wg_index_entry *free_slot(struct wg_index_table *t, uint32_t index)
{
	uint32_t at = index & t->mask;

	while (t->slot[at].peer)
		at = (at + 1) & t->mask;
	return &t->slot[at];
}

int wg_index_reserve(struct wg_index_table *t, uint32_t peers)
{
	struct wg_index_table bigger = { NULL, MIN_SLOTS - 1, t->count };

	while (bigger.mask + 1 < peers * WG_INDICES_PER_PEER * 2)
		bigger.mask = bigger.mask * 2 + 1;
	if (t->slot && bigger.mask <= t->mask)
		return 0;
	bigger.slot = calloc((size_t)bigger.mask + 1, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (uint32_t i = 0; t->slot && i <= t->mask; i++)
		if (t->slot[i].peer)
			*free_slot(&bigger, t->slot[i].index) = t->slot[i];
	free(t->slot);
	*t = bigger;
	return 0;
}

void wg_index_finish(struct wg_index_table *t)
{
	free(t->slot);
	*t = (struct wg_index_table){ 0 };
}

struct wg_index_entry *wg_index_find(const struct wg_index_table *t, uint32_t index)
{
	uint32_t at = index & t->mask;

	if (!t->slot)
		return NULL;
	for (; t->slot[at].peer; at = (at + 1) & t->mask)
		if (t->slot[at].index == index)
			return &t->slot[at];
	return NULL;
}

uint32_t wg_index_insert(struct wg_index_table *t, struct wg_peer *peer)
{
	uint32_t index;

	assert(t->count < t->mask); /* wg_index_reserve() left ample room */
	do
		index = randombytes_random();
	while (!index || wg_index_find(t, index));
	*free_slot(t, index) = (struct wg_index_entry){ index, peer, NULL };
	t->count++;
	return index;
}

void wg_index_set_keypair(struct wg_index_table *t, uint32_t index, struct wg_keypair *keypair)
{
	struct wg_index_entry *e = wg_index_find(t, index);

	assert(e && !e->keypair);
	e->keypair = keypair;
}

void wg_index_remove(struct wg_index_table *t, uint32_t index)
{
	struct wg_index_entry *e = index ? wg_index_find(t, index) : NULL;
	uint32_t hole, at;

	if (!e)
		return;
	hole = (uint32_t)(e - t->slot);
	for (at = (hole + 1) & t->mask; t->slot[at].peer; at = (at + 1) & t->mask) {
		uint32_t home = t->slot[at].index & t->mask;

		/* May it stand in the hole: is its home not after the hole? */
		if (((at - home) & t->mask) >= ((at - hole) & t->mask)) {
			t->slot[hole] = t->slot[at];
			hole = at;
		}
	}
	t->slot[hole] = (struct wg_index_entry){ 0 };
	t->count--;
}
