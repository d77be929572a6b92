/*
 * bind() to port 0 looks at every port in turn, and ports in TIME_WAIT are
 * taken: after half of the range has been used (14,000 connections in a minute)
 * the search takes ten milliseconds. A connect() without bind() has no such
 * trouble, but the daemon must know the port before.
 *
 * So the kernel is shown a small window at a random place (IP_LOCAL_PORT_RANGE,
 * Linux 6.3), another one if that is full, and only then the whole range. The
 * port stays the kernel's choice, which it forgets when a connect fails; one we
 * had chosen would be fixed for the life of the socket. Older kernels search.
 */
#include "preload/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/libc.h"
#include "preload/raw.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

#define WINDOW       256u
#define MAX_WINDOWS  16
#define DEFAULT_LOW  32768u
#define DEFAULT_HIGH 60999u
#define RANGE_FILE   "/proc/sys/net/ipv4/ip_local_port_range"

static _Atomic uint32_t known_range; /* low | high << 16; 0: not looked yet */
static _Atomic uint32_t draws;

static unsigned read_number(const char **at, const char *end)
{
	unsigned n = 0;

	while (*at < end && (**at < '0' || **at > '9'))
		++*at;
	while (*at < end && **at >= '0' && **at <= '9' && n < 65536)
		n = n * 10 + (unsigned)(*(*at)++ - '0');
	return n;
}

static uint32_t read_range(void)
{
	int fd = (int)raw_syscall(SYS_openat, AT_FDCWD, RANGE_FILE, O_RDONLY | O_CLOEXEC, 0);
	unsigned low = 0, high = 0;
	char text[64];
	const char *at = text;
	long n;

	if (fd >= 0) {
		n = raw_syscall(SYS_read, fd, text, sizeof(text));
		raw_syscall(SYS_close, fd);
		if (n > 0) {
			low = read_number(&at, text + n);
			high = read_number(&at, text + n);
		}
	}
	if (low == 0 || high > 65535 || high < low) {
		low = DEFAULT_LOW;
		high = DEFAULT_HIGH;
	}
	return low | high << 16;
}

/* Good enough to spread: the time, this process, and a counter. */
static uint32_t draw(void)
{
	struct timespec t;
	uint64_t x;

	clock_gettime(CLOCK_MONOTONIC, &t);
	x = (uint64_t)t.tv_nsec << 32 | (uint32_t)getpid();
	x += (uint64_t)atomic_fetch_add_explicit(&draws, 1, memory_order_relaxed) << 17;
	x ^= x >> 33;
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	return (uint32_t)x;
}

static bool show_window(int fd, uint32_t window)
{
	return libc.setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &window, sizeof(window)) == 0;
}

static uint32_t random_window(uint32_t range)
{
	uint32_t low = range & 0xffff, high = range >> 16, count = (high - low + 1) / WINDOW;

	if (count < 2)
		return range;
	low += draw() % count * WINDOW;
	return low | (low + WINDOW - 1) << 16;
}

/* A range that the program set itself. */
static bool has_range(int fd)
{
	uint32_t range = 0;
	socklen_t len = sizeof(range);

	return libc.getsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, &len) == 0 && range;
}

int ports_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	uint32_t range = atomic_load_explicit(&known_range, memory_order_relaxed);
	int saved = errno, err = -EADDRINUSE;

	if (range == 0) {
		range = read_range();
		atomic_store_explicit(&known_range, range, memory_order_relaxed);
	}
	if (!has_range(fd)) {
		for (int i = 0; i < MAX_WINDOWS && err == -EADDRINUSE; i++) {
			if (!show_window(fd, random_window(range)))
				break;
			err = libc.bind(fd, addr, len) == 0 ? 0 : -errno;
		}
		show_window(fd, 0);
	}
	if (err == -EADDRINUSE)
		err = libc.bind(fd, addr, len) == 0 ? 0 : -errno;
	errno = saved;
	return err;
}
