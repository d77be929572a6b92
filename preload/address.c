/*
 * The translation in both directions.
 *
 * Outward the rule is one look-up: the map is a bijection. Inward the kernel's
 * names say less than the program must see, and three tables complete them:
 * - an outbound TCP flow has the HOLD port as its kernel peer port; the flow
 *   table, found by the local end, has the real remote;
 * - an inbound TCP flow usually has the true peer port; where the daemon could
 *   not take it, MAP_TCP_IN has the pair;
 * - a UDP socket of the daemon always stands for another port: MAP_UDP_IN.
 * A plain 127.0.0.1 or ::1 end is ours exactly when the other end is a mirror:
 * the daemon reached a loopback listener, or a program dialled its own address.
 */
#include "preload/address.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include <linux/netlink.h>
#include <linux/tcp.h>

#include "preload/libc.h"
#include "preload/shim.h"
#include "preload/source.h"

#define LOOPBACK_V4 0x7f000001u

static enum route_kind route_closed(struct route *route, int error)
{
	route->error = error;
	route->kind = ROUTE_CLOSED;
	return ROUTE_CLOSED;
}

static enum route_kind route_to_peer(struct route *route)
{
	const struct map *map = route->map;

	if (__builtin_expect(!map_is_alive(map), 0)) {
		map = shim_map_again(map);
		if (!map || !map_is_alive(map) ||
		    map_to_mirror(map, &route->mesh.addr, &route->mirror) != MAP_PEER)
			return route_closed(route, ENETUNREACH);
		route->map = map;
	}
	route->kind = ROUTE_PEER;
	return ROUTE_PEER;
}

/* Nothing is known of any mesh: the usual ranges are closed all the same. */
static enum route_kind route_without_map(struct route *route)
{
	if (shim_is_on() && shim_is_default_mesh(&route->mesh.addr))
		return route_closed(route, ENETUNREACH);
	return ROUTE_OUTSIDE;
}

/* Unlike the mesh, name servers are what they always were when the daemon is gone. */
static bool is_server(struct route *route)
{
	return map_server_mirror(route->map, &route->mesh.addr, &route->mirror) &&
	       map_is_alive(route->map);
}

enum route_kind route_find(const struct sockaddr *addr, socklen_t len, struct route *route)
{
	const struct map *map;

	route->kind = ROUTE_OUTSIDE;
	route->map = NULL;
	if (!is_plausible(addr) || len > sizeof(struct sockaddr_storage) ||
	    endpoint_from_sockaddr(addr, len, &route->mesh) < 0)
		return ROUTE_OUTSIDE; /* the kernel refuses it */
	map = shim_map();
	if (!map && shim_is_default_mesh(&route->mesh.addr))
		map = shim_map_again(NULL);
	if (!map || map_dir(map)->range_count == 0)
		return route_without_map(route);
	route->map = map;
	if (__builtin_expect(route->mesh.port == MAP_DNS_PORT, 0) && is_server(route)) {
		route->kind = ROUTE_SERVER;
		return ROUTE_SERVER;
	}
	switch (map_to_mirror(map, &route->mesh.addr, &route->mirror)) {
	case MAP_OUTSIDE:
		return ROUTE_OUTSIDE;
	case MAP_OWN:
		route->kind = ROUTE_OWN;
		return ROUTE_OWN;
	case MAP_PEER:
		return route_to_peer(route);
	case MAP_NO_MIRROR:
		break;
	}
	return route_closed(route, map_is_alive(map) ? EHOSTUNREACH : ENETUNREACH);
}

bool route_own(const struct route *route, struct map_own *own)
{
	bool v6 = !ip_is_v4(&route->mesh.addr);

	return map_own(route->map, v6, own) ||
	       (route->kind == ROUTE_SERVER && map_own(route->map, !v6, own));
}

static int socket_end(int (*get)(int fd, struct sockaddr *addr, socklen_t *len), int fd,
		      struct socket_end *end)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int saved = errno, err;

	if (get(fd, (struct sockaddr *)&name, &len) < 0) {
		err = -errno;
		errno = saved;
		return err;
	}
	end->family = len >= sizeof(name.ss_family) ? name.ss_family : AF_UNSPEC;
	if (endpoint_from_sockaddr(&name, len, &end->ep) < 0)
		end->ep = (struct endpoint){ 0 };
	return 0;
}

int socket_local(int fd, struct socket_end *end)
{
	return socket_end(libc.getsockname, fd, end);
}

int socket_peer(int fd, struct socket_end *end)
{
	return socket_end(libc.getpeername, fd, end);
}

/* Asked with more room than the name has, SO_PEERNAME refuses. */
int socket_last_peer(int fd, int family, struct socket_end *end)
{
	struct sockaddr_storage name;
	socklen_t len = family == AF_INET6 ? sizeof(struct sockaddr_in6)
					   : sizeof(struct sockaddr_in);
	int saved = errno, err = 0;

	if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &name, &len) < 0)
		err = -errno;
	errno = saved;
	end->family = family;
	return err ? err : endpoint_from_sockaddr(&name, len, &end->ep);
}

int socket_option(int fd, int name)
{
	int value, saved = errno, err;
	socklen_t len = sizeof(value);

	if (libc.getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0) {
		err = -errno;
		errno = saved;
		return err;
	}
	return value;
}

int socket_type(int fd)
{
	int type = socket_option(fd, SO_TYPE);

	if (type < 0 || type == SOCK_STREAM)
		return type;
	if (type == SOCK_DGRAM && socket_option(fd, SO_PROTOCOL) == IPPROTO_UDP)
		return type;
	return SOCK_RAW;
}

bool socket_has_received(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int saved = errno;
	bool known = libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0;

	errno = saved;
	return known && info.tcpi_bytes_received > 0;
}

bool socket_lists_interfaces(int fd)
{
	return socket_option(fd, SO_DOMAIN) == AF_NETLINK &&
	       socket_option(fd, SO_PROTOCOL) == NETLINK_ROUTE;
}

bool loopback_of(const struct ip_addr *ip, uint32_t *loopback)
{
	if (ip_is_v4(ip)) {
		*loopback = ip_v4(ip);
		return *loopback >> 24 == 127;
	}
	*loopback = 0;
	return ip_is_loopback(ip);
}

socklen_t mirror_sockaddr(uint32_t mirror, uint16_t port, int family, struct sockaddr_storage *to)
{
	struct endpoint ep = { ip_from_v4(mirror), port };

	return endpoint_to_sockaddr(&ep, family, to);
}

bool is_own_mirror(const struct map *map, uint32_t loopback, struct ip_addr *mesh)
{
	uint32_t mirror;

	return map_from_mirror(map, loopback, mesh) && map_to_mirror(map, mesh, &mirror) == MAP_OWN;
}

static bool is_plain_loopback(uint32_t loopback)
{
	return loopback == LOOPBACK_V4 || loopback == 0;
}

bool dialled_flow(const struct map *map, const struct endpoint *local, struct map_flow *flow)
{
	uint32_t loopback;

	return loopback_of(&local->addr, &loopback) &&
	       map_find_flow(map, loopback, local->port, flow);
}

bool flow_fits(const struct map *map, const struct map_flow *flow, const struct endpoint *peer)
{
	struct ip_addr other;
	uint32_t mirror;

	if (!map_is_dial_port(map, peer->port) || !ip_is_v4(&peer->addr))
		return false;
	if (flow->remote_port == MAP_DNS_PORT && map_server_mirror(map, &flow->remote, &mirror))
		return mirror == ip_v4(&peer->addr);
	switch (map_to_mirror(map, &flow->remote, &mirror)) {
	case MAP_PEER:
		return mirror == ip_v4(&peer->addr);
	case MAP_OWN:
		return false;
	case MAP_NO_MIRROR:
	case MAP_OUTSIDE:
		break;
	}
	/* It has gone from the mesh since, and for a while its mirror is nobody's. */
	return !is_plain_loopback(ip_v4(&peer->addr)) &&
	       !map_from_mirror(map, ip_v4(&peer->addr), &other);
}

/* A loopback end that is a mirror, or a pair of table that stands for one. */
static bool end_to_mesh(const struct map *map, enum map_table table, const struct endpoint *end,
			struct endpoint *mesh)
{
	uint32_t loopback, mirror;
	uint16_t port;

	if (!loopback_of(&end->addr, &loopback))
		return false;
	if (!map_find_pair(map, table, loopback, end->port, &mirror, &port)) {
		mirror = loopback;
		port = end->port;
	}
	mesh->port = port;
	return map_from_mirror(map, mirror, &mesh->addr);
}

/* Does this end of a connection over ::1 stand for our own IPv6 address? */
static bool own_v6_to_mesh(const struct map *map, int fd, const struct endpoint *end,
			   struct endpoint *mesh)
{
	struct map_own own;

	if (!source_is_marked_own_v6(fd) || !map_own(map, true, &own))
		return false;
	*mesh = (struct endpoint){ own.addr, end->port };
	return true;
}

/* 127.0.0.1 or ::1 as the peer of a socket on our own mirror. */
static bool plain_peer_to_mesh(const struct map *map, int fd, const struct endpoint *peer,
			       struct endpoint *mesh)
{
	struct socket_end local;
	uint32_t loopback;

	if (!loopback_of(&peer->addr, &loopback) || !is_plain_loopback(loopback) ||
	    socket_local(fd, &local) < 0 || !loopback_of(&local.ep.addr, &loopback))
		return false;
	mesh->port = peer->port;
	if (loopback == 0)
		return own_v6_to_mesh(map, fd, peer, mesh);
	return is_own_mirror(map, loopback, &mesh->addr);
}

bool sender_to_mesh(const struct map *map, const struct endpoint *from, struct endpoint *mesh)
{
	return end_to_mesh(map, MAP_UDP_IN, from, mesh);
}

bool datagram_peer_to_mesh(const struct map *map, int fd, const struct endpoint *peer,
			   struct endpoint *mesh)
{
	return end_to_mesh(map, MAP_UDP_IN, peer, mesh) || plain_peer_to_mesh(map, fd, peer, mesh);
}

bool inbound_peer_to_mesh(const struct map *map, const struct endpoint *peer, struct endpoint *mesh)
{
	return end_to_mesh(map, MAP_TCP_IN, peer, mesh);
}

bool stream_peer_to_mesh(const struct map *map, int fd, const struct endpoint *peer,
			 struct endpoint *mesh)
{
	struct socket_end local;
	struct map_flow flow;
	uint32_t loopback;

	if (!loopback_of(&peer->addr, &loopback))
		return false;
	if (map_is_dial_port(map, peer->port) && socket_local(fd, &local) == 0 &&
	    dialled_flow(map, &local.ep, &flow) && flow_fits(map, &flow, peer)) {
		*mesh = (struct endpoint){ flow.remote, flow.remote_port };
		return true;
	}
	return end_to_mesh(map, MAP_TCP_IN, peer, mesh) || plain_peer_to_mesh(map, fd, peer, mesh);
}

/* 127.0.0.1 or ::1: ours when the other end is on the mesh. */
static bool plain_local_to_mesh(const struct map *map, int fd, const struct endpoint *local,
				struct endpoint *mesh)
{
	struct socket_end peer;
	struct endpoint remote;
	struct map_flow flow;
	struct map_own own;
	int err = socket_peer(fd, &peer);
	bool found = false;

	if (err == -ENOTCONN && dialled_flow(map, local, &flow) && flow.state == MAP_FLOW_HELD) {
		remote.addr = flow.remote;
		found = true;
	} else if (err == 0) {
		found = end_to_mesh(map, socket_type(fd) == SOCK_DGRAM ? MAP_UDP_IN : MAP_TCP_IN,
				    &peer.ep, &remote);
	}
	if (!found && err == 0 && !ip_is_v4(&local->addr))
		return own_v6_to_mesh(map, fd, local, mesh);
	if (!found || !map_own(map, !ip_is_v4(&remote.addr), &own))
		return false;
	mesh->addr = own.addr;
	mesh->port = local->port;
	return true;
}

bool local_to_mesh(const struct map *map, int fd, const struct endpoint *local,
		   struct endpoint *mesh)
{
	uint32_t loopback;

	if (!loopback_of(&local->addr, &loopback))
		return false;
	if (is_plain_loopback(loopback))
		return plain_local_to_mesh(map, fd, local, mesh);
	mesh->port = local->port;
	return is_own_mirror(map, loopback, &mesh->addr);
}

socklen_t mesh_sockaddr(const struct map *map, const struct endpoint *mesh, int family,
			struct sockaddr_storage *to)
{
	struct endpoint shown = *mesh;

	if (family == AF_INET && !ip_is_v4(&shown.addr) &&
	    !map_v4_of_v6(map, &mesh->addr, &shown.addr))
		return 0;
	return endpoint_to_sockaddr(&shown, family, to);
}
