/* A recorded conversation by HTTP/2, and servers that reset, go away or talk rubbish. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/control/h2.h"
#include "daemon/control/messages.h"
#include "daemon/crypto/keys.h"
#include "shared/util.h"
#include "tests/unit/control/vectors.h"

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
	/* It counts no more among those that run: as many as may have room. */
	for (int i = 0; i < H2_REQUESTS_MAX; i++)
		assert_true(h2_request(h2, &request, &ex_handler, &ex) > 1);
	assert_true(h2_request(h2, &request, &ex_handler, &ex) < 0);
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

static void test_the_final_head_counts_also_behind_an_early_one(void **state)
{
	/* SETTINGS; ":status: 103"; ":status: 200"; two bytes and the end. */
	static const uint8_t answer[] = { 0,   0,    0, 4, 0, 0, 0, 0, 0,    0,   0,
					  5,   0x01, 4, 0, 0, 0, 1, 8, 0x03, '1', '0',
					  '3', 0,    0, 1, 1, 4, 0, 0, 0,    1,   0x88,
					  0,   0,    2, 0, 1, 0, 0, 0, 1,    'h', 'i' };
	struct h2_request request = { .method = "POST", .path = "/x", .body = "{}", .body_len = 2 };
	struct exchange a = { 0 };
	struct h2 *h2 = h2_create("h");

	(void)state;
	assert_int_equal(h2_request(h2, &request, &ex_handler, &a), 1);
	drain(h2);
	assert_int_equal(h2_receive(h2, answer, sizeof(answer)), 0);
	assert_int_equal(a.ended, 1);
	assert_int_equal(a.err, 0);
	assert_int_equal(a.len, 2);
	assert_int_equal(a.status, 200);
	h2_destroy(h2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_recorded_register_exchange_is_understood),
		cmocka_unit_test(test_resets_goaway_and_rubbish_end_requests),
		cmocka_unit_test(test_the_final_head_counts_also_behind_an_early_one),
	};

	if (crypto_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
