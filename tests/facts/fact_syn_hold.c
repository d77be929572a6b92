/*
 * A connect() is held in SYN_SENT by a listener whose accept queue is full, and
 * completed or failed later by a simultaneous open from the dialled address.
 */
#include "tests/facts/fact.h"

#include <poll.h>
#include <sys/epoll.h>

#define SELF "127.80.0.2"
#define PEER "127.80.0.3"

/* A program's socket, dialling; its epoll knows it from before connect(). */
static int dial(const struct hold *h, int family, int *epoll)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	int fd = open_socket(family, SOCK_STREAM | SOCK_NONBLOCK);

	assert_int_equal(bind_name(fd, family == AF_INET ? SELF : "::ffff:" SELF, 0), 0);
	*epoll = epoll_create1(EPOLL_CLOEXEC);
	assert_int_equal(epoll_ctl(*epoll, EPOLL_CTL_ADD, fd, &ev), 0);
	epoll_wait(*epoll, &ev, 1, 0);
	assert_int_equal(connect_name(fd, family == AF_INET ? PEER : "::ffff:" PEER, h->port), -1);
	assert_int_equal(errno, EINPROGRESS);
	return fd;
}

static void hold_and_complete(int family)
{
	struct hold h = hold_create();
	struct epoll_event ev;
	int epoll, fd = dial(&h, family, &epoll), b;
	char data[4];

	assert_int_equal(epoll_wait(epoll, &ev, 1, 50), 0);
	assert_int_equal(tcp_state(fd), TCP_SYN_SENT);
	b = hold_complete(&h, PEER, fd);
	assert_int_equal(epoll_wait(epoll, &ev, 1, 1000), 1);
	assert_int_equal(ev.events, EPOLLOUT);
	assert_int_equal(socket_error(fd), 0);
	assert_int_equal(tcp_state(fd), TCP_ESTABLISHED);
	assert_int_equal(write(fd, "ab", 2), 2);
	assert_int_equal(read(b, data, 4), 2);
	close(epoll);
	close(fd);
	close(b);
	hold_destroy(&h);
}

static void test_a_held_connect_is_silent_until_it_is_completed(void **state)
{
	(void)state;
	hold_and_complete(AF_INET);
}

static void test_a_mapped_socket_is_held_the_same_way(void **state)
{
	(void)state;
	hold_and_complete(AF_INET6);
}

static void test_open_and_reset_looks_like_a_refusal(void **state)
{
	struct linger reset = { 1, 0 };
	struct hold h = hold_create();
	struct epoll_event ev;
	int epoll, fd = dial(&h, AF_INET, &epoll), b = hold_complete(&h, PEER, fd);
	struct pollfd p = { fd, 0, 0 };

	(void)state;
	setsockopt(b, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(b);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(epoll_wait(epoll, &ev, 1, 1000), 1);
	assert_int_equal(ev.events, EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDHUP);
	assert_int_equal(socket_error(fd), ECONNRESET);
	assert_int_equal(socket_error(fd), 0);
	close(epoll);
	close(fd);
	hold_destroy(&h);
}

/* The kernel forgets a port it chose itself: the socket may dial again from another one. */
static void test_after_a_failed_connect_bind_gives_a_port_again(void **state)
{
	int fd = open_socket(AF_INET, SOCK_STREAM);
	uint16_t port;

	(void)state;
	assert_int_equal(bind_name(fd, SELF, 0), 0);
	port = port_of(fd);
	assert_int_equal(bind_name(fd, SELF, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(connect_name(fd, "127.80.0.9", 1), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(port_of(fd), port); /* still shown, but free */
	assert_int_equal(bind_name(fd, SELF, 0), 0);
	close(fd);
}

static int probe(int fd)
{
	struct sockaddr_storage other = { .ss_family = AF_UNIX };

	return connect(fd, (struct sockaddr *)&other, sizeof(struct sockaddr_in6)) ? errno : 0;
}

/* connect() to a family the socket does not take tells the socket's state, and changes nothing. */
static void test_a_foreign_family_asks_a_socket_for_its_state(void **state)
{
	static const int families[] = { AF_INET, AF_INET6 };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct hold h = hold_create();
		int epoll, fd = open_socket(families[i], SOCK_STREAM), b;

		assert_int_equal(probe(fd), EAFNOSUPPORT);
		assert_int_equal(probe(fd), EAFNOSUPPORT);
		assert_int_equal(listen(fd, 1), 0);
		assert_int_equal(probe(fd), EISCONN);
		close(fd);
		fd = dial(&h, families[i], &epoll);
		assert_int_equal(probe(fd), EALREADY);
		b = hold_complete(&h, PEER, fd);
		assert_int_equal(probe(fd), 0);
		assert_int_equal(probe(fd), EISCONN);
		close(b);
		close(epoll);
		close(fd);
		hold_destroy(&h);
	}
}

static int last_peer(int fd, union name *peer)
{
	socklen_t len = sizeof(peer->in);

	return getsockopt(fd, SOL_SOCKET, SO_PEERNAME, peer, &len) == 0 ? 0 : errno;
}

/* Where getpeername() has no answer. It is forgotten when connect() itself tells the failure. */
static void test_so_peername_knows_where_a_connect_goes_and_went(void **state)
{
	struct linger reset = { 1, 0 };
	struct hold h = hold_create();
	int epoll, fd = dial(&h, AF_INET, &epoll), b, fresh = open_socket(AF_INET, SOCK_STREAM);
	struct pollfd p = { fd, 0, 0 };
	char text[INET6_ADDRSTRLEN];
	union name peer;
	socklen_t len = sizeof(peer);

	(void)state;
	assert_int_equal(last_peer(fresh, &peer), ENOTCONN);
	for (int failed = 0; failed < 2; failed++) {
		assert_int_equal(last_peer(fd, &peer), 0);
		assert_string_equal(ip_text(&peer, text), PEER);
		assert_int_equal(ntohs(peer.in.sin_port), h.port);
		assert_int_equal(getpeername(fd, &peer.sa, &len), -1);
		assert_int_equal(errno, ENOTCONN);
		if (failed)
			break;
		b = hold_complete(&h, PEER, fd);
		setsockopt(b, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(b);
		do
			assert_int_equal(poll(&p, 1, 20000), 1);
		while (!(p.revents & POLLERR));
		assert_int_equal(socket_error(fd), ECONNRESET);
	}
	assert_int_not_equal(probe(fd), 0);
	assert_int_equal(last_peer(fd, &peer), ENOTCONN);
	close(fresh);
	close(epoll);
	close(fd);
	hold_destroy(&h);
}

/* On loopback a refusal has happened when a non-blocking connect() returns. */
static void test_a_loopback_refusal_is_immediate(void **state)
{
	int fd = open_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK), error;

	(void)state;
	assert_int_equal(connect_name(fd, "127.80.0.9", 1), -1);
	error = errno;
	assert_true(error == EINPROGRESS || error == ECONNREFUSED);
	if (error == EINPROGRESS) {
		assert_int_equal(tcp_state(fd), TCP_CLOSE);
		assert_int_equal(probe(fd), ECONNREFUSED);
	}
	assert_int_equal(probe(fd), EAFNOSUPPORT);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_held_connect_is_silent_until_it_is_completed),
		cmocka_unit_test(test_a_mapped_socket_is_held_the_same_way),
		cmocka_unit_test(test_open_and_reset_looks_like_a_refusal),
		cmocka_unit_test(test_after_a_failed_connect_bind_gives_a_port_again),
		cmocka_unit_test(test_a_foreign_family_asks_a_socket_for_its_state),
		cmocka_unit_test(test_so_peername_knows_where_a_connect_goes_and_went),
		cmocka_unit_test(test_a_loopback_refusal_is_immediate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
