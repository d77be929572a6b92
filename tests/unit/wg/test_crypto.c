/* Keys, BLAKE2s, AEADs, Noise and timestamps against recorded values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "daemon/crypto/aead_library.h"
#include "daemon/crypto/blake2s.h"
#include "daemon/crypto/keys.h"
#include "daemon/crypto/noise.h"
#include "daemon/wg/message.h"
#include "daemon/wg/tai64n.h"
#include "vectors.h"

static struct json_object *all;
static struct blake2s *engine;

static void assert_bytes(struct json_object *o, const char *path, const void *bytes, size_t len)
{
	uint8_t want[2048];

	assert_int_equal(vectors_bytes(o, path, want, sizeof(want)), len);
	assert_memory_equal(bytes, want, len);
}

static void test_initial_chain_and_hash_are_the_recorded_ones(void **state)
{
	struct noise n;

	(void)state;
	noise_init(&n, engine, WG_CONSTRUCTION);
	assert_bytes(all, "initial_chain_key", n.chain, NOISE_HASH_LEN);
	noise_mix_hash(&n, engine, WG_IDENTIFIER, strlen(WG_IDENTIFIER));
	assert_bytes(all, "initial_hash", n.hash, NOISE_HASH_LEN);
	assert_false(n.failed);
	assert_string_equal(vectors_text(all, "construction"), WG_CONSTRUCTION);
	assert_string_equal(vectors_text(all, "identifier"), WG_IDENTIFIER);
	assert_string_equal(vectors_text(all, "label_mac1"), WG_LABEL_MAC1);
	assert_string_equal(vectors_text(all, "label_cookie"), WG_LABEL_COOKIE);
}

static void test_blake2s_hashes_agree(void **state)
{
	uint8_t out[BLAKE2S_HASH_LEN];

	(void)state;
	assert_true(blake2s_hash(engine, "a", 1, "bc", 2, out));
	assert_bytes(all, "blake2s256_abc", out, sizeof(out));
	assert_true(blake2s_hash(engine, NULL, 0, NULL, 0, out));
	assert_bytes(all, "blake2s256_empty", out, sizeof(out));
}

static void test_keyed_macs_agree(void **state)
{
	struct json_object *rows = vectors_get(all, "blake2s128_keyed");
	uint8_t msg[256], out[BLAKE2S_MAC_LEN], key[32];

	(void)state;
	for (unsigned i = 0; i < 32; i++)
		key[i] = (uint8_t)i;
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		size_t len = vectors_bytes(row, "msg", msg, sizeof(msg));

		blake2s_mac(engine, key, 16, msg, len, out);
		assert_bytes(row, "keyed128_key16", out, sizeof(out));
		blake2s_mac(engine, key, 32, msg, len, out);
		assert_bytes(row, "keyed128_key32", out, sizeof(out));
	}
}

static void test_hmac_and_kdf_agree(void **state)
{
	struct json_object *rows = vectors_get(all, "kdf");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		uint8_t key[32], input[64], t[3][BLAKE2S_HASH_LEN];
		uint8_t(*const out[])[BLAKE2S_HASH_LEN] = { &t[0], &t[1], &t[2] };
		size_t len = vectors_bytes(row, "input", input, sizeof(input));

		vectors_bytes(row, "key", key, sizeof(key));
		assert_true(blake2s_hmac(engine, key, input, len, t[0]));
		assert_bytes(row, "hmac_blake2s", t[0], 32);
		assert_true(blake2s_kdf(engine, key, input, len, out, 1));
		assert_bytes(row, "kdf1_t1", t[0], 32);
		assert_true(blake2s_kdf(engine, key, input, len, out, 2));
		assert_bytes(row, "kdf2_t1", t[0], 32);
		assert_bytes(row, "kdf2_t2", t[1], 32);
		assert_true(blake2s_kdf(engine, key, input, len, out, 3));
		assert_bytes(row, "kdf3_t1", t[0], 32);
		assert_bytes(row, "kdf3_t2", t[1], 32);
		assert_bytes(row, "kdf3_t3", t[2], 32);
	}
}

static void check_bulk_aead(const struct aead_library *library)
{
	struct json_object *v = vectors_get(all, "chacha20poly1305_transport");
	struct aead_cipher *cipher = aead_cipher_create_by(library);
	struct symmetric_key k;
	struct aead_key *seal, *open;
	uint64_t counter = vectors_number(v, "counter");
	uint8_t data[256];
	size_t len = vectors_bytes(v, "plaintext", data, sizeof(data));

	assert_string_equal(aead_cipher_library(cipher), library->name);
	vectors_bytes(v, "key", k.byte, sizeof(k.byte));
	seal = aead_key_create(cipher, &k, AEAD_SEAL);
	open = aead_key_create(cipher, &k, AEAD_OPEN);
	assert_non_null(seal);
	assert_non_null(open);
	/* Twice each, since a context is reused. */
	for (int i = 0; i < 2; i++) {
		aead_seal(seal, counter, data, len);
		assert_bytes(v, "sealed", data, len + AEAD_TAG_LEN);
		assert_true(aead_open(open, counter, data, len));
		assert_bytes(v, "plaintext", data, len);
	}
	aead_seal(seal, counter, data, len);
	data[len] ^= 1;
	assert_false(aead_open(open, counter, data, len));
	vectors_bytes(v, "sealed", data, sizeof(data));
	assert_false(aead_open(open, counter + 1, data, len));
	vectors_bytes(v, "sealed", data, sizeof(data));
	assert_true(aead_open(open, counter, data, len));
	aead_seal(seal, 1, data, 0);
	assert_true(aead_open(open, 1, data, 0));
	data[3] ^= 4;
	assert_false(aead_open(open, 1, data, 0));
	aead_key_destroy(seal);
	aead_key_destroy(open);
	aead_cipher_destroy(cipher);
}

static void test_bulk_aead_agrees_and_a_forged_packet_is_refused(void **state)
{
	(void)state;
	check_bulk_aead(&aead_openssl);
	check_bulk_aead(&aead_gcrypt);
}

/* Their code goes by blocks of many sizes, so each length up to more than the largest packet is
 * tried. */
static void test_what_one_library_seals_the_other_opens(void **state)
{
	static uint8_t plain[2048], sealed[2][2048 + AEAD_TAG_LEN];
	struct aead_cipher *cipher[] = { aead_cipher_create_by(&aead_openssl),
					 aead_cipher_create_by(&aead_gcrypt) };
	struct aead_key *seal[2], *open[2];
	struct symmetric_key k;

	(void)state;
	randombytes_buf(&k, sizeof(k));
	for (unsigned i = 0; i < 2; i++) {
		aead_cipher_set_lanes(cipher[i], 2);
		seal[i] = aead_key_create(cipher[i], &k, AEAD_SEAL);
		open[i] = aead_key_create(cipher[i], &k, AEAD_OPEN);
		assert_non_null(seal[i]);
		assert_non_null(open[i]);
	}
	for (size_t len = 0; len <= sizeof(plain); len++) {
		uint64_t counter = (len << 40) + len;
		unsigned lane = len & 1;

		randombytes_buf(plain, len);
		for (unsigned i = 0; i < 2; i++) {
			memcpy(sealed[i], plain, len);
			aead_seal_in(seal[i], lane, counter, sealed[i], len);
		}
		assert_memory_equal(sealed[0], sealed[1], len + AEAD_TAG_LEN);
		/* Each opens one, and refuses one in which a bit is another. */
		for (unsigned i = 0; i < 2; i++) {
			assert_true(aead_open_in(open[i], lane, counter, sealed[i], len));
			assert_memory_equal(sealed[i], plain, len);
			aead_seal_in(seal[i], lane, counter, sealed[i], len);
			sealed[i][randombytes_uniform((uint32_t)len + AEAD_TAG_LEN)] ^= 0x10;
			assert_false(aead_open_in(open[i], lane, counter, sealed[i], len));
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		aead_key_destroy(seal[i]);
		aead_key_destroy(open[i]);
		aead_cipher_destroy(cipher[i]);
	}
}

static void test_a_library_is_chosen_and_none_is_an_error(void **state)
{
	const struct aead_library *quickest = aead_quickest();

	(void)state;
	assert_true(quickest == &aead_openssl || quickest == &aead_gcrypt);
	assert_null(aead_cipher_create_by(NULL));
}

static void test_xaead_agrees(void **state)
{
	struct json_object *v = vectors_get(all, "xchacha20poly1305");
	struct symmetric_key k;
	uint8_t nonce[XAEAD_NONCE_LEN], ad[64], plain[64], sealed[64], opened[64];
	size_t ad_len = vectors_bytes(v, "aad", ad, sizeof(ad));
	size_t len = vectors_bytes(v, "plaintext", plain, sizeof(plain));

	(void)state;
	vectors_bytes(v, "key", k.byte, sizeof(k.byte));
	vectors_bytes(v, "nonce", nonce, sizeof(nonce));
	xaead_seal(&k, nonce, ad, ad_len, plain, len, sealed);
	assert_bytes(v, "sealed", sealed, len + AEAD_TAG_LEN);
	assert_true(xaead_open(&k, nonce, ad, ad_len, sealed, len + AEAD_TAG_LEN, opened));
	assert_memory_equal(opened, plain, len);
	assert_false(xaead_open(&k, nonce, ad, ad_len - 1, sealed, len + AEAD_TAG_LEN, opened));
}

static void test_x25519_agrees(void **state)
{
	struct json_object *v = vectors_get(all, "x25519");
	struct private_key a, b;
	struct public_key pub;
	struct symmetric_key shared;

	(void)state;
	vectors_bytes(v, "private_a", a.byte, KEY_LEN);
	vectors_bytes(v, "private_b", b.byte, KEY_LEN);
	private_key_public(&a, &pub);
	assert_bytes(v, "public_a", pub.byte, KEY_LEN);
	assert_true(key_exchange(&b, &pub, &shared));
	assert_bytes(v, "shared", shared.byte, KEY_LEN);
	private_key_public(&b, &pub);
	assert_bytes(v, "public_b", pub.byte, KEY_LEN);
	assert_true(key_exchange(&a, &pub, &shared));
	assert_bytes(v, "shared", shared.byte, KEY_LEN);
}

static void test_points_of_low_order_are_refused(void **state)
{
	/* 0, 1, both of order 8, p - 1, p, p + 1 (RFC 7748's field, little-endian). */
	static const char *const points[] = {
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	};
	struct private_key key;
	struct symmetric_key shared;
	struct public_key pub;

	(void)state;
	private_key_generate(&key);
	for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		struct json_object *text = json_object_new_string(points[i]);
		struct json_object *o = json_object_new_object();

		json_object_object_add(o, "point", text);
		vectors_bytes(o, "point", pub.byte, KEY_LEN);
		json_object_put(o);
		assert_false(key_exchange(&key, &pub, &shared));
		assert_true(public_key_is_weak(&pub));
		pub.byte[KEY_LEN - 1] |= 0x80; /* which does not count */
		assert_false(key_exchange(&key, &pub, &shared));
		assert_true(public_key_is_weak(&pub));
	}
}

/* What looks like one of them and is none is as good as any. */
static void test_a_key_is_weak_where_the_exchange_says_so(void **state)
{
	struct private_key key;
	struct symmetric_key shared;
	struct public_key pub = { { 0 } };

	(void)state;
	private_key_generate(&key);
	for (unsigned byte = 0; byte < 256; byte += 51)
		for (unsigned i = 0; i < 256; i++)
			for (unsigned last = 0; last < 256; last += i < 2 || i > 234 ? 1 : 85) {
				memset(pub.byte, (int)byte, KEY_LEN);
				pub.byte[0] = (uint8_t)i;
				pub.byte[KEY_LEN - 1] = (uint8_t)last;
				assert_int_equal(public_key_is_weak(&pub),
						 !key_exchange(&key, &pub, &shared));
			}
	for (unsigned i = 0; i < 100; i++) {
		private_key_generate((struct private_key *)&pub);
		assert_false(public_key_is_weak(&pub));
	}
}

static void test_a_failed_noise_step_stays_failed(void **state)
{
	static const struct public_key zero;
	struct private_key key;
	struct symmetric_key k = { { 1 } };
	uint8_t sealed[KEY_LEN + NOISE_TAG_LEN] = { 0 }, plain[KEY_LEN] = { 0 };
	struct noise n, before;

	(void)state;
	private_key_generate(&key);
	noise_init(&n, engine, WG_CONSTRUCTION);
	noise_mix_dh(&n, engine, &key, &zero, &k);
	assert_true(n.failed);
	before = n;
	noise_mix_hash(&n, engine, "x", 1);
	noise_mix_chain(&n, engine, "x", 1);
	noise_mix_key(&n, engine, &k, &k);
	noise_mix_psk(&n, engine, &k, &k);
	noise_mix_dh(&n, engine, &key, &zero, &k);
	noise_seal(&n, engine, &k, plain, sizeof(plain), sealed);
	noise_open(&n, engine, &k, sealed, sizeof(sealed), plain);
	noise_split(&n, engine, &k, &k);
	assert_memory_equal(&n, &before, sizeof(n));

	noise_init(&n, engine, WG_CONSTRUCTION);
	noise_open(&n, engine, &k, sealed, sizeof(sealed), plain);
	assert_true(n.failed);
}

static void test_secret_memory_is_zeroed_and_may_be_null(void **state)
{
	uint8_t *secret = secret_alloc(KEY_LEN);

	(void)state;
	assert_non_null(secret);
	for (unsigned i = 0; i < KEY_LEN; i++)
		assert_int_equal(secret[i], 0);
	secret_free(secret);
	secret_free(NULL);
}

static void test_timestamps_are_coarse_tai64n(void **state)
{
	struct json_object *rows = vectors_get(all, "tai64n");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		struct wg_timestamp last = { { 0 } }, t;
		const char *unix_time = vectors_text(row, "unix");
		char *end;
		uint64_t s = strtoull(unix_time, &end, 10);

		t = wg_timestamp_next(&last, s, (uint32_t)strtoul(end + 1, NULL, 10));
		assert_bytes(row, "tai64n", t.byte, sizeof(t.byte));
		assert_int_equal(wg_timestamp_compare(&t, &last), 0);
	}
}

static void test_timestamps_increase_when_the_clock_does_not(void **state)
{
	struct wg_timestamp last = { { 0 } }, a, b;

	(void)state;
	a = wg_timestamp_next(&last, 1700000000, 999999999);
	for (int i = 0; i < 200; i++) {
		b = wg_timestamp_next(&last, 1700000000 - (i & 1), 5);
		assert_true(wg_timestamp_compare(&b, &a) > 0);
		assert_int_equal(b.byte[9] | b.byte[10] | b.byte[11], 0);
		assert_true(b.byte[8] < 60); /* nanoseconds stay below a second */
		a = b;
	}
	b = wg_timestamp_next(&last, 1700000100, 0);
	assert_true(wg_timestamp_compare(&b, &a) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_initial_chain_and_hash_are_the_recorded_ones),
		cmocka_unit_test(test_blake2s_hashes_agree),
		cmocka_unit_test(test_keyed_macs_agree),
		cmocka_unit_test(test_hmac_and_kdf_agree),
		cmocka_unit_test(test_bulk_aead_agrees_and_a_forged_packet_is_refused),
		cmocka_unit_test(test_what_one_library_seals_the_other_opens),
		cmocka_unit_test(test_a_library_is_chosen_and_none_is_an_error),
		cmocka_unit_test(test_xaead_agrees),
		cmocka_unit_test(test_x25519_agrees),
		cmocka_unit_test(test_points_of_low_order_are_refused),
		cmocka_unit_test(test_a_key_is_weak_where_the_exchange_says_so),
		cmocka_unit_test(test_a_failed_noise_step_stays_failed),
		cmocka_unit_test(test_secret_memory_is_zeroed_and_may_be_null),
		cmocka_unit_test(test_timestamps_are_coarse_tai64n),
		cmocka_unit_test(test_timestamps_increase_when_the_clock_does_not),
	};
	int failed;

	assert_int_equal(crypto_init(), 0);
	all = vectors_load("crypto_primitives.json");
	engine = blake2s_create();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	blake2s_destroy(engine);
	json_object_put(all);
	return failed;
}
