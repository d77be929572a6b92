/* IP_PKTINFO chooses a datagram's source per call, on sockets of both families. */
#include "tests/facts/fact.h"

#define SELF "127.80.0.2"
#define PEER "127.80.0.3"

static ssize_t send_from(int fd, const char *to, uint16_t port, const char *source)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control = { .bytes = { 0 } };
	struct in_pktinfo info = { 0 };
	union name dest = name_of(to, port);
	struct iovec iov = { "x", 1 };
	struct msghdr msg = { .msg_name = &dest,
			      .msg_namelen = name_len(&dest),
			      .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	assert_int_equal(inet_pton(AF_INET, source, &info.ipi_spec_dst), 1);
	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	return sendmsg(fd, &msg, 0);
}

static void assert_source(int family, const char *bound, const char *to)
{
	int server = open_socket(AF_INET, SOCK_DGRAM), fd = open_socket(family, SOCK_DGRAM);
	union name from;
	socklen_t len = sizeof(from);
	char text[INET6_ADDRSTRLEN], data;

	assert_int_equal(bind_name(server, PEER, 0), 0);
	if (bound)
		assert_int_equal(bind_name(fd, bound, 0), 0);
	assert_int_equal(send_from(fd, to, port_of(server), SELF), 1);
	assert_int_equal(recvfrom(server, &data, 1, 0, &from.sa, &len), 1);
	assert_string_equal(ip_text(&from, text), SELF);
	assert_int_equal(ntohs(from.in.sin_port), port_of(fd));
	close(fd);
	close(server);
}

static void test_an_ipv4_socket_takes_a_source_bound_or_not(void **state)
{
	(void)state;
	assert_source(AF_INET, NULL, PEER);
	assert_source(AF_INET, "0.0.0.0", PEER);
}

/* Also of level IPPROTO_IP, when the destination is v4-mapped. */
static void test_an_ipv6_socket_takes_an_ipv4_source(void **state)
{
	(void)state;
	assert_source(AF_INET6, NULL, "::ffff:" PEER);
	assert_source(AF_INET6, "::", "::ffff:" PEER);
}

static void test_an_ipv6_only_socket_cannot_reach_a_mirror(void **state)
{
	int fd = open_socket(AF_INET6, SOCK_DGRAM);

	(void)state;
	set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	assert_int_equal(connect_name(fd, "::ffff:" PEER, 9), -1);
	assert_int_equal(errno, ENETUNREACH);
	close(fd);
	fd = open_socket(AF_INET6, SOCK_DGRAM); /* connect() had given that one a port */
	set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	assert_int_equal(bind_name(fd, "::ffff:" SELF, 0), -1);
	assert_int_equal(errno, EINVAL);
	set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* it may change its mind until bound */
	assert_int_equal(bind_name(fd, "::ffff:" SELF, 0), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_ipv4_socket_takes_a_source_bound_or_not),
		cmocka_unit_test(test_an_ipv6_socket_takes_an_ipv4_source),
		cmocka_unit_test(test_an_ipv6_only_socket_cannot_reach_a_mirror),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
