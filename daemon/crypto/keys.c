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

/* A coordinate is a number below 2^255, and the bit above it does not count (RFC 7748, 5). */
#define TOP_BIT 0x80

/* 0, 1, p - 1, p and p + 1, little-endian. */
static bool is_near_zero(const struct public_key *key)
{
	uint8_t first = key->byte[0], middle = key->byte[1], last = key->byte[KEY_LEN - 1];

	for (size_t i = 1; i < KEY_LEN - 1; i++)
		if (key->byte[i] != middle)
			return false;
	last &= (uint8_t)~TOP_BIT;
	if (middle == 0)
		return last == 0 && first <= 1;
	return middle == 0xff && last == 0x7f && first >= 0xec && first <= 0xee;
}

bool public_key_is_weak(const struct public_key *key)
{
	/* The two of order 8. */
	static const struct public_key points[] = {
		{ { 0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
		    0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
		    0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00 } },
		{ { 0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1,
		    0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c,
		    0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57 } },
	};
	struct public_key point = *key;

	point.byte[KEY_LEN - 1] &= (uint8_t)~TOP_BIT;
	return is_near_zero(key) || public_key_equal(&point, &points[0]) ||
	       public_key_equal(&point, &points[1]);
}

bool bytes_equal(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

bool public_key_equal(const struct public_key *a, const struct public_key *b)
{
	return bytes_equal(a->byte, b->byte, KEY_LEN);
}
