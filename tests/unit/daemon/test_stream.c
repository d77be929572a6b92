/* Outgoing connections over plain TCP; certificates are tested with the relays. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "daemon/loop.h"
#include "daemon/outproxy.h"
#include "daemon/stream.h"
#include "shared/util.h"

static struct world {
	struct loop *loop;
	struct net_stream *s;
	int listen_fd, server_fd;
	struct event *server_event;
	struct endpoint to;
	unsigned connects, reads, drains;
	size_t received, server_received;
	bool destroys, stops_after_one_read, stops_when_connected;
	struct outproxies proxies; /* one for http, at the listener */
	uint64_t attempt_ns, limit_ns;
	char sentence[256];
	char bytes[65536];
} w;

static void connected(void *owner)
{
	(void)owner;
	w.connects++;
	if (w.destroys) {
		net_stream_destroy(w.s);
		w.s = NULL;
	}
	if (w.destroys || w.stops_when_connected)
		loop_stop(w.loop);
}

static void readable(void *owner)
{
	long n;

	(void)owner;
	w.reads++;
	do {
		n = net_stream_read(w.s, w.bytes, sizeof(w.bytes));
		w.received += n > 0 ? (size_t)n : 0;
	} while (n > 0 && !w.stops_after_one_read);
}

static void drained(void *owner)
{
	(void)owner;
	w.drains++;
	loop_stop(w.loop);
}

static void closed(void *owner, const char *sentence)
{
	(void)owner;
	snprintf(w.sentence, sizeof(w.sentence), "%s", sentence);
	loop_stop(w.loop);
}

static int listen_on_loopback(struct endpoint *to)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	endpoint_from_sockaddr((struct sockaddr *)&sin, len, to);
	return fd;
}

static int set_up(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.server_fd = -1;
	w.loop = loop_create(NULL);
	w.listen_fd = listen_on_loopback(&w.to);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	net_stream_destroy(w.s);
	if (w.server_event)
		event_free(w.server_event);
	loop_destroy(w.loop);
	close(w.listen_fd);
	if (w.server_fd >= 0)
		close(w.server_fd);
	return 0;
}

static void open_to(const char *host, const struct endpoint *candidates, unsigned count)
{
	static const struct net_stream_callbacks callbacks = { connected, readable, drained,
							       closed };
	const struct net_stream_options o = { .host = host,
					      .port = w.to.port,
					      .candidates = candidates,
					      .candidate_count = count,
					      .proxies = &w.proxies,
					      .attempt_ns = w.attempt_ns,
					      .limit_ns = w.limit_ns ? w.limit_ns : 5 * NS_PER_S };

	w.s = net_stream_open(w.loop, &o, &callbacks, NULL);
	assert_non_null(w.s);
}

static void open_connected(void)
{
	open_to("127.0.0.1", NULL, 0);
	w.stops_when_connected = true;
	loop_run(w.loop);
	assert_int_equal(w.connects, 1);
	w.server_fd = accept4(w.listen_fd, NULL, NULL, SOCK_NONBLOCK);
	assert_true(w.server_fd >= 0);
}

static void test_what_is_written_before_the_connection_stands_leaves_with_it(void **state)
{
	char got[16] = "";

	(void)state;
	open_to("127.0.0.1", NULL, 0);
	assert_int_equal(net_stream_write(w.s, "hello", 5), 0);
	w.stops_when_connected = true;
	loop_run(w.loop);
	w.server_fd = accept(w.listen_fd, NULL, NULL);
	assert_int_equal(read(w.server_fd, got, sizeof(got)), 5);
	assert_string_equal(got, "hello");
}

static void test_the_first_address_that_answers_wins(void **state)
{
	struct endpoint list[3] = { w.to, w.to, w.to }, dead;
	int fd = listen_on_loopback(&dead);

	(void)state;
	close(fd); /* refused */
	list[0] = dead;
	assert_int_equal(ip_parse("::1", &list[1].addr), 0); /* nobody listens there */
	open_to("relay.test", list, 3);
	w.stops_when_connected = true;
	loop_run(w.loop);
	assert_int_equal(w.connects, 1);
}

static void test_when_none_answers_the_sentence_says_so(void **state)
{
	struct endpoint dead;
	int fd = listen_on_loopback(&dead);

	(void)state;
	close(fd);
	open_to("relay.test", &dead, 1);
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "cannot connect to relay.test: 127.0.0.1:"));
	assert_non_null(strstr(w.sentence, "Connection refused"));
	assert_int_equal(net_stream_write(w.s, "x", 1), -EPIPE);
	assert_int_equal(net_stream_read(w.s, w.bytes, 1), -EPIPE);
}

static void test_no_address_and_no_such_name_are_told(void **state)
{
	(void)state;
	open_to("relay.test", &w.to, 0);
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "there is no address to try"));
	net_stream_destroy(w.s);
	open_to("nothing.invalid", NULL, 0);
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "cannot look up nothing.invalid"));
}

static void test_a_name_is_looked_up(void **state)
{
	(void)state;
	open_to("localhost", NULL, 0);
	w.stops_when_connected = true;
	loop_run(w.loop);
	assert_int_equal(w.connects, 1);
}

static void server_readable(evutil_socket_t fd, short events, void *arg)
{
	static char bytes[65536];
	long n = read(fd, bytes, sizeof(bytes));

	(void)events;
	(void)arg;
	w.server_received += n > 0 ? (size_t)n : 0;
}

static void test_a_full_queue_refuses_and_says_when_it_is_empty(void **state)
{
	size_t written = 0;

	(void)state;
	open_connected();
	for (;;) {
		int err = net_stream_write(w.s, w.bytes, sizeof(w.bytes));

		if (err == -ENOBUFS)
			break;
		assert_int_equal(err, 0);
		written += sizeof(w.bytes);
	}
	assert_true(net_stream_queued(w.s) > 128 * 1024);
	assert_true(net_stream_queued(w.s) <= 256 * 1024);
	w.server_event = event_new(loop_base(w.loop), w.server_fd, EV_READ | EV_PERSIST,
				   server_readable, NULL);
	event_add(w.server_event, NULL);
	loop_run(w.loop);
	assert_int_equal(w.drains, 1);
	assert_true(net_stream_queued(w.s) <= 64 * 1024);
	while (w.server_received < written)
		event_base_loop(loop_base(w.loop), EVLOOP_ONCE);
	assert_int_equal(w.server_received, written);
}

static void test_last_words_are_read_before_the_end_is_told(void **state)
{
	(void)state;
	open_connected();
	assert_int_equal(write(w.server_fd, w.bytes, 60000), 60000);
	close(w.server_fd);
	w.server_fd = -1;
	loop_run(w.loop);
	assert_int_equal(w.received, 60000);
	assert_string_equal(w.sentence, "the server closed the connection");
}

static void test_a_reader_that_stops_early_is_called_again(void **state)
{
	(void)state;
	open_connected();
	w.stops_after_one_read = true;
	assert_int_equal(write(w.server_fd, w.bytes, 65536), 65536);
	shutdown(w.server_fd, SHUT_WR);
	loop_run(w.loop);
	assert_int_equal(w.received, 65536);
	assert_true(w.reads >= 2);
}

static void turn_loop(unsigned times)
{
	while (times-- > 0)
		event_base_loop(loop_base(w.loop), EVLOOP_NONBLOCK);
}

static void test_it_waits_for_as_much_as_it_is_told(void **state)
{
	(void)state;
	open_connected();
	net_stream_wake_at(w.s, 1000);
	turn_loop(3); /* one look at what was there */
	assert_int_equal(write(w.server_fd, w.bytes, 600), 600);
	turn_loop(3);
	assert_int_equal(w.received, 0);
	assert_int_equal(write(w.server_fd, w.bytes, 600), 600);
	turn_loop(3);
	assert_int_equal(w.received, 1200);
	assert_int_equal(write(w.server_fd, w.bytes, 600), 600);
	turn_loop(3);
	assert_int_equal(w.received, 1200);
	net_stream_wake_at(w.s, 1);
	turn_loop(3);
	assert_int_equal(w.received, 1800);
	net_stream_wake_at(w.s, 1000);
	turn_loop(3);
	assert_int_equal(write(w.server_fd, w.bytes, 600), 600);
	close(w.server_fd);
	w.server_fd = -1;
	loop_run(w.loop);
	assert_int_equal(w.received, 2400);
}

static void test_a_reset_is_told(void **state)
{
	const struct linger now = { 1, 0 };

	(void)state;
	open_connected();
	setsockopt(w.server_fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(w.server_fd);
	w.server_fd = -1;
	net_stream_write(w.s, "x", 1);
	loop_run(w.loop);
	assert_true(strlen(w.sentence) > 0);
}

static void test_it_may_be_destroyed_in_its_callback_and_at_any_time(void **state)
{
	(void)state;
	w.destroys = true;
	open_to("127.0.0.1", NULL, 0);
	loop_run(w.loop);
	assert_null(w.s);
	w.destroys = false;
	open_to("localhost", NULL, 0);
	net_stream_destroy(w.s);
	open_to("127.0.0.1", NULL, 0);
	net_stream_write(w.s, "x", 1);
	net_stream_destroy(w.s);
	w.s = NULL;
	for (unsigned i = 0; i < 3; i++)
		event_base_loop(loop_base(w.loop), EVLOOP_NONBLOCK);
}

/* ---- through a proxy, which the listener is ---- */

static void set_proxy(void)
{
	w.proxies = (struct outproxies){ .except = "" };
	w.proxies.http = (struct outproxy){
		.variable = "HTTP_PROXY", .host = "127.0.0.1", .port = w.to.port, .login = "dTpw"
	};
}

/* Turns the loop until the proxy has the whole request; what it is. */
static const char *take_request(void)
{
	static char request[4096];
	size_t len = 0;

	request[0] = '\0';
	for (unsigned i = 0; i < 10000 && !strstr(request, "\r\n\r\n"); i++) {
		ssize_t n;

		event_base_loop(loop_base(w.loop), EVLOOP_NONBLOCK);
		if (w.server_fd < 0)
			w.server_fd = accept4(w.listen_fd, NULL, NULL, SOCK_NONBLOCK);
		n = recv(w.server_fd, request + len, sizeof(request) - 1 - len, MSG_DONTWAIT);
		len += n > 0 ? (size_t)n : 0;
		request[len] = '\0';
		usleep(n > 0 ? 0 : 1000);
	}
	return request;
}

static void open_by_proxy(void)
{
	char wanted[512], server[64];

	fcntl(w.listen_fd, F_SETFL, O_NONBLOCK);
	set_proxy();
	/* Nobody here knows the name, nor is the address one for a proxy's ears. */
	open_to("control.invalid", &w.to, 1);
	snprintf(server, sizeof(server), "control.invalid:%u", w.to.port);
	snprintf(wanted, sizeof(wanted),
		 "CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: Basic dTpw\r\n\r\n",
		 server, server);
	assert_string_equal(take_request(), wanted);
	assert_int_equal(w.connects, 0);
}

static void say(const char *text)
{
	assert_int_equal(write(w.server_fd, text, strlen(text)), strlen(text));
}

static void test_a_proxy_is_asked_for_the_server_by_its_name(void **state)
{
	char got[16] = "";

	(void)state;
	open_by_proxy();
	assert_int_equal(net_stream_write(w.s, "hello", 5), 0);
	turn_loop(3);
	assert_int_equal(recv(w.server_fd, got, sizeof(got), MSG_DONTWAIT), -1);
	say("HTTP/1.1 200 OK\r\n\r\n");
	w.stops_when_connected = true;
	loop_run(w.loop);
	assert_int_equal(w.connects, 1);
	turn_loop(1);
	assert_int_equal(read(w.server_fd, got, sizeof(got)), 5);
	assert_string_equal(got, "hello");
	say("world");
	close(w.server_fd);
	w.server_fd = -1;
	loop_run(w.loop);
	assert_int_equal(w.received, 5);
	assert_memory_equal(w.bytes, "world", 5);
	assert_string_equal(w.sentence, "the server closed the connection");
}

static void test_what_follows_a_proxys_answer_is_the_servers(void **state)
{
	static const char answer[] =
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nVia: 1.1 x\r\n\r\n";
	char last[] = "\r\n\r\nfrom the server";

	(void)state;
	open_by_proxy();
	for (size_t i = 0; i + 4 < strlen(answer); i++) {
		assert_int_equal(write(w.server_fd, answer + i, 1), 1);
		turn_loop(1);
		assert_int_equal(w.connects, 0);
	}
	assert_int_equal(write(w.server_fd, last, sizeof(last) - 1), sizeof(last) - 1);
	close(w.server_fd);
	w.server_fd = -1;
	loop_run(w.loop);
	assert_int_equal(w.connects, 1);
	assert_int_equal(w.received, strlen("from the server"));
	assert_memory_equal(w.bytes, "from the server", strlen("from the server"));
}

static void test_a_proxy_that_refuses_or_goes_is_named(void **state)
{
	(void)state;
	open_by_proxy();
	say("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "the proxy 127.0.0.1:"));
	assert_non_null(strstr(w.sentence, " refused control.invalid:"));
	assert_non_null(strstr(w.sentence, ": 403 Forbidden"));
	net_stream_destroy(w.s);
	close(w.server_fd);
	w.server_fd = -1;
	open_by_proxy();
	say("HTTP/1.1 200");
	turn_loop(3);
	close(w.server_fd);
	w.server_fd = -1;
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "the proxy 127.0.0.1 hung up when it was asked for "
					   "control.invalid:"));
	assert_int_equal(w.connects, 0);
}

static void test_a_proxy_that_says_nothing_costs_the_attempt_only(void **state)
{
	(void)state;
	w.attempt_ns = NS_PER_S;
	w.limit_ns = 60 * NS_PER_S;
	open_by_proxy();
	say("HTTP/1.1 ");
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "the proxy 127.0.0.1 does not say in time whether it "
					   "reaches control.invalid:"));
	net_stream_destroy(w.s);
	close(w.server_fd);
	w.server_fd = -1;
	w.attempt_ns = 0;
	w.limit_ns = 100 * NS_PER_MS;
	w.sentence[0] = '\0';
	set_proxy();
	open_to("control.invalid", NULL, 0);
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "the proxy 127.0.0.1 does not say in time"));
}

static void test_a_proxy_that_is_not_there_is_named(void **state)
{
	struct endpoint dead;
	int fd = listen_on_loopback(&dead);

	(void)state;
	close(fd);
	set_proxy();
	w.proxies.http.port = dead.port;
	open_to("control.invalid", &w.to, 1);
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "cannot connect to the proxy 127.0.0.1: 127.0.0.1:"));
	assert_non_null(strstr(w.sentence, "Connection refused"));
	net_stream_destroy(w.s);
	strcpy(w.proxies.http.host, "proxy.invalid");
	open_to("control.invalid", &w.to, 1);
	loop_run(w.loop);
	assert_non_null(strstr(w.sentence, "cannot look up the proxy proxy.invalid: "));
	net_stream_destroy(w.s);
	w.proxies.http.problem = "is not of use";
	open_to("control.invalid", &w.to, 1);
	loop_run(w.loop);
	assert_string_equal(w.sentence, "HTTP_PROXY is not of use");
}

static void test_loopback_and_exceptions_are_reached_straight(void **state)
{
	(void)state;
	set_proxy();
	w.proxies.http.problem = "is not of use";
	open_connected();
	net_stream_destroy(w.s);
	close(w.server_fd);
	w.server_fd = -1;
	w.connects = 0;
	w.proxies.except = "relay.test";
	open_to("relay.test", &w.to, 1);
	loop_run(w.loop);
	assert_int_equal(w.connects, 1);
}

static void test_it_may_be_destroyed_while_a_proxy_is_asked(void **state)
{
	(void)state;
	open_by_proxy();
	net_stream_destroy(w.s);
	close(w.server_fd);
	w.server_fd = -1;
	open_by_proxy();
	say("HTTP/1.1 200 OK\r\n\r\n");
	w.destroys = true;
	loop_run(w.loop);
	assert_null(w.s);
	assert_int_equal(w.connects, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_written_before_the_connection_stands_leaves_with_it),
		TEST(test_the_first_address_that_answers_wins),
		TEST(test_when_none_answers_the_sentence_says_so),
		TEST(test_no_address_and_no_such_name_are_told),
		TEST(test_a_name_is_looked_up),
		TEST(test_a_full_queue_refuses_and_says_when_it_is_empty),
		TEST(test_last_words_are_read_before_the_end_is_told),
		TEST(test_a_reader_that_stops_early_is_called_again),
		TEST(test_it_waits_for_as_much_as_it_is_told),
		TEST(test_a_reset_is_told),
		TEST(test_it_may_be_destroyed_in_its_callback_and_at_any_time),
		TEST(test_a_proxy_is_asked_for_the_server_by_its_name),
		TEST(test_what_follows_a_proxys_answer_is_the_servers),
		TEST(test_a_proxy_that_refuses_or_goes_is_named),
		TEST(test_a_proxy_that_says_nothing_costs_the_attempt_only),
		TEST(test_a_proxy_that_is_not_there_is_named),
		TEST(test_loopback_and_exceptions_are_reached_straight),
		TEST(test_it_may_be_destroyed_while_a_proxy_is_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
