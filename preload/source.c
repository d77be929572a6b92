/*
 * The socket's own side.
 *
 * A socket that talks to the mesh is bound to 127.x (our mirror), so that
 * getsockname, the daemon and a listener of this node all see the mesh
 * identity in the kernel's own names. A socket bound to the wildcard by the
 * program stays so: the kernel then sends from 127.0.0.1, and the daemon is
 * told that address.
 *
 * The kernel forgets an automatic port when a connect fails, so binding again
 * is what makes a second attempt work; it answers EINVAL exactly when the
 * program chose the port. An IPv6-only socket cannot carry a mirror: while it is
 * not bound the flag is cleared (nothing can tell: the socket has one family).
 */
#include "preload/source.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/control.h"
#include "preload/libc.h"
#include "preload/ports.h"
#include "preload/raw.h"
#include "preload/shim.h"

#define LOOPBACK_V4 0x7f000001u

/* Of linux/in6.h, which libc's own header excludes. */
#ifndef IPV6_ADDR_PREFERENCES
#define IPV6_ADDR_PREFERENCES 72
#endif
#ifndef IPV6_PREFER_SRC_TMP
#define IPV6_PREFER_SRC_TMP 1
#endif

static void set_flag(int fd, int level, int name, int value)
{
	libc.setsockopt(fd, level, name, &value, sizeof(value));
}

bool source_is_v6only(int fd)
{
	int value = 0, saved = errno;
	socklen_t len = sizeof(value);
	bool set = libc.getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &value, &len) == 0 && value;

	errno = saved;
	return set;
}

bool source_is_outside_v6(const struct endpoint *local)
{
	return !ip_is_v4(&local->addr) && !ip_is_any(&local->addr) && !ip_is_loopback(&local->addr);
}

static int bind_mirror(int fd, int family, uint32_t mirror)
{
	struct sockaddr_storage addr;
	socklen_t len = mirror_sockaddr(mirror, 0, family, &addr);

	return ports_bind(fd, (struct sockaddr *)&addr, len);
}

/* IP_BIND_ADDRESS_NO_PORT: the daemon must know the port before connect() chooses one. */
static int bind_port_too(int fd, int family, uint32_t mirror)
{
	int err;

	set_flag(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0);
	err = bind_mirror(fd, family, mirror);
	set_flag(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return err;
}

static int bind_source(int fd, bool want_v6, uint32_t mirror, struct socket_end *local)
{
	int family = local->family, err;
	bool was_v6only = family == AF_INET6 && want_v6 && source_is_v6only(fd);

	if (was_v6only)
		set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	err = bind_mirror(fd, family, mirror);
	if (err == -EADDRINUSE)
		return -EADDRNOTAVAIL; /* no port left: what connect says then */
	if (err < 0 && err != -EINVAL)
		return err;
	if (err == 0)
		err = socket_local(fd, local);
	else
		err = socket_local(fd, local) < 0 || local->ep.port == 0 ? -ENETUNREACH : 0;
	if (err == 0 && local->ep.port == 0) {
		err = bind_port_too(fd, family, mirror);
		if (err == 0)
			err = socket_local(fd, local);
	}
	return err;
}

static int take(int fd, const struct route *route, const struct map_own *own,
		struct socket_end *local)
{
	struct ip_addr mesh;
	uint32_t loopback;
	int err = bind_source(fd, !ip_is_v4(&route->mesh.addr), own->mirror, local);

	if (err < 0)
		return err;
	if (ip_is_any(&local->ep.addr)) {
		if (local->family == AF_INET6 && source_is_v6only(fd))
			return -ENETUNREACH;
		local->ep.addr = ip_from_v4(LOOPBACK_V4);
		return 0;
	}
	if (!loopback_of(&local->ep.addr, &loopback))
		return -ENETUNREACH;
	if (loopback == LOOPBACK_V4 || is_own_mirror(route->map, loopback, &mesh))
		return 0;
	return -ENETUNREACH;
}

/*
 * The kernel takes no address off that was bound, not even another one that a later connect()
 * chose. So the note that it was we who bound one, and not the program, stays with the socket:
 * lingering, which means nothing for datagrams.
 */
static void note_loose(int fd)
{
	const struct linger on = { .l_onoff = 1 };

	libc.setsockopt(fd, SOL_SOCKET, SO_LINGER, &on, sizeof(on));
}

static bool is_loose(int fd, const struct socket_end *local)
{
	struct linger value = { 0 };
	socklen_t len = sizeof(value);

	return local->ep.port == 0 &&
	       libc.getsockopt(fd, SOL_SOCKET, SO_LINGER, &value, &len) == 0 && value.l_onoff;
}

/*
 * A connected datagram socket has an address of where it is connected to. False: that is the
 * program's choice, and the socket is as it was.
 */
static bool disconnect_if_loose(int fd)
{
	struct sockaddr_storage none = { .ss_family = AF_UNSPEC }, peer;
	socklen_t len = sizeof(peer);
	struct socket_end local;
	int saved = errno;
	bool done = false;

	if (socket_type(fd) == SOCK_DGRAM &&
	    libc.getpeername(fd, (struct sockaddr *)&peer, &len) == 0) {
		libc.connect(fd, (struct sockaddr *)&none, sizeof(none));
		done = socket_local(fd, &local) == 0 &&
		       (ip_is_any(&local.ep.addr) || is_loose(fd, &local));
		if (!done)
			libc.connect(fd, (struct sockaddr *)&peer, len);
	}
	errno = saved;
	return done;
}

int source_take(int fd, const struct route *route, struct socket_end *local)
{
	int saved = errno, err;
	struct map_own own;

	if (!route_own(route, &own))
		return -ENETUNREACH;
	err = take(fd, route, &own, local);
	if (err == -ENETUNREACH && disconnect_if_loose(fd))
		err = take(fd, route, &own, local);
	errno = saved;
	return err;
}

/* On 127.0.0.1, which the kernel chose for a datagram socket on any address: towards a mirror. */
static bool is_chosen_for_mesh(const struct map *map, int fd, int type)
{
	struct socket_end peer;
	struct endpoint mesh;

	return type == SOCK_DGRAM && socket_peer(fd, &peer) == 0 &&
	       sender_to_mesh(map, &peer.ep, &mesh);
}

bool source_drop(int fd, int type)
{
	const struct map *map = shim_map();
	struct sockaddr_storage any = { .ss_family = AF_UNSPEC };
	struct socket_end local;
	struct ip_addr mesh;
	uint32_t loopback;
	int saved = errno;
	bool done;

	if (!map || socket_local(fd, &local) < 0 || !loopback_of(&local.ep.addr, &loopback))
		return false;
	if (!is_own_mirror(map, loopback, &mesh))
		return is_chosen_for_mesh(map, fd, type) && disconnect_if_loose(fd);
	if (type == SOCK_DGRAM)
		libc.connect(fd, (struct sockaddr *)&any, sizeof(any));
	any.ss_family = (sa_family_t)local.family;
	done = libc.bind(fd, (struct sockaddr *)&any,
			 local.family == AF_INET ? sizeof(struct sockaddr_in) : INET_ADDR_MAX) == 0;
	if (done && type == SOCK_DGRAM)
		note_loose(fd);
	errno = saved;
	return done;
}

void source_disconnected(int fd)
{
	const struct map *map = shim_map();
	struct sockaddr_storage any = { .ss_family = AF_UNSPEC };
	struct socket_end local;
	struct ip_addr mesh;
	uint32_t loopback;
	int saved = errno, was = 0;
	socklen_t len = sizeof(was);

	if (!map || socket_type(fd) != SOCK_DGRAM || socket_local(fd, &local) < 0 ||
	    local.ep.port != 0 || ip_is_any(&local.ep.addr) ||
	    !(is_loose(fd, &local) ||
	      (loopback_of(&local.ep.addr, &loopback) && is_own_mirror(map, loopback, &mesh))))
		return;
	libc.getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &was, &len);
	set_flag(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	any.ss_family = (sa_family_t)local.family;
	libc.bind(fd, (struct sockaddr *)&any,
		  local.family == AF_INET ? sizeof(struct sockaddr_in) : INET_ADDR_MAX);
	set_flag(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, was);
	errno = saved;
}

int source_explain_invalid(int fd)
{
	const struct map *map = shim_map();
	struct socket_end local;
	struct ip_addr mesh;
	uint32_t loopback;
	bool is_ours = map && socket_local(fd, &local) == 0 &&
		       loopback_of(&local.ep.addr, &loopback) &&
		       (is_own_mirror(map, loopback, &mesh) ||
			is_chosen_for_mesh(map, fd, socket_type(fd)));

	return is_ours ? ENETUNREACH : EINVAL;
}

bool source_is_taken(int type, const struct endpoint *at)
{
	int family = ip_is_v4(&at->addr) ? AF_INET : AF_INET6;
	struct sockaddr_storage addr;
	socklen_t len = endpoint_to_sockaddr(at, family, &addr);
	int saved = errno, on = 1;
	int fd = (int)raw_syscall(SYS_socket, family, type | SOCK_CLOEXEC, 0);
	bool taken = false;

	/* A socket of our own, not the program's: libc's table is not for it. */
	if (fd >= 0) {
		if (type == SOCK_STREAM)
			raw_syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		else if (family == AF_INET6)
			raw_syscall(SYS_setsockopt, fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		taken = raw_syscall(SYS_bind, fd, &addr, len) < 0 && errno == EADDRINUSE;
		raw_syscall(SYS_close, fd);
	}
	errno = saved;
	return taken;
}

struct endpoint source_own_target(int type, const struct route *route)
{
	struct endpoint mirror = { ip_from_v4(route->mirror), route->mesh.port };
	struct endpoint plain = { ip_from_v4(LOOPBACK_V4), route->mesh.port };
	struct endpoint v6 = { .addr.byte = { [15] = 1 }, .port = route->mesh.port };

	if (mirror.port == 0 || source_is_taken(type, &mirror))
		return mirror;
	if (source_is_taken(type, &plain))
		return plain;
	return !ip_is_v4(&route->mesh.addr) && source_is_taken(type, &v6) ? v6 : mirror;
}

void source_mark_own_v6(int fd)
{
	int saved = errno;

	set_flag(fd, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, IPV6_PREFER_SRC_TMP);
	errno = saved;
}

bool source_is_marked_own_v6(int fd)
{
	int value = 0, saved = errno;
	socklen_t len = sizeof(value);
	bool set = libc.getsockopt(fd, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, &value, &len) == 0 &&
		   (value & IPV6_PREFER_SRC_TMP);

	errno = saved;
	return set;
}

static struct endpoint endpoint_of_pair(uint32_t loopback, uint16_t port)
{
	struct endpoint ep = { ip_from_v4(loopback), port };

	if (loopback == 0)
		ep.addr = (struct ip_addr){ .byte = { [15] = 1 } };
	return ep;
}

int source_datagram_target(const struct route *route, const struct endpoint *local, bool v6only,
			   struct endpoint *to)
{
	struct ipc_request request;
	struct ipc_reply reply;
	uint32_t loopback;
	uint16_t port;
	int err;

	if (route->kind == ROUTE_OWN) {
		*to = source_own_target(SOCK_DGRAM, route);
		if (v6only)
			to->addr = (struct ip_addr){ .byte = { [15] = 1 } };
		return 0;
	}
	if (route->mesh.port == 0) {
		/* Nobody can be reached; connecting there is how some ask for their address. */
		*to = (struct endpoint){ ip_from_v4(route->mirror), 0 };
		return 0;
	}
	if (map_find_pair(route->map, v6only ? MAP_UDP_OUT6 : MAP_UDP_OUT, route->mirror,
			  route->mesh.port, &loopback, &port)) {
		*to = endpoint_of_pair(loopback, port);
		return 0;
	}
	ipc_make_request(&request, IPC_UDP_OPEN, local, &route->mesh, v6only ? IPC_UDP_V6ONLY : 0);
	err = control_ask(&request, SOURCE_WAIT_S, &reply);
	if (err < 0)
		return err;
	*to = (struct endpoint){ reply.mirror, reply.mirror_port };
	return 0;
}
