/*
 * The translation in both directions.
 *
 * Outward the rule is one look-up: the map is a bijection. Inward the kernel's
 * names say less than the program must see, and three tables complete them:
 * - an outbound TCP flow has the HOLD port as its kernel peer port; the flow
 *   table, found by both ends, has the real remote;
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
	route->mirror = 0;
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

bool socket_ends(int fd, struct endpoint *local, struct endpoint *peer)
{
	struct socket_end end;

	if (socket_local(fd, &end) < 0 || !ip_is_loopback(&end.ep.addr))
		return false;
	*local = end.ep;
	if (socket_last_peer(fd, end.family, &end) < 0)
		return false;
	*peer = end.ep;
	return true;
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

bool flow_between(const struct map *map, const struct endpoint *local, const struct endpoint *peer,
		  struct map_flow *flow)
{
	struct map_ends ends = { .local_port = local->port, .peer_port = peer->port };

	return loopback_of(&local->addr, &ends.local_addr) &&
	       loopback_of(&peer->addr, &ends.peer_addr) && map_find_flow(map, &ends, flow);
}

bool dialled_flow(const struct map *map, const struct endpoint *local, const struct endpoint *peer,
		  struct map_flow *flow)
{
	return map_is_dial_port(map, peer->port) && flow_between(map, local, peer, flow);
}

bool dialled_by(const struct map *map, int fd, const struct endpoint *peer, struct map_flow *flow)
{
	struct socket_end local;

	return map_is_dial_port(map, peer->port) && socket_local(fd, &local) == 0 &&
	       dialled_flow(map, &local.ep, peer, flow);
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
	struct map_flow flow;
	uint32_t loopback;

	if (!loopback_of(&peer->addr, &loopback))
		return false;
	if (dialled_by(map, fd, peer, &flow)) {
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

	if (err == -ENOTCONN && socket_last_peer(fd, socket_option(fd, SO_DOMAIN), &peer) == 0 &&
	    dialled_flow(map, local, &peer.ep, &flow) && flow.state == MAP_FLOW_HELD) {
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
