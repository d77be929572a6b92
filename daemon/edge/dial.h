/*
 * Connections and datagrams to the mesh that begin inside the daemon (the proxy),
 * not in a program with the shim.
 */
#ifndef MESHWRAP_DAEMON_EDGE_DIAL_H
#define MESHWRAP_DAEMON_EDGE_DIAL_H

#include <stdbool.h>

#include "daemon/edge/targets.h"
#include "shared/endpoint.h"

struct edge;
struct flow;

/*
 * error 0: dial_join() or dial_cancel() must be called before this returns. Else a
 * positive errno, and the dial is gone. Never called from inside dial_start().
 */
typedef void dial_done(void *arg, int error);

enum dial_way {
	DIAL_DIRECT, /* no mesh address */
	DIAL_MESH,   /* a peer's, or one of a mesh range that nobody has: by dial_start() */
	DIAL_OWN     /* ours: by dial_own() */
};

enum dial_way dial_way_to(const struct edge *edge, const struct ip_addr *addr);
/* The addresses of a mesh name, as many as fit; 0: the mesh has no such name. */
unsigned dial_find_name(const struct edge *edge, const char *name, struct ip_addr *addr,
			unsigned max);

/* 0 and the dial under way, or a positive errno. */
int dial_start(struct edge *edge, const struct endpoint *remote, dial_done *done, void *arg,
	       struct flow **dial);
/* fd is an established stream socket; from now on both are the edge's. */
void dial_join(struct flow *dial, int fd);
void dial_cancel(struct flow *dial);

/* Where programs of this node may listen for what is sent to one of its own addresses. */
unsigned dial_own(const struct edge *edge, const struct endpoint *own, int type,
		  struct endpoint at[static TARGETS_MAX]);

/* The first of them where somebody listens, or where nobody is known to; false: it is not ours. */
bool dial_own_taker(const struct edge *edge, const struct endpoint *own, int type,
		    struct endpoint *at);
/* A UDP socket whose datagrams to dial_udp_way()s leave from our address of that family. */
int dial_udp_open(const struct edge *edge, bool v6);
/* Where a datagram to a peer's endpoint must be sent to. 0 or a positive errno. */
int dial_udp_way(struct edge *edge, const struct endpoint *remote, struct endpoint *way);
/* Whom a datagram that came from there is from. */
bool dial_udp_from(const struct edge *edge, const struct endpoint *way, struct endpoint *remote);

#endif
