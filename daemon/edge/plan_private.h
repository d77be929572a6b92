/* For plan.c and plan_mirrors.c. */
#ifndef MESHWRAP_DAEMON_EDGE_PLAN_PRIVATE_H
#define MESHWRAP_DAEMON_EDGE_PLAN_PRIVATE_H

#include "daemon/edge/plan.h"
#include "daemon/edge/spans.h"

struct single_mirror {
	struct ip_addr addr;
	uint32_t mirror;
	bool is_kept;     /* of our own, or of a service */
	uint64_t gone_ns; /* nobody has had the address since; 0: somebody has */
};

struct block {
	bool is_used;
	bool is_v4;       /* and stands for this upper half of addresses */
	bool is_kept;     /* an own address lies in it */
	bool is_wanted;   /* by what is being planned */
	uint16_t upper;   /* half */
	uint64_t gone_ns; /* as above */
};

struct plan {
	struct plan_blocks blocks;
	int err; /* blocks cannot be asked for now, since this search began */
	uint64_t now_ns;
	uint8_t block_of[65536]; /* by the upper half of an IPv4 address; 0: none yet */
	struct block block[256];
	struct single_mirror *single; /* sorted by addr */
	unsigned single_count;
	uint32_t next, left; /* mirrors in the block that is being filled */
	/* Mirrors whose rest is over; who rested longest is first. A ring. */
	uint32_t *rested;
	unsigned rested_first, rested_count, rested_room;
	/* While plan_keep() may be called. */
	struct single_mirror **due; /* sorted by mirror */
	unsigned due_count;
};

/* A prefix's mirrors: 0, or -errno with a sentence. */
int plan_assign_v4(struct plan *plan, const struct span *s, char *error);
/* Those of single addresses, sorted and each once. As above. */
int plan_assign_singles(struct plan *plan, const struct spans *single, char *error);
/* NULL: it has none. */
struct single_mirror *plan_find_single(const struct plan *plan, const struct ip_addr *addr);
/* These are about to be planned: their blocks are not given back meanwhile. */
void plan_want(struct plan *plan, const struct spans *mirrored);
/* These were planned, and nothing else: the rest of what has gone begins, or ends. */
void plan_settle(struct plan *plan, const struct spans *single);
/* Never given back. */
void plan_keep_for_ever(struct plan *plan, const struct ip_addr *addr);

#endif
