/*
 * UDP and SCTP flows that this node opened: a bounded table; fair.h says which one goes
 * when it is full. For filter.c.
 */
#ifndef MESHWRAP_DAEMON_STACK_FILTER_FLOWS_H
#define MESHWRAP_DAEMON_STACK_FILTER_FLOWS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/stack/fair.h"
#include "shared/endpoint.h"

/* Compared and hashed as bytes: no padding. Ports in host byte order. */
struct filter_flow_key {
	struct ip_addr local, remote;
	uint16_t local_port, remote_port;
	uint32_t protocol;
};

struct filter_flow;

struct filter_flows {
	struct filter_flow *flow;
	uint32_t *bucket; /* 1 + index of the first, 0: empty */
	uint32_t mask, max, count;
	struct fair fair;
	uint8_t secret[16];
};

/* 0 or -ENOMEM. max is at least 1. */
int filter_flows_init(struct filter_flows *flows, uint32_t max, const uint8_t secret[static 16]);
void filter_flows_finish(struct filter_flows *flows);
/* Is it known? Makes it the newest. */
bool filter_flows_use(struct filter_flows *flows, const struct filter_flow_key *key,
		      uint64_t now_ns);
/* Remembers one that is not known. peer: as fair_enter() has it. */
void filter_flows_add(struct filter_flows *flows, const struct filter_flow_key *key,
		      const void *peer, uint64_t now_ns);

#endif
