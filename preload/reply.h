/*
 * Socket addresses the kernel has written into the program's buffer, and how
 * we write over them: as much as fits, with the full length told, as the
 * kernel does it.
 */
#ifndef MESHWRAP_PRELOAD_REPLY_H
#define MESHWRAP_PRELOAD_REPLY_H

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/address.h"

/* The size of the program's buffer before the call; 0: there is nothing to translate into. */
static inline socklen_t reply_room(const struct sockaddr *addr, const socklen_t *len)
{
	return addr && is_plausible(len) && (int)*len > 0 ? *len : 0;
}

/* Did the kernel's answer of full bytes fit into room? */
static inline bool reply_is_whole(const struct sockaddr *addr, socklen_t room, socklen_t full)
{
	return full <= room && room >= sizeof(addr->sa_family);
}

/* Cheap: an INET loopback address, which alone can be a mirror. */
static inline bool reply_may_be_mesh(const struct sockaddr *addr, socklen_t len)
{
	const unsigned char *b = (const unsigned char *)addr;
	static const unsigned char zero[15];

	if (len < 8) /* none at all, perhaps: a stream's recvfrom() touches no name */
		return false;
	if (addr->sa_family == AF_INET)
		return b[4] == 127;
	if (addr->sa_family != AF_INET6 || len < 24 || memcmp(b + 8, zero, 10) != 0)
		return false;
	return (b[18] == 0xff && b[19] == 0xff && b[20] == 127) ||
	       (memcmp(b + 18, zero, 5) == 0 && b[23] == 1);
}

/* Into a buffer of room bytes, cut off where it ends; *len tells the full length. */
static inline void reply_write(const struct map *map, const struct endpoint *mesh, int family,
			       struct sockaddr *addr, socklen_t room, socklen_t *len)
{
	struct sockaddr_storage shown;
	socklen_t full = mesh_sockaddr(map, mesh, family, &shown);

	if (full == 0)
		return;
	memcpy(addr, &shown, full < room ? full : room);
	*len = full;
}

#endif
