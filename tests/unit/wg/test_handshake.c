/* Handshakes, cookies and transport packets against recorded ones, and messages that are wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/crypto/blake2s.h"
#include "daemon/wg/cookie.h"
#include "daemon/wg/handshake.h"
#include "shared/wire.h"
#include "vectors.h"

static struct json_object *all;
static struct blake2s *engine;

struct side {
	struct wg_identity id;
	struct wg_handshake hs;
	struct wg_macs macs;
	struct wg_checker checker;
	struct private_key ephemeral;
	uint32_t index;
};

static void set_up(struct json_object *v, struct side *i, struct side *r)
{
	struct symmetric_key psk;

	memset(i, 0, sizeof(*i));
	memset(r, 0, sizeof(*r));
	vectors_bytes(v, "initiator_static_private", i->id.private.byte, KEY_LEN);
	vectors_bytes(v, "initiator_static_public", i->id.public.byte, KEY_LEN);
	vectors_bytes(v, "initiator_ephemeral_private", i->ephemeral.byte, KEY_LEN);
	vectors_bytes(v, "responder_static_private", r->id.private.byte, KEY_LEN);
	vectors_bytes(v, "responder_static_public", r->id.public.byte, KEY_LEN);
	vectors_bytes(v, "responder_ephemeral_private", r->ephemeral.byte, KEY_LEN);
	vectors_bytes(v, "preshared_key", psk.byte, KEY_LEN);
	i->index = (uint32_t)vectors_number(v, "initiator_index");
	r->index = (uint32_t)vectors_number(v, "responder_index");
	assert_true(wg_handshake_init(&i->hs, &i->id, &r->id.public, &psk));
	assert_true(wg_handshake_init(&r->hs, &r->id, &i->id.public, &psk));
	assert_true(wg_macs_init(&i->macs, engine, &r->id.public));
	assert_true(wg_macs_init(&r->macs, engine, &i->id.public));
	assert_true(wg_checker_init(&i->checker, engine, &i->id.public));
	assert_true(wg_checker_init(&r->checker, engine, &r->id.public));
}

static void assert_message(struct json_object *v, const char *path, const void *msg, size_t len)
{
	uint8_t want[2048];

	assert_int_equal(vectors_bytes(v, path, want, sizeof(want)), len);
	assert_memory_equal(msg, want, len);
}

static struct wg_timestamp timestamp_of(const char *unix_time, struct wg_timestamp *last)
{
	char *end;
	uint64_t s = strtoull(unix_time, &end, 10);

	return wg_timestamp_next(last, s, (uint32_t)strtoul(end + 1, NULL, 10));
}

static void initiate(struct json_object *v, struct side *i, struct wg_initiation *msg)
{
	struct wg_timestamp now = timestamp_of(vectors_text(v, "unix_time"), &i->hs.sent);

	assert_true(wg_handshake_create_initiation(&i->hs, engine, &i->id, &i->ephemeral, i->index,
						   &now, msg));
	wg_macs_sign(&i->macs, engine, msg, sizeof(*msg), NS_PER_S);
}

static bool consume(struct side *r, const struct wg_initiation *msg, uint64_t now_ns)
{
	struct wg_opened_initiation opened;
	bool ok;

	ok = wg_initiation_open(&opened, engine, &r->id, msg) &&
	     wg_handshake_consume_initiation(&r->hs, engine, &opened, msg, now_ns);
	wg_initiation_wipe(&opened);
	return ok;
}

static void assert_trace(struct json_object *v, size_t step, const struct noise *n)
{
	struct json_object *row = json_object_array_get_idx(vectors_get(v, "trace"), step);

	assert_message(row, "ck", n->chain, NOISE_HASH_LEN);
	assert_message(row, "h", n->hash, NOISE_HASH_LEN);
}

static void derive(struct side *s, struct symmetric_key *sending, struct symmetric_key *receiving,
		   bool as_initiator)
{
	bool is_initiator;

	assert_true(wg_handshake_derive(&s->hs, engine, sending, receiving, &is_initiator));
	assert_int_equal(is_initiator, as_initiator);
	assert_int_equal(s->hs.state, WG_HANDSHAKE_NONE);
}

static void handshake_agrees(const char *name)
{
	struct json_object *v = vectors_get(all, name);
	struct symmetric_key i_send, i_receive, r_send, r_receive;
	struct wg_initiation initiation;
	struct wg_response response;
	struct side i, r;

	set_up(v, &i, &r);
	initiate(v, &i, &initiation);
	assert_message(v, "message_initiation", &initiation, sizeof(initiation));
	assert_trace(v, 4, &i.hs.noise);

	assert_true(wg_checker_mac1_is_valid(&r.checker, engine, &initiation, sizeof(initiation)));
	assert_true(consume(&r, &initiation, NS_PER_S));
	assert_trace(v, 4, &r.hs.noise);
	assert_true(wg_handshake_create_response(&r.hs, engine, &r.ephemeral, r.index, &response));
	wg_macs_sign(&r.macs, engine, &response, sizeof(response), NS_PER_S);
	assert_message(v, "message_response", &response, sizeof(response));
	assert_trace(v, 8, &r.hs.noise);

	assert_true(wg_checker_mac1_is_valid(&i.checker, engine, &response, sizeof(response)));
	assert_true(wg_handshake_consume_response(&i.hs, engine, &i.id, &response));
	assert_trace(v, 8, &i.hs.noise);

	derive(&i, &i_send, &i_receive, true);
	derive(&r, &r_send, &r_receive, false);
	assert_message(v, "key_initiator_to_responder", i_send.byte, KEY_LEN);
	assert_message(v, "key_responder_to_initiator", i_receive.byte, KEY_LEN);
	assert_memory_equal(&r_send, &i_receive, KEY_LEN);
	assert_memory_equal(&r_receive, &i_send, KEY_LEN);
}

static void test_a_handshake_without_a_preshared_key_agrees(void **state)
{
	(void)state;
	handshake_agrees("without_psk");
}

static void test_a_handshake_with_a_preshared_key_agrees(void **state)
{
	(void)state;
	handshake_agrees("with_psk");
}

static void transport_agrees(const char *direction, const char *key_name, uint32_t receiver)
{
	struct json_object *v = vectors_get(all, "without_psk");
	struct json_object *rows = vectors_get(v, direction);
	struct aead_cipher *cipher = aead_cipher_create();
	struct symmetric_key key;
	struct aead_key *seal, *open;

	vectors_bytes(v, key_name, key.byte, KEY_LEN);
	seal = aead_key_create(cipher, &key, AEAD_SEAL);
	open = aead_key_create(cipher, &key, AEAD_OPEN);
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		uint8_t d[2048] = { 0 };
		uint64_t counter = vectors_number(row, "counter");
		size_t len = vectors_bytes(row, "plaintext", d + PACKET_HEADER, 1500);
		size_t padded = packet_padded(len, 1280);

		assert_int_equal(padded, vectors_number(row, "padded_plaintext_len"));
		store_le32(d, WG_TRANSPORT);
		store_le32(d + 4, receiver);
		store_le64(d + 8, counter);
		aead_seal(seal, counter, d + PACKET_HEADER, padded);
		assert_message(row, "packet", d, PACKET_HEADER + padded + PACKET_TAG);
		assert_true(aead_open(open, counter, d + PACKET_HEADER, padded));
		assert_message(row, "plaintext", d + PACKET_HEADER, len);
	}
	aead_key_destroy(seal);
	aead_key_destroy(open);
	aead_cipher_destroy(cipher);
}

static void test_transport_packets_agree(void **state)
{
	struct json_object *v = vectors_get(all, "without_psk");

	(void)state;
	transport_agrees("transport_initiator_to_responder", "key_initiator_to_responder",
			 (uint32_t)vectors_number(v, "responder_index"));
	transport_agrees("transport_responder_to_initiator", "key_responder_to_initiator",
			 (uint32_t)vectors_number(v, "initiator_index"));
}

static void test_a_recorded_cookie_is_taken_and_proven_next_time(void **state)
{
	struct json_object *v = vectors_get(all, "without_psk"), *c = vectors_get(v, "cookie");
	struct wg_cookie_reply reply, again;
	struct wg_initiation first, second;
	struct wg_timestamp now;
	struct private_key ephemeral;
	struct side i, r;

	(void)state;
	set_up(v, &i, &r);
	assert_message(c, "responder_mac1_key", r.checker.mac1_key.byte, KEY_LEN);
	assert_message(c, "responder_cookie_encryption_key", r.checker.cookie_key.byte, KEY_LEN);
	initiate(v, &i, &first);
	assert_message(c, "mac1_of_trigger_used_as_aad", first.mac1, WG_MAC_LEN);

	vectors_bytes(c, "message_cookie_reply", &reply, sizeof(reply));
	assert_int_equal(load_le32(reply.type), WG_COOKIE_REPLY);
	assert_int_equal(load_le32(reply.receiver), i.index);
	again = reply;
	again.cookie[0] ^= 1;
	assert_false(wg_macs_take_cookie(&i.macs, &again, NS_PER_S));
	assert_true(wg_macs_take_cookie(&i.macs, &reply, NS_PER_S));
	assert_message(c, "cookie_plain", i.macs.cookie, WG_MAC_LEN);
	/* It was the answer to one message. */
	assert_false(wg_macs_take_cookie(&i.macs, &reply, NS_PER_S));

	now = timestamp_of(vectors_text(c, "second_initiation_unix_time"), &i.hs.sent);
	vectors_bytes(c, "second_initiation_ephemeral_random", ephemeral.byte, KEY_LEN);
	vectors_bytes(c, "second_initiation_with_mac2", &second, sizeof(second));
	i.index = load_le32(second.sender);
	assert_true(wg_handshake_create_initiation(&i.hs, engine, &i.id, &ephemeral, i.index, &now,
						   &second));
	wg_macs_sign(&i.macs, engine, &second, sizeof(second), 100 * NS_PER_S);
	assert_message(c, "second_mac1", second.mac1, WG_MAC_LEN);
	assert_message(c, "second_mac2", second.mac2, WG_MAC_LEN);
	assert_message(c, "second_initiation_with_mac2", &second, sizeof(second));
}

static void test_our_cookies_prove_one_address_for_two_minutes(void **state)
{
	struct json_object *v = vectors_get(all, "without_psk");
	struct endpoint here = { ip_from_v4(0x7f000001), 6666 }, there = here;
	uint64_t now_ns = 50 * NS_PER_S;
	struct wg_initiation msg;
	struct wg_cookie_reply reply;
	struct side i, r;

	(void)state;
	there.port++;
	set_up(v, &i, &r);
	initiate(v, &i, &msg);
	assert_false(
		wg_checker_mac2_is_valid(&r.checker, engine, &msg, sizeof(msg), &here, now_ns));
	wg_checker_reply(&r.checker, engine, &msg, sizeof(msg), &here, now_ns, &reply);
	assert_memory_equal(reply.receiver, msg.sender, 4);
	assert_true(wg_macs_take_cookie(&i.macs, &reply, now_ns));

	wg_macs_sign(&i.macs, engine, &msg, sizeof(msg), now_ns);
	assert_true(wg_checker_mac2_is_valid(&r.checker, engine, &msg, sizeof(msg), &here, now_ns));
	assert_false(
		wg_checker_mac2_is_valid(&r.checker, engine, &msg, sizeof(msg), &there, now_ns));
	now_ns += WG_COOKIE_LIFETIME - 1;
	assert_true(wg_checker_mac2_is_valid(&r.checker, engine, &msg, sizeof(msg), &here, now_ns));
	now_ns += 1;
	assert_false(
		wg_checker_mac2_is_valid(&r.checker, engine, &msg, sizeof(msg), &here, now_ns));
	/* The initiator does not use it any longer either. */
	wg_macs_sign(&i.macs, engine, &msg, sizeof(msg), now_ns);
	assert_int_equal(load_le64(msg.mac2), 0);
}

static void test_a_wrong_initiation_changes_nothing(void **state)
{
	struct json_object *v = vectors_get(all, "without_psk");
	struct wg_initiation msg, bad;
	struct wg_handshake before;
	struct side i, r;

	(void)state;
	set_up(v, &i, &r);
	/* What is made once, at the first message of either side, is there already. */
	assert_true(wg_handshake_create_initiation(&r.hs, engine, &r.id, &r.ephemeral, r.index,
						   &(struct wg_timestamp){ { 0 } }, &bad));
	wg_handshake_clear(&r.hs);
	initiate(v, &i, &msg);
	before = r.hs;
	for (size_t at = 0; at < offsetof(struct wg_initiation, mac1); at++) {
		bad = msg;
		((uint8_t *)&bad)[at] ^= 0x40;
		assert_false(wg_checker_mac1_is_valid(&r.checker, engine, &bad, sizeof(bad)));
		/* Type and sender index are protected by mac1 alone, the rest by Noise. */
		if (at < offsetof(struct wg_initiation, ephemeral))
			continue;
		assert_false(consume(&r, &bad, NS_PER_S));
		assert_memory_equal(&r.hs, &before, sizeof(before));
	}
	assert_true(consume(&r, &msg, NS_PER_S));
	before = r.hs;
	assert_false(consume(&r, &msg, 9 * NS_PER_S)); /* replayed */
	assert_memory_equal(&r.hs, &before, sizeof(before));
}

static void test_a_wrong_response_changes_nothing(void **state)
{
	struct json_object *v = vectors_get(all, "with_psk");
	struct wg_initiation initiation;
	struct wg_response msg, bad;
	struct wg_handshake before;
	struct side i, r;

	(void)state;
	set_up(v, &i, &r);
	initiate(v, &i, &initiation);
	assert_true(consume(&r, &initiation, NS_PER_S));
	assert_true(wg_handshake_create_response(&r.hs, engine, &r.ephemeral, r.index, &msg));
	before = i.hs;
	for (size_t at = offsetof(struct wg_response, ephemeral);
	     at < offsetof(struct wg_response, mac1); at++) {
		bad = msg;
		((uint8_t *)&bad)[at] ^= 1;
		assert_false(wg_handshake_consume_response(&i.hs, engine, &i.id, &bad));
		assert_memory_equal(&i.hs, &before, sizeof(before));
	}
	assert_true(wg_handshake_consume_response(&i.hs, engine, &i.id, &msg));
	assert_false(wg_handshake_consume_response(&i.hs, engine, &i.id, &msg));
}

static void test_initiations_within_20_ms_are_refused(void **state)
{
	struct json_object *v = vectors_get(all, "without_psk");
	struct wg_timestamp now;
	struct wg_initiation msg;
	struct side i, r;

	(void)state;
	set_up(v, &i, &r);
	initiate(v, &i, &msg);
	assert_true(consume(&r, &msg, NS_PER_S));
	now = wg_timestamp_next(&i.hs.sent, 1700000001, 0);
	assert_true(wg_handshake_create_initiation(&i.hs, engine, &i.id, &i.ephemeral, i.index,
						   &now, &msg));
	assert_false(consume(&r, &msg, NS_PER_S + WG_INITIATION_INTERVAL));
	assert_true(consume(&r, &msg, NS_PER_S + WG_INITIATION_INTERVAL + 1));
}

static void test_a_peer_key_of_low_order_is_refused(void **state)
{
	struct json_object *v = vectors_get(all, "without_psk");
	static const struct public_key zero;
	static const struct symmetric_key no_psk;
	struct wg_initiation msg;
	struct side i, r;

	(void)state;
	set_up(v, &i, &r);
	assert_false(wg_handshake_init(&i.hs, &i.id, &zero, &no_psk));
	set_up(v, &i, &r);
	initiate(v, &i, &msg);
	msg.ephemeral = zero;
	assert_false(consume(&r, &msg, NS_PER_S));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_handshake_without_a_preshared_key_agrees),
		cmocka_unit_test(test_a_handshake_with_a_preshared_key_agrees),
		cmocka_unit_test(test_transport_packets_agree),
		cmocka_unit_test(test_a_recorded_cookie_is_taken_and_proven_next_time),
		cmocka_unit_test(test_our_cookies_prove_one_address_for_two_minutes),
		cmocka_unit_test(test_a_wrong_initiation_changes_nothing),
		cmocka_unit_test(test_a_wrong_response_changes_nothing),
		cmocka_unit_test(test_initiations_within_20_ms_are_refused),
		cmocka_unit_test(test_a_peer_key_of_low_order_is_refused),
	};
	int failed;

	assert_int_equal(crypto_init(), 0);
	all = vectors_load("wireguard_handshake.json");
	engine = blake2s_create();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	blake2s_destroy(engine);
	json_object_put(all);
	return failed;
}
