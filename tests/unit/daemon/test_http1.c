/* Heads, bodies and URLs: what is taken, and what two readers could take for two things. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/http1.h"
#include "shared/util.h"

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
	static char many[HTTP1_HEAD_MAX + 1];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(upgrade) - 5; i++)
		assert_int_equal(http1_parse_head(upgrade, i, &head), -EAGAIN);
	assert_int_equal(head_of(upgrade, &head), 0);
	assert_int_equal(head.len, sizeof(upgrade) - 5);
	assert_true(http1_is_upgrade(&head, "derp"));
	assert_false(http1_is_upgrade(&head, "websocket"));
	assert_int_equal(head.header_count, 2);
	assert_memory_equal(head.headers[0].name.at, "Upgrade", head.headers[0].name.len);
	assert_memory_equal(head.headers[1].value.at, "keep-alive, Upgrade",
			    head.headers[1].value.len);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(head_of(bad[i], &head), -EBADMSG);
	len = (size_t)sprintf(many, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i <= HTTP1_HEADERS_MAX; i++)
		len += (size_t)sprintf(many + len, "a: b\r\n");
	sprintf(many + len, "\r\n");
	assert_int_equal(head_of(many, &head), -EMSGSIZE);
	memset(many + 17, 'a', HTTP1_HEAD_MAX - 17);
	assert_int_equal(head_of(many, &head), -EMSGSIZE);
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
		cmocka_unit_test(test_heads_are_parsed_strictly),
		cmocka_unit_test(test_bodies_end_by_length_chunks_or_close),
		cmocka_unit_test(test_urls_are_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
