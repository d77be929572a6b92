/* Small helpers of the facts: each fact is a behaviour of the kernel that the design relies on. */
#ifndef MESHWRAP_TESTS_FACTS_FACT_H
#define MESHWRAP_TESTS_FACTS_FACT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* "127.0.0.1" or "::ffff:127.0.0.1" with a port, for a socket of that family. */
union name {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

static inline socklen_t name_len(const union name *n)
{
	return n->sa.sa_family == AF_INET ? sizeof(n->in) : sizeof(n->in6);
}

static inline union name name_of(const char *ip, uint16_t port)
{
	union name n;

	memset(&n, 0, sizeof(n));
	if (inet_pton(AF_INET, ip, &n.in.sin_addr) == 1) {
		n.in.sin_family = AF_INET;
		n.in.sin_port = htons(port);
	} else {
		assert_int_equal(inet_pton(AF_INET6, ip, &n.in6.sin6_addr), 1);
		n.in6.sin6_family = AF_INET6;
		n.in6.sin6_port = htons(port);
	}
	return n;
}

static inline int open_socket(int family, int type)
{
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

static inline int bind_name(int fd, const char *ip, uint16_t port)
{
	union name n = name_of(ip, port);

	return bind(fd, &n.sa, name_len(&n));
}

static inline int connect_name(int fd, const char *ip, uint16_t port)
{
	union name n = name_of(ip, port);

	return connect(fd, &n.sa, name_len(&n));
}

static inline union name local_name(int fd)
{
	union name n;
	socklen_t len = sizeof(n);

	assert_int_equal(getsockname(fd, &n.sa, &len), 0);
	return n;
}

static inline uint16_t port_of(int fd)
{
	return ntohs(local_name(fd).in.sin_port);
}

static inline const char *ip_text(const union name *n, char text[static INET6_ADDRSTRLEN])
{
	if (n->sa.sa_family == AF_INET)
		inet_ntop(AF_INET, &n->in.sin_addr, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, &n->in6.sin6_addr, text, INET6_ADDRSTRLEN);
	return text;
}

static inline void assert_local(int fd, const char *ip)
{
	union name n = local_name(fd);
	char text[INET6_ADDRSTRLEN];

	assert_string_equal(ip_text(&n, text), ip);
}

static inline int tcp_state(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	memset(&info, 0, sizeof(info));
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	return info.tcpi_state;
}

static inline int socket_error(int fd)
{
	int error = -1;
	socklen_t len = sizeof(error);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

static inline void set_option(int fd, int level, int name, int value)
{
	assert_int_equal(setsockopt(fd, level, name, &value, sizeof(value)), 0);
}

static inline int reusable_stream(void)
{
	int fd = open_socket(AF_INET, SOCK_STREAM);

	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	return fd;
}

/* A listener on lo that drops every SYN: its accept queue holds one connection of ours. */
struct hold {
	int listener, plug;
	uint16_t port;
};

static inline struct hold hold_create(void)
{
	struct hold h = { reusable_stream(), open_socket(AF_INET, SOCK_STREAM), 0 };

	assert_int_equal(setsockopt(h.listener, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
	assert_int_equal(bind_name(h.listener, "0.0.0.0", 0), 0);
	assert_int_equal(listen(h.listener, 0), 0);
	h.port = port_of(h.listener);
	assert_int_equal(connect_name(h.plug, "127.0.0.1", h.port), 0);
	return h;
}

static inline void hold_destroy(struct hold *h)
{
	close(h->plug);
	close(h->listener);
}

/* The daemon's half of a simultaneous open towards fd's local end. */
static inline int hold_complete(const struct hold *h, const char *mirror, int fd)
{
	int b = reusable_stream();

	assert_int_equal(bind_name(b, mirror, h->port), 0);
	assert_int_equal(connect_name(b, "127.80.0.2", port_of(fd)), 0);
	return b;
}

#endif
