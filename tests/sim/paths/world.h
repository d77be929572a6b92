/*
 * Hosts behind NATs, STUN servers and relays, with a virtual clock and one seed.
 * Everything is in one process and nothing is random but by the seed.
 */
#ifndef MESHWRAP_TESTS_SIM_PATHS_WORLD_H
#define MESHWRAP_TESTS_SIM_PATHS_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/path/paths.h"

#define WORLD_NODES   4
#define WORLD_REGIONS 2
#define WORLD_SEQ_MAX 8192

enum nat {
	NAT_NONE,     /* a public address, nothing in between */
	NAT_FIREWALL, /* public, but nothing comes in that was not asked for */
	NAT_EASY,     /* one mapping for all destinations */
	NAT_HARD,     /* a mapping for each destination */
	NAT_BLOCKED   /* no UDP at all */
};

struct partner;

struct node {
	unsigned id;
	enum nat nat;
	uint32_t inside, outside; /* IPv4 addresses */
	uint8_t key[32], disco[32];
	struct paths *paths;     /* one of ours, */
	struct partner *partner; /* or a model of another kind of node */
	struct path_peer *peer[WORLD_NODES];
	/* Traffic from each other node, by sequence number. */
	uint8_t got[WORLD_NODES][WORLD_SEQ_MAX];
	uint32_t sent[WORLD_NODES]; /* to each other one: the next number */
	uint64_t last_got_ns[WORLD_NODES];
	bool is_last_direct[WORLD_NODES];
	unsigned pongs, pongs_direct, self_changes, home_changes;
	uint64_t udp_sent, relay_sent;
};

struct world;

struct world *world_create(uint64_t seed);
void world_destroy(struct world *w);
uint64_t world_now(const struct world *w);
uint32_t world_random(struct world *w, uint32_t below);
/* Ours. All nodes know each other after world_join(). */
struct node *world_add(struct world *w, enum nat nat);
struct node *world_add_partner(struct world *w, enum nat nat, unsigned behaviour);
void world_join(struct world *w);
void world_run(struct world *w, uint64_t ns);
/* Both nodes send each other a datagram every `every` ns from now on; 0: stop. */
void world_traffic(struct world *w, struct node *a, struct node *b, uint64_t every_ns);
/* The node gets other addresses; its NAT forgets what it knew. noticed: it is told. */
void world_move(struct world *w, struct node *n, bool is_noticed);
/* The NAT's table is lost (it restarted), addresses stay. */
void world_rebind(struct world *w, struct node *n);
void world_set_relay(struct world *w, int region, bool is_up);
void world_set_loss(struct world *w, unsigned percent);
/* Nothing of UDP goes from a to b any more. */
void world_set_one_way(struct world *w, struct node *a, struct node *b, bool is_cut);
bool world_is_direct(struct world *w, struct node *from, struct node *to);
/* How many of the numbers first..end-1 that `from` sent did `to` not get? */
unsigned world_missing(const struct node *to, const struct node *from, uint32_t first,
		       uint32_t end);

/* For partners. */
void world_send_udp(struct world *w, struct node *n, const struct endpoint *to,
		    const uint8_t *bytes, size_t len);
void world_send_relay(struct world *w, struct node *n, int region, const uint8_t dst[32],
		      const uint8_t *bytes, size_t len);
void world_got(struct world *w, struct node *n, const uint8_t *bytes, size_t len, bool is_direct);
struct node *world_node(struct world *w, unsigned id);
unsigned world_count(const struct world *w);
/* What the network map says of it. */
unsigned world_map_endpoints(struct world *w, struct node *n, struct endpoint *out, unsigned max);

#endif
