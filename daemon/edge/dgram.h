/*
 * UDP between programs and the mesh: one loopback socket for each (peer
 * address, port), which programs send to and are sent from.
 */
#ifndef MESHWRAP_DAEMON_EDGE_DGRAM_H
#define MESHWRAP_DAEMON_EDGE_DGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define DGRAMS_MAX       8192  /* sockets of a kind; then one makes way: fair.h */
#define DGRAM_ROUTES_MAX 16384 /* (peer, local port) whose listener is known */
#define DGRAM_IDLE_S     300
#define DGRAM_SULK_MS    1000 /* how long a port that the far side refused refuses, too */
#define DGRAM_RETRY_MS   1    /* while the stack takes no more */

struct dgrams;
struct edge;
struct plan;

/* NULL on -ENOMEM. */
struct dgrams *dgrams_create(struct edge *edge);
void dgrams_destroy(struct dgrams *dgrams);
/* Without those of services. */
unsigned dgrams_count(const struct dgrams *dgrams);
/* Those that made way, and how many of them because their peer had the most. */
void dgrams_get_evicted(const struct dgrams *dgrams, uint64_t *evicted, uint64_t *over_share);

/* Datagrams of peers that had sent too many to ports where nobody listens. */
uint64_t dgrams_ignored(const struct dgrams *dgrams);

/*
 * Those whose address has another holder than when they were made, or none, are closed; at_once and
 * the answer as for flows_leave_gone_peers().
 */
bool dgrams_leave_gone_peers(struct dgrams *dgrams, bool at_once);
/* plan_keep() for the mirror of each. */
void dgrams_keep_mirrors(const struct dgrams *dgrams, struct plan *plan);

/* Serves IPC_UDP_OPEN: 0 and where to send to, or -errno. */
int dgram_open(struct dgrams *dgrams, const struct endpoint *remote, bool v6only,
	       struct endpoint *mirror);
/* What edge_udp_*() report. */
void dgram_received(struct dgrams *dgrams, const struct endpoint *local,
		    const struct endpoint *remote, const uint8_t *data, size_t len);
void dgram_failed(struct dgrams *dgrams, const struct endpoint *local,
		  const struct endpoint *remote);

#endif
