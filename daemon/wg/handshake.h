/*
 * The handshake with one peer: the Noise steps of both roles. Pure: ephemeral
 * keys, indices and timestamps are given; mac1 and mac2 are cookie.h's.
 *
 * Functions return false when a check failed (or memory did); a message that
 * does not check out has then changed nothing.
 */
#ifndef MESHWRAP_DAEMON_WG_HANDSHAKE_H
#define MESHWRAP_DAEMON_WG_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/crypto/noise.h"
#include "daemon/wg/message.h"
#include "daemon/wg/tai64n.h"

struct blake2s;

/*
 * NONE -> INITIATION_SENT -> NONE (response consumed, keys derived)
 * NONE -> INITIATION_CONSUMED -> RESPONSE_SENT -> NONE (keys derived)
 * INITIATION_SENT -> INITIATION_CONSUMED -> RESPONSE_SENT -> INITIATION_SENT (both
 * sides began at once: each answers, and goes on waiting for its own answer)
 * Any state -> INITIATION_SENT (a fresh try), NONE (given up).
 */
enum wg_handshake_state {
	WG_HANDSHAKE_NONE,
	WG_HANDSHAKE_INITIATION_SENT,
	WG_HANDSHAKE_INITIATION_CONSUMED,
	WG_HANDSHAKE_RESPONSE_SENT,
	WG_HANDSHAKE_RESPONSE_CONSUMED,
};

/* Who we are. Lives in secret memory. */
struct wg_identity {
	struct private_key private;
	struct public_key public;
};

struct wg_handshake {
	enum wg_handshake_state state;
	struct noise noise;
	struct private_key ephemeral;
	struct public_key remote_ephemeral;
	uint32_t local_index, remote_index;
	/* Our own initiation while the peer's is being answered; local_index 0: none. */
	struct {
		struct noise noise;
		struct private_key ephemeral;
		uint32_t local_index;
	} ours;

	/* These outlive a handshake. */
	struct public_key remote_static;
	const struct wg_identity *identity;
	struct symmetric_key static_shared; /* DH of both static keys, once it was needed */
	bool has_static_shared;
	struct symmetric_key preshared;
	struct wg_timestamp sent, received; /* the last ones */
	uint64_t received_ns;               /* when the last initiation was accepted, or 0 */
};

/* False for a peer key of low order. id is to live as long. */
bool wg_handshake_init(struct wg_handshake *hs, const struct wg_identity *id,
		       const struct public_key *peer, const struct symmetric_key *preshared);
/* Forgets the handshake under way; the index is the caller's to release. */
void wg_handshake_clear(struct wg_handshake *hs);
void wg_handshake_finish(struct wg_handshake *hs);

bool wg_handshake_create_initiation(struct wg_handshake *hs, struct blake2s *engine,
				    const struct wg_identity *id,
				    const struct private_key *ephemeral, uint32_t index,
				    const struct wg_timestamp *now, struct wg_initiation *msg);

/* An initiation whose sender is known but not yet proven. */
struct wg_opened_initiation {
	struct noise noise;
	struct public_key remote_static;
};
bool wg_initiation_open(struct wg_opened_initiation *opened, struct blake2s *engine,
			const struct wg_identity *id, const struct wg_initiation *msg);
void wg_initiation_wipe(struct wg_opened_initiation *opened);
bool wg_handshake_consume_initiation(struct wg_handshake *hs, struct blake2s *engine,
				     const struct wg_opened_initiation *opened,
				     const struct wg_initiation *msg, uint64_t now_ns);

/* False: the peer's initiation is given up. */
bool wg_handshake_create_response(struct wg_handshake *hs, struct blake2s *engine,
				  const struct private_key *ephemeral, uint32_t index,
				  struct wg_response *msg);
bool wg_handshake_consume_response(struct wg_handshake *hs, struct blake2s *engine,
				   const struct wg_identity *id, const struct wg_response *msg);

/*
 * After a response was made or consumed: the keys, by our direction. Ends the handshake
 * anyway; our own initiation, if it crossed the peer's, is what is under way then.
 */
bool wg_handshake_derive(struct wg_handshake *hs, struct blake2s *engine,
			 struct symmetric_key *sending, struct symmetric_key *receiving,
			 bool *is_initiator);

#endif
