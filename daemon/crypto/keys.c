/*
 * Keys: X25519 and secret memory, both libsodium's.
 *
 * Private keys are clamped by the scalar multiplication itself, so that they
 * are stored and compared as they were given. A shared secret of all zeros is
 * what a point of low order gives; libsodium refuses it, and so do we: a peer
 * must not be able to force a key that a third party knows.
 */
#include "daemon/crypto/keys.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

static_assert(crypto_scalarmult_BYTES == KEY_LEN && crypto_scalarmult_SCALARBYTES == KEY_LEN,
	      "X25519");

int crypto_init(void)
{
	return sodium_init() < 0 ? -EIO : 0;
}

void *secret_alloc(size_t len)
{
	void *secret = sodium_malloc(len);

	if (secret)
		sodium_memzero(secret, len);
	return secret;
}

void secret_free(void *secret)
{
	sodium_free(secret);
}

void secret_wipe(void *secret, size_t len)
{
	sodium_memzero(secret, len);
}

void private_key_generate(struct private_key *key)
{
	randombytes_buf(key->byte, sizeof(key->byte));
}

void private_key_public(const struct private_key *key, struct public_key *public)
{
	/* Fails for no scalar: clamping keeps it away from zero. */
	int rc = crypto_scalarmult_base(public->byte, key->byte);

	assert(rc == 0);
	(void)rc;
}

bool key_exchange(const struct private_key *key, const struct public_key *public,
		  struct symmetric_key *shared)
{
	return crypto_scalarmult(shared->byte, key->byte, public->byte) == 0;
}

bool bytes_equal(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

bool public_key_equal(const struct public_key *a, const struct public_key *b)
{
	return bytes_equal(a->byte, b->byte, KEY_LEN);
}
