/*
 * From the nodes' prefixes to the map's directory: which addresses belong to
 * the mesh, and the mirror of each. Pure: blocks of 127/8 are asked for
 * through a callback.
 */
#ifndef MESHWRAP_DAEMON_EDGE_PLAN_H
#define MESHWRAP_DAEMON_EDGE_PLAN_H

#include <stdbool.h>

#include "daemon/edge/edge.h"
#include "shared/map.h"
#include "shared/util.h"

struct dns_table;
struct plan;

struct plan_blocks {
	/*
	 * May 127.block.0.0/16 be used by us? 0: it is ours until given back; -EADDRINUSE: it is
	 * somebody's; another -errno: that cannot be told now, of any block.
	 */
	int (*take)(void *owner, unsigned block);
	void (*give_back)(void *owner, unsigned block);
	/* Calls plan_keep() with the mirror of each flow. NULL: there are none. */
	void (*keep_living)(void *owner, struct plan *plan);
	void *owner;
};

/* Nobody has had the address for so long: then its mirror may be another's. */
#define PLAN_REST_NS (3600 * NS_PER_S)

struct plan *plan_create(const struct plan_blocks *blocks);
void plan_destroy(struct plan *plan);

/*
 * Fills own addresses, ranges and mirrors of dir. An address that had a mirror
 * keeps it in all later calls, until it was in none of them for PLAN_REST_NS. 0,
 * -EINVAL, -E2BIG, -EADDRNOTAVAIL, -ENOMEM or what take() said, and error says in one sentence
 * why.
 */
int plan_apply(struct plan *plan, const struct edge_node *nodes, unsigned count, uint64_t now_ns,
	       struct map_directory *dir, char error[static 256]);
/* A flow has this mirror: it rests anew. Only from inside keep_living(). */
void plan_keep(struct plan *plan, uint32_t mirror);

/*
 * The mirror of an address by itself, from the same blocks as those of IPv6, for ever. As
 * plan_apply().
 */
int plan_single(struct plan *plan, const struct ip_addr *addr, uint32_t *mirror,
		char error[static 256]);
/*
 * After plan_apply(): one address with a mirror of its own, whatever network it
 * lies in. As plan_apply().
 */
int plan_add_single(struct plan *plan, const struct ip_addr *addr, struct map_directory *dir,
		    char error[static 256]);

/*
 * Fills names, suffixes and search domains of dir; NULL: there are none. What
 * the map cannot hold is left out: how many names that is.
 */
unsigned plan_names(const struct dns_table *names, struct map_directory *dir);

#endif
