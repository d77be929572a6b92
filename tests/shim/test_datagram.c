/* UDP with peers and with ourselves: destinations, sources, and who a datagram came from. */
#include "tests/shim/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define PORT 5353

static int datagram(int family)
{
	struct timeval wait = { 2, 0 };
	int fd = new_socket(family, SOCK_DGRAM);

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)), 0);
	return fd;
}

static void bind_to(int fd, int family, const char *ip)
{
	struct harness_addr addr = at(family, ip, 0);

	assert_int_equal(bind(fd, sa(&addr), addr.len), 0);
}

static void format_mirror(const char *mesh, char text[static IP_TEXT_MAX])
{
	struct ip_addr ip = ip_from_v4(mirror_of(mesh));

	ip_format(&ip, text);
}

/* The peer's answer: that it saw us as source:port, and who answered. */
static void assert_answer(int fd, const char *source, const char *data, const char *from)
{
	char got[128], wanted[128];
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	ssize_t n = recvfrom(fd, got, sizeof(got) - 1, 0, (struct sockaddr *)&addr, &len);

	assert_true(n > 0);
	got[n] = '\0';
	snprintf(wanted, sizeof(wanted), "%s %u %s", source, local_port(fd), data);
	assert_string_equal(got, wanted);
	assert_string_equal(sockaddr_text(&addr, len), from);
}

static void send_to(int fd, int family, const char *ip, const char *data)
{
	struct harness_addr to = at(family, ip, PORT);

	assert_int_equal(sendto(fd, data, strlen(data), 0, sa(&to), to.len), strlen(data));
}

static void test_connected_datagrams_go_to_the_peer_from_our_mesh_address(void **state)
{
	char mirror[IP_TEXT_MAX];
	int fd = datagram(AF_INET);
	struct harness_addr to = at(AF_INET, PEER_V4, PORT);

	(void)state;
	format_mirror(SELF_V4, mirror);
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_string_equal(local_ip(fd), SELF_V4);
	assert_string_equal(peer_text(fd), PEER_V4 ":5353");
	assert_int_equal(send(fd, "hello", 5, 0), 5);
	assert_answer(fd, mirror, "hello", PEER_V4 ":5353");
	close(fd);
}

static void test_unconnected_datagrams_carry_our_source_from_any_socket(void **state)
{
	static const char *const binds[] = { NULL, "0.0.0.0", SELF_V4 };
	char mirror[IP_TEXT_MAX];

	(void)state;
	format_mirror(SELF_V4, mirror);
	for (int i = 0; i < 3; i++) {
		int fd = datagram(AF_INET);

		if (binds[i])
			bind_to(fd, AF_INET, binds[i]);
		send_to(fd, AF_INET, PEER_V4, "a");
		assert_answer(fd, mirror, "a", PEER_V4 ":5353");
		send_to(fd, AF_INET, NODE_C_V4, "b");
		assert_answer(fd, mirror, "b", NODE_C_V4 ":5353");
		close(fd);
	}
}

/* As the kernel has it for sendto() on an IPv4 socket, and on no other. */
static void test_a_destination_without_a_family_is_an_ipv4_one(void **state)
{
	struct harness_addr to = at(AF_INET, PEER_V4, PORT), closed = at(AF_INET, NOWHERE_V4, PORT);
	int fd = datagram(AF_INET), fd6 = datagram(AF_INET6);
	char mirror[IP_TEXT_MAX];

	(void)state;
	format_mirror(SELF_V4, mirror);
	sa(&to)->sa_family = sa(&closed)->sa_family = AF_UNSPEC;
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&closed), closed.len), -1);
	assert_int_equal(errno, EHOSTUNREACH);
	assert_int_equal(sendto(fd, "hello", 5, 0, sa(&to), to.len), 5);
	assert_answer(fd, mirror, "hello", PEER_V4 ":5353");
	assert_int_equal(sendto(fd6, "x", 1, 0, sa(&to), to.len), -1);
	assert_int_equal(errno, EDESTADDRREQ);
	close(fd);
	close(fd6);
}

static void test_ipv6_sockets_reach_both_families(void **state)
{
	char mirror4[IP_TEXT_MAX], mirror6[IP_TEXT_MAX];
	int fd = datagram(AF_INET6);

	(void)state;
	format_mirror(SELF_V4, mirror4);
	format_mirror(SELF_V6, mirror6);
	bind_to(fd, AF_INET6, "::");
	send_to(fd, AF_INET6, PEER_V4, "four");
	assert_answer(fd, mirror4, "four", "mapped:" PEER_V4 ":5353");
	send_to(fd, AF_INET, PEER_V4, "four"); /* an AF_INET name on an AF_INET6 socket */
	assert_answer(fd, mirror4, "four", "mapped:" PEER_V4 ":5353");
	send_to(fd, AF_INET6, PEER_V6, "six");
	assert_answer(fd, mirror6, "six", PEER_V6 ":5353");
	close(fd);
}

static void test_ipv6_only_sockets_reach_ipv6_peers(void **state)
{
	int fd = datagram(AF_INET6), one = 1;
	struct harness_addr to = at(AF_INET6, PEER_V6, PORT), v4 = at(AF_INET6, PEER_V4, PORT);

	(void)state;
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	bind_to(fd, AF_INET6, "::");
	send_to(fd, AF_INET6, PEER_V6, "only");
	assert_answer(fd, "::1", "only", PEER_V6 ":5353");
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&v4), v4.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_string_equal(peer_text(fd), PEER_V6 ":5353");
	assert_string_equal(local_ip(fd), SELF_V6);
	close(fd);
	fd = datagram(AF_INET6);
	assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)), 0);
	assert_int_equal(connect(fd, sa(&to), to.len), 0);
	assert_string_equal(local_ip(fd), SELF_V6);
	close(fd);
}

static void test_asking_for_the_own_address_needs_no_traffic(void **state)
{
	static const struct {
		const char *to, *self;
		int family;
	} asks[] = { { PEER_V4, SELF_V4, AF_INET },
		     { SELF_V4, SELF_V4, AF_INET },
		     { PEER_V6, SELF_V6, AF_INET6 },
		     { SELF_V6, SELF_V6, AF_INET6 } };

	(void)state;
	for (int i = 0; i < 4; i++) {
		for (uint16_t port = 0; port < 2; port++) {
			struct harness_addr to = at(asks[i].family, asks[i].to, port);
			int fd = datagram(asks[i].family);

			assert_int_equal(connect(fd, sa(&to), to.len), 0);
			assert_string_equal(local_ip(fd), asks[i].self);
			close(fd);
		}
	}
}

static void test_a_socket_can_leave_the_mesh_again(void **state)
{
	int fd = datagram(AF_INET);
	struct harness_addr mesh = at(AF_INET, PEER_V4, PORT), out = at(AF_INET, "127.0.0.9", 9);
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	(void)state;
	assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
	assert_int_equal(connect(fd, sa(&out), out.len), 0);
	assert_int_equal(connect(fd, &none, sizeof(none)), 0);
	assert_int_equal(connect(fd, sa(&mesh), mesh.len), 0);
	assert_string_equal(local_ip(fd), SELF_V4);
	close(fd);
}

static void test_own_datagrams_arrive_wherever_the_service_is(void **state)
{
	static const char *const places[] = { "0.0.0.0", SELF_V4, "127.0.0.1" };

	(void)state;
	for (int i = 0; i < 3; i++) {
		int server = datagram(AF_INET), client = datagram(AF_INET);
		struct harness_addr to;
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		char data[8], self[64];

		bind_to(server, AF_INET, places[i]);
		to = at(AF_INET, SELF_V4, local_port(server));
		assert_int_equal(sendto(client, "me", 2, 0, sa(&to), to.len), 2);
		assert_int_equal(recvfrom(server, data, 8, 0, (struct sockaddr *)&from, &len), 2);
		snprintf(self, sizeof(self), SELF_V4 ":%u", local_port(client));
		assert_string_equal(sockaddr_text(&from, len), self);
		assert_int_equal(sendto(server, "back", 4, 0, (struct sockaddr *)&from, len), 4);
		assert_int_equal(recv(client, data, 8, 0), 4);
		close(client);
		client = datagram(AF_INET);
		assert_int_equal(connect(client, sa(&to), to.len), 0);
		snprintf(self, sizeof(self), SELF_V4 ":%u", local_port(server));
		assert_string_equal(peer_text(client), self);
		close(client);
		close(server);
	}
}

/* What was sent before connect() gave the client a port on all addresses. */
static void test_a_used_socket_connects_to_ourselves_and_is_answered(void **state)
{
	static const char *const places[] = { "0.0.0.0", SELF_V4, "127.0.0.1" };

	(void)state;
	for (int i = 0; i < 3; i++) {
		int server = datagram(AF_INET), client = datagram(AF_INET);
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		struct harness_addr to;
		char data[8];

		bind_to(server, AF_INET, places[i]);
		to = at(AF_INET, SELF_V4, local_port(server));
		assert_int_equal(sendto(client, "a", 1, 0, sa(&to), to.len), 1);
		assert_int_equal(recv(server, data, 8, 0), 1);
		assert_int_equal(connect(client, sa(&to), to.len), 0);
		assert_int_equal(send(client, "me", 2, 0), 2);
		assert_int_equal(recvfrom(server, data, 8, 0, (struct sockaddr *)&from, &len), 2);
		assert_int_equal(sendto(server, "back", 4, 0, (struct sockaddr *)&from, len), 4);
		assert_int_equal(recv(client, data, 8, 0), 4);
		close(client);
		close(server);
	}
}

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

static void test_own_ipv6_datagrams_reach_a_service_on_plain_loopback(void **state)
{
	int server = datagram(AF_INET6), client = datagram(AF_INET6);
	struct harness_addr to;
	char data[8], self[64];

	(void)state;
	bind_to(server, AF_INET6, "::1");
	to = at(AF_INET6, SELF_V6, local_port(server));
	assert_int_equal(sendto(client, "one", 3, 0, sa(&to), to.len), 3);
	assert_int_equal(recv(server, data, 8, 0), 3);
	assert_int_equal(connect(client, sa(&to), to.len), 0);
	snprintf(self, sizeof(self), SELF_V6 ":%u", local_port(server));
	assert_string_equal(peer_text(client), self);
	assert_string_equal(local_ip(client), SELF_V6);
	assert_int_equal(send(client, "two", 3, 0), 3);
	assert_int_equal(recv(server, data, 8, 0), 3);
	close(client);
	close(server);
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

static void test_what_no_mirror_carries_is_refused(void **state)
{
	struct harness_addr peer = at(AF_INET, PEER_V4, 0), to = at(AF_INET, PEER_V4, PORT);
	int fd = datagram(AF_INET), ping = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
	char request[8] = { 8 };

	(void)state;
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&peer), peer.len), -1);
	assert_int_equal(errno, EINVAL); /* port 0, as without us */
	close(fd);
	fd = datagram(AF_INET);
	bind_to(fd, AF_INET, "127.9.9.9");
	assert_int_equal(sendto(fd, "x", 1, 0, sa(&to), to.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	close(fd);
	if (ping < 0)
		return; /* not permitted here */
	assert_int_equal(sendto(ping, request, 8, 0, sa(&peer), peer.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	assert_int_equal(connect(ping, sa(&peer), peer.len), -1);
	assert_int_equal(errno, ENETUNREACH);
	close(ping);
}

static void test_a_name_server_of_this_machine_is_the_daemons(void **state)
{
	struct harness_addr server = at(AF_INET, SERVER_V4, 53);
	char mirror[IP_TEXT_MAX];
	int fd = datagram(AF_INET);

	(void)state;
	format_mirror(SELF_V4, mirror);
	assert_int_equal(sendto(fd, "ask", 3, 0, sa(&server), server.len), 3);
	assert_answer(fd, mirror, "ask", SERVER_V4 ":53");
	close(fd);

	fd = datagram(AF_INET);
	assert_int_equal(connect(fd, sa(&server), server.len), 0);
	assert_string_equal(peer_text(fd), SERVER_V4 ":53");
	assert_int_equal(send(fd, "again", 5, 0), 5);
	assert_answer(fd, mirror, "again", SERVER_V4 ":53");
	close(fd);

	/* It keeps an address that it was given. */
	fd = datagram(AF_INET);
	bind_to(fd, AF_INET, "127.0.0.9");
	assert_int_equal(sendto(fd, "bound", 5, 0, sa(&server), server.len), 5);
	assert_answer(fd, "127.0.0.9", "bound", SERVER_V4 ":53");
	close(fd);
}

static void test_a_name_server_is_reached_by_stream_too(void **state)
{
	struct harness_addr server = at(AF_INET, SERVER_V4, 53);
	int fd = new_socket(AF_INET, SOCK_STREAM);
	char got[4];

	(void)state;
	assert_int_equal(connect(fd, sa(&server), server.len), 0);
	assert_string_equal(peer_text(fd), SERVER_V4 ":53");
	assert_int_equal(send(fd, "ask", 3, 0), 3);
	assert_int_equal(recv(fd, got, sizeof(got), 0), 3);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connected_datagrams_go_to_the_peer_from_our_mesh_address),
		cmocka_unit_test(test_unconnected_datagrams_carry_our_source_from_any_socket),
		cmocka_unit_test(test_a_destination_without_a_family_is_an_ipv4_one),
		cmocka_unit_test(test_ipv6_sockets_reach_both_families),
		cmocka_unit_test(test_ipv6_only_sockets_reach_ipv6_peers),
		cmocka_unit_test(test_asking_for_the_own_address_needs_no_traffic),
		cmocka_unit_test(test_a_socket_can_leave_the_mesh_again),
		cmocka_unit_test(test_own_datagrams_arrive_wherever_the_service_is),
		cmocka_unit_test(test_a_used_socket_connects_to_ourselves_and_is_answered),
		cmocka_unit_test(test_a_name_longer_than_any_address_stays_on_the_mesh),
		cmocka_unit_test(test_own_ipv6_datagrams_reach_a_service_on_plain_loopback),
		cmocka_unit_test(test_batches_are_translated_in_both_directions),
		cmocka_unit_test(test_batches_by_libcs_syscall_are_translated),
		cmocka_unit_test(test_a_batch_stops_at_what_cannot_be_sent),
		cmocka_unit_test(test_pktinfo_is_translated_in_both_directions),
		cmocka_unit_test(test_control_messages_of_any_length_are_refused_like_the_kernels),
		cmocka_unit_test(test_ipv6_pktinfo_is_translated_in_both_directions),
		cmocka_unit_test(test_short_name_buffers_are_cut_off_after_translation),
		cmocka_unit_test(test_what_no_mirror_carries_is_refused),
		cmocka_unit_test(test_a_name_server_of_this_machine_is_the_daemons),
		cmocka_unit_test(test_a_name_server_is_reached_by_stream_too),
	};

	(void)argc;
	harness_enter(argv, HARNESS_DAEMON);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
