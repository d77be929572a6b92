/* meshctl's HTTP client: answers of any shape, and a daemon that is not there. */
#include "daemon/ctl/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int parse(const char *text, int *status, size_t *off)
{
	return http_parse_answer(text, strlen(text), status, off);
}

static void test_an_answer_is_split_into_status_and_body(void **state)
{
	static const char text[] = "HTTP/1.0 404 Nothing\r\ncontent-LENGTH: 2\r\n\r\n{}";
	int status;
	size_t off;

	(void)state;
	assert_int_equal(parse(text, &status, &off), 0);
	assert_int_equal(status, 404);
	assert_string_equal(text + off, "{}");
	assert_int_equal(parse("HTTP/1.1 200 OK\r\n\r\n", &status, &off), 0);
	assert_int_equal(off, 19);
}

static void test_what_is_no_whole_answer_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"HTTP/1.0 200 OK\r\n",
		"HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.0 2x0 OK\r\n\r\n",
		"HTTP/1.0\r\n\r\n",
		"\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}",
		"HTTP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n{}",
		"HTTP/1.0 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
		"HTTP/1.0 200 OK\r\nContent-Length:\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 2x\r\n\r\n{}",
	};
	int status;
	size_t off;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(parse(texts[i], &status, &off), -EPROTO);
}

static void test_names_are_escaped_for_the_request_line(void **state)
{
	char out[16];

	(void)state;
	assert_int_equal(http_escape("node-b.mesh", out, sizeof(out)), 0);
	assert_string_equal(out, "node-b.mesh");
	assert_int_equal(http_escape("a b\r\n&", out, sizeof(out)), 0);
	assert_string_equal(out, "a%20b%0D%0A%26");
	assert_int_equal(http_escape("aaaaaaaaaaaaaaaaaaaa", out, sizeof(out)), -E2BIG);
	assert_int_equal(http_escape("", out, 0), -E2BIG);
}

struct server {
	int listener;
	const char *answer;
	char request[512];
};

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->listener, NULL, NULL);
	ssize_t n = read(fd, s->request, sizeof(s->request) - 1);

	s->request[n > 0 ? n : 0] = '\0';
	if (s->answer)
		n = write(fd, s->answer, strlen(s->answer));
	else
		usleep(1500000);
	close(fd);
	return NULL;
}

static int ask_server(const char *text, int timeout_s, struct server *s, struct http_answer *answer)
{
	char dir[] = "/tmp/meshwrap-test-XXXXXX";
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	pthread_t thread;
	int err;

	assert_non_null(mkdtemp(dir));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/api", dir);
	s->answer = text;
	s->listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(s->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(s->listener, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, serve, s), 0);
	err = http_ask(addr.sun_path, "GET", "/v0/status", timeout_s * 1000, answer);
	pthread_join(thread, NULL);
	close(s->listener);
	unlink(addr.sun_path);
	rmdir(dir);
	return err;
}

static void test_a_daemon_is_asked_and_answers(void **state)
{
	struct http_answer answer;
	struct server s;

	(void)state;
	assert_int_equal(ask_server("HTTP/1.0 200 OK\r\n\r\n{\"a\":1}", 5, &s, &answer), 0);
	assert_int_equal(answer.status, 200);
	assert_string_equal(answer.body, "{\"a\":1}");
	assert_memory_equal(s.request, "GET /v0/status HTTP/1.0\r\n", 25);
	free(answer.body);
	assert_int_equal(ask_server("nonsense", 5, &s, &answer), -EPROTO);
}

static void test_a_silent_daemon_is_given_up(void **state)
{
	struct http_answer answer;
	struct server s;

	(void)state;
	assert_int_equal(ask_server(NULL, 1, &s, &answer), -ETIMEDOUT);
}

static void test_no_daemon_is_told_from_other_failures(void **state)
{
	char longer[200];
	struct http_answer answer;

	(void)state;
	assert_int_equal(http_ask("/nowhere/api", "GET", "/", 1000, &answer), -ENOENT);
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(http_ask(longer, "GET", "/", 1000, &answer), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_answer_is_split_into_status_and_body),
		cmocka_unit_test(test_what_is_no_whole_answer_is_refused),
		cmocka_unit_test(test_names_are_escaped_for_the_request_line),
		cmocka_unit_test(test_a_daemon_is_asked_and_answers),
		cmocka_unit_test(test_a_silent_daemon_is_given_up),
		cmocka_unit_test(test_no_daemon_is_told_from_other_failures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
