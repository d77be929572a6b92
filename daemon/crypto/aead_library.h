/*
 * A library that seals and opens packets for aead.c. Which one is quickest depends on the
 * processor: where both have code for it, by up to a third.
 */
#ifndef MESHWRAP_DAEMON_CRYPTO_AEAD_LIBRARY_H
#define MESHWRAP_DAEMON_CRYPTO_AEAD_LIBRARY_H

#include "daemon/crypto/aead.h"

#define AEAD_NONCE_LEN 12

struct aead_library {
	const char *name;
	/* A key scheduled for one direction, for one thread at a time. NULL: -ENOMEM, or it has not
	 * the algorithm. */
	void *(*create)(const struct symmetric_key *key, enum aead_direction direction);
	/* Wipes the key. */
	void (*destroy)(void *lane);
	/* As aead_seal and aead_open. */
	void (*seal)(void *lane, const uint8_t nonce[static AEAD_NONCE_LEN], uint8_t *data,
		     size_t len);
	bool (*open)(void *lane, const uint8_t nonce[static AEAD_NONCE_LEN], uint8_t *data,
		     size_t len);
};

extern const struct aead_library aead_openssl, aead_gcrypt;

/* The one that takes less CPU for packets here, by trying (0.1 ms). NULL: none works. */
const struct aead_library *aead_quickest(void);

#endif
