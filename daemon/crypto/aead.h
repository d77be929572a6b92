/*
 * ChaCha20-Poly1305 in bulk: one key, one direction, packets sealed and opened
 * in place with a counter as nonce and no additional data. The hot path.
 * And XChaCha20-Poly1305 for cookies.
 */
#ifndef MESHWRAP_DAEMON_CRYPTO_AEAD_H
#define MESHWRAP_DAEMON_CRYPTO_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"

#define AEAD_TAG_LEN    16
#define XAEAD_NONCE_LEN 24

enum aead_direction { AEAD_SEAL, AEAD_OPEN };

/* The algorithm, by a library. */
struct aead_cipher;
struct aead_library; /* aead_library.h */
/* A key scheduled for one direction. */
struct aead_key;

/* By the library that is quickest here. NULL on -ENOMEM, or when none has ChaCha20-Poly1305. */
struct aead_cipher *aead_cipher_create(void);
/* By this one, which stays valid. NULL on -ENOMEM, or when library is NULL. */
struct aead_cipher *aead_cipher_create_by(const struct aead_library *library);
/* Its name. */
const char *aead_cipher_library(const struct aead_cipher *cipher);
void aead_cipher_destroy(struct aead_cipher *cipher);
/* Keys made from now on can be used by so many threads at once, each by its own lane. */
void aead_cipher_set_lanes(struct aead_cipher *cipher, unsigned lanes);

/* Keeps no reference to key; the cipher must outlive it. NULL on -ENOMEM. */
struct aead_key *aead_key_create(struct aead_cipher *cipher, const struct symmetric_key *key,
				 enum aead_direction direction);
/* Wipes the key. NULL is fine. */
void aead_key_destroy(struct aead_key *key);

/* Seals len bytes in place; the tag goes to data + len. A counter is used once. */
void aead_seal(struct aead_key *key, uint64_t counter, uint8_t *data, size_t len);
/* Opens in place; the tag is at data + len. False: forged, and data is garbage. */
bool aead_open(struct aead_key *key, uint64_t counter, uint8_t *data, size_t len)
	__attribute__((warn_unused_result));
/* The same in a lane below the number the key was made with; those above use lane 0. */
void aead_seal_in(struct aead_key *key, unsigned lane, uint64_t counter, uint8_t *data, size_t len);
bool aead_open_in(struct aead_key *key, unsigned lane, uint64_t counter, uint8_t *data, size_t len)
	__attribute__((warn_unused_result));

/* sealed has len + 16 bytes. */
void xaead_seal(const struct symmetric_key *key, const uint8_t nonce[static XAEAD_NONCE_LEN],
		const void *ad, size_t ad_len, const void *plain, size_t len, uint8_t *sealed);
bool xaead_open(const struct symmetric_key *key, const uint8_t nonce[static XAEAD_NONCE_LEN],
		const void *ad, size_t ad_len, const uint8_t *sealed, size_t sealed_len,
		void *plain) __attribute__((warn_unused_result));

#endif
