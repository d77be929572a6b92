/* Texts of keys and the encrypted channel against recorded ones, and what is no handshake. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/control/channel.h"
#include "daemon/crypto/keytext.h"
#include "shared/util.h"
#include "shared/wire.h"
#include "tests/unit/control/vectors.h"

/* ---- keys ---- */

static void test_keys_have_the_text_forms_of_the_vectors(void **state)
{
	struct json_object *all = load("keys.json"), *keys = at(all, "keys");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(keys); i++) {
		struct json_object *k = json_object_array_get_idx(keys, i);
		uint8_t public[KEY_LEN], private[KEY_LEN], parsed[KEY_LEN];
		char out[KEYTEXT_MAX];

		unhex(text(k, "public_raw"), public, KEY_LEN);
		unhex(text(k, "private_raw"), private, KEY_LEN);
		assert_string_equal(keytext_format(KEYTEXT_MACHINE, public, out),
				    text(k, "machine_public"));
		assert_string_equal(keytext_format(KEYTEXT_NODE, public, out),
				    text(k, "node_public"));
		assert_string_equal(keytext_format(KEYTEXT_DISCO, public, out),
				    text(k, "disco_public"));
		assert_string_equal(keytext_format(KEYTEXT_CHALLENGE, public, out),
				    text(k, "challenge_public"));
		assert_string_equal(keytext_format(KEYTEXT_PRIVATE, private, out),
				    text(k, "machine_private"));
		assert_true(keytext_parse(KEYTEXT_PRIVATE, out, strlen(out), parsed));
		assert_memory_equal(parsed, private, KEY_LEN);
	}
	json_object_put(all);
}

static void test_keys_are_parsed_as_strictly_as_the_reference_does(void **state)
{
	struct json_object *all = load("keys.json"), *cases = at(all, "parse");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(cases); i++) {
		struct json_object *c = json_object_array_get_idx(cases, i);
		const char *kind = text(c, "kind"), *key = text(c, "text");
		enum keytext_kind k = strcmp(kind, "node_public") == 0    ? KEYTEXT_NODE
				      : strcmp(kind, "disco_public") == 0 ? KEYTEXT_DISCO
									  : KEYTEXT_MACHINE;
		uint8_t parsed[KEY_LEN];
		bool ok = keytext_parse(k, key, strlen(key), parsed);

		assert_int_equal(ok, json_object_get_boolean(at(c, "accepted")));
		if (ok)
			assert_int_equal(key_is_zero(parsed),
					 json_object_get_boolean(at(c, "is_zero_key")));
	}
	json_object_put(all);
}

/* ---- the channel ---- */

struct sink {
	uint8_t bytes[16384];
	size_t len;
};

static int sink_opened(void *owner, const uint8_t *bytes, size_t len)
{
	struct sink *sink = owner;

	assert_true(sink->len + len <= sizeof(sink->bytes));
	memcpy(sink->bytes + sink->len, bytes, len);
	sink->len += len;
	return 0;
}

static struct channel *make_channel(struct json_object *c, struct sink *sink)
{
	struct channel_callbacks callbacks = { .opened = sink_opened, .owner = sink };
	struct private_key machine, ephemeral;
	struct public_key server;

	sink->len = 0;
	unhex(text(c, "client_static_priv"), machine.byte, KEY_LEN);
	unhex(text(c, "client_ephemeral_priv"), ephemeral.byte, KEY_LEN);
	unhex(text(c, "server_static_pub"), server.byte, KEY_LEN);
	return channel_create(&machine, &server,
			      (uint16_t)json_object_get_int(at(c, "protocol_version")), &ephemeral,
			      &callbacks);
}

static size_t plain_of(struct json_object *v, uint8_t *plain, size_t room)
{
	struct json_object *len;

	if (!json_object_object_get_ex(v, "plaintext_len", &len))
		return unhex(text(v, "plaintext"), plain, room);
	for (int i = 0; i < json_object_get_int(len); i++)
		plain[i] = (uint8_t)(i % 251);
	return (size_t)json_object_get_int(len);
}

static size_t frames_of(struct json_object *v, uint8_t *bytes, size_t room)
{
	struct json_object *frames = at(v, "frames");
	size_t len = 0;

	for (size_t i = 0; i < json_object_array_length(frames); i++)
		len += unhex(json_object_get_string(json_object_array_get_idx(frames, i)),
			     bytes + len, room - len);
	return len;
}

static void check_channel(struct json_object *c, size_t portion)
{
	static struct sink sink;
	static uint8_t bytes[32768], plain[16384], want[16384];
	struct channel *ch = make_channel(c, &sink);
	struct json_object *list;
	size_t len, plain_len, want_len = 0, early_len;

	len = unhex(text(c, "initiation_message"), bytes, sizeof(bytes));
	assert_int_equal(len, CHANNEL_INITIATION_LEN);
	assert_memory_equal(channel_initiation(ch), bytes, len);
	len = unhex(text(c, "response_message"), bytes, sizeof(bytes));
	for (size_t i = 0; i < len; i += portion)
		assert_int_equal(channel_receive(ch, bytes + i, MIN(portion, len - i)), 0);
	assert_true(channel_is_open(ch));
	list = at(c, "client_to_server");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		static uint8_t sealed[32768];

		plain_len = plain_of(v, plain, sizeof(plain));
		len = frames_of(v, bytes, sizeof(bytes));
		assert_int_equal(channel_sealed_len(plain_len), len);
		channel_seal(ch, plain, plain_len, sealed);
		assert_memory_equal(sealed, bytes, len);
	}
	list = at(c, "server_to_client");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);

		want_len += plain_of(v, want + want_len, sizeof(want) - want_len);
		len = frames_of(v, bytes, sizeof(bytes));
		for (size_t j = 0; j < len; j += portion)
			assert_int_equal(channel_receive(ch, bytes + j, MIN(portion, len - j)), 0);
	}
	early_len = strlen(text(c, "early_payload_plaintext")) / 2;
	assert_int_equal(sink.len, want_len - early_len);
	assert_memory_equal(sink.bytes, want + early_len, sink.len);
	channel_destroy(ch);
}

static void test_handshakes_and_records_are_those_of_the_vectors(void **state)
{
	struct json_object *all = load("noise_handshake.json"), *cases = at(all, "cases");

	(void)state;
	assert_int_equal(json_object_array_length(cases), 3);
	for (size_t i = 0; i < json_object_array_length(cases); i++) {
		check_channel(json_object_array_get_idx(cases, i), 1);
		check_channel(json_object_array_get_idx(cases, i), 100);
		check_channel(json_object_array_get_idx(cases, i), 100000);
	}
	json_object_put(all);
}

static void test_any_flipped_bit_closes_the_channel(void **state)
{
	struct json_object *all = load("noise_handshake.json");
	struct json_object *c = json_object_array_get_idx(at(all, "cases"), 0);
	static struct sink sink;
	static const uint8_t more[CHANNEL_FRAME_MAX];
	uint8_t response[CHANNEL_RESPONSE_LEN], frame[CHANNEL_FRAME_MAX];
	size_t len = frames_of(json_object_array_get_idx(at(c, "server_to_client"), 0), frame,
			       sizeof(frame));

	(void)state;
	unhex(text(c, "response_message"), response, sizeof(response));
	for (size_t i = 0; i < sizeof(response); i++) {
		struct channel *ch = make_channel(c, &sink);

		/* (The top bit of a public key is ignored by X25519, but hashed.) */
		response[i] ^= 0x80;
		assert_int_not_equal(channel_receive(ch, response, sizeof(response)), 0);
		assert_false(channel_is_open(ch));
		response[i] ^= 0x80;
		assert_int_not_equal(channel_receive(ch, response, sizeof(response)), 0);
		channel_destroy(ch);
	}
	for (size_t i = 0; i < len; i++) {
		struct channel *ch = make_channel(c, &sink);

		assert_int_equal(channel_receive(ch, response, sizeof(response)), 0);
		frame[i] ^= 1;
		/* A longer length waits for more, and fails with it. */
		if (channel_receive(ch, frame, len) == 0)
			assert_int_not_equal(channel_receive(ch, more, sizeof(more)), 0);
		frame[i] ^= 1;
		assert_int_equal(sink.len, 0);
		channel_destroy(ch);
	}
	json_object_put(all);
}

static void test_what_is_no_handshake_is_refused(void **state)
{
	struct json_object *all = load("noise_handshake.json");
	struct json_object *rejections = at(all, "server_rejections");
	struct json_object *c = json_object_array_get_idx(at(all, "cases"), 0);
	static const uint8_t big[] = { 4, 0x0f, 0xfe }, early[] = { 4, 0, 20 };
	static struct sink sink;
	struct channel *ch;
	struct public_key zero = { 0 };
	struct private_key machine = { { 1 } };
	struct channel_callbacks callbacks = { .opened = sink_opened, .owner = &sink };

	(void)state;
	assert_null(channel_create(&machine, &zero, 113, NULL, &callbacks));
	for (size_t i = 0; i < json_object_array_length(rejections); i++) {
		struct json_object *r = json_object_array_get_idx(rejections, i);
		uint8_t bytes[256];
		size_t len = unhex(text(r, "server_bytes"), bytes, sizeof(bytes));

		if (len == 0)
			continue;
		ch = make_channel(c, &sink);
		assert_int_equal(channel_receive(ch, bytes, len), -ECONNREFUSED);
		assert_string_equal(channel_error(ch), text(r, "server_error_text"));
		channel_destroy(ch);
	}
	ch = make_channel(c, &sink);
	assert_int_equal(channel_receive(ch, early, sizeof(early)), -EPROTO);
	channel_destroy(ch);
	ch = make_channel(c, &sink);
	assert_int_equal(channel_receive(ch, (const uint8_t *)"\x03\x00\x02\x1b[", 5),
			 -ECONNREFUSED);
	assert_string_equal(channel_error(ch), "?[");
	channel_destroy(ch);
	ch = make_channel(c, &sink);
	{
		uint8_t response[CHANNEL_RESPONSE_LEN];

		unhex(text(c, "response_message"), response, sizeof(response));
		assert_int_equal(channel_receive(ch, response, sizeof(response)), 0);
	}
	assert_int_equal(channel_receive(ch, big, sizeof(big)), -EPROTO);
	channel_destroy(ch);
	json_object_put(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_have_the_text_forms_of_the_vectors),
		cmocka_unit_test(test_keys_are_parsed_as_strictly_as_the_reference_does),
		cmocka_unit_test(test_handshakes_and_records_are_those_of_the_vectors),
		cmocka_unit_test(test_any_flipped_bit_closes_the_channel),
		cmocka_unit_test(test_what_is_no_handshake_is_refused),
	};

	if (crypto_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
