#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <zstd.h>

#include "daemon/control/channel.h"
#include "daemon/control/h2.h"
#include "daemon/control/mapstream.h"
#include "daemon/control/messages.h"
#include "daemon/control/scan.h"
#include "daemon/crypto/keytext.h"
#include "daemon/http1.h"
#include "shared/util.h"
#include "shared/wire.h"

static struct json_object *load(const char *name)
{
	char path[512];
	struct json_object *object;

	snprintf(path, sizeof(path), "%s/%s", VECTORS_DIR, name);
	object = json_object_from_file(path);
	assert_non_null(object);
	return object;
}

static struct json_object *at(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	assert_true(json_object_object_get_ex(object, key, &value));
	return value;
}

static const char *text(struct json_object *object, const char *key)
{
	return json_object_get_string(at(object, key));
}

static size_t unhex(const char *hex, uint8_t *out, size_t room)
{
	size_t len = strlen(hex) / 2;

	assert_true(len <= room);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &out[i]), 1);
	return len;
}

/* ---- keys ---- */

static void test_keys_have_the_text_forms_of_the_vectors(void **state)
{
	struct json_object *all = load("keys.json"), *keys = at(all, "keys");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(keys); i++) {
		struct json_object *k = json_object_array_get_idx(keys, i);
		uint8_t public[KEY_LEN], private[KEY_LEN], parsed[KEY_LEN];
		char out[KEYTEXT_MAX], brief[KEYTEXT_SHORT_MAX];

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
		assert_string_equal(keytext_short(KEYTEXT_NODE, public, brief),
				    text(k, "node_short"));
		assert_string_equal(keytext_short(KEYTEXT_DISCO, public, brief),
				    text(k, "disco_short"));
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

/* ---- the map stream ---- */

struct messages_seen {
	char *text[8];
	unsigned count;
	int verdict;
};

static int seen(void *owner, const char *message, size_t len)
{
	struct messages_seen *m = owner;

	assert_int_equal(strlen(message), len);
	assert_true(m->count < 8);
	m->text[m->count++] = strdup(message);
	return m->verdict;
}

static void forget(struct messages_seen *m)
{
	for (unsigned i = 0; i < m->count; i++)
		free(m->text[i]);
	*m = (struct messages_seen){ 0 };
}

static int feed(bool is_zstd, size_t max, const uint8_t *bytes, size_t len, size_t portion,
		struct messages_seen *m)
{
	struct mapstream_callbacks callbacks = { .message = seen, .owner = m };
	struct mapstream *ms = mapstream_create(is_zstd, max, &callbacks);
	int err = 0;

	for (size_t i = 0; i < len && err == 0; i += portion)
		err = mapstream_receive(ms, bytes + i, MIN(portion, len - i));
	mapstream_destroy(ms);
	return err;
}

static void test_map_messages_come_out_of_the_stream_in_any_portions(void **state)
{
	struct json_object *all = load("map_stream.json");
	struct messages_seen m = { 0 };
	static const size_t portions[] = { 1, 3, 4, 7, 1000, 100000 };
	uint8_t bytes[8192];

	(void)state;
	for (size_t p = 0; p < ARRAY_LEN(portions); p++) {
		for (int z = 0; z < 2; z++) {
			struct json_object *list = at(all, z ? "zstd" : "plain");
			size_t len = unhex(text(all, z ? "stream_zstd" : "stream_plain"), bytes,
					   sizeof(bytes));

			assert_int_equal(feed(z, 0, bytes, len, portions[p], &m), 0);
			assert_int_equal(m.count, json_object_array_length(list));
			for (unsigned i = 0; i < m.count; i++)
				assert_string_equal(
					m.text[i],
					text(json_object_array_get_idx(list, i), "json"));
			forget(&m);
		}
	}
	json_object_put(all);
}

static size_t bomb(uint8_t *out, size_t room, size_t unfolded)
{
	char *zeros = calloc(1, unfolded);
	size_t len = ZSTD_compress(out + 4, room - 4, zeros, unfolded, 1);

	assert_false(ZSTD_isError(len));
	free(zeros);
	store_le32(out, (uint32_t)len);
	return len + 4;
}

static void test_bombs_and_torn_frames_are_refused(void **state)
{
	struct messages_seen m = { 0 };
	static uint8_t bytes[1 << 16];
	size_t len = bomb(bytes, sizeof(bytes), 32 << 20);

	(void)state;
	assert_int_equal(feed(true, 0, bytes, len, len, &m), -EMSGSIZE);
	assert_int_equal(feed(true, 0, bytes, len, 1, &m), -EMSGSIZE);
	len = bomb(bytes, sizeof(bytes), 1000);
	assert_int_equal(feed(true, 999, bytes, len, len, &m), -EMSGSIZE);
	store_le32(bytes, (uint32_t)len - 4 - 1); /* the frame goes on where the message ends */
	assert_int_equal(feed(true, 0, bytes, len, len, &m), -EBADMSG);
	store_le32(bytes, (uint32_t)len - 4 + 1);
	bytes[len] = 0;
	assert_int_equal(feed(true, 0, bytes, len + 1, len + 1, &m), -EBADMSG);
	store_le32(bytes, 0xffffffff);
	assert_int_equal(feed(false, 0, bytes, 4, 4, &m), -EMSGSIZE);
	assert_int_equal(feed(true, 0, (const uint8_t *)"\5\0\0\0xxxxx", 9, 9, &m), -EBADMSG);
	assert_int_equal(feed(true, 0, (const uint8_t *)"\0\0\0\0", 4, 4, &m), -EBADMSG);
	assert_int_equal(m.count, 0);
	m.verdict = -EILSEQ;
	assert_int_equal(feed(false, 0, (const uint8_t *)"\2\0\0\0{}\2\0\0\0{}", 12, 12, &m),
			 -EILSEQ);
	assert_int_equal(m.count, 1);
	forget(&m);
}

/* ---- HTTP/2 ---- */

struct exchange {
	struct h2 *h2;
	int status, ended;
	int err, verdict;
	char body[8192];
	size_t len;
};

static void ex_headed(void *owner, const struct h2_response *response)
{
	((struct exchange *)owner)->status = response->status;
}

static int ex_body(void *owner, const uint8_t *bytes, size_t len)
{
	struct exchange *ex = owner;

	assert_true(ex->len + len < sizeof(ex->body));
	memcpy(ex->body + ex->len, bytes, len);
	ex->len += len;
	return ex->verdict;
}

static void ex_ended(void *owner, int err)
{
	struct exchange *ex = owner;

	ex->ended++;
	ex->err = err;
}

static const struct h2_handler ex_handler = { ex_headed, ex_body, ex_ended };

static size_t drain(struct h2 *h2)
{
	const uint8_t *bytes;
	size_t all = 0;
	ssize_t len;

	while ((len = h2_send(h2, &bytes)) > 0)
		all += (size_t)len;
	return all;
}

static void test_a_recorded_register_exchange_is_understood(void **state)
{
	struct json_object *all = load("h2_transcript.json");
	struct json_object *frames = at(all, "register_exchange");
	struct h2_request request = {
		.method = "POST", .path = "/machine/register", .body = "{}", .body_len = 2
	};
	struct exchange ex = { 0 };
	struct h2 *h2 = h2_create("127.0.0.1:1");
	uint8_t bytes[4096];

	(void)state;
	assert_int_equal(h2_request(h2, &request, &ex_handler, &ex), 1);
	assert_true(drain(h2) > 24);
	for (size_t i = 0; i < json_object_array_length(frames); i++) {
		struct json_object *f = json_object_array_get_idx(frames, i);
		size_t len;

		if (strcmp(text(f, "from"), "server") != 0)
			continue;
		len = unhex(text(f, "hex"), bytes, sizeof(bytes));
		for (size_t j = 0; j < len; j++)
			assert_int_equal(h2_receive(h2, bytes + j, 1), 0);
		drain(h2);
	}
	assert_int_equal(ex.status, 200);
	assert_int_equal(ex.ended, 1);
	assert_int_equal(ex.err, 0);
	{
		struct messages_registered answer;

		assert_int_equal(messages_parse_registered(ex.body, ex.len, &answer), 0);
		assert_string_equal(answer.error,
				    "handling register with auth key: auth-key not found");
	}
	assert_int_equal(h2_running(h2), 0);
	h2_destroy(h2);
	json_object_put(all);
}

static void test_resets_goaway_and_rubbish_end_requests(void **state)
{
	static const uint8_t settings[] = { 0, 0, 0, 4, 0, 0, 0, 0, 0 };
	static const uint8_t reset[] = { 0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2 };
	static const uint8_t away[] = { 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0 };
	struct h2_request request = { .method = "POST", .path = "/x", .body = "{}", .body_len = 2 };
	struct exchange a = { 0 }, b = { 0 }, c = { 0 };
	struct h2 *h2 = h2_create("h");

	(void)state;
	assert_int_equal(h2_request(h2, &request, &ex_handler, &a), 1);
	assert_int_equal(h2_request(h2, &request, &ex_handler, &b), 3);
	assert_int_equal(h2_request(h2, &request, &ex_handler, &c), 5);
	drain(h2);
	assert_int_equal(h2_receive(h2, settings, sizeof(settings)), 0);
	assert_int_equal(h2_receive(h2, reset, sizeof(reset)), 0);
	assert_int_equal(a.err, -ECONNRESET);
	h2_cancel(h2, 3);
	drain(h2);
	assert_int_equal(b.err, -ECONNABORTED);
	assert_int_equal(h2_receive(h2, away, sizeof(away)), 0);
	assert_true(h2_is_going_away(h2));
	drain(h2);
	assert_int_equal(c.ended, 1); /* above the last stream that the server takes */
	assert_int_equal(h2_request(h2, &request, &ex_handler, &c), -ENOTCONN);
	h2_destroy(h2);

	h2 = h2_create("h");
	for (int i = 0; i < H2_REQUESTS_MAX; i++)
		assert_true(h2_request(h2, &request, &ex_handler, &a) > 0);
	assert_int_equal(h2_request(h2, &request, &ex_handler, &a), -EBUSY);
	drain(h2);
	{
		const uint8_t *bytes;
		int err = h2_receive(h2, (const uint8_t *)"HTTP/1.1 400 Bad Request\r\n\r\n", 28);

		assert_true(err == -EPROTO || (drain(h2), h2_send(h2, &bytes)) == -EPROTO);
	}
	h2_destroy(h2); /* with requests under way */
}

/* ---- scanning ---- */

static void test_members_are_found_without_a_tree(void **state)
{
	static const char *const keys[] = { "b", "Node" };
	static const char *const good[] = {
		"{}",
		" { } ",
		"{\"b\":1}",
		"{\"a\":[{\"b\":\"]\\\"}\"}],\"b\":{\"c\":[]},\"Node\":null}",
	};
	static const char *const bad[] = {
		"",         "[]",         "{",          "{\"b\"}",   "{\"b\":}",
		"{\"b\":1", "{\"b\":1,}", "{\"b\":1}x", "{\"b\":[}", "{\"b\":\"\\",
		"{b:1}",    "{\"b\" 1}",  "null",
	};
	struct scan_text values[2];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(scan_object(good[i], strlen(good[i]), keys, values, 2), 0);
	assert_memory_equal(values[0].at, "{\"c\":[]}", values[0].len);
	assert_false(scan_has(&values[1]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (strcmp(bad[i], "{\"b\":[}") != 0) /* brackets are only counted */
			assert_int_equal(scan_object(bad[i], strlen(bad[i]), keys, values, 2),
					 -EBADMSG);
}

static void test_notes_are_read_from_a_map_message(void **state)
{
	static const char message[] =
		"{\"Node\":{\"ID\":1,\"KeyExpiry\":\"2026-01-02T03:04:05.123Z\",\"Expired\":true,"
		"\"MachineAuthorized\":true},\"ControlTime\":\"2026-01-02T03:04:06+01:00\","
		"\"Debug\":{\"SleepSeconds\":1e300},\"PopBrowserURL\":\"https://h/a\\u0026b\","
		"\"PingRequest\":{\"URL\":\"http://h/p\",\"Types\":\"c2n\",\"Payload\":\"R0VU\"}}";
	struct messages_notes notes;
	struct messages_ping ping;

	(void)state;
	assert_int_equal(messages_read_notes(message, strlen(message), &notes, &ping), 0);
	assert_true(notes.has_node && notes.is_expired && notes.is_authorized);
	assert_int_equal(notes.key_expiry, 1767323045);
	assert_int_equal(notes.control_time, 1767319446);
	assert_int_equal(notes.sleep_ns, 300 * NS_PER_S);
	assert_string_equal(notes.pop_url, "https://h/a&b");
	assert_true(notes.has_ping);
	assert_string_equal(ping.types, "c2n");
	assert_int_equal(ping.payload_len, 3);
	messages_ping_free(&ping);
	assert_int_equal(messages_read_notes("{\"KeepAlive\":true}", 18, &notes, &ping), 0);
	assert_true(notes.is_keep_alive);
	assert_false(notes.has_node || notes.has_ping);
	assert_int_equal(
		messages_read_notes("{\"PopBrowserURL\":\"file:///etc\"}", 31, &notes, &ping), 0);
	assert_string_equal(notes.pop_url, "");
	assert_int_equal(messages_read_notes("x", 1, &notes, &ping), -EBADMSG);
}

/* ---- requests and answers ---- */

static void fill_self(struct json_object *shape, struct control_self *self)
{
	struct json_object *endpoints, *types, *disco;

	memset(self, 0, sizeof(*self));
	if (json_object_object_get_ex(shape, "DiscoKey", &disco))
		assert_true(keytext_parse(KEYTEXT_DISCO, json_object_get_string(disco),
					  strlen(json_object_get_string(disco)), self->disco_key));
	self->preferred_derp = 900;
	self->working_udp = CONTROL_YES;
	self->working_ipv6 = self->mapping_varies_by_dst = CONTROL_NO;
	self->latency_count = 1;
	self->latencies[0].region = 900;
	self->latencies[0].latency_ns = 1200000;
	if (!json_object_object_get_ex(shape, "Endpoints", &endpoints))
		return;
	types = at(shape, "EndpointTypes");
	for (size_t i = 0; i < json_object_array_length(endpoints); i++) {
		assert_int_equal(endpoint_parse(json_object_get_string(
							json_object_array_get_idx(endpoints, i)),
						&self->endpoints[i].ep),
				 0);
		self->endpoints[i].type = (enum control_endpoint_type)json_object_get_int(
			json_object_array_get_idx(types, i));
		self->endpoint_count++;
	}
}

/* Every member of shape but empty ones is in ours, and ours has nothing else but "Userspace". */
static void assert_shape(struct json_object *ours, struct json_object *shape)
{
	json_object_object_foreach(shape, key, value)
	{
		struct json_object *mine;
		const char *words = json_object_get_string(value);

		if (!value || strcmp(words, "") == 0 || strncmp(words, "0001-01-01", 10) == 0 ||
		    strstr(words, ":00000000"))
			continue;
		assert_true(json_object_object_get_ex(ours, key, &mine));
		if (json_object_is_type(value, json_type_object))
			assert_shape(mine, value);
		else
			assert_string_equal(json_object_get_string(mine), words);
	}
	json_object_object_foreach(ours, name, mine)
	{
		struct json_object *value;

		(void)mine;
		assert_true(strcmp(name, "Userspace") == 0 ||
			    json_object_object_get_ex(shape, name, &value));
	}
}

static void test_requests_have_the_shapes_of_the_reference(void **state)
{
	static const char *const names[] = { "map_request_stream", "map_request_endpoint_update",
					     "register_request_authkey",
					     "register_request_logout" };
	struct json_object *all = load("json_shapes.json");
	struct messages_node node = { .host_name = "node-a",
				      .version = "1.80.0",
				      .capability_version = 113 };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct json_object *shape = at(all, names[i]), *ours;
		struct control_self self;
		struct public_key key;
		struct messages_register ask = { .node_key = &key };
		const char *key_text = text(shape, "NodeKey");
		char *made;
		size_t len;

		assert_true(keytext_parse(KEYTEXT_NODE, key_text, strlen(key_text), key.byte));
		fill_self(shape, &self);
		node.is_ephemeral = i == 2;
		ask.auth_key = i == 2 ? "hskey-auth-EXAMPLE" : NULL;
		ask.is_logout = i == 3;
		made = i < 2 ? messages_make_map(&node, &self, &key, i == 0, &len)
			     : messages_make_register(&node, &self, &ask, &len);
		assert_int_equal(strlen(made), len);
		ours = json_tokener_parse(made);
		assert_shape(ours, shape);
		json_object_put(ours);
		if (i < 2)
			free(made);
		else
			secret_free(made);
	}
	json_object_put(all);
}

static void test_answers_to_a_login_are_read_and_made_harmless(void **state)
{
	struct json_object *all = load("json_shapes.json");
	const char *zero = json_object_to_json_string(at(all, "register_response_zero"));
	struct messages_registered a;
	static const char *const bad[] = { "",
					   "[]",
					   "null",
					   "{\"AuthURL\":\"javascript:x\"}",
					   "{\"AuthURL\":\"http://h/\\u001b[2J\"}",
					   "{}x",
					   "{\"Error\":\"x\"" };
	static const char ugly[] = "{\"Error\":\"no\\u001b[31m \\u202e\\n\",\"Login\":5,"
				   "\"NodeKeySignature\":\"x\",\"NodeKeyExpired\":true}\n";

	(void)state;
	assert_int_equal(messages_parse_registered(zero, strlen(zero), &a), 0);
	assert_false(a.is_authorized || a.is_key_expired || a.wants_signature || a.error[0]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(messages_parse_registered(bad[i], strlen(bad[i]), &a), -EBADMSG);
	assert_int_equal(messages_parse_registered(ugly, strlen(ugly), &a), 0);
	assert_true(a.wants_signature && a.is_key_expired);
	assert_null(strpbrk(a.error, "\x1b\n\xe2"));
	json_object_put(all);
}

static void test_small_texts_are_clamped(void **state)
{
	char label[MESSAGES_HOST_MAX];
	struct json_object *keys = load("keys.json");
	const char *body = text(keys, "key_endpoint_body_example");
	struct public_key key;
	size_t len;
	char *answer;

	(void)state;
	messages_host_label("Eph Node.local", label);
	assert_string_equal(label, "eph-node");
	messages_host_label("--..", label);
	assert_string_equal(label, "meshwrap");
	messages_host_label("aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggg",
			    label);
	assert_int_equal(strlen(label), 63);
	assert_int_equal(messages_retry_after_ns("7", 0, 0), 7 * NS_PER_S);
	assert_int_equal(messages_retry_after_ns("1000000000000000000", 0, 0), 300 * NS_PER_S);
	assert_int_equal(messages_retry_after_ns("-1", 0, 0), 5 * NS_PER_S);
	assert_int_equal(messages_retry_after_ns("Thu, 01 Jan 1970 00:01:00 GMT", 30, 0),
			 30 * NS_PER_S);
	assert_in_range(messages_retry_after_ns("", 0, 4999), 9 * NS_PER_S, 10 * NS_PER_S);
	assert_int_equal(messages_parse_server_key(body, strlen(body), &key), 0);
	assert_int_equal(messages_parse_server_key("", 0, &key), -EPROTONOSUPPORT);
	assert_int_equal(messages_parse_server_key("{}", 2, &key), -EBADMSG);
	assert_false(messages_auth_key_ok("a b", 3));
	assert_false(messages_auth_key_ok("a\"b", 3));
	assert_true(messages_auth_key_ok("tskey-auth-x", 12));
	answer = messages_answer_c2n((const uint8_t *)"POST /echo HTTP/1.1\r\n\r\nhi", 25, &len);
	assert_memory_equal(answer, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", len);
	free(answer);
	answer = messages_answer_c2n(NULL, 0, &len);
	assert_memory_equal(answer, "HTTP/1.1 400", 12);
	free(answer);
	json_object_put(keys);
}

/* ---- HTTP/1 ---- */

static int head_of(const char *bytes, struct http1_head *head)
{
	return http1_parse_head(bytes, strlen(bytes), head);
}

static void test_heads_are_parsed_strictly(void **state)
{
	static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n"
				      "connection: keep-alive, Upgrade\r\n\r\nrest";
	static const char *const bad[] = {
		"SSH-2.0-x\r\n",
		"HTTP/2 200\r\n\r\n",
		"HTTP/1.1 99 x\r\n\r\n",
		"HTTP/1.1 200OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
		"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	};
	struct http1_head head;
	char *many = calloc(1, HTTP1_HEAD_MAX + 1);
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(upgrade) - 5; i++)
		assert_int_equal(http1_parse_head(upgrade, i, &head), -EAGAIN);
	assert_int_equal(head_of(upgrade, &head), 0);
	assert_int_equal(head.len, sizeof(upgrade) - 5);
	assert_true(http1_is_upgrade(&head, "derp"));
	assert_false(http1_is_upgrade(&head, "websocket"));
	assert_null(http1_header(&head, "x"));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(head_of(bad[i], &head), -EBADMSG);
	len = (size_t)sprintf(many, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i <= HTTP1_HEADERS_MAX; i++)
		len += (size_t)sprintf(many + len, "a: b\r\n");
	sprintf(many + len, "\r\n");
	assert_int_equal(head_of(many, &head), -EMSGSIZE);
	memset(many + 17, 'a', HTTP1_HEAD_MAX - 17);
	assert_int_equal(head_of(many, &head), -EMSGSIZE);
	free(many);
}

static int body_of(const char *bytes, bool is_end, char *body, size_t *len)
{
	struct http1_head head;

	assert_int_equal(head_of(bytes, &head), 0);
	return http1_read_body(&head, bytes + head.len, strlen(bytes) - head.len, is_end, body,
			       len);
}

static void test_bodies_end_by_length_chunks_or_close(void **state)
{
	static const struct {
		const char *bytes;
		bool is_end;
		int err;
		size_t len;
	} cases[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcX", false, 0, 3 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false, -EAGAIN, 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", true, -EBADMSG, 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", false, -EMSGSIZE, 0 },
		{ "HTTP/1.1 200 OK\r\n\r\nabc", false, -EAGAIN, 3 },
		{ "HTTP/1.1 200 OK\r\n\r\nabc", true, 0, 3 },
		{ "HTTP/1.1 204 OK\r\n\r\nabc", false, 0, 0 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n"
		  "0\r\n\r\n",
		  false, 0, 3 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab", false, -EAGAIN,
		  0 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab", true, -EBADMSG,
		  0 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd0\r\n", false,
		  -EBADMSG, 2 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", false,
		  -EMSGSIZE, 0 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", false, -EBADMSG,
		  0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char body[8];
		size_t len = sizeof(body);

		assert_int_equal(body_of(cases[i].bytes, cases[i].is_end, body, &len),
				 cases[i].err);
		assert_int_equal(len, cases[i].len);
	}
}

static void test_urls_are_split(void **state)
{
	static const char *const bad[] = {
		"",
		"ftp://h",
		"http://",
		"http://u@h",
		"http://h:0",
		"http://h:65536",
		"http://h:x",
		"http://h#f",
		"http://[::1",
		"http://[::1]x",
		"http://h/a b",
		"http://h?x",
		"http://h/\n",
		"http://h h",
		"http://:1",
	};
	struct http1_url url;

	(void)state;
	assert_int_equal(http1_parse_url("HTTPS://[fd7a::1]:8443/a?b=c", &url), 0);
	assert_true(url.is_tls);
	assert_string_equal(url.host, "fd7a::1");
	assert_int_equal(url.port, 8443);
	assert_string_equal(url.authority, "[fd7a::1]:8443");
	assert_string_equal(url.path, "/a?b=c");
	assert_int_equal(http1_parse_url("http://hs.example", &url), 0);
	assert_int_equal(url.port, 80);
	assert_string_equal(url.path, "");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(http1_parse_url(bad[i], &url), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_have_the_text_forms_of_the_vectors),
		cmocka_unit_test(test_keys_are_parsed_as_strictly_as_the_reference_does),
		cmocka_unit_test(test_handshakes_and_records_are_those_of_the_vectors),
		cmocka_unit_test(test_any_flipped_bit_closes_the_channel),
		cmocka_unit_test(test_what_is_no_handshake_is_refused),
		cmocka_unit_test(test_map_messages_come_out_of_the_stream_in_any_portions),
		cmocka_unit_test(test_bombs_and_torn_frames_are_refused),
		cmocka_unit_test(test_a_recorded_register_exchange_is_understood),
		cmocka_unit_test(test_resets_goaway_and_rubbish_end_requests),
		cmocka_unit_test(test_members_are_found_without_a_tree),
		cmocka_unit_test(test_notes_are_read_from_a_map_message),
		cmocka_unit_test(test_requests_have_the_shapes_of_the_reference),
		cmocka_unit_test(test_answers_to_a_login_are_read_and_made_harmless),
		cmocka_unit_test(test_small_texts_are_clamped),
		cmocka_unit_test(test_heads_are_parsed_strictly),
		cmocka_unit_test(test_bodies_end_by_length_chunks_or_close),
		cmocka_unit_test(test_urls_are_split),
	};

	if (crypto_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
