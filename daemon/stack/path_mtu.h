/*
 * What routers beyond a peer have said about how long an IPv6 packet may be (RFC 8201).
 *
 * TCP keeps its own; this is for datagrams, which only their sender may cut.
 */
#ifndef MESHWRAP_DAEMON_STACK_PATH_MTU_H
#define MESHWRAP_DAEMON_STACK_PATH_MTU_H

#include <stdint.h>

#include "shared/endpoint.h"
#include "shared/util.h"

#define PATH_MTUS        64u              /* destinations remembered; who was told of first goes */
#define PATH_MTU_LEAST   1280u            /* no IPv6 link carries less (RFC 8200, 5) */
#define PATH_MTU_LIFE_NS (600 * NS_PER_S) /* then a longer one is tried again (RFC 8201, 4) */

/* Zero-initialised: nothing is known. */
struct path_mtus {
	struct path_mtu {
		struct ip_addr to;
		uint32_t mtu;
		uint64_t expires_ns;
	} entry[PATH_MTUS];
	unsigned count, next;
};

/* A router on the way to that address takes no more than mtu, or than PATH_MTU_LEAST. */
void path_mtus_learn(struct path_mtus *m, const struct ip_addr *to, uint32_t mtu, uint64_t now_ns);
/* UINT32_MAX: nothing is known. */
uint32_t path_mtus_find(const struct path_mtus *m, const struct ip_addr *to, uint64_t now_ns);

#endif
