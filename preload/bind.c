/*
 * bind(): our mesh addresses are bound as their mirrors, same port.
 *
 * A mirror is a real address of its own, so a listener on it is reached by the
 * mesh and by nobody on the network, and does not clash with one on 127.0.0.1.
 * An IPv6 mesh address needs the v4-mapped mirror, which an IPv6-only socket
 * refuses: the flag is cleared for it, and put back if the bind fails.
 */
#include <errno.h>
#include <netinet/in.h>

#include "preload/address.h"
#include "preload/libc.h"
#include "preload/shim.h"
#include "preload/source.h"

static int fail(int error)
{
	errno = error;
	return -1;
}

static void set_v6only(int fd, int value)
{
	int saved = errno;

	libc.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, sizeof(value));
	errno = saved;
}

static int bind_own(int fd, const struct route *route, int family)
{
	struct sockaddr_storage mirror;
	socklen_t len = mirror_sockaddr(route->mirror, route->mesh.port, family, &mirror);
	bool was_v6only = family == AF_INET6 && !ip_is_v4(&route->mesh.addr) &&
			  source_is_v6only(fd);
	int result;

	if (was_v6only)
		set_v6only(fd, 0);
	result = libc.bind(fd, (struct sockaddr *)&mirror, len);
	if (result < 0 && was_v6only)
		set_v6only(fd, 1);
	shim_debug("bind", &route->mesh, NULL, result < 0 ? errno : 0);
	return result;
}

SHIM_EXPORT(int, bind, (int fd, const struct sockaddr *addr, socklen_t len))
{
	struct socket_end local;
	struct route route;
	int err;

	if (__builtin_expect(route_find(addr, len, &route) == ROUTE_OUTSIDE, 1))
		return libc.bind(fd, addr, len);
	if (route.kind == ROUTE_SERVER)
		return libc.bind(fd, addr, len); /* it may well be us who serve there */
	err = socket_local(fd, &local);
	if (err < 0)
		return fail(-err);
	if (local.family != addr->sa_family)
		return libc.bind(fd, addr, len); /* which refuses the family */
	if (route.kind != ROUTE_OWN)
		return fail(EADDRNOTAVAIL);
	return bind_own(fd, &route, local.family);
}
