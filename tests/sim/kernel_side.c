/* The kernel's side: blocking calls and poll() on a real socket, errors by exit. */
#include "kernel_side.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"

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

	content_fill(buffer, n, from, true);
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
	if (n > 0 && !content_is_right(buffer, (size_t)n, offset, false))
		fails("a wrong byte");
	return n > 0 ? (size_t)n : 0;
}

static _Noreturn void meets_reset(int fd)
{
	struct timeval wait = { 0, 200000 };
	uint64_t sent = 0;
	uint8_t c[4096];
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	while ((n = recv(fd, c, sizeof(c), 0)) > 0 || (n < 0 && errno == EAGAIN)) {
		/* The reset may have been lost: a word begs for another. Or it is yet to come. */
		if (n >= 0)
			continue;
		content_fill(c, 1, sent, true);
		if (send(fd, c, 1, MSG_NOSIGNAL) == 1)
			sent++;
	}
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

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Whether the end may be said once all is sent; *wait_ms: what to wait till it is looked at again.
 */
static bool may_shut(const struct test_case *t, uint64_t close_ns, bool ended, int *wait_ms)
{
	uint64_t now_ns = clock_ns();

	*wait_ms = 30000;
	if (t->order != BOTH_CLOSE)
		return t->order == PEER_CLOSES || ended;
	if (now_ns < close_ns)
		*wait_ms = (int)((close_ns - now_ns) / NS_PER_MS) + 1;
	return now_ns >= close_ns;
}

static _Noreturn void transfers(int fd, const struct test_case *t, uint64_t close_ns)
{
	uint64_t sent = 0, received = 0;
	bool ended = false, is_shut = false;
	int wait_ms;

	if (t->special == PEER_READS_LATE)
		sleep(2);
	while (!ended || !is_shut) {
		struct pollfd p = { fd, (short)(ended ? 0 : POLLIN), 0 };

		if (may_shut(t, close_ns, ended, &wait_ms) && sent == t->up && !is_shut) {
			shutdown(fd, SHUT_WR);
			is_shut = true;
			continue;
		}
		if (sent < t->up)
			p.events |= POLLOUT;
		if (poll(&p, 1, wait_ms) <= 0 && wait_ms == 30000)
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

void kernel_side_run(const struct test_case *t, uint64_t close_ns, int listener,
		     const struct sockaddr *to, socklen_t to_len)
{
	int fd, error;

	if (t->dials == WE_DIAL) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			fails("accept");
	} else {
		fd = socket(to->sa_family, SOCK_STREAM, 0);
		error = connect(fd, to, to_len) < 0 ? errno : 0;
		if (t->special == REFUSED)
			_exit(error == ECONNREFUSED ? 0 : 1);
		/* The reset may overtake the caller's waking up. */
		if (t->special == WE_RESET && error == ECONNRESET)
			_exit(0);
		if (error)
			fails("connect");
	}
	if (t->special == PEER_RESETS)
		resets(fd);
	if (t->special == WE_RESET)
		meets_reset(fd);
	transfers(fd, t, close_ns);
}
