/*
 * Between what the program says (mesh addresses) and what the kernel has
 * (loopback mirrors), in both directions. Nothing here changes a socket.
 */
#ifndef MESHWRAP_PRELOAD_ADDRESS_H
#define MESHWRAP_PRELOAD_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shared/endpoint.h"
#include "shared/map.h"

/* No full INET address is longer than this: a buffer of this size shows all of it. */
#define INET_ADDR_MAX ((socklen_t)28)

enum route_kind {
	ROUTE_OUTSIDE, /* no mesh address, or none we can read: leave the call alone */
	ROUTE_OWN,     /* this node's own address */
	ROUTE_PEER,    /* another node, and the daemon lives */
	ROUTE_SERVER,  /* port 53 of a name server of this machine, and the daemon lives */
	ROUTE_CLOSED   /* a mesh address that cannot be reached: fail with error */
};

struct route {
	enum route_kind kind;
	int error;       /* of ROUTE_CLOSED, a positive errno */
	uint32_t mirror; /* of ROUTE_OWN, ROUTE_PEER and ROUTE_SERVER */
	struct endpoint mesh;
	const struct map *map;
};

/*
 * Where does this address of the program's lead? The usual answer, OUTSIDE,
 * costs a range look-up.
 */
enum route_kind route_find(const struct sockaddr *addr, socklen_t len, struct route *route);

/*
 * The own address to talk to it from: of its family. A name server is answered
 * by the daemon itself, so any will do.
 */
bool route_own(const struct route *route, struct map_own *own);

/* Could the program own this memory? Spares obvious nonsense a crash: the kernel says EFAULT. */
static inline bool is_plausible(const void *p)
{
	return (uintptr_t)p - 4096 < (UINTPTR_MAX >> 1) - 8192;
}

/* One end of a socket as the kernel has it. */
struct socket_end {
	int family;
	struct endpoint ep;
};
/* 0 or -errno. A socket of another family than INET has an unset ep. */
int socket_local(int fd, struct socket_end *end);
int socket_peer(int fd, struct socket_end *end);
/* Of a connection that has ended, too: the peer's name while it stood. family: the socket's. */
int socket_last_peer(int fd, int family, struct socket_end *end);
/* Both, the peer's as socket_last_peer(); false unless its own is on loopback. */
bool socket_ends(int fd, struct endpoint *local, struct endpoint *peer);
/* An integer of SOL_SOCKET, or -errno. */
int socket_option(int fd, int name);
/* SOCK_STREAM, SOCK_DGRAM for UDP, SOCK_RAW for all others ("ping" sockets too), or -errno. */
int socket_type(int fd);
/* Is it a netlink socket on which the kernel lists links and addresses? */
bool socket_lists_interfaces(int fd);

/* 127/8 in either family's form gives that address, ::1 gives 0 as in map.h. */
bool loopback_of(const struct ip_addr *ip, uint32_t *loopback);
/* A mirror, as AF_INET or v4-mapped: to is what the kernel is given. */
socklen_t mirror_sockaddr(uint32_t mirror, uint16_t port, int family, struct sockaddr_storage *to);

/* Is this loopback address one of our own addresses' mirror? */
bool is_own_mirror(const struct map *map, uint32_t loopback, struct ip_addr *mesh);

/*
 * The mesh endpoint behind the kernel's names; false: show what the kernel
 * says. These may ask the kernel for the other end.
 */
bool stream_peer_to_mesh(const struct map *map, int fd, const struct endpoint *peer,
			 struct endpoint *mesh);
bool datagram_peer_to_mesh(const struct map *map, int fd, const struct endpoint *peer,
			   struct endpoint *mesh);
/* The same for where a datagram came from; asks nobody. */
bool sender_to_mesh(const struct map *map, const struct endpoint *from, struct endpoint *mesh);
/* The peer of an accepted stream, by its name alone. Asks nobody; false: not from the mesh. */
bool inbound_peer_to_mesh(const struct map *map, const struct endpoint *peer,
			  struct endpoint *mesh);
bool local_to_mesh(const struct map *map, int fd, const struct endpoint *local,
		   struct endpoint *mesh);

/*
 * mesh in the form a socket of this family shows it; 0 when it cannot (an IPv6
 * node without an IPv4 address, on an AF_INET socket).
 */
socklen_t mesh_sockaddr(const struct map *map, const struct endpoint *mesh, int family,
			struct sockaddr_storage *to);

/* The flow between two ends that the kernel names; false: the map has none. */
bool flow_between(const struct map *map, const struct endpoint *local, const struct endpoint *peer,
		  struct map_flow *flow);
/* The same of a socket that dialled: if the daemon holds, carries or refused a flow for it. */
bool dialled_flow(const struct map *map, const struct endpoint *local, const struct endpoint *peer,
		  struct map_flow *flow);
/* The same of a connected socket, whose peer is known. */
bool dialled_by(const struct map *map, int fd, const struct endpoint *peer, struct map_flow *flow);

#endif
