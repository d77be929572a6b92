/* Frames and boxes against recordings of the real thing. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "daemon/derp/frame.h"
#include "shared/wire.h"
#include "tests/unit/wg/vectors.h"

#define FRAME_ROOM 4096

static void keys(struct json_object *o, const char *private, const char *public,
		 struct private_key *priv, struct public_key *pub)
{
	struct public_key made;

	assert_int_equal(vectors_bytes(o, private, priv->byte, KEY_LEN), KEY_LEN);
	assert_int_equal(vectors_bytes(o, public, pub->byte, KEY_LEN), KEY_LEN);
	private_key_public(priv, &made);
	assert_memory_equal(made.byte, pub->byte, KEY_LEN);
}

static void check_login_frames(struct json_object *o, const char *session, const char *private,
			       const char *public)
{
	struct private_key own, relay_private;
	struct public_key own_public, relay;
	struct json_object *frames, *s = vectors_get(o, session);
	uint8_t want[FRAME_ROOM], made[DERP_INFO_MAX];
	struct derp_server_info info;
	struct derp_frame frame;
	size_t len, need;

	keys(o, private, public, &own, &own_public);
	keys(o, "server_private", "server_public", &relay_private, &relay);
	frames = vectors_get(s, "client_to_server");
	len = vectors_bytes(json_object_array_get_idx(frames, 0), "frame", want, sizeof(want));
	/* The same nonce makes the same bytes. */
	assert_int_equal(derp_seal_client_info(made, &own, &relay, want + DERP_HEADER + KEY_LEN),
			 len);
	assert_memory_equal(made, want, len);

	frames = vectors_get(s, "server_to_client");
	len = vectors_bytes(json_object_array_get_idx(frames, 0), "frame", want, sizeof(want));
	assert_int_equal(derp_frame_parse(want, len, &frame, &need), len);
	assert_int_equal(frame.type, DERP_SERVER_KEY);
	assert_memory_equal(frame.key, relay.byte, KEY_LEN);
	len = vectors_bytes(json_object_array_get_idx(frames, 1), "frame", want, sizeof(want));
	assert_int_equal(derp_frame_parse(want, len, &frame, &need), len);
	assert_int_equal(frame.type, DERP_SERVER_INFO);
	assert_int_equal(derp_open_server_info(frame.bytes, frame.len, &own, &relay, &info), 0);
	assert_int_equal(info.bytes_per_second, 0);
	want[len - 1] ^= 1;
	assert_int_equal(derp_open_server_info(frame.bytes, frame.len, &own, &relay, &info),
			 -EBADMSG);
	assert_int_equal(derp_open_server_info(frame.bytes, 39, &own, &relay, &info), -EBADMSG);
}

static void test_logins_are_byte_for_byte_those_recorded(void **state)
{
	struct json_object *o = vectors_load("derp_transcript.json");

	(void)state;
	check_login_frames(o, "A_normal_upgrade", "A_private", "A_public");
	check_login_frames(o, "B_fast_start", "B_private", "B_public");
	json_object_put(o);
}

/* Our SendPacket, NotePreferred and Ping frames are laid as the real client's. */
static void check_sent(struct json_object *frames)
{
	for (size_t i = 0; i < json_object_array_length(frames); i++) {
		struct json_object *o = json_object_array_get_idx(frames, i);
		uint8_t want[FRAME_ROOM], made[FRAME_ROOM];
		size_t len = vectors_bytes(o, "frame", want, sizeof(want));

		memcpy(made, want, len);
		memset(made, 0xaa, DERP_HEADER);
		if (want[0] == DERP_SEND_PACKET) {
			struct public_key to;

			memcpy(to.byte, want + DERP_HEADER, KEY_LEN);
			derp_put_send(made, &to, len - DERP_SEND_EXTRA);
		} else {
			derp_put_header(made, (enum derp_type)want[0], len - DERP_HEADER);
		}
		assert_memory_equal(made, want, len);
		assert_int_equal(vectors_number(o, "type"), want[0]);
	}
}

static void test_frames_sent_are_laid_as_recorded(void **state)
{
	struct json_object *o = vectors_load("derp_transcript.json");

	(void)state;
	check_sent(vectors_get(o, "A_normal_upgrade/client_to_server"));
	check_sent(vectors_get(o, "B_fast_start/client_to_server"));
	json_object_put(o);
}

static void test_every_recorded_frame_is_read_whole_and_in_no_part(void **state)
{
	struct json_object *o = vectors_load("derp_transcript.json");
	const char *sessions[] = { "A_normal_upgrade/server_to_client",
				   "B_fast_start/server_to_client" };

	(void)state;
	for (unsigned s = 0; s < 2; s++) {
		struct json_object *frames = vectors_get(o, sessions[s]);

		for (size_t i = 0; i < json_object_array_length(frames); i++) {
			struct json_object *f = json_object_array_get_idx(frames, i);
			uint8_t bytes[FRAME_ROOM];
			size_t len = vectors_bytes(f, "frame", bytes, sizeof(bytes)), need;
			struct derp_frame frame;

			for (size_t part = 0; part < len; part++)
				assert_int_equal(derp_frame_parse(bytes, part, &frame, &need),
						 -EAGAIN);
			assert_int_equal(derp_frame_parse(bytes, len, &frame, &need), len);
			assert_false(frame.is_skipped);
			assert_int_equal(frame.type, vectors_number(f, "type"));
		}
	}
	json_object_put(o);
}

/* What we make of a frame, in the words of the recording. */
static void describe(const struct derp_frame *f, char text[256])
{
	char hex[65];

	if (f->key)
		sodium_bin2hex(hex, sizeof(hex), f->key, KEY_LEN);
	if (f->is_skipped) {
		strcpy(text, "skipped (no message delivered)");
		return;
	}
	switch (f->type) {
	case DERP_KEEP_ALIVE:
		strcpy(text, "derp.KeepAliveMessage {}");
		break;
	case DERP_HEALTH:
		snprintf(text, 256, "derp.HealthMessage {Problem:%.*s}", (int)f->len,
			 (const char *)f->bytes);
		break;
	case DERP_RESTARTING:
		snprintf(text, 256, "derp.ServerRestartingMessage {ReconnectIn:%gs TryFor:%gs}",
			 f->wait_ms / 1000.0, f->try_ms / 1000.0);
		break;
	case DERP_TYPE_PING:
		snprintf(text, 256, "derp.PingMessage [%u %u %u %u %u %u %u %u]", f->bytes[0],
			 f->bytes[1], f->bytes[2], f->bytes[3], f->bytes[4], f->bytes[5],
			 f->bytes[6], f->bytes[7]);
		break;
	case DERP_PEER_GONE:
		snprintf(text, 256, "derp.PeerGoneMessage {Peer:nodekey:%s Reason:%u}", hex,
			 f->reason);
		break;
	case DERP_RECV_PACKET:
		snprintf(text, 256, "derp.ReceivedPacket {Source:nodekey:%s Data:[%s]}", hex,
			 f->len ? "?" : "");
		break;
	}
}

static void test_lone_frames_mean_what_the_real_client_makes_of_them(void **state)
{
	struct json_object *o = vectors_load("derp_misc.json");
	struct json_object *frames = vectors_get(o, "frames_as_seen_by_client");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(frames); i++) {
		struct json_object *f = json_object_array_get_idx(frames, i);
		uint8_t bytes[FRAME_ROOM];
		size_t len = vectors_bytes(f, "frame", bytes, sizeof(bytes)), need;
		const char *want = vectors_text(f, "client_result");
		struct derp_frame frame;
		char got[256] = "";

		assert_int_equal(derp_frame_parse(bytes, len, &frame, &need), len);
		if (bytes[0] == 0x09) { /* for meshed relays only: of no interest to a node */
			assert_true(frame.is_skipped);
			continue;
		}
		describe(&frame, got);
		assert_string_equal(got, want);
	}
	json_object_put(o);
}

static void test_lengths_beyond_reason_are_errors(void **state)
{
	static const struct {
		uint8_t type;
		uint32_t len;
		int verdict;
	} cases[] = {
		{ DERP_RECV_PACKET, UINT32_MAX, -EPROTO },
		{ 0x7e, UINT32_MAX, -EPROTO },
		{ 0x7e, DERP_FRAME_MAX + 1, -EPROTO },
		{ 0x7e, DERP_FRAME_MAX, -EAGAIN },
		{ DERP_RECV_PACKET, DERP_KNOWN_MAX + 1, -EPROTO },
		{ DERP_RECV_PACKET, KEY_LEN + DERP_PACKET_MAX, -EAGAIN },
		{ DERP_HEALTH, DERP_FRAME_MAX, -EPROTO },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t bytes[DERP_HEADER];
		struct derp_frame frame;
		size_t need;

		bytes[0] = cases[i].type;
		store_be32(bytes + 1, cases[i].len);
		assert_int_equal(derp_frame_parse(bytes, sizeof(bytes), &frame, &need),
				 cases[i].verdict);
	}
}

static void test_packets_are_65536_bytes_at_most(void **state)
{
	static uint8_t bytes[DERP_HEADER + KEY_LEN + DERP_PACKET_MAX + 1];
	struct derp_frame frame;
	size_t need;

	(void)state;
	derp_put_header(bytes, DERP_RECV_PACKET, KEY_LEN + DERP_PACKET_MAX);
	assert_int_equal(derp_frame_parse(bytes, sizeof(bytes), &frame, &need), sizeof(bytes) - 1);
	assert_int_equal(frame.len, DERP_PACKET_MAX);
	derp_put_header(bytes, DERP_RECV_PACKET, KEY_LEN + DERP_PACKET_MAX + 1);
	assert_int_equal(derp_frame_parse(bytes, sizeof(bytes), &frame, &need), -EPROTO);
}

static void test_a_key_frame_without_the_magic_is_no_relay(void **state)
{
	uint8_t bytes[DERP_HEADER + 40] = { 0 };
	struct derp_frame frame;
	size_t need;

	(void)state;
	derp_put_header(bytes, DERP_SERVER_KEY, 40);
	assert_int_equal(derp_frame_parse(bytes, sizeof(bytes), &frame, &need), -EPROTO);
	derp_put_header(bytes, DERP_SERVER_KEY, 39);
	assert_int_equal(derp_frame_parse(bytes, sizeof(bytes), &frame, &need), -EPROTO);
}

static int parse(const char *json, struct derp_server_info *info)
{
	return derp_parse_server_info(json, strlen(json), info);
}

static void test_a_relays_limit_is_read_whatever_the_case_of_its_name(void **state)
{
	struct derp_server_info info;

	(void)state;
	assert_int_equal(parse("{\"tokenBUCKETBytesPerSecond\":5,\"TokenBucketBytesBurst\":7,"
			       "\"more\":[{}]}",
			       &info),
			 0);
	assert_int_equal(info.bytes_per_second, 5);
	assert_int_equal(info.burst, 7);
	assert_int_equal(parse("{\"TokenBucketBytesPerSecond\":-5}", &info), 0);
	assert_int_equal(info.bytes_per_second, 0);
	assert_int_equal(parse("[]", &info), -EBADMSG);
	assert_int_equal(parse("{", &info), -EBADMSG);
	assert_int_equal(parse("", &info), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_logins_are_byte_for_byte_those_recorded),
		cmocka_unit_test(test_frames_sent_are_laid_as_recorded),
		cmocka_unit_test(test_every_recorded_frame_is_read_whole_and_in_no_part),
		cmocka_unit_test(test_lone_frames_mean_what_the_real_client_makes_of_them),
		cmocka_unit_test(test_lengths_beyond_reason_are_errors),
		cmocka_unit_test(test_packets_are_65536_bytes_at_most),
		cmocka_unit_test(test_a_key_frame_without_the_magic_is_no_relay),
		cmocka_unit_test(test_a_relays_limit_is_read_whatever_the_case_of_its_name),
	};

	return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
