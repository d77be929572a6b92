/*
 * Binding the node's port in both families, with buffers as large as we may have.
 */
#include "daemon/path/open.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/endpoint.h"

#define BUFFER_WANTED (7 << 20)
#define PORT_TRIES    16

static void widen_buffers(int fd)
{
	int wanted = BUFFER_WANTED;

	/* As much as we may have; the kernel clamps the plain options silently. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof(wanted)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof(wanted));
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof(wanted)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof(wanted));
}

static int open_socket(int family, uint16_t port)
{
	struct sockaddr_storage addr;
	struct endpoint any = { .port = port };
	socklen_t len;
	int fd, one = 1, err;

	if (family == AF_INET)
		any.addr = ip_from_v4(INADDR_ANY);
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	len = endpoint_to_sockaddr(&any, family, &addr);
	if (bind(fd, (struct sockaddr *)&addr, len) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	widen_buffers(fd);
	return fd;
}

static int local_port(int fd, uint16_t *port)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	struct endpoint ep;
	int err;

	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return -errno;
	err = endpoint_from_sockaddr(&addr, len, &ep);
	*port = ep.port;
	return err;
}

int udp_open_both(uint16_t port, int *v4, int *v6, uint16_t *bound)
{
	int err = 0;

	for (int try = 0; try < PORT_TRIES; try++) {
		*v6 = -1;
		*v4 = open_socket(AF_INET, port);
		if (*v4 < 0)
			return *v4;
		err = local_port(*v4, bound);
		if (err == 0)
			*v6 = open_socket(AF_INET6, *bound);
		if (err == 0 && (*v6 >= 0 || *v6 != -EADDRINUSE))
			return 0; /* -EAFNOSUPPORT and the like: IPv4 alone will do */
		close(*v4);
		if (err < 0 || port != 0)
			return err < 0 ? err : -EADDRINUSE;
	}
	return -EADDRINUSE;
}
