/*
 * Cryptokey routing: which peer an inner address belongs to, by the longest
 * prefix. A prefix belongs to one peer: giving it to another takes it away.
 */
#ifndef MESHWRAP_DAEMON_WG_ALLOWEDIPS_H
#define MESHWRAP_DAEMON_WG_ALLOWEDIPS_H

#include <stdint.h>

#include "shared/endpoint.h"

struct wg_peer;
struct wg_allowed_node;

struct wg_allowedips {
	struct wg_allowed_node *node; /* node 0 stands for none */
	uint32_t used, capacity;
	uint32_t unused; /* list of freed nodes */
	uint32_t root[2];
	uint32_t prefixes;
};

/* A peer's prefixes; zero is none. */
struct wg_allowed_list {
	uint32_t first;
};

/*
 * Room for so many more prefixes, so that inserting never fails; with a list, for as many in its
 * place, when all of it will have been removed. 0, -E2BIG or -ENOMEM.
 */
int wg_allowedips_reserve(struct wg_allowedips *a, uint32_t prefixes,
			  const struct wg_allowed_list *instead_of);
void wg_allowedips_finish(struct wg_allowedips *a);
/*
 * len counts in the address's own family; bits beyond it are ignored. list is
 * the peer's and stays where it is while it has prefixes.
 */
void wg_allowedips_insert(struct wg_allowedips *a, const struct ip_addr *addr, uint8_t len,
			  struct wg_peer *peer, struct wg_allowed_list *list);
void wg_allowedips_remove_all(struct wg_allowedips *a, struct wg_allowed_list *list);
struct wg_peer *wg_allowedips_lookup(const struct wg_allowedips *a, const struct ip_addr *addr);

#endif
