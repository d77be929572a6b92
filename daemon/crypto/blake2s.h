/*
 * BLAKE2s-256 and what WireGuard and Noise build from it.
 *
 * An engine holds the algorithms, fetched once. OpenSSL allocates while it
 * hashes, so that hashing can fail; the keyed MAC cannot.
 */
#ifndef MESHWRAP_DAEMON_CRYPTO_BLAKE2S_H
#define MESHWRAP_DAEMON_CRYPTO_BLAKE2S_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLAKE2S_HASH_LEN 32
#define BLAKE2S_MAC_LEN  16

struct blake2s;

/* NULL on -ENOMEM, or when the library has no BLAKE2s. */
struct blake2s *blake2s_create(void);
void blake2s_destroy(struct blake2s *engine);

/* HASH(a || b). out may be a or b. False: no memory, out is zero. */
bool blake2s_hash(struct blake2s *engine, const void *a, size_t a_len, const void *b, size_t b_len,
		  uint8_t out[static BLAKE2S_HASH_LEN]) __attribute__((warn_unused_result));

/* HMAC-BLAKE2s (RFC 2104). False as above. */
bool blake2s_hmac(struct blake2s *engine, const uint8_t key[static BLAKE2S_HASH_LEN],
		  const void *input, size_t len, uint8_t out[static BLAKE2S_HASH_LEN])
	__attribute__((warn_unused_result));

/* KDF1 to KDF3 (HKDF with an empty info): fills count outputs. outputs may hold key. */
bool blake2s_kdf(struct blake2s *engine, const uint8_t key[static BLAKE2S_HASH_LEN],
		 const void *input, size_t len, uint8_t (*const outputs[])[BLAKE2S_HASH_LEN],
		 unsigned count) __attribute__((warn_unused_result));

/* Keyed BLAKE2s of 16 bytes; key_len is 16 or 32. */
void blake2s_mac(struct blake2s *engine, const uint8_t *key, size_t key_len, const void *message,
		 size_t len, uint8_t out[static BLAKE2S_MAC_LEN]);

#endif
