/* What connect() does with a mesh address, for the other calls that dial or judge a dial. */
#ifndef MESHWRAP_PRELOAD_DIAL_H
#define MESHWRAP_PRELOAD_DIAL_H

#include "preload/address.h"

/* connect() to a route that is not OUTSIDE; -1 with errno. */
int dial(int fd, const struct sockaddr *addr, socklen_t len, const struct route *route);

/*
 * The true errno of the dial between these ends, if the flow table knows it as failed, else 0. A
 * socket that the kernel still shows as connected is disconnected.
 */
int dial_verdict(int fd, const struct map *map, const struct endpoint *local,
		 const struct endpoint *peer);

/* The errno of a connection that was reset because its far side had fallen silent, else 0. */
int dial_lost(const struct map *map, const struct endpoint *local, const struct endpoint *peer);

/*
 * A datagram was refused: if this socket is connected to a name server by way of a
 * daemon that has died, it is connected to the server itself from now on.
 */
void dial_refused(int fd);

/*
 * A stream of the program's was reset (errno ECONNRESET): errno becomes its dial's, if that failed,
 * or what dial_lost() says.
 */
void dial_reset(int fd);

#endif
