/*
 * Giving a socket its mesh identity: the own mirror as its source, and for
 * datagrams the daemon's socket that stands for the destination.
 */
#ifndef MESHWRAP_PRELOAD_SOURCE_H
#define MESHWRAP_PRELOAD_SOURCE_H

#include <stdbool.h>

#include "preload/address.h"

/* An answer that needs no dialling comes at once; this only bounds a hanging daemon. */
#define SOURCE_WAIT_S 5

/*
 * Binds fd to our own mirror of the route's family unless it is bound, and puts
 * into local where the kernel will send from (local->family must be set).
 * -ENETUNREACH when that is no source the mesh has; other -errno as connect's.
 */
int source_take(int fd, const struct route *route, struct socket_end *local);
/* Undoes it for a socket that is to be used outside the mesh; false if it was not ours. */
bool source_drop(int fd, int type);

/*
 * A datagram socket was connected to nobody: the mirror that was bound for its connect(), or what
 * has come in the place of one, is taken off, so that it can send anywhere. One that has kept its
 * port is bound by the program.
 */
void source_disconnected(int fd);

/*
 * The kernel's EINVAL to a call that would have left this machine. A socket on our own
 * mirror, or connected to one, cannot, which is a missing route in the program's eyes.
 */
int source_explain_invalid(int fd);

bool source_is_v6only(int fd);
/* Bound to an IPv6 address that is not the loopback one: of IPv6 there is only ::1 to talk to. */
bool source_is_outside_v6(const struct endpoint *local);

/*
 * Is somebody of this machine bound to at (or to the wildcard there)? A stream
 * must be listening to count. False where we may not look: ports below 1024.
 */
bool source_is_taken(int type, const struct endpoint *at);

/*
 * Where a socket that wants our own address must go: the mirror, 127.0.0.1 when
 * only that has a listener, ::1 likewise for an IPv6 address.
 */
struct endpoint source_own_target(int type, const struct route *route);

/*
 * A connection over ::1 to our own IPv6 address looks like any other over ::1;
 * no source address can tell. The socket is told to prefer temporary
 * source addresses, which means nothing there, and stays with the socket.
 */
void source_mark_own_v6(int fd);
bool source_is_marked_own_v6(int fd);

/*
 * Where datagrams for a route must be sent, as the kernel is to be told:
 * a loopback endpoint. local may have port 0. 0 or -errno.
 */
int source_datagram_target(const struct route *route, const struct endpoint *local, bool v6only,
			   struct endpoint *to);

#endif
