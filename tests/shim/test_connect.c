/* TCP connect() through a held SYN: what a program must see. */
#include "tests/shim/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/util.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

static int dial(int fd, int family, const char *ip, uint16_t port)
{
	struct harness_addr to = at(family, ip, port);

	errno = 0;
	return connect(fd, sa(&to), to.len);
}

static void assert_echoes(int fd)
{
	char data[8];

	assert_int_equal(write(fd, "ping", 4), 4);
	assert_int_equal(read(fd, data, sizeof(data)), 4);
	assert_memory_equal(data, "ping", 4);
}

static void test_blocking_connect_reaches_the_peer_and_shows_mesh_addresses(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM);
	uint64_t start = now_ms();
	struct endpoint local;

	(void)state;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO + 50), 0);
	assert_in_range(now_ms() - start, 49, 2000);
	assert_string_equal(peer_text(fd), PEER_V4 ":20050");
	assert_string_equal(local_ip(fd), SELF_V4);
	local = raw_local(fd);
	if (!harness_is_traced())
		assert_int_equal(ip_v4(&local.addr), mirror_of(SELF_V4));
	assert_int_equal(so_error(fd), 0);
	assert_echoes(fd);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), -1);
	assert_int_equal(errno, EISCONN);
	close(fd);
}

static void test_an_ipv6_socket_sees_each_family_in_its_form(void **state)
{
	int fd = new_socket(AF_INET6, SOCK_STREAM), one = 1;

	(void)state;
	assert_int_equal(dial(fd, AF_INET6, PEER_V4, PORT_ECHO), 0);
	assert_string_equal(peer_text(fd), "mapped:" PEER_V4 ":20000");
	assert_string_equal(local_ip(fd), "mapped:" SELF_V4);
	close(fd);
	fd = new_socket(AF_INET6, SOCK_STREAM);
	assert_int_equal(dial(fd, AF_INET6, PEER_V6, PORT_ECHO), 0);
	assert_string_equal(peer_text(fd), PEER_V6 ":20000");
	assert_string_equal(local_ip(fd), SELF_V6);
	assert_echoes(fd);
	close(fd);
	fd = new_socket(AF_INET6, SOCK_STREAM);
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(dial(fd, AF_INET6, PEER_V4, PORT_ECHO), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(dial(fd, AF_INET6, PEER_V6, PORT_ECHO), 0);
	assert_string_equal(peer_text(fd), PEER_V6 ":20000");
	close(fd);
}

static void test_blocking_failures_give_the_true_errno_and_the_socket_can_dial_again(void **state)
{
	static const int errors[] = { ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT };

	(void)state;
	for (int i = 0; i < 4; i++) {
		int fd = new_socket(AF_INET, SOCK_STREAM);

		assert_int_equal(
			dial(fd, AF_INET, PEER_V4, (uint16_t)(PORT_FAIL_LATER + errors[i])), -1);
		assert_int_equal(errno, errors[i]);
		assert_string_equal(peer_text(fd), strerror(ENOTCONN));
		assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
		assert_echoes(fd);
		close(fd);
	}
}

static void test_a_refusal_by_the_daemon_comes_at_once(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_REFUSE + EHOSTUNREACH), -1);
	assert_int_equal(errno, EHOSTUNREACH);
	assert_int_equal(dial(fd, AF_INET, NOWHERE_V4, 80), -1);
	assert_int_equal(errno, EHOSTUNREACH);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
	close(fd);
}

static int dial_with(int flags, int option, uint16_t port)
{
	int fd = new_socket(AF_INET, SOCK_STREAM | flags), one = 1, result;

	if (option)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, option, &one, sizeof(one)), 0);
	result = dial(fd, AF_INET, PEER_V4, port);
	if (result < 0 && errno == EINPROGRESS) {
		struct pollfd p = { fd, POLLOUT, 0 };

		assert_int_equal(poll(&p, 1, 5000), 1);
		errno = so_error(fd);
		result = errno ? -1 : 0;
	}
	close(fd);
	return result;
}

static void test_who_blocks_and_has_a_port_alone_does_not_wait_for_the_daemon(void **state)
{
	uint16_t alone = harness_is_traced() ? PORT_ASKED : PORT_POSTED;

	(void)state;
	assert_int_equal(dial_with(0, 0, alone), 0);
	assert_int_equal(dial_with(0, SO_KEEPALIVE, alone), 0);
	assert_int_equal(dial_with(SOCK_NONBLOCK, 0, PORT_ASKED), 0);
	assert_int_equal(dial_with(0, SO_REUSEADDR, PORT_ASKED), 0);
	assert_int_equal(dial_with(0, SO_REUSEPORT, PORT_ASKED), 0);
	assert_int_equal(dial_with(SOCK_NONBLOCK, 0, PORT_POSTED), -1);
	assert_int_equal(errno, EPROTO);
}

static void test_a_bound_socket_waits_for_the_daemon(void **state)
{
	struct harness_addr own = at(AF_INET, SELF_V4, 0);
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	assert_int_equal(bind(fd, sa(&own), own.len), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ASKED), 0);
	assert_echoes(fd);
	close(fd);
}

static void *dial_once(void *arg)
{
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)arg;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
	close(fd);
	return NULL;
}

/* The kernel takes some ten posts for a daemon that is late; the others then wait for it. */
static void test_more_dials_than_a_late_daemon_can_be_posted_are_all_served(void **state)
{
	pthread_t threads[40];
	unsigned daemon, none;

	(void)state;
	read_numbers(FILE_PID, &daemon, &none);
	kill((pid_t)daemon, SIGSTOP);
	for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, dial_once, NULL), 0);
	poll(NULL, 0, 200);
	kill((pid_t)daemon, SIGCONT);
	for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
		pthread_join(threads[i], NULL);
}

static int epoll_with(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	assert_true(ep >= 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), 0);
	epoll_wait(ep, &ev, 1, 0); /* an unconnected socket is OUT|HUP */
	return ep;
}

static void test_non_blocking_connect_becomes_writable_when_the_peer_answers(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK), ep = epoll_with(fd);
	struct epoll_event ev;
	uint16_t slow = PORT_ECHO + 800; /* a loaded machine must ask before it answers */
	uint64_t start = now_ms();

	(void)state;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, slow), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(so_error(fd), 0);
	assert_string_equal(peer_text(fd), strerror(ENOTCONN));
	assert_string_equal(local_ip(fd), SELF_V4);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, slow), -1);
	assert_int_equal(errno, EALREADY);
	assert_int_equal(epoll_wait(ep, &ev, 1, 60), 0);
	assert_int_equal(epoll_wait(ep, &ev, 1, 8000), 1);
	assert_in_range(now_ms() - start, 799, 8000);
	assert_int_equal(ev.events, EPOLLOUT);
	assert_int_equal(so_error(fd), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, slow), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, slow), -1);
	assert_int_equal(errno, EISCONN);
	assert_string_equal(peer_text(fd), PEER_V4 ":20800");
	close(ep);
	close(fd);
}

static void test_non_blocking_failure_is_told_once_by_so_error(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK), ep = epoll_with(fd);
	struct epoll_event ev;

	(void)state;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_FAIL_LATER + EHOSTUNREACH), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(epoll_wait(ep, &ev, 1, 2000), 1);
	assert_int_equal(so_error(fd), EHOSTUNREACH);
	assert_int_equal(so_error(fd), 0);
	assert_string_equal(peer_text(fd), strerror(ENOTCONN));
	close(ep);
	close(fd);
}

/* By recv(), too, as long as it goes through us. */
static void test_non_blocking_failure_is_told_by_what_receives_first(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	struct pollfd p = { fd, 0, 0 }; /* for its end: it may look connected before */
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	char data;

	(void)state;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_FAIL_LATER + EHOSTUNREACH), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(recvfrom(fd, &data, 1, 0, (struct sockaddr *)&from, &len), -1);
	assert_int_equal(errno, EHOSTUNREACH);
	assert_int_equal(recv(fd, &data, 1, 0), 0);
	close(fd);
}

static void test_non_blocking_failure_is_told_by_a_second_connect(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	struct pollfd p = { fd, POLLOUT, 0 };

	(void)state;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_FAIL_LATER + ETIMEDOUT), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_FAIL_LATER + ETIMEDOUT), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(so_error(fd), 0);
	close(fd);
}

/* Wherever that leads, and whether it blocks or not: it tells how the first one ended. */
static void test_non_blocking_failure_is_told_by_a_connect_to_another_address(void **state)
{
	static const char *const others[] = { NODE_C_V4, SELF_V4, NOWHERE_V4 };

	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_LEN(others); i++) {
		int fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
		struct pollfd p = { fd, 0, 0 };

		assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_FAIL_LATER + EHOSTUNREACH), -1);
		assert_int_equal(errno, EINPROGRESS);
		if (i % 2)
			assert_int_equal(poll(&p, 1, 20000), 1);
		else
			assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
		assert_int_equal(dial(fd, AF_INET, others[i / 2], PORT_ECHO), -1);
		assert_int_equal(errno, EHOSTUNREACH);
		assert_int_equal(so_error(fd), 0);
		assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
		assert_int_equal(dial(fd, AF_INET, NODE_C_V4, PORT_ECHO), 0);
		assert_string_equal(peer_text(fd), NODE_C_V4 ":20000");
		close(fd);
	}
}

/* The kernel shows one or two in a hundred as connected for an instant. */
static void test_a_thousand_fast_failures_are_never_seen_as_connected(void **state)
{
	struct pollfd p = { .events = POLLOUT };

	(void)state;
	for (int i = 0; i < 500; i++) {
		p.fd = new_socket(AF_INET, SOCK_STREAM);
		assert_int_equal(dial(p.fd, AF_INET, PEER_V4, PORT_FAIL_SOONER + ECONNREFUSED), -1);
		assert_int_equal(errno, ECONNREFUSED);
		close(p.fd);
		p.fd = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
		assert_int_equal(dial(p.fd, AF_INET, PEER_V4, PORT_FAIL_SOONER + EHOSTUNREACH), -1);
		if (errno == EINPROGRESS) {
			assert_int_equal(poll(&p, 1, 20000), 1);
			assert_int_equal(so_error(p.fd), EHOSTUNREACH);
			assert_string_equal(peer_text(p.fd), strerror(ENOTCONN));
		} else {
			assert_int_equal(errno, EHOSTUNREACH);
		}
		close(p.fd);
	}
}

static void test_a_socket_the_program_bound_keeps_its_port(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM);
	struct harness_addr any = at(AF_INET, "0.0.0.0", 0), own = at(AF_INET, SELF_V4, 0);
	char expected[64];
	uint16_t port;

	(void)state;
	assert_int_equal(bind(fd, sa(&any), any.len), 0);
	port = local_port(fd);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
	assert_int_equal(local_port(fd), port);
	assert_string_equal(local_ip(fd), SELF_V4);
	assert_string_equal(peer_text(fd), PEER_V4 ":20000");
	close(fd);
	fd = new_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(bind(fd, sa(&own), own.len), 0);
	port = local_port(fd);
	snprintf(expected, sizeof(expected), SELF_V4 ":%u", port);
	assert_string_equal(local_text(fd), expected);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
	assert_string_equal(local_text(fd), expected);
	close(fd);
}

/* One port cannot have both (see limits.md), and nobody is led to where another one wants to. */
static void test_who_is_overtaken_by_another_dial_from_its_port_is_refused(void **state)
{
	(void)state;
	for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) {
		int fd = new_socket(AF_INET, SOCK_STREAM | flags);

		assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_OVERTAKEN), -1);
		assert_int_equal(errno, EADDRNOTAVAIL);
		assert_int_equal(so_error(fd), 0);
		assert_int_equal(fcntl(fd, F_SETFL, 0), 0);
		assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
		assert_echoes(fd);
		close(fd);
	}
}

static void test_a_socket_bound_without_a_port_gets_one(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM), one = 1, value = 0;
	struct harness_addr own = at(AF_INET, SELF_V4, 0);
	socklen_t len = sizeof(value);

	(void)state;
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)), 0);
	assert_int_equal(bind(fd, sa(&own), own.len), 0);
	assert_int_equal(local_port(fd), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
	assert_int_equal(getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &value, &len), 0);
	assert_int_equal(value, 1);
	close(fd);
}

static void test_a_range_of_ports_the_program_chose_is_kept(void **state)
{
	const uint32_t range = 41200u | 41215u << 16;
	uint32_t value = range;
	socklen_t len = sizeof(value);
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	if (setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &value, sizeof(value)) < 0)
		skip(); /* Linux before 6.3 */
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
	assert_in_range(local_port(fd), range & 0xffff, range >> 16);
	value = 0;
	assert_int_equal(getsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &value, &len), 0);
	assert_int_equal(value, range);
	close(fd);
}

static void test_a_socket_bound_to_plain_loopback_elsewhere_cannot_reach_the_mesh(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM);
	struct harness_addr other = at(AF_INET, "127.9.9.9", 0);

	(void)state;
	assert_int_equal(bind(fd, sa(&other), other.len), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), -1);
	assert_int_equal(errno, ENETUNREACH);
	close(fd);
}

static void test_a_socket_that_failed_on_the_mesh_can_go_elsewhere(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM), listener = new_socket(AF_INET, SOCK_STREAM);
	struct harness_addr lo = at(AF_INET, "127.0.0.1", 0);

	(void)state;
	assert_int_equal(bind(listener, sa(&lo), lo.len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_FAIL_LATER + ECONNREFUSED), -1);
	assert_int_equal(dial(fd, AF_INET, "127.0.0.1", local_port(listener)), 0);
	close(fd);
	close(listener);
}

static void test_a_held_connect_times_out_and_closes_as_the_kernel_does(void **state)
{
	int fd = new_socket(AF_INET, SOCK_STREAM);
	struct timeval wait = { 0, 100000 };

	(void)state;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)), 0);
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_HOLD), -1);
	assert_int_equal(errno, EINPROGRESS);
	close(fd);
}

static void test_descriptors_that_cannot_connect_say_so(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO);
	int pipes[2], fd;

	(void)state;
	assert_int_equal(connect(-1, sa(&to), to.len), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(connect(pipes[0], sa(&to), to.len), -1);
	assert_int_equal(errno, ENOTSOCK);
	fd = new_socket(AF_INET6, SOCK_STREAM);
	assert_int_equal(connect(fd, sa(&to), to.len), -1);
	assert_int_equal(errno, EINVAL); /* too short for its family, as without us */
	close(fd);
	fd = new_socket(AF_INET, SOCK_STREAM);
	assert_int_equal(connect(fd, sa(&to), 8), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(connect(fd, sa(&to), (socklen_t)-1), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(connect(fd, sa(&to), sizeof(struct sockaddr_storage) + 1), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(connect(fd, (struct sockaddr *)1, 16), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(connect(fd, sa(&to), to.len), -1);
	assert_int_equal(errno, EISCONN);
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
}

/* By MSG_TRUNC, into no memory: HAProxy empties a socket so before it closes it. */
static void test_what_came_may_be_thrown_away(void **state)
{
	char data[64] = "thrown away";
	struct iovec nowhere = { NULL, 1 << 20 };
	struct msghdr msg = { .msg_iov = &nowhere, .msg_iovlen = 1 };
	int fd = new_socket(AF_INET, SOCK_STREAM);

	(void)state;
	assert_int_equal(dial(fd, AF_INET, PEER_V4, PORT_ECHO), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
		assert_int_equal(recv(fd, data, sizeof(data), MSG_PEEK | MSG_WAITALL),
				 sizeof(data));
		assert_int_equal(i == 0   ? recv(fd, NULL, INT_MAX, MSG_TRUNC)
				 : i == 1 ? recvfrom(fd, NULL, INT_MAX, MSG_TRUNC, NULL, NULL)
					  : recvmsg(fd, &msg, MSG_TRUNC),
				 sizeof(data));
	}
	assert_echoes(fd);
	close(fd);
}

static void test_fastopen_sendto_connects_and_sends(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO);
	int fd = new_socket(AF_INET, SOCK_STREAM);
	char data[8];

	(void)state;
	assert_int_equal(sendto(fd, "fast", 4, MSG_FASTOPEN, sa(&to), to.len), 4);
	assert_int_equal(read(fd, data, sizeof(data)), 4);
	assert_string_equal(peer_text(fd), PEER_V4 ":20000");
	close(fd);
}

/* One message at a time: the second finds the socket connected, as the kernel would say of it. */
static void test_fastopen_batches_connect_and_send(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT_ECHO);
	struct iovec word = { "fast", 4 };
	struct mmsghdr msgs[2] = { 0 };
	const struct timeval soon = { .tv_sec = 20 };
	int fd = new_socket(AF_INET, SOCK_STREAM);
	char data[8];

	(void)state;
	for (int i = 0; i < 2; i++)
		msgs[i].msg_hdr = (struct msghdr){ .msg_name = sa(&to),
						   .msg_namelen = to.len,
						   .msg_iov = &word,
						   .msg_iovlen = 1 };
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)), 0);
	assert_int_equal(sendmmsg(fd, msgs, 2, MSG_FASTOPEN), 1);
	assert_int_equal(msgs[0].msg_len, 4);
	assert_int_equal(read(fd, data, sizeof(data)), 4);
	assert_string_equal(peer_text(fd), PEER_V4 ":20000");
	assert_int_equal(sendmmsg(fd, msgs + 1, 1, MSG_FASTOPEN), -1);
	assert_int_equal(errno, EISCONN);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocking_connect_reaches_the_peer_and_shows_mesh_addresses),
		cmocka_unit_test(test_an_ipv6_socket_sees_each_family_in_its_form),
		cmocka_unit_test(
			test_blocking_failures_give_the_true_errno_and_the_socket_can_dial_again),
		cmocka_unit_test(test_a_refusal_by_the_daemon_comes_at_once),
		cmocka_unit_test(test_who_blocks_and_has_a_port_alone_does_not_wait_for_the_daemon),
		cmocka_unit_test(test_a_bound_socket_waits_for_the_daemon),
		cmocka_unit_test(test_more_dials_than_a_late_daemon_can_be_posted_are_all_served),
		cmocka_unit_test(test_non_blocking_connect_becomes_writable_when_the_peer_answers),
		cmocka_unit_test(test_non_blocking_failure_is_told_once_by_so_error),
		cmocka_unit_test(test_non_blocking_failure_is_told_by_what_receives_first),
		cmocka_unit_test(test_non_blocking_failure_is_told_by_a_second_connect),
		cmocka_unit_test(test_non_blocking_failure_is_told_by_a_connect_to_another_address),
		cmocka_unit_test(test_a_thousand_fast_failures_are_never_seen_as_connected),
		cmocka_unit_test(test_a_socket_the_program_bound_keeps_its_port),
		cmocka_unit_test(test_who_is_overtaken_by_another_dial_from_its_port_is_refused),
		cmocka_unit_test(test_a_socket_bound_without_a_port_gets_one),
		cmocka_unit_test(test_a_range_of_ports_the_program_chose_is_kept),
		cmocka_unit_test(
			test_a_socket_bound_to_plain_loopback_elsewhere_cannot_reach_the_mesh),
		cmocka_unit_test(test_a_socket_that_failed_on_the_mesh_can_go_elsewhere),
		cmocka_unit_test(test_a_held_connect_times_out_and_closes_as_the_kernel_does),
		cmocka_unit_test(test_descriptors_that_cannot_connect_say_so),
		cmocka_unit_test(test_what_came_may_be_thrown_away),
		cmocka_unit_test(test_fastopen_sendto_connects_and_sends),
		cmocka_unit_test(test_fastopen_batches_connect_and_send),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
