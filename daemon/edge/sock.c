/*
 * Loopback sockets.
 *
 * The daemon binds sockets to mirrors of peers. A program's bind(0.0.0.0:p)
 * collides with any of them at the port p, so their ports come from a range of
 * which the kernel gives nothing to programs, where that can be had.
 */
#include "daemon/edge/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "shared/wire.h"

#define PORTS_ENOUGH    1024
#define PORTS_MANY      8192
#define PORTS_DEFAULT   61000
#define PORT_UNRESERVED 1024

struct port_range port_range_beside(const char *text)
{
	unsigned low, high;

	if (!text || sscanf(text, "%u %u", &low, &high) != 2 || low > high || high > 65535)
		return (struct port_range){ PORTS_DEFAULT, 65535 };
	if (65535 - high >= PORTS_ENOUGH)
		return (struct port_range){ (uint16_t)(high + 1), 65535 };
	if (low >= PORT_UNRESERVED + PORTS_ENOUGH)
		return (struct port_range){ (uint16_t)(low > PORT_UNRESERVED + PORTS_MANY
							       ? low - PORTS_MANY
							       : PORT_UNRESERVED),
					    (uint16_t)(low - 1) };
	return (struct port_range){ PORTS_DEFAULT, 65535 };
}

struct port_range port_range_read(void)
{
	int fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return port_range_beside(text);
}

uint16_t port_range_at(const struct port_range *range, uint32_t n)
{
	return (uint16_t)(range->first + n % (uint32_t)(range->last - range->first + 1));
}

struct endpoint sock_endpoint(uint32_t v4, uint16_t port)
{
	return (struct endpoint){ ip_from_v4(v4), port };
}

static int family_of(const struct endpoint *ep)
{
	return ip_is_v4(&ep->addr) ? AF_INET : AF_INET6;
}

int sock_local(int fd, struct endpoint *ep)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getsockname(fd, (struct sockaddr *)&ss, &len) != 0)
		return -errno;
	return endpoint_from_sockaddr(&ss, len, ep);
}

int sock_peer(int fd, struct endpoint *ep)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (getpeername(fd, (struct sockaddr *)&ss, &len) != 0)
		return -errno;
	return endpoint_from_sockaddr(&ss, len, ep);
}

int sock_bind(int fd, const struct endpoint *ep)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(ep, family_of(ep), &ss);

	return bind(fd, (struct sockaddr *)&ss, len) == 0 ? 0 : -errno;
}

int sock_connect(int fd, const struct endpoint *to)
{
	struct sockaddr_storage ss;
	socklen_t len = endpoint_to_sockaddr(to, family_of(to), &ss);

	if (connect(fd, (struct sockaddr *)&ss, len) == 0)
		return 0;
	if (errno == EINPROGRESS || errno == EALREADY) {
		/* Packets on loopback have arrived by now; the second call tells the outcome. */
		if (connect(fd, (struct sockaddr *)&ss, len) == 0 || errno == EISCONN)
			return 0;
	}
	return errno == EALREADY ? -EINPROGRESS : -errno;
}

static void set_linger(int fd, bool reset)
{
	struct linger value = { .l_onoff = reset, .l_linger = 0 };

	/* Cannot fail on a TCP socket of ours. */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof(value));
}

void sock_reset_on_close(int fd)
{
	set_linger(fd, true);
}

void sock_finish_on_close(int fd)
{
	set_linger(fd, false);
}

int sock_open(const struct endpoint *ep, int type)
{
	int fd = socket(family_of(ep), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd >= 0 ? fd : -errno;
}

int sock_share_port(int fd)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0)
		return -errno;
	return 0;
}

bool sock_is_bound(const struct endpoint *ep, int type)
{
	int err, fd = sock_open(ep, type);

	if (fd < 0)
		return true; /* unknown: the side on which nothing is torn down */
	err = sock_bind(fd, ep);
	close(fd);
	return err == -EADDRINUSE;
}
