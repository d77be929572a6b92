/* See programs.h. */
#include "tests/unit/edge/programs.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/edge/sock.h"
#include "shared/util.h"
#include "tests/unit/edge/patience.h"

int program_listen(const struct endpoint *at, uint16_t *port)
{
	int family = ip_is_v4(&at->addr) ? AF_INET : AF_INET6;
	int one = 1, fd = patient_socket(family, SOCK_STREAM);
	struct endpoint got;

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	assert_int_equal(sock_bind(fd, at), 0);
	assert_int_equal(listen(fd, 1024), 0);
	assert_int_equal(sock_local(fd, &got), 0);
	*port = got.port;
	return fd;
}

int program_connect(int fd, const struct endpoint *to)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(int);
	int family;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &len), 0);
	len = endpoint_to_sockaddr(to, family, &ss);
	return connect(fd, (struct sockaddr *)&ss, len);
}

void program_send(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		assert_true(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

size_t program_receive(int fd, void *bytes, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(fd, (char *)bytes + got, len - got, 0);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

void program_limit(int fd)
{
	struct timeval limit = { 20, 0 };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

int program_edge_end(int program)
{
	struct endpoint at, peer;

	assert_int_equal(sock_local(program, &at), 0);
	for (int fd = 0; fd < 1024; fd++)
		if (sock_peer(fd, &peer) == 0 && endpoint_equal(&peer, &at))
			return fd;
	fail_msg("no such socket");
	return -1;
}

void program_say(int from, int to, const char *text)
{
	char heard[64] = "";

	program_send(from, text, strlen(text));
	assert_int_equal(program_receive(to, heard, strlen(text)), strlen(text));
	assert_string_equal(heard, text);
}

static uint32_t big_word(size_t i, uint32_t seed)
{
	return (uint32_t)i * 2654435761u + seed;
}

void *program_send_big(void *arg)
{
	const struct big *big = arg;
	uint32_t *data = malloc(BIG_BYTES);

	for (size_t i = 0; i < BIG_BYTES / 4; i++)
		data[i] = big_word(i, big->seed);
	program_send(big->fd, data, BIG_BYTES);
	shutdown(big->fd, SHUT_WR);
	free(data);
	return NULL;
}

void program_expect_big(int fd, uint32_t seed)
{
	uint32_t *data = malloc(BIG_BYTES + 4);

	assert_int_equal(program_receive(fd, data, BIG_BYTES + 4), BIG_BYTES);
	for (size_t i = 0; i < BIG_BYTES / 4; i++)
		if (data[i] != big_word(i, seed))
			fail_msg("wrong word at %zu", i);
	free(data);
}

uint64_t program_used_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * NS_PER_S + (uint64_t)used.tv_nsec;
}
