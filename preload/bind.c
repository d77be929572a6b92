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
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/primary.h"
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
	return result;
}

static int bind_outside(int fd, const struct sockaddr *addr, socklen_t len,
			const struct route *route)
{
	int result = libc.bind(fd, addr, len);

	if (result == 0 && primary_is_on())
		primary_bound(fd, addr, &route->mesh);
	return result;
}

static int bind_routed(int fd, const struct sockaddr *addr, socklen_t len,
		       const struct route *route)
{
	struct socket_end local;
	int err;

	/* A server's address: it may well be us who serve there. */
	if (route->kind == ROUTE_OUTSIDE || route->kind == ROUTE_SERVER)
		return bind_outside(fd, addr, len, route);
	err = socket_local(fd, &local);
	if (err < 0)
		return fail(-err);
	if (local.family != addr->sa_family)
		return libc.bind(fd, addr, len); /* which refuses the family */
	if (route->kind != ROUTE_OWN)
		return fail(EADDRNOTAVAIL);
	return bind_own(fd, route, local.family);
}

__attribute__((cold, noinline)) static int bind_explained(int fd, const struct sockaddr *addr,
							  socklen_t len, const struct route *route)
{
	struct socket_end local;
	struct endpoint mesh;
	struct explain e;
	int result;

	explain_begin(&e, "bind", fd);
	explain_address(&e, addr, len);
	result = bind_routed(fd, addr, len, route);
	if (route->kind == ROUTE_OUTSIDE || route->kind == ROUTE_SERVER) {
		explain_left_alone(&e, addr, len);
		if (route->map && ip_is_any(&route->mesh.addr))
			explain_text(&e, ", which the mesh reaches too");
	} else if (route->kind != ROUTE_OWN) {
		explain_text(&e, ", no address of this node");
	} else if (socket_local(fd, &local) == 0 &&
		   local_to_mesh(route->map, fd, &local.ep, &mesh)) {
		explain_mirror(&e, &local.ep);
	}
	explain_result(&e, result < 0 ? errno : 0);
	explain_end(&e);
	return result;
}

SHIM_EXPORT(int, bind, (int fd, const struct sockaddr *addr, socklen_t len))
{
	struct route route;
	enum route_kind kind = route_find(addr, len, &route);

	if (explain_is_on())
		return bind_explained(fd, addr, len, &route);
	if (__builtin_expect(kind == ROUTE_OUTSIDE, 1))
		return bind_outside(fd, addr, len, &route);
	return bind_routed(fd, addr, len, &route);
}
