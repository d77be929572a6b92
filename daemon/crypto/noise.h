/*
 * The symmetric state of a Noise handshake: chaining key and transcript hash,
 * with X25519, ChaCha20-Poly1305 and BLAKE2s.
 *
 * Any step that fails (no memory, a point of low order, a wrong tag) marks the
 * state as failed; later steps do nothing and the caller checks once, before
 * it believes a result.
 */
#ifndef MESHWRAP_DAEMON_CRYPTO_NOISE_H
#define MESHWRAP_DAEMON_CRYPTO_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"

#define NOISE_HASH_LEN 32
#define NOISE_TAG_LEN  16

struct blake2s;

struct noise {
	uint8_t chain[NOISE_HASH_LEN];
	uint8_t hash[NOISE_HASH_LEN];
	bool failed;
};

/* From a protocol name longer than 32 bytes. */
void noise_init(struct noise *n, struct blake2s *engine, const char *protocol);
void noise_wipe(struct noise *n);

void noise_mix_hash(struct noise *n, struct blake2s *engine, const void *data, size_t len);
/* chain = KDF1(chain, input): for public keys in psk patterns. */
void noise_mix_chain(struct noise *n, struct blake2s *engine, const void *input, size_t len);
/* (chain, key) = KDF2(chain, shared). */
void noise_mix_key(struct noise *n, struct blake2s *engine, const struct symmetric_key *shared,
		   struct symmetric_key *key);
/* The same with the result of a key exchange, which must not be of low order. */
void noise_mix_dh(struct noise *n, struct blake2s *engine, const struct private_key *private,
		  const struct public_key *public, struct symmetric_key *key);
/* (chain, tau, key) = KDF3(chain, psk), hash = HASH(hash || tau). */
void noise_mix_psk(struct noise *n, struct blake2s *engine, const struct symmetric_key *psk,
		   struct symmetric_key *key);

/* len bytes to len + 16, counter 0, the transcript as additional data; mixed in afterwards. */
void noise_seal(struct noise *n, struct blake2s *engine, const struct symmetric_key *key,
		const void *plain, size_t len, uint8_t *sealed);
/* sealed_len bytes to sealed_len - 16. */
void noise_open(struct noise *n, struct blake2s *engine, const struct symmetric_key *key,
		const uint8_t *sealed, size_t sealed_len, void *plain);

/* The two transport keys: the initiator's direction first. */
void noise_split(struct noise *n, struct blake2s *engine, struct symmetric_key *first,
		 struct symmetric_key *second);

#endif
