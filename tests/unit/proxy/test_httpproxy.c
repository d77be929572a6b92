/* Heads and bodies of HTTP: what is taken, what is passed on, where a body ends. */
#include "daemon/proxy/httpproxy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct httpproxy_request r;
static const char *problem;
static char out[HTTPPROXY_GROWTH + 1];

static int parse(const char *head)
{
	problem = NULL;
	return httpproxy_parse_request(head, strlen(head), &r, &problem);
}

static void test_a_connect(void **state)
{
	static const char head[] = "CONNECT node-b:443 HTTP/1.1\r\nHost: x\r\n\r\n";

	(void)state;
	for (size_t len = 0; len < sizeof(head) - 1; len++)
		assert_int_equal(httpproxy_parse_request(head, len, &r, &problem), 0);
	assert_int_equal(parse(head), sizeof(head) - 1);
	assert_true(r.is_connect);
	assert_string_equal(r.place.name, "node-b");
	assert_int_equal(r.place.port, 443);
}

static void test_a_plain_request_becomes_one_for_the_server(void **state)
{
	static const char head[] =
		"POST http://Node-B:8080/x?y=1 HTTP/1.1\r\nHost: evil\r\nConnection: X-Hop, close\r\n"
		"X-Hop: 1\r\nX-Kept:  a b \r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: "
		"keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\nKeep-Alive: 5\r\nTrailer: T\r\n"
		"Tailscale-User-Login: me\r\ntailscale-app-capabilities: {}\r\nX-Forwarded-For: 1\r\n"
		"Content-Length: 12\r\n\r\n";

	(void)state;
	assert_int_equal(parse(head), sizeof(head) - 1);
	assert_false(r.is_connect);
	assert_int_equal(r.body, BODY_LENGTH);
	assert_int_equal(r.body_len, 12);
	out[httpproxy_rewrite_request(head, sizeof(head) - 1, out)] = '\0';
	assert_string_equal(out, "POST /x?y=1 HTTP/1.1\r\nHost: Node-B:8080\r\nX-Kept: a b\r\n"
				 "Content-Length: 12\r\nConnection: close\r\n\r\n");
}

static void test_urls_without_a_path_get_one(void **state)
{
	static const char head[] = "GET http://h?q HTTP/1.0\r\n\r\n";

	(void)state;
	assert_int_equal(parse(head), sizeof(head) - 1);
	assert_int_equal(r.place.port, 80);
	assert_int_equal(r.body, BODY_NONE);
	out[httpproxy_rewrite_request(head, sizeof(head) - 1, out)] = '\0';
	assert_string_equal(out, "GET /?q HTTP/1.0\r\nHost: h\r\nConnection: close\r\n\r\n");
}

static void test_what_two_readers_could_read_differently_is_refused(void **state)
{
	static const char *const heads[] = {
		"GET * HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET  HTTP/1.1\r\n\r\n",
		"\r\n\r\n",
		"GET http://h/ HTTP/2.0\r\n\r\n",
		"GET http://h/\r\n\r\n",
		"GET http://h/ a HTTP/1.1\r\n\r\n",
		"G(T http://h/ HTTP/1.1\r\n\r\n",
		"GET https://h/ HTTP/1.1\r\n\r\n",
		"GET http:/// HTTP/1.1\r\n\r\n",
		"GET http://u:p@h/ HTTP/1.1\r\n\r\n",
		"GET http://h/#f HTTP/1.1\r\n\r\n",
		"CONNECT h HTTP/1.1\r\n\r\n",
		"CONNECT h:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n",
		"GET http://h/ HTTP/1.1\nA: b\n\n",
		"GET http://h/ HTTP/1.1\r\nA: b\n\r\n",
		"GET http://h/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nA : b\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nA\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nA: b\rc\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\n: b\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET http://h/ HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		("GET http://h/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
		 "Transfer-Encoding: chunked\r\n\r\n"),
		"GET http://h/ HTTP/1.1\r\nConnection: close, Content-Length\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		if (parse(heads[i]) != -EPROTO)
			fail_msg("taken: %s", heads[i]);
		assert_non_null(problem);
	}
}

static void test_a_head_has_a_limit(void **state)
{
	char *head = malloc(HTTPPROXY_HEAD_MAX + 1);

	(void)state;
	memset(head, 'a', HTTPPROXY_HEAD_MAX + 1);
	assert_int_equal(httpproxy_parse_request(head, HTTPPROXY_HEAD_MAX - 1, &r, &problem), 0);
	assert_int_equal(httpproxy_parse_request(head, HTTPPROXY_HEAD_MAX, &r, &problem), -E2BIG);
	free(head);
}

static void test_too_many_lines_are_refused(void **state)
{
	char *head = calloc(1, 2000);

	(void)state;
	strcpy(head, "GET http://h/ HTTP/1.1\r\n");
	for (int i = 0; i <= HTTPPROXY_LINES; i++)
		strcat(head, "A: b\r\n");
	strcat(head, "\r\n");
	assert_int_equal(parse(head), -EPROTO);
	free(head);
}

static int answer(const char *bytes, size_t *consumed, bool *is_final)
{
	int n = httpproxy_rewrite_response(bytes, strlen(bytes), out, consumed, is_final);

	out[n > 0 ? n : 0] = '\0';
	return n;
}

static void test_an_answers_head_is_rewritten(void **state)
{
	size_t consumed;
	bool is_final;

	(void)state;
	assert_true(answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", &consumed, &is_final) > 0);
	assert_false(is_final);
	assert_int_equal(consumed, 25);
	assert_true(answer("HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nTailscale-User-Name: x\r\n"
			   "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\nbody",
			   &consumed, &is_final) > 0);
	assert_true(is_final);
	assert_string_equal(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
				 "Connection: close\r\n\r\n");
	assert_int_equal(answer("HTTP/1.1 200 OK\r\nA: b\r\n", &consumed, &is_final), 0);
}

static void test_what_is_no_answer_is_refused(void **state)
{
	static const char *const wrong[] = { "SSH-2.0-x\r\n\r\n",
					     "HTTP/2 200\r\n\r\n",
					     "HTTP/1.1 2x0 OK\r\n\r\n",
					     "HTTP/1.1 20\r\n\r\n",
					     "HTTP/1.1 101 Switching\r\n\r\n",
					     "HTTP/1.1 200 OK\n\n" };
	size_t consumed;
	bool is_final;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(answer(wrong[i], &consumed, &is_final), -EPROTO);
}

static void test_chunks_end_where_they_end(void **state)
{
	static const char body[] =
		"5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET /next";
	const size_t len = strlen(body) - strlen("GET /next");

	(void)state;
	for (size_t cut = 0; cut <= strlen(body); cut++) {
		struct httpproxy_chunks c = { 0 };
		size_t n = httpproxy_take_chunks(&c, body, cut);

		n += httpproxy_take_chunks(&c, body + n, strlen(body) - n);
		assert_int_equal(n, len);
		assert_true(c.is_done && !c.is_bad);
	}
}

static void test_broken_chunks_are_bad(void **state)
{
	static const char *const wrong[] = { "\r\n",     "x\r\n",        "5\nhello",
					     "1\r\nabc", "1\r\na\nb",    "0\r\n\n",
					     "0\r\nT\n", "0\r\n\rx",     "1;\n",
					     "1\rx",     "0\r\nT: v\rx", "1111111111111111\r\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct httpproxy_chunks c = { 0 };

		httpproxy_take_chunks(&c, wrong[i], strlen(wrong[i]));
		if (!c.is_bad)
			fail_msg("taken: %s", wrong[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_connect),
		cmocka_unit_test(test_a_plain_request_becomes_one_for_the_server),
		cmocka_unit_test(test_urls_without_a_path_get_one),
		cmocka_unit_test(test_what_two_readers_could_read_differently_is_refused),
		cmocka_unit_test(test_a_head_has_a_limit),
		cmocka_unit_test(test_too_many_lines_are_refused),
		cmocka_unit_test(test_an_answers_head_is_rewritten),
		cmocka_unit_test(test_what_is_no_answer_is_refused),
		cmocka_unit_test(test_chunks_end_where_they_end),
		cmocka_unit_test(test_broken_chunks_are_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
