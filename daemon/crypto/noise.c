/*
 * Noise's symmetric state, as WireGuard's IKpsk2 and the control protocol's IK
 * use it. The steps are those of the Noise specification, section 5.2, where
 * every key seals exactly one message: so the counter is always zero, and no
 * CipherState is kept.
 */
#include "daemon/crypto/noise.h"

#include <assert.h>
#include <string.h>

#include <sodium.h>

#include "daemon/crypto/blake2s.h"

static_assert(NOISE_HASH_LEN == BLAKE2S_HASH_LEN, "the hash");
static_assert(NOISE_TAG_LEN == crypto_aead_chacha20poly1305_ietf_ABYTES, "the tag");

static const uint8_t zero_nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

void noise_init(struct noise *n, struct blake2s *engine, const char *protocol)
{
	size_t len = strlen(protocol);

	assert(len > NOISE_HASH_LEN); /* shorter ones are padded instead of hashed */
	n->failed = !blake2s_hash(engine, protocol, len, NULL, 0, n->chain);
	memcpy(n->hash, n->chain, NOISE_HASH_LEN);
}

void noise_wipe(struct noise *n)
{
	secret_wipe(n, sizeof(*n));
}

void noise_mix_hash(struct noise *n, struct blake2s *engine, const void *data, size_t len)
{
	if (!n->failed && !blake2s_hash(engine, n->hash, NOISE_HASH_LEN, data, len, n->hash))
		n->failed = true;
}

void noise_mix_chain(struct noise *n, struct blake2s *engine, const void *input, size_t len)
{
	uint8_t(*const out[])[NOISE_HASH_LEN] = { &n->chain };

	if (!n->failed && !blake2s_kdf(engine, n->chain, input, len, out, 1))
		n->failed = true;
}

void noise_mix_key(struct noise *n, struct blake2s *engine, const struct symmetric_key *shared,
		   struct symmetric_key *key)
{
	uint8_t(*const out[])[NOISE_HASH_LEN] = { &n->chain, &key->byte };

	if (!n->failed && !blake2s_kdf(engine, n->chain, shared->byte, KEY_LEN, out, 2))
		n->failed = true;
}

void noise_mix_dh(struct noise *n, struct blake2s *engine, const struct private_key *private,
		  const struct public_key *public, struct symmetric_key *key)
{
	struct symmetric_key shared;

	if (n->failed)
		return;
	if (key_exchange(private, public, &shared))
		noise_mix_key(n, engine, &shared, key);
	else
		n->failed = true;
	secret_wipe(&shared, sizeof(shared));
}

void noise_mix_psk(struct noise *n, struct blake2s *engine, const struct symmetric_key *psk,
		   struct symmetric_key *key)
{
	uint8_t tau[NOISE_HASH_LEN];
	uint8_t(*const out[])[NOISE_HASH_LEN] = { &n->chain, &tau, &key->byte };

	if (n->failed)
		return;
	if (blake2s_kdf(engine, n->chain, psk->byte, KEY_LEN, out, 3))
		noise_mix_hash(n, engine, tau, sizeof(tau));
	else
		n->failed = true;
	secret_wipe(tau, sizeof(tau));
}

void noise_seal(struct noise *n, struct blake2s *engine, const struct symmetric_key *key,
		const void *plain, size_t len, uint8_t *sealed)
{
	if (n->failed)
		return;
	crypto_aead_chacha20poly1305_ietf_encrypt(sealed, NULL, plain, len, n->hash, NOISE_HASH_LEN,
						  NULL, zero_nonce, key->byte);
	noise_mix_hash(n, engine, sealed, len + NOISE_TAG_LEN);
}

void noise_open(struct noise *n, struct blake2s *engine, const struct symmetric_key *key,
		const uint8_t *sealed, size_t sealed_len, void *plain)
{
	if (n->failed)
		return;
	if (crypto_aead_chacha20poly1305_ietf_decrypt(plain, NULL, NULL, sealed, sealed_len,
						      n->hash, NOISE_HASH_LEN, zero_nonce,
						      key->byte) == 0)
		noise_mix_hash(n, engine, sealed, sealed_len);
	else
		n->failed = true;
}

void noise_split(struct noise *n, struct blake2s *engine, struct symmetric_key *first,
		 struct symmetric_key *second)
{
	uint8_t(*const out[])[NOISE_HASH_LEN] = { &first->byte, &second->byte };

	if (!n->failed && !blake2s_kdf(engine, n->chain, NULL, 0, out, 2))
		n->failed = true;
}
