/*
 * What the files of the virtual Internet share.
 *
 *   world.c  the clock: what happens when      nat.c  who reaches whom
 *   ours.c   nodes of our kind                 partner.c  models of others
 */
#ifndef MESHWRAP_TESTS_SIM_PATHS_INSIDE_H
#define MESHWRAP_TESTS_SIM_PATHS_INSIDE_H

#include "daemon/netmap/types.h"
#include "shared/util.h"
#include "world.h"

#define EVENTS_MAX   4096
#define MAPPINGS_MAX 512
#define MAPPING_NS   (60 * NS_PER_S)
#define PORT         41641
#define STUN_PORT    3478
#define DATA_LEN     64
#define PACKET_MAX   1500

enum kind { EVENT_UDP, EVENT_RELAY };

struct event {
	uint64_t at_ns, order;
	enum kind kind;
	unsigned node; /* who receives; WORLD_NODES and above: STUN servers */
	struct endpoint from, to;
	int region;
	uint8_t src[32];
	size_t len;
	uint8_t bytes[PACKET_MAX];
};

struct mapping {
	unsigned node;
	struct endpoint inside, dest; /* dest only of hard ones */
	uint16_t port;
	uint64_t used_ns;
	bool is_used;
};

/* A hole: the node sent from this outside port to this address. */
struct hole {
	unsigned node;
	uint16_t port;
	struct endpoint dest;
	uint64_t used_ns;
};

struct flow {
	unsigned a, b;
	uint64_t every_ns, next_ns;
};

struct world {
	uint64_t now_ns, order;
	uint64_t random;
	unsigned node_count, flow_count, event_count, hole_count, loss;
	struct node node[WORLD_NODES];
	struct flow flow[WORLD_NODES];
	struct event *event[EVENTS_MAX];
	struct mapping mapping[MAPPINGS_MAX];
	struct hole hole[MAPPINGS_MAX * 4];
	bool is_relay_up[WORLD_REGIONS + 1];
	bool is_cut[WORLD_NODES][WORLD_NODES];
	uint32_t next_address;
	struct derp_node derp_node[WORLD_REGIONS];
	struct derp_region derp_region[WORLD_REGIONS];
	struct derp_map map;
};

/* nat.c */
struct event *world_add_event(struct world *w, enum kind kind, uint64_t delay_ns,
			      const uint8_t *bytes, size_t len);
/* The outside port of what the node sends there. */
uint16_t world_map_out(struct world *w, const struct node *n, const struct endpoint *dest);
void world_forget_nat(struct world *w, const struct node *n);
/* Who has this address, as seen from a node or, with NULL, from outside. */
struct node *world_node_at(struct world *w, const struct node *from, const struct endpoint *to);
/* Does the packet get in? Rewrites nothing: the receiver has one socket. */
bool world_gets_in(struct world *w, struct node *n, const struct endpoint *from,
		   const struct endpoint *to);

/* ours.c */
void world_give_addresses(struct world *w, struct node *n);
void world_set_local(struct world *w, struct node *n);

static inline uint32_t world_stun_address(unsigned i)
{
	return 0xc6336400u + i; /* 198.51.100.x */
}

#endif
