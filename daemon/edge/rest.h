/* Local ports of programs whose dial has just failed: nobody else's for a moment. */
#ifndef MESHWRAP_DAEMON_EDGE_REST_H
#define MESHWRAP_DAEMON_EDGE_REST_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/edge/timer.h"
#include "shared/endpoint.h"

#define RESTS_MAX 256  /* ports that rest at a time; then who rested longest goes */
#define REST_MS   1000 /* for the program to ask what became of its dial */

struct edge;

struct rest {
	int fd;
	uint64_t until_ns;
};

struct rests {
	struct edge *edge;
	struct rest at[RESTS_MAX]; /* a ring */
	unsigned first, count, max;
	struct edge_timer timer;
};

void rests_init(struct rests *rests, struct edge *edge);
void rests_finish(struct rests *rests);
/* The kernel has just forgotten this port, with a reset of ours. */
void rest_port(struct rests *rests, const struct endpoint *port);
/* One descriptor less; false: they have none. */
bool rests_give_back(struct rests *rests);

#endif
