/*
 * ChaCha20-Poly1305 by libgcrypt, whose code for AVX2 encrypts and authenticates in one pass.
 */
#include "daemon/crypto/aead_library.h"

#include <assert.h>

#include <gcrypt.h>

/* The first caller in a process sets the library up; it is no thread beside others then. */
static bool is_ready(void)
{
	if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P))
		return true;
	if (!gcry_check_version(NULL))
		return false;
	/* Its locked pages are for keys made by itself: ours come from elsewhere, and are wiped all
	 * the same. */
	return !gcry_control(GCRYCTL_DISABLE_SECMEM, 0) &&
	       !gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

static void *create(const struct symmetric_key *key, enum aead_direction direction)
{
	gcry_cipher_hd_t lane;

	(void)direction;
	if (!is_ready() ||
	    gcry_cipher_open(&lane, GCRY_CIPHER_CHACHA20, GCRY_CIPHER_MODE_POLY1305, 0))
		return NULL;
	if (!gcry_cipher_setkey(lane, key->byte, sizeof(key->byte)))
		return lane;
	gcry_cipher_close(lane);
	return NULL;
}

static void destroy(void *lane)
{
	gcry_cipher_close(lane); /* which wipes */
}

static void seal(void *lane, const uint8_t nonce[static AEAD_NONCE_LEN], uint8_t *data, size_t len)
{
	/* None of these allocates or depends on the bytes: they cannot fail. */
	bool ok = !gcry_cipher_setiv(lane, nonce, AEAD_NONCE_LEN) &&
		  (!len || !gcry_cipher_encrypt(lane, data, len, NULL, 0)) &&
		  !gcry_cipher_gettag(lane, data + len, AEAD_TAG_LEN);

	assert(ok);
	(void)ok;
}

static bool open(void *lane, const uint8_t nonce[static AEAD_NONCE_LEN], uint8_t *data, size_t len)
{
	return !gcry_cipher_setiv(lane, nonce, AEAD_NONCE_LEN) &&
	       (!len || !gcry_cipher_decrypt(lane, data, len, NULL, 0)) &&
	       !gcry_cipher_checktag(lane, data + len, AEAD_TAG_LEN);
}

const struct aead_library aead_gcrypt = {
	.name = "libgcrypt", .create = create, .destroy = destroy, .seal = seal, .open = open
};
