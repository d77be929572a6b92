/*
 * An end of a loopback connection can be made deaf (IP_MINTTL): the kernel of the other end then
 * finds nobody there, by the options of that socket. What that kernel waits for is in the table of
 * sockets. It does not begin to count where the connection was opened from both sides at once.
 */
#include "tests/facts/fact.h"

#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <poll.h>

#define KEEPALIVE_TIMER 2

static void connect_pair(const char *ip, int *ours, int *theirs)
{
	int family = strchr(ip, ':') ? AF_INET6 : AF_INET,
	    listener = open_socket(family, SOCK_STREAM);

	assert_int_equal(bind_name(listener, ip, 0), 0);
	assert_int_equal(listen(listener, 1), 0);
	*ours = open_socket(family, SOCK_STREAM);
	assert_int_equal(connect_name(*ours, ip, port_of(listener)), 0);
	*theirs = accept(listener, NULL, NULL);
	assert_true(*theirs >= 0);
	close(listener);
}

static void make_deaf(int fd, int family, int least)
{
	if (family == AF_INET)
		set_option(fd, IPPROTO_IP, IP_MINTTL, least);
	else
		set_option(fd, IPPROTO_IPV6, 73 /* IPV6_MINHOPCOUNT */, least);
}

static void keep(int fd, int idle_s)
{
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 1);
}

static void test_who_keeps_alive_finds_a_deaf_end_dead(void **state)
{
	static const struct {
		const char *ip;
		int family;
	} at[] = { { "127.0.0.1", AF_INET }, { "::1", AF_INET6 } };
	int ours, theirs;
	char c;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		connect_pair(at[i].ip, &ours, &theirs);
		keep(theirs, 1);
		make_deaf(ours, at[i].family, 255);
		assert_int_equal(read(theirs, &c, 1), -1);
		assert_int_equal(errno, ETIMEDOUT);
		/* Nor did it hear the reset that the kernel sent then. */
		assert_int_equal(recv(ours, &c, 1, MSG_DONTWAIT), -1);
		assert_int_equal(errno, EAGAIN);
		close(ours);
		close(theirs);
	}
}

static void test_what_a_deaf_end_missed_is_said_again(void **state)
{
	int ours, theirs;
	char c;

	(void)state;
	connect_pair("127.0.0.1", &ours, &theirs);
	make_deaf(ours, AF_INET, 255);
	assert_int_equal(send(theirs, "x", 1, 0), 1);
	assert_int_equal(poll(&(struct pollfd){ .fd = ours, .events = POLLIN }, 1, 50), 0);
	/* It is not mute. */
	assert_int_equal(send(ours, "y", 1, 0), 1);
	assert_int_equal(recv(theirs, &c, 1, 0), 1);
	make_deaf(ours, AF_INET, 0);
	assert_int_equal(recv(ours, &c, 1, 0), 1);
	close(ours);
	close(theirs);
}

static unsigned timer_of(int fd, unsigned *left_ms)
{
	union name local = local_name(fd), peer;
	struct {
		struct nlmsghdr head;
		struct inet_diag_req_v2 body;
	} question = {
		.head = { .nlmsg_len = sizeof(question),
			  .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			  .nlmsg_flags = NLM_F_REQUEST },
		.body = { .sdiag_family = AF_INET,
			  .sdiag_protocol = IPPROTO_TCP,
			  .idiag_states = UINT32_MAX,
			  .id = { .idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } } }
	};
	char answer[1024];
	struct inet_diag_msg found;
	socklen_t len = sizeof(peer);
	int table = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	assert_true(table >= 0);
	assert_int_equal(getpeername(fd, &peer.sa, &len), 0);
	question.body.id.idiag_sport = local.in.sin_port;
	question.body.id.idiag_dport = peer.in.sin_port;
	question.body.id.idiag_src[0] = local.in.sin_addr.s_addr;
	question.body.id.idiag_dst[0] = peer.in.sin_addr.s_addr;
	assert_int_equal(send(table, &question, sizeof(question), 0), sizeof(question));
	assert_true(recv(table, answer, sizeof(answer), 0) >=
		    (ssize_t)(NLMSG_HDRLEN + sizeof(found)));
	memcpy(&found, answer + NLMSG_HDRLEN, sizeof(found));
	close(table);
	*left_ms = found.idiag_expires;
	return found.idiag_timer;
}

static void test_the_table_says_when_the_kernel_will_ask(void **state)
{
	unsigned left_ms;
	int ours, theirs;

	(void)state;
	connect_pair("127.0.0.1", &ours, &theirs);
	assert_int_equal(timer_of(theirs, &left_ms), 0);
	keep(theirs, 100);
	assert_int_equal(timer_of(theirs, &left_ms), KEEPALIVE_TIMER);
	assert_true(left_ms > 10000 && left_ms <= 100000);
	close(ours);
	close(theirs);
}

/* One that keeps alive and is connecting, from 127.80.0.2 to 127.80.0.3. */
static int connecting(const struct hold *h)
{
	int program = open_socket(AF_INET, SOCK_STREAM);

	keep(program, 100);
	assert_int_equal(bind_name(program, "127.80.0.2", 0), 0);
	assert_int_equal(fcntl(program, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(connect_name(program, "127.80.0.3", h->port), -1);
	assert_int_equal(errno, EINPROGRESS);
	return program;
}

static void test_who_met_half_way_does_not_count_until_it_is_told(void **state)
{
	struct hold h = hold_create();
	unsigned left_ms;

	(void)state;
	for (int told = 0; told < 2; told++) {
		int program = connecting(&h), ours;

		if (told) {
			set_option(program, SOL_SOCKET, SO_KEEPALIVE, 0);
			set_option(program, SOL_SOCKET, SO_KEEPALIVE, 1);
		}
		ours = hold_complete(&h, "127.80.0.3", program);
		assert_int_equal(
			poll(&(struct pollfd){ .fd = program, .events = POLLOUT }, 1, 5000), 1);
		assert_int_equal(timer_of(program, &left_ms), told ? KEEPALIVE_TIMER : 0);
		assert_true(!told || (left_ms > 10000 && left_ms <= 100000));
		close(ours);
		close(program);
	}
	hold_destroy(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_keeps_alive_finds_a_deaf_end_dead),
		cmocka_unit_test(test_what_a_deaf_end_missed_is_said_again),
		cmocka_unit_test(test_the_table_says_when_the_kernel_will_ask),
		cmocka_unit_test(test_who_met_half_way_does_not_count_until_it_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
