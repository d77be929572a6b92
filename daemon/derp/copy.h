/* Regions of the network map, copied, and what a node of one asks of a connection. */
#ifndef MESHWRAP_DAEMON_DERP_COPY_H
#define MESHWRAP_DAEMON_DERP_COPY_H

#include "daemon/netmap/types.h"
#include "daemon/stream.h"

#define DERP_NODES_MAX 16 /* of a region; more are left out */

/* One block: free() it. NULL: -ENOMEM. */
struct derp_region *derp_region_copy(const struct derp_region *region);
/* Whether connections to both are made alike. */
bool derp_region_same(const struct derp_region *a, const struct derp_region *b);

struct derp_target {
	struct endpoint candidate[2];
	struct net_stream_options options; /* into candidate, the node and tls */
};
/* How to reach a node; false where the map says not to, or nonsense. */
bool derp_node_target(const struct derp_node *node, const struct tls_context *tls,
		      struct derp_target *target);
/* The value of Host:. */
void derp_node_authority(const struct derp_node *node, char text[static 300]);

#endif
