/* The kernel's side: blocking calls and poll() on a real socket, errors by exit. */
#include "kernel_side.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/util.h"

uint8_t kernel_content(uint64_t offset, bool is_up)
{
	return (uint8_t)(((uint32_t)(offset + is_up * 77) * 2654435761u) >> 21 ^ offset >> 16);
}

bool kernel_content_is_right(const uint8_t *data, size_t len, uint64_t offset, bool is_up)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != kernel_content(offset + i, is_up))
			return false;
	return true;
}

static _Noreturn void fails(const char *what)
{
	fprintf(stderr, "kernel's side: %s (%s)\n", what, strerror(errno));
	_exit(1);
}

static size_t write_some(int fd, uint64_t from, uint64_t total)
{
	uint8_t buffer[65536];
	size_t n = (size_t)MIN(total - from, sizeof(buffer));
	ssize_t wrote;

	for (size_t i = 0; i < n; i++)
		buffer[i] = kernel_content(from + i, true);
	wrote = send(fd, buffer, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (wrote < 0 && errno != EAGAIN)
		fails("send");
	return wrote < 0 ? 0 : (size_t)wrote;
}

/* Bytes read; sets *ended. */
static size_t read_some(int fd, uint64_t offset, bool *ended)
{
	uint8_t buffer[65536];
	ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (n < 0 && errno != EAGAIN)
		fails("recv");
	if (n == 0)
		*ended = true;
	if (n > 0 && !kernel_content_is_right(buffer, (size_t)n, offset, false))
		fails("a wrong byte");
	return n > 0 ? (size_t)n : 0;
}

static _Noreturn void meets_reset(int fd)
{
	struct timeval wait = { 0, 200000 };
	char c[4096];
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	while ((n = recv(fd, c, sizeof(c), 0)) > 0 || (n < 0 && errno == EAGAIN))
		/* The reset may have been lost: a word begs for another. */
		if (n < 0)
			send(fd, c, 1, MSG_NOSIGNAL);
	if (n == 0 || (errno != ECONNRESET && errno != EPIPE))
		fails("a reset was expected");
	_exit(0);
}

static _Noreturn void resets(int fd)
{
	struct linger hard = { 1, 0 };
	char c[1000];

	if (recv(fd, c, sizeof(c), 0) <= 0)
		fails("recv before the reset");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
	_exit(0);
}

static _Noreturn void transfers(int fd, const struct test_case *t)
{
	uint64_t sent = 0, received = 0;
	bool ended = false, is_shut = false;

	if (t->special == KERNEL_READS_LATE)
		sleep(2);
	while (!ended || !is_shut) {
		bool may_shut = sent == t->up && (t->order != WE_CLOSE || ended);
		struct pollfd p = { fd, (short)(ended ? 0 : POLLIN), 0 };

		if (may_shut && !is_shut) {
			shutdown(fd, SHUT_WR);
			is_shut = true;
			continue;
		}
		if (sent < t->up)
			p.events |= POLLOUT;
		if (poll(&p, 1, 30000) <= 0)
			fails("nothing happened for 30 s");
		if (sent < t->up && p.revents & (POLLOUT | POLLERR))
			sent += write_some(fd, sent, t->up);
		if (!ended && p.revents & (POLLIN | POLLHUP | POLLERR))
			received += read_some(fd, received, &ended);
	}
	if (received != t->down)
		fails("the stream ended early");
	_exit(0);
}

void kernel_side_run(const struct test_case *t, int listener, const struct sockaddr *to,
		     socklen_t to_len)
{
	int fd, error;

	if (!t->kernel_dials) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			fails("accept");
	} else {
		fd = socket(to->sa_family, SOCK_STREAM, 0);
		error = connect(fd, to, to_len) < 0 ? errno : 0;
		if (t->special == REFUSED)
			_exit(error == ECONNREFUSED ? 0 : 1);
		if (error)
			fails("connect");
	}
	if (t->special == KERNEL_RESETS)
		resets(fd);
	if (t->special == WE_RESET)
		meets_reset(fd);
	transfers(fd, t);
}
