/*
 * The packet filter: which inner packets may come in. Pure.
 *
 * Default deny for what opens a flow; what belongs to a flow of ours comes in
 * without a rule: TCP by its flags (the endpoint refuses what it does not know),
 * UDP and SCTP by a bounded table of what went out, kept when rules change.
 */
#ifndef MESHWRAP_DAEMON_STACK_FILTER_H
#define MESHWRAP_DAEMON_STACK_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/netmap/types.h"
#include "shared/endpoint.h"

#define FILTER_FLOWS        8192 /* UDP and SCTP flows remembered; then one goes: see fair.h */
#define FILTER_PREFIXES_MAX 1024 /* local ones; further are ignored: not ours */

struct filter;

/* Who a packet came from: the peer, as the tunnel knows it. */
struct filter_source {
	bool is_jailed; /* may not open flows to us */
	/* Has the peer this capability? NULL: none. */
	bool (*has_cap)(void *owner, const char *cap);
	void *owner;
};

enum filter_verdict {
	FILTER_ACCEPT,
	FILTER_DROP_MALFORMED, /* too short, bad length, unknown protocol or header */
	FILTER_DROP_MULTICAST,
	FILTER_DROP_LINK_LOCAL,
	FILTER_DROP_FRAGMENT, /* hides its transport header */
	FILTER_DROP_NOT_LOCAL,
	FILTER_DROP_RULES, /* no rule lets it in */
	FILTER_VERDICTS
};

struct filter_stats {
	uint64_t in[FILTER_VERDICTS];
	uint64_t flows_evicted, flows_over_share; /* the latter of the former: see fair.h */
	unsigned flows;
};

/* No rules and no local prefix: everything is dropped. secret keys the flow table. NULL: -ENOMEM.
 */
struct filter *filter_create(unsigned flows_max, const uint8_t secret[static 16]);
void filter_destroy(struct filter *f);
/*
 * New rules and own addresses (and advertised routes); copied, flows are kept.
 * 0, or -ENOMEM: the old ones stand.
 */
int filter_set(struct filter *f, const struct netmap_rule *rules, unsigned rule_count,
	       const struct ip_prefix *local, unsigned local_count);
/*
 * Who has an address, for what one peer may take of the flows: a pointer that is only compared.
 * NULL, as at first: all of them are one peer's.
 */
void filter_set_peers(struct filter *f,
		      const void *(*peer_of)(void *owner, const struct ip_addr *addr), void *owner);
/* The time of the packets that follow. */
void filter_set_time(struct filter *f, uint64_t now_ns);
/* As if there were no rules. */
void filter_set_shields_up(struct filter *f, bool is_up);

/* A packet as it came out of the tunnel. source NULL: no capabilities. */
enum filter_verdict filter_in(struct filter *f, const struct filter_source *source,
			      const uint8_t *packet, size_t len);
/* We send there, so that answers may come in. protocol: UDP or SCTP; others need no such word. */
void filter_flow_out(struct filter *f, uint8_t protocol, const struct endpoint *local,
		     const struct endpoint *remote);
void filter_get_stats(const struct filter *f, struct filter_stats *stats);

#endif
