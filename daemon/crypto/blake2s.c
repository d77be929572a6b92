/*
 * BLAKE2s by OpenSSL.
 *
 * The engine exists because fetching an algorithm by name costs more than
 * hashing a block with it. Contexts are reused. Inside, OpenSSL 3.0 still
 * allocates for each hash and HMAC, so these report failure; its keyed BLAKE2s
 * does not, and a MAC that cannot fail keeps the first check of a flood cheap.
 * Not thread-safe: one engine for one thread.
 */
#include "daemon/crypto/blake2s.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "daemon/crypto/keys.h"

#define KDF_MAX_OUTPUTS 3
#define DIGEST          "BLAKE2S-256"

struct blake2s {
	EVP_MD *md;
	EVP_MD_CTX *hash;
	EVP_MAC_CTX *hmac; /* NULL: the next one makes it anew */
	EVP_MAC_CTX *mac;
	size_t mac_len;
	OSSL_PARAM mac_params[2];
};

static EVP_MAC_CTX *create_mac(const char *name)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, name, NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;

	EVP_MAC_free(mac); /* the context has its own reference */
	return ctx;
}

static EVP_MAC_CTX *create_hmac(void)
{
	char digest[] = DIGEST;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC_CTX *ctx = create_mac("HMAC");

	if (ctx && !EVP_MAC_CTX_set_params(ctx, params)) {
		EVP_MAC_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

struct blake2s *blake2s_create(void)
{
	struct blake2s *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->md = EVP_MD_fetch(NULL, DIGEST, NULL);
	e->hash = EVP_MD_CTX_new();
	e->hmac = create_hmac();
	e->mac = create_mac("BLAKE2SMAC");
	e->mac_len = BLAKE2S_MAC_LEN;
	e->mac_params[0] = OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &e->mac_len);
	e->mac_params[1] = OSSL_PARAM_construct_end();
	if (!e->md || !e->hash || !e->hmac || !e->mac) {
		blake2s_destroy(e);
		return NULL;
	}
	return e;
}

void blake2s_destroy(struct blake2s *e)
{
	if (!e)
		return;
	EVP_MAC_CTX_free(e->mac);
	EVP_MAC_CTX_free(e->hmac);
	EVP_MD_CTX_free(e->hash);
	EVP_MD_free(e->md);
	free(e);
}

bool blake2s_hash(struct blake2s *e, const void *a, size_t a_len, const void *b, size_t b_len,
		  uint8_t out[static BLAKE2S_HASH_LEN])
{
	if (EVP_DigestInit_ex2(e->hash, e->md, NULL) && EVP_DigestUpdate(e->hash, a, a_len) &&
	    EVP_DigestUpdate(e->hash, b, b_len) && EVP_DigestFinal_ex(e->hash, out, NULL))
		return true;
	memset(out, 0, BLAKE2S_HASH_LEN);
	return false;
}

bool blake2s_hmac(struct blake2s *e, const uint8_t key[static BLAKE2S_HASH_LEN], const void *input,
		  size_t len, uint8_t out[static BLAKE2S_HASH_LEN])
{
	if (!e->hmac)
		e->hmac = create_hmac();
	if (e->hmac && EVP_MAC_init(e->hmac, key, BLAKE2S_HASH_LEN, NULL) &&
	    EVP_MAC_update(e->hmac, input, len) &&
	    EVP_MAC_final(e->hmac, out, NULL, BLAKE2S_HASH_LEN))
		return true;
	/* One that found no memory half way is not to be used again: OpenSSL 3.5 crashes. */
	EVP_MAC_CTX_free(e->hmac);
	e->hmac = NULL;
	memset(out, 0, BLAKE2S_HASH_LEN);
	return false;
}

bool blake2s_kdf(struct blake2s *e, const uint8_t key[static BLAKE2S_HASH_LEN], const void *input,
		 size_t len, uint8_t (*const outputs[])[BLAKE2S_HASH_LEN], unsigned count)
{
	uint8_t secret[BLAKE2S_HASH_LEN];
	uint8_t block[BLAKE2S_HASH_LEN + 1];
	bool ok;

	assert(count >= 1 && count <= KDF_MAX_OUTPUTS);
	ok = blake2s_hmac(e, key, input, len, secret);
	for (unsigned i = 0; i < count; i++) {
		size_t before = i ? BLAKE2S_HASH_LEN : 0;

		block[before] = (uint8_t)(i + 1);
		ok = ok && blake2s_hmac(e, secret, block, before + 1, block);
		memcpy(outputs[i], block, BLAKE2S_HASH_LEN);
	}
	secret_wipe(secret, sizeof(secret));
	secret_wipe(block, sizeof(block));
	return ok;
}

void blake2s_mac(struct blake2s *e, const uint8_t *key, size_t key_len, const void *message,
		 size_t len, uint8_t out[static BLAKE2S_MAC_LEN])
{
	int ok = EVP_MAC_init(e->mac, key, key_len, e->mac_params) &&
		 EVP_MAC_update(e->mac, message, len) &&
		 EVP_MAC_final(e->mac, out, NULL, BLAKE2S_MAC_LEN);

	assert(ok);
	(void)ok;
}
