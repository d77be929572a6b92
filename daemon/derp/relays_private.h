/* The set of relays and one of its regions. See relays.c. */
#ifndef MESHWRAP_DAEMON_DERP_RELAYS_PRIVATE_H
#define MESHWRAP_DAEMON_DERP_RELAYS_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/derp/relays.h"
#include "daemon/derp/waiting.h"
#include "daemon/netmap/types.h"
#include "daemon/stream.h"
#include "shared/log.h"

#define NEVER_USED UINT64_MAX

struct region {
	struct relays *relays;
	struct derp_region *map; /* NULL: no longer in the map, and about to go */
	struct derp_client *client;
	unsigned failures;   /* in a row: connections that did not last are among them */
	uint64_t up_ns;      /* since when the connection stands */
	uint64_t retry_ns;   /* not before; 0: now */
	uint64_t written_ns; /* NEVER_USED */
	uint32_t restart_ms; /* what the relay asked for */
	bool is_blocked, is_stalled, was_up;
	uint64_t committed; /* bytes given to this connection */
	uint64_t left;      /* of them the kernel had taken when it was last looked at */
	uint64_t looked_ns;
	struct waiting waiting;
	struct relays_status status;
	struct log_gate gate, up_gate, down_gate;
	char sentence[NET_STREAM_REASON_MAX];
};

struct relays {
	struct loop *loop;
	const struct tls_context *tls;
	struct private_key *key;
	struct relays_callbacks callbacks;
	void *owner;
	struct event *timer;
	int home;
	unsigned blocked; /* regions that hold the producer back */
	struct region **regions;
	unsigned region_count;
	bool is_due; /* something changed: look at all regions */
	bool is_destroyed;
};

static inline bool region_is_home(const struct region *g)
{
	return g->map->id == g->relays->home;
}

#endif
