/*
 * Secret memory comes in guarded pages, several for one allocation, so one for
 * each of thousands of peers would be wasteful: slabs of slots, and a list of
 * the free ones that lies in the free slots themselves.
 */
#include "daemon/path/boxkeys.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/crypto/keys.h"
#include "daemon/path/disco.h"

#define SLAB_SLOTS 120

union slot {
	struct disco_box_key key;
	union slot *next_free;
};

struct slab {
	struct slab *next;
	union slot slot[SLAB_SLOTS];
};

struct boxkeys {
	struct slab *slabs;
	union slot *free;
};

struct boxkeys *boxkeys_create(void)
{
	return calloc(1, sizeof(struct boxkeys));
}

void boxkeys_destroy(struct boxkeys *keys)
{
	if (!keys)
		return;
	while (keys->slabs) {
		struct slab *slab = keys->slabs;

		keys->slabs = slab->next;
		secret_free(slab);
	}
	free(keys);
}

static void put_free(struct boxkeys *keys, union slot *slot)
{
	slot->next_free = keys->free;
	keys->free = slot;
}

struct disco_box_key *boxkeys_take(struct boxkeys *keys)
{
	union slot *slot;

	if (!keys->free) {
		struct slab *slab = secret_alloc(sizeof(*slab));

		if (!slab)
			return NULL;
		slab->next = keys->slabs;
		keys->slabs = slab;
		for (unsigned i = 0; i < SLAB_SLOTS; i++)
			put_free(keys, &slab->slot[i]);
	}
	slot = keys->free;
	keys->free = slot->next_free;
	memset(slot, 0, sizeof(*slot));
	return &slot->key;
}

void boxkeys_give(struct boxkeys *keys, struct disco_box_key *slot)
{
	if (!slot)
		return;
	secret_wipe(slot, sizeof(union slot));
	put_free(keys, (union slot *)slot);
}
