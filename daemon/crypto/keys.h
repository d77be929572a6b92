/*
 * Keys as types of their own, so that a public key is never passed for a
 * private one, and memory for the secrets that live long.
 */
#ifndef MESHWRAP_DAEMON_CRYPTO_KEYS_H
#define MESHWRAP_DAEMON_CRYPTO_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_LEN 32

struct public_key {
	uint8_t byte[KEY_LEN];
};

struct private_key {
	uint8_t byte[KEY_LEN];
};

/* Preshared keys, Diffie-Hellman results, keys of ciphers. */
struct symmetric_key {
	uint8_t byte[KEY_LEN];
};

/* Before anything else of daemon/crypto; again is fine. 0 or -EIO (no randomness). */
int crypto_init(void);

/*
 * Zeroed memory between guard pages, locked, and left out of core dumps. For
 * few and long-lived secrets: each allocation takes pages. NULL: -ENOMEM.
 */
void *secret_alloc(size_t len);
/* Wipes first. NULL is fine. */
void secret_free(void *secret);
void secret_wipe(void *secret, size_t len);

void private_key_generate(struct private_key *key);
void private_key_public(const struct private_key *key, struct public_key *public);

/* X25519. False for a public key of low order, whose result would be known to all. */
bool key_exchange(const struct private_key *key, const struct public_key *public,
		  struct symmetric_key *shared);

/* Is it of low order? To ask this takes no time, unlike key_exchange(). */
bool public_key_is_weak(const struct public_key *key);

/* Constant time. */
bool bytes_equal(const void *a, const void *b, size_t len);
bool public_key_equal(const struct public_key *a, const struct public_key *b);

#endif
