/* Where on loopback a flow from the mesh looks for its program, and in which order. */
#ifndef MESHWRAP_DAEMON_EDGE_TARGETS_H
#define MESHWRAP_DAEMON_EDGE_TARGETS_H

#include <stdint.h>

#include "shared/endpoint.h"

enum target { TARGET_MIRROR, TARGET_LOOPBACK, TARGET_LOOPBACK6, TARGETS_MAX };

struct targets {
	enum target target[TARGETS_MAX];
	unsigned count;
};

/*
 * local is what the peer has dialled; type SOCK_STREAM or SOCK_DGRAM. table
 * is socktable_open()'s, or negative.
 */
void targets_find(struct targets *targets, int table, int type, const struct endpoint *local,
		  uint32_t own_mirror);
struct endpoint target_endpoint(enum target target, uint32_t own_mirror, uint16_t port);

#endif
