/*
 * Connections to the mesh that begin inside the daemon (the proxy), not in a
 * program with the shim: dialled first, then joined to a socket.
 */
#ifndef MESHWRAP_DAEMON_EDGE_DIAL_H
#define MESHWRAP_DAEMON_EDGE_DIAL_H

#include <stdbool.h>

#include "shared/endpoint.h"

struct edge;
struct flow;

/* error 0: call dial_join() now or later, or dial_cancel(). Else a positive errno, and it is gone.
 */
typedef void dial_done(void *arg, int error);

/* Does this address go through the mesh: a peer, ourselves, or a mesh range without a node? */
bool dial_is_mesh(const struct edge *edge, const struct ip_addr *addr);
/*
 * 0 and the dial under way (done() follows, never from inside), or a positive
 * errno. Not for our own addresses: dial_own() says where these are.
 */
int dial_start(struct edge *edge, const struct endpoint *remote, dial_done *done, void *arg,
	       struct flow **dial);
/* One of our own mesh addresses: the loopback addresses where programs may listen, up to three. */
unsigned dial_own(const struct edge *edge, const struct endpoint *remote,
		  struct endpoint at[static 3]);
/* fd is an established stream socket; from now on both are the edge's. */
void dial_join(struct flow *dial, int fd);
void dial_cancel(struct flow *dial);

#endif
