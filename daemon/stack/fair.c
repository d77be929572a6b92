/*
 * Two lists by last use: of all, and of each peer.
 *
 * One list alone, as it was, gives the whole table to who comes most often: a peer that
 * scans from every port pushes out everybody else's. With a list each, a full table takes
 * from the peer that has most. So one peer may have all of it while nobody else wants any,
 * and n greedy ones end at 1/n each; who has less than that loses nothing that is in
 * use, whoever comes when. Nothing must be kept free for that, unlike for TCP's
 * connections (tcp/share.c), which cannot be pushed out.
 *
 * What is idle goes first, whosever it is: else a peer with many entries in use would push
 * out its own while others' old ones stay for ever.
 *
 * A peer is whatever the caller says, not an address: one may have a whole prefix. A
 * keyed hash of it finds its list; peers with the same hash have one share together, which is
 * rare and matters only when the table is full. All of them are searched for the largest:
 * half a microsecond, and only where something else is to go.
 */
#include "daemon/stack/fair.h"

#include <sodium.h>
#include <string.h>

void fair_init(struct fair *fair, const uint8_t secret[static 16])
{
	memset(fair, 0, sizeof(*fair));
	memcpy(fair->secret, secret, sizeof(fair->secret));
	TAILQ_INIT(&fair->all);
	for (unsigned i = 0; i < FAIR_SHARES; i++)
		TAILQ_INIT(&fair->share[i].entries);
}

static uint32_t share_of(const struct fair *fair, const void *peer)
{
	uint64_t hash;

	crypto_shorthash((uint8_t *)&hash, (const uint8_t *)&peer, sizeof(peer), fair->secret);
	return hash % FAIR_SHARES;
}

void fair_enter(struct fair *fair, struct fair_entry *entry, const void *peer, uint64_t now_ns)
{
	struct fair_share *share;

	entry->share = share_of(fair, peer);
	entry->used_ns = now_ns;
	share = &fair->share[entry->share];
	share->count++;
	TAILQ_INSERT_TAIL(&fair->all, entry, of_all);
	TAILQ_INSERT_TAIL(&share->entries, entry, of_share);
}

void fair_used(struct fair *fair, struct fair_entry *entry, uint64_t now_ns)
{
	struct fair_list *share = &fair->share[entry->share].entries;

	entry->used_ns = now_ns;
	if (!TAILQ_NEXT(entry, of_all))
		return; /* the newest of all is the newest of its share */
	TAILQ_REMOVE(&fair->all, entry, of_all);
	TAILQ_INSERT_TAIL(&fair->all, entry, of_all);
	TAILQ_REMOVE(share, entry, of_share);
	TAILQ_INSERT_TAIL(share, entry, of_share);
}

void fair_leave(struct fair *fair, struct fair_entry *entry)
{
	struct fair_share *share = &fair->share[entry->share];

	share->count--;
	TAILQ_REMOVE(&fair->all, entry, of_all);
	TAILQ_REMOVE(&share->entries, entry, of_share);
}

struct fair_entry *fair_evict(struct fair *fair, uint64_t now_ns)
{
	struct fair_entry *oldest = TAILQ_FIRST(&fair->all), *goes = oldest;
	const struct fair_share *largest;

	if (!oldest)
		return NULL;
	if (now_ns < oldest->used_ns + FAIR_IDLE_NS) {
		largest = &fair->share[oldest->share];
		for (unsigned i = 0; i < FAIR_SHARES; i++)
			if (fair->share[i].count > largest->count)
				largest = &fair->share[i];
		goes = TAILQ_FIRST(&largest->entries);
	}
	fair->stats.evicted++;
	fair->stats.over_share += goes != oldest;
	fair_leave(fair, goes);
	return goes;
}

const struct fair_list *fair_list_of(const struct fair *fair, const void *peer)
{
	return &fair->share[share_of(fair, peer)].entries;
}

struct fair_entry *fair_newest(const struct fair *fair)
{
	return TAILQ_LAST(&fair->all, fair_list);
}
