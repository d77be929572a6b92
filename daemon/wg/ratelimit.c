/*
 * A token bucket for each source, kept as the one moment at which it will be
 * full again: an allowance of burst intervals may lie in the future, no more
 * (the "virtual scheduling" form, GCRA). A bucket that is full again carries no
 * information, so its slot is free: there is no cleaning up.
 *
 * The table is set-associative and never grows; the hash is keyed, since the
 * keys are an attacker's addresses.
 */
#include "daemon/wg/ratelimit.h"

#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "shared/util.h"
#include "shared/wire.h"

#define SETS     1024
#define WAYS     4
#define INTERVAL (NS_PER_S / WG_RATE_PER_S)

struct bucket {
	uint8_t source[16];
	uint64_t full_ns;
};

struct wg_ratelimit {
	uint8_t hash_key[crypto_shorthash_KEYBYTES];
	struct bucket bucket[SETS][WAYS];
};

struct wg_ratelimit *wg_ratelimit_create(void)
{
	struct wg_ratelimit *r = calloc(1, sizeof(*r));

	if (r)
		crypto_shorthash_keygen(r->hash_key);
	return r;
}

void wg_ratelimit_destroy(struct wg_ratelimit *r)
{
	free(r);
}

static struct bucket *find(struct wg_ratelimit *r, const uint8_t source[static 16], uint64_t now_ns)
{
	uint8_t hash[crypto_shorthash_BYTES];
	struct bucket *set, *idle = NULL;

	crypto_shorthash(hash, source, 16, r->hash_key);
	set = r->bucket[load_le64(hash) % SETS];
	for (unsigned i = 0; i < WAYS; i++) {
		if (memcmp(set[i].source, source, 16) == 0)
			return &set[i];
		if (set[i].full_ns <= now_ns)
			idle = &set[i];
	}
	if (idle) {
		memcpy(idle->source, source, 16);
		idle->full_ns = now_ns;
	}
	return idle;
}

bool wg_ratelimit_allow(struct wg_ratelimit *r, const struct ip_addr *from, uint64_t now_ns)
{
	uint8_t source[16];
	struct bucket *b;
	uint64_t full_ns;

	memcpy(source, from->byte, 16);
	if (!ip_is_v4(from))
		memset(source + 8, 0, 8); /* whoever has one address has the whole /64 */
	b = find(r, source, now_ns);
	if (!b)
		return false;
	full_ns = MAX(b->full_ns, now_ns) + INTERVAL;
	if (full_ns - now_ns > WG_RATE_BURST * INTERVAL)
		return false;
	b->full_ns = full_ns;
	return true;
}
