/*
 * Rotation as in section 6.3 of the paper. The responder does not know whether
 * its response arrived, so its new keys wait as next; the initiator knows, and
 * its new keys are current at once.
 */
#include "daemon/wg/keypair.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/wg/index.h"
#include "daemon/wg/message.h"

struct wg_keypair *wg_keypair_create(struct aead_cipher *cipher,
				     const struct symmetric_key *sending,
				     const struct symmetric_key *receiving, bool is_initiator,
				     uint64_t now_ns)
{
	struct wg_keypair *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->sending = aead_key_create(cipher, sending, AEAD_SEAL);
	k->receiving = aead_key_create(cipher, receiving, AEAD_OPEN);
	k->is_initiator = is_initiator;
	k->created_ns = now_ns;
	if (k->sending && k->receiving)
		return k;
	wg_keypair_destroy(k);
	return NULL;
}

void wg_keypair_destroy(struct wg_keypair *k)
{
	if (!k)
		return;
	aead_key_destroy(k->sending);
	aead_key_destroy(k->receiving);
	free(k);
}

bool wg_keypair_is_alive(const struct wg_keypair *k, uint64_t now_ns)
{
	return now_ns - k->created_ns < WG_REJECT_AFTER_TIME;
}

static void drop(struct wg_keypair **slot, struct wg_index_table *t)
{
	if (*slot)
		wg_index_remove(t, (*slot)->local_index);
	wg_keypair_destroy(*slot);
	*slot = NULL;
}

void wg_keypairs_install(struct wg_keypairs *s, struct wg_keypair *k, struct wg_index_table *t)
{
	drop(&s->previous, t);
	if (!k->is_initiator) {
		drop(&s->next, t);
		s->next = k;
		return;
	}
	if (s->next) {
		drop(&s->current, t);
		s->previous = s->next;
		s->next = NULL;
	} else {
		s->previous = s->current;
	}
	s->current = k;
}

void wg_keypairs_confirm(struct wg_keypairs *s, struct wg_index_table *t)
{
	assert(s->next);
	drop(&s->previous, t);
	s->previous = s->current;
	s->current = s->next;
	s->next = NULL;
}

void wg_keypairs_clear(struct wg_keypairs *s, struct wg_index_table *t)
{
	drop(&s->previous, t);
	drop(&s->current, t);
	drop(&s->next, t);
}
