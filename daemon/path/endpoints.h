/* This host's interface addresses, as far as they are worth telling to peers. */
#ifndef MESHWRAP_DAEMON_PATH_ENDPOINTS_H
#define MESHWRAP_DAEMON_PATH_ENDPOINTS_H

#include "shared/endpoint.h"

#define LOCAL_ADDRESSES_MAX 32

/*
 * Addresses of interfaces that are up, without loopback (only when there is
 * nothing else), link-local, multicast, and the mesh's own ranges. How many, or -errno.
 */
int local_addresses(struct ip_addr out[static LOCAL_ADDRESSES_MAX]);

#endif
