/*
 * "What is my IP?", as programs ask it: a UDP socket connected to somewhere
 * far away, then getsockname(); the source of the kernel's route there; or the
 * address of the own host name. All give the mesh address. meshrun --no-primary
 * (MESHWRAP_PRIMARY=0) turns it off.
 */
#ifndef MESHWRAP_PRELOAD_PRIMARY_H
#define MESHWRAP_PRELOAD_PRIMARY_H

#include <stdbool.h>
#include <sys/socket.h>

#include "preload/address.h"

extern bool primary_wanted;

static inline bool primary_is_on(void)
{
	return primary_wanted;
}

/* A connect() to addr has succeeded; to is the same where addr is an Internet address. */
void primary_connected(int fd, const struct sockaddr *addr, const struct endpoint *to);
/* The same of bind(). */
void primary_bound(int fd, const struct sockaddr *addr, const struct endpoint *at);

/* primary_connected() has seen a socket of this number: primary_local() is to be asked. */
bool primary_is_asked(int fd);

/*
 * The kernel says that local is a socket's own end. True: the mesh address is to be
 * shown instead.
 */
bool primary_local(const struct map *map, int fd, const struct endpoint *local,
		   struct endpoint *mesh);

/* The same of the source of a route to an address outside the mesh. */
bool primary_source(const struct map *map, const struct ip_addr *to, struct ip_addr *mesh);

/* gethostname(), or its full form in the hosts file. May allocate. */
bool primary_is_own_name(const char *name);

#endif
