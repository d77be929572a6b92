/* UDP by sendmsg() and recvmsg(), one and many: names, control messages, what is cut off. */
#include "tests/shim/datagrams.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel cuts such a name off, and it is the mesh's all the same. */
static void test_a_name_longer_than_any_address_stays_on_the_mesh(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT);
	struct sockaddr_storage name[2] = { to.storage };
	struct iovec iov = { "long", 4 };
	struct msghdr h = {
		.msg_name = name, .msg_namelen = sizeof(name), .msg_iov = &iov, .msg_iovlen = 1
	};
	int fd = datagram(AF_INET);

	(void)state;
	bind_to(fd, AF_INET, SELF_V4);
	assert_int_equal(sendmsg(fd, &h, 0), 4);
	{
		char mirror[IP_TEXT_MAX], from[64];

		format_mirror(SELF_V4, mirror);
		snprintf(from, sizeof(from), PEER_V4 ":%u", PORT);
		assert_answer(fd, mirror, "long", from);
	}
	h.msg_namelen = (socklen_t)-1;
	assert_int_equal(sendmsg(fd, &h, 0), -1);
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&to), (socklen_t)-1), -1);
	close(fd);
}

/* One message with a mesh destination, and room for what comes back. */
struct message {
	struct harness_addr addr;
	struct iovec iov;
	char data[64];
	union {
		struct cmsghdr align;
		char bytes[128];
	} control;
};

static void fill(struct message *m, struct msghdr *h, const char *ip, int n)
{
	m->addr = at(AF_INET, ip, PORT);
	snprintf(m->data, sizeof(m->data), "m%d", n);
	m->iov = (struct iovec){ m->data, strlen(m->data) };
	*h = (struct msghdr){ .msg_name = sa(&m->addr),
			      .msg_namelen = m->addr.len,
			      .msg_iov = &m->iov,
			      .msg_iovlen = 1 };
}

static void test_batches_are_translated_in_both_directions(void **state)
{
	static struct message out[40], in[40];
	struct mmsghdr send[40] = { 0 }, receive[40] = { 0 };
	int fd = datagram(AF_INET), got = 0;
	char mirror[IP_TEXT_MAX], wanted[128];

	(void)state;
	format_mirror(SELF_V4, mirror);
	bind_to(fd, AF_INET, "0.0.0.0");
	for (int i = 0; i < 40; i++)
		fill(&out[i], &send[i].msg_hdr, i % 2 ? PEER_V4 : NODE_C_V4, i);
	assert_int_equal(sendmmsg(fd, send, 40, 0), 40);
	assert_int_equal(send[39].msg_len, 3);
	assert_ptr_equal(send[39].msg_hdr.msg_name, sa(&out[39].addr));
	for (int i = 0; i < 40; i++) {
		in[i].iov = (struct iovec){ in[i].data, sizeof(in[i].data) };
		receive[i].msg_hdr = (struct msghdr){ .msg_name = &in[i].addr.storage,
						      .msg_namelen = sizeof(in[i].addr.storage),
						      .msg_iov = &in[i].iov,
						      .msg_iovlen = 1 };
	}
	while (got < 40) {
		int n = recvmmsg(fd, receive + got, (unsigned)(40 - got), MSG_WAITFORONE, NULL);

		assert_true(n > 0);
		got += n;
	}
	for (int i = 0; i < 40; i++) {
		const char *from = sockaddr_text(sa(&in[i].addr), receive[i].msg_hdr.msg_namelen);
		int number;

		assert_int_equal(sscanf(strrchr(in[i].data, 'm'), "m%d", &number), 1);
		assert_string_equal(from, number % 2 ? PEER_V4 ":5353" : NODE_C_V4 ":5353");
		snprintf(wanted, sizeof(wanted), "%s %u m", mirror, local_port(fd));
		assert_memory_equal(in[i].data, wanted, strlen(wanted));
	}
	close(fd);
}

/* As libuv has done for long: by number, through libc. */
static void test_batches_by_libcs_syscall_are_translated(void **state)
{
	struct message out, in = { 0 };
	struct mmsghdr send = { 0 }, receive = { 0 };
	struct harness_addr own = at(AF_INET, SELF_V4, 0);
	int fd = datagram(AF_INET);

	(void)state;
	assert_int_equal(syscall(SYS_bind, fd, sa(&own), own.len), 0);
	fill(&out, &send.msg_hdr, PEER_V4, 7);
	assert_int_equal(syscall(SYS_sendmmsg, fd, &send, 1, 0), 1);
	in.iov = (struct iovec){ in.data, sizeof(in.data) };
	receive.msg_hdr = (struct msghdr){ .msg_name = &in.addr.storage,
					   .msg_namelen = sizeof(in.addr.storage),
					   .msg_iov = &in.iov,
					   .msg_iovlen = 1 };
	assert_int_equal(syscall(SYS_recvmmsg, fd, &receive, 1, 0, NULL), 1);
	assert_string_equal(sockaddr_text(sa(&in.addr), receive.msg_hdr.msg_namelen),
			    PEER_V4 ":5353");
	in.addr.len = sizeof(in.addr.storage);
	assert_int_equal(syscall(SYS_getsockname, fd, sa(&in.addr), &in.addr.len), 0);
	assert_memory_equal(sockaddr_text(sa(&in.addr), in.addr.len), SELF_V4 ":",
			    strlen(SELF_V4 ":"));
	assert_int_equal(syscall(SYS_connect, -1, sa(&own), own.len), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(syscall(SYS_listen, -1, 1), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(syscall(SYS_getpid), getpid());
	close(fd);
}

static void test_a_batch_stops_at_what_cannot_be_sent(void **state)
{
	static struct message out[3];
	struct mmsghdr send[3] = { 0 };
	int fd = datagram(AF_INET);

	(void)state;
	fill(&out[0], &send[0].msg_hdr, PEER_V4, 0);
	fill(&out[1], &send[1].msg_hdr, NOWHERE_V4, 1);
	fill(&out[2], &send[2].msg_hdr, PEER_V4, 2);
	assert_int_equal(sendmmsg(fd, send, 3, 0), 1);
	assert_int_equal(sendmmsg(fd, send + 1, 2, 0), -1);
	assert_int_equal(errno, EHOSTUNREACH);
	close(fd);
}

static void test_pktinfo_is_translated_in_both_directions(void **state)
{
	int fd = datagram(AF_INET), one = 1;
	struct message m;
	struct msghdr h;
	struct cmsghdr *c;
	struct in_pktinfo info = { 0 };
	char mirror[IP_TEXT_MAX], wanted[128];
	ssize_t n;

	(void)state;
	format_mirror(SELF_V4, mirror);
	bind_to(fd, AF_INET, "0.0.0.0");
	assert_int_equal(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)), 0);
	fill(&m, &h, PEER_V4, 7);
	memset(&m.control, 0, sizeof(m.control));
	h.msg_control = &m.control;
	h.msg_controllen = CMSG_SPACE(sizeof(info));
	c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info));
	assert_int_equal(inet_pton(AF_INET, SELF_V4, &info.ipi_spec_dst), 1);
	info.ipi_ifindex = 28023;
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	assert_int_equal(sendmsg(fd, &h, 0), 2);
	assert_memory_equal(CMSG_DATA(c), &info, sizeof(info)); /* the caller's own is untouched */
	m.iov.iov_len = sizeof(m.data);
	h.msg_controllen = sizeof(m.control);
	h.msg_namelen = sizeof(m.addr.storage);
	n = recvmsg(fd, &h, 0);
	assert_true(n > 0);
	snprintf(wanted, sizeof(wanted), "%s %u m7", mirror, local_port(fd));
	assert_memory_equal(m.data, wanted, strlen(wanted));
	c = CMSG_FIRSTHDR(&h);
	assert_non_null(c);
	memcpy(&info, CMSG_DATA(c), sizeof(info));
	inet_ntop(AF_INET, &info.ipi_addr, wanted, sizeof(wanted));
	assert_string_equal(wanted, SELF_V4);
	close(fd);
}

static void test_control_messages_of_any_length_are_refused_like_the_kernels(void **state)
{
	static const size_t lengths[] = { SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2, 1u << 20 };
	int fd = datagram(AF_INET);
	struct message m;
	struct msghdr h;

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		fill(&m, &h, PEER_V4, 7);
		h.msg_control = &m.control;
		h.msg_controllen = lengths[i];
		assert_int_equal(sendmsg(fd, &h, 0), -1);
		assert_int_equal(errno, ENOBUFS);
	}
	close(fd);
}

/* A server on all addresses that answers from the one it was asked at, as those of QUIC do. */
static void answer_by_ipv6_pktinfo(int v6only)
{
	int fd = datagram(AF_INET6), one = 1;
	struct message m;
	struct msghdr h;
	struct in6_pktinfo info;
	char text[INET6_ADDRSTRLEN];

	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)), 0);
	bind_to(fd, AF_INET6, "::");
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one)), 0);
	send_to(fd, AF_INET6, PEER_V6, "x");
	for (int i = 0; i < 2; i++) {
		m.iov = (struct iovec){ m.data, sizeof(m.data) };
		h = (struct msghdr){ .msg_iov = &m.iov,
				     .msg_iovlen = 1,
				     .msg_name = &m.addr.storage,
				     .msg_namelen = sizeof(m.addr.storage),
				     .msg_control = &m.control,
				     .msg_controllen = sizeof(m.control) };
		assert_true(recvmsg(fd, &h, 0) > 0);
		assert_string_equal(sockaddr_text(h.msg_name, h.msg_namelen), PEER_V6 ":5353");
		assert_int_equal(h.msg_controllen, CMSG_SPACE(sizeof(info)));
		memcpy(&info, m.control.bytes + CMSG_LEN(0), sizeof(info));
		inet_ntop(AF_INET6, &info.ipi6_addr, text, sizeof(text));
		assert_string_equal(text, SELF_V6);
		m.iov.iov_len = 1;
		assert_int_equal(sendmsg(fd, &h, 0), 1);
	}
	close(fd);
}

static void test_ipv6_pktinfo_is_translated_in_both_directions(void **state)
{
	(void)state;
	answer_by_ipv6_pktinfo(0);
	answer_by_ipv6_pktinfo(1);
}

static void test_short_name_buffers_are_cut_off_after_translation(void **state)
{
	int fd = datagram(AF_INET6);
	unsigned char name[32];
	struct sockaddr_storage full;
	socklen_t len = 20;
	char data[64];

	(void)state;
	bind_to(fd, AF_INET6, "::");
	send_to(fd, AF_INET6, PEER_V6, "x");
	memset(name, 0xaa, sizeof(name));
	assert_true(recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)name, &len) > 0);
	assert_int_equal(len, 28);
	full = at(AF_INET6, PEER_V6, PORT).storage;
	assert_memory_equal(name, &full, 20);
	assert_int_equal(name[20], 0xaa);
	send_to(fd, AF_INET6, PEER_V6, "x");
	memset(name, 0xaa, sizeof(name));
	{
		struct iovec iov = { data, sizeof(data) };
		struct msghdr h = {
			.msg_name = name, .msg_namelen = 20, .msg_iov = &iov, .msg_iovlen = 1
		};

		assert_true(recvmsg(fd, &h, 0) > 0);
		assert_int_equal(h.msg_namelen, 28);
		assert_ptr_equal(h.msg_name, name);
	}
	assert_memory_equal(name, &full, 20);
	assert_int_equal(name[20], 0xaa);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_longer_than_any_address_stays_on_the_mesh),
		cmocka_unit_test(test_batches_are_translated_in_both_directions),
		cmocka_unit_test(test_batches_by_libcs_syscall_are_translated),
		cmocka_unit_test(test_a_batch_stops_at_what_cannot_be_sent),
		cmocka_unit_test(test_pktinfo_is_translated_in_both_directions),
		cmocka_unit_test(test_control_messages_of_any_length_are_refused_like_the_kernels),
		cmocka_unit_test(test_ipv6_pktinfo_is_translated_in_both_directions),
		cmocka_unit_test(test_short_name_buffers_are_cut_off_after_translation),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
