/* The keys of a session, and the three sessions that a peer has at once. */
#ifndef MESHWRAP_DAEMON_WG_KEYPAIR_H
#define MESHWRAP_DAEMON_WG_KEYPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/crypto/aead.h"
#include "daemon/wg/replay.h"

struct wg_index_table;

struct wg_keypair {
	struct aead_key *sending, *receiving;
	uint64_t send_counter;
	uint64_t created_ns;
	uint32_t local_index, remote_index;
	bool is_initiator;
	struct wg_replay replay;
};

/*
 * previous: still received from. current: sent with. next: made as responder,
 * sent with only when the peer has shown that it has it.
 */
struct wg_keypairs {
	struct wg_keypair *previous, *current, *next;
};

/* The indices are set by the caller. NULL on -ENOMEM. */
struct wg_keypair *wg_keypair_create(struct aead_cipher *cipher,
				     const struct symmetric_key *sending,
				     const struct symmetric_key *receiving, bool is_initiator,
				     uint64_t now_ns);
/* Not the index. NULL is fine. */
void wg_keypair_destroy(struct wg_keypair *k);
/* Younger than 180 s: it may still be used, if only to receive. */
bool wg_keypair_is_alive(const struct wg_keypair *k, uint64_t now_ns);

/* Takes the keypair in; those that fall out lose their index and are freed. */
void wg_keypairs_install(struct wg_keypairs *s, struct wg_keypair *k, struct wg_index_table *t);
/* An authentic packet came under next: it is current now. */
void wg_keypairs_confirm(struct wg_keypairs *s, struct wg_index_table *t);
void wg_keypairs_clear(struct wg_keypairs *s, struct wg_index_table *t);

#endif
