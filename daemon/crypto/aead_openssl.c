/*
 * ChaCha20-Poly1305 by OpenSSL.
 *
 * What is left of the cost is kept low so: a key
 * is scheduled once into a context of its own; a packet sets only the IV (which
 * takes 0.05 us of the total) and never the key or the cipher; tags are read and
 * set by parameters made here, not by EVP's controls, which make the same from
 * numbers (0.03 us). EVP_Cipher() would be as short, but whether it checks the tag
 * at the end differs between versions.
 * OpenSSL's shorter path for TLS records needs 13 bytes of additional data, of
 * which WireGuard has none.
 */
#include "daemon/crypto/aead_library.h"

#include <assert.h>
#include <limits.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

static void *create(const struct symmetric_key *key, enum aead_direction direction)
{
	EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (!cipher || !ctx ||
	    !EVP_CipherInit_ex2(ctx, cipher, key->byte, NULL, direction == AEAD_SEAL, NULL)) {
		EVP_CIPHER_CTX_free(ctx);
		ctx = NULL;
	}
	EVP_CIPHER_free(cipher); /* the context has its own reference */
	return ctx;
}

static void destroy(void *lane)
{
	EVP_CIPHER_CTX_free(lane); /* which wipes */
}

static void seal(void *lane, const uint8_t nonce[static AEAD_NONCE_LEN], uint8_t *data, size_t len)
{
	OSSL_PARAM tag[] = { OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, data + len,
						     AEAD_TAG_LEN),
			     OSSL_PARAM_END };
	int out_len, ok;

	assert(len <= INT_MAX);
	/* None of these allocates or depends on the bytes: they cannot fail. */
	ok = EVP_EncryptInit_ex2(lane, NULL, NULL, nonce, NULL) &&
	     (!len || EVP_EncryptUpdate(lane, data, &out_len, data, (int)len)) &&
	     EVP_EncryptFinal_ex(lane, data + len, &out_len) &&
	     EVP_CIPHER_CTX_get_params(lane, tag);
	assert(ok);
	(void)ok;
}

static bool open(void *lane, const uint8_t nonce[static AEAD_NONCE_LEN], uint8_t *data, size_t len)
{
	const OSSL_PARAM tag[] = { OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, data + len,
							   AEAD_TAG_LEN),
				   OSSL_PARAM_END };
	int out_len;

	assert(len <= INT_MAX);
	return EVP_DecryptInit_ex2(lane, NULL, NULL, nonce, NULL) &&
	       EVP_CIPHER_CTX_set_params(lane, tag) &&
	       (!len || EVP_DecryptUpdate(lane, data, &out_len, data, (int)len)) &&
	       EVP_DecryptFinal_ex(lane, data + len, &out_len) > 0;
}

const struct aead_library aead_openssl = {
	.name = "OpenSSL", .create = create, .destroy = destroy, .seal = seal, .open = open
};
