/*
 * The rules of the packet filter in the form they are matched in. For filter.c.
 */
#ifndef MESHWRAP_DAEMON_STACK_FILTER_RULES_H
#define MESHWRAP_DAEMON_STACK_FILTER_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/netmap/types.h"

struct filter_source;
struct filter_rules;

/*
 * Copies what can ever match a packet to one of the local prefixes. NULL on
 * -ENOMEM. filter_rules_destroy(NULL) is fine.
 */
struct filter_rules *filter_rules_create(const struct netmap_rule *rules, unsigned count,
					 const struct ip_prefix *local, unsigned local_count);
void filter_rules_destroy(struct filter_rules *rules);

/* Source, protocol, destination and its port. rules may be NULL: none. */
bool filter_rules_match(const struct filter_rules *rules, const struct filter_source *source,
			uint8_t protocol, const struct ip_addr *src, const struct endpoint *dst);
/* Source and destination only, or a capability of the source alone. */
bool filter_rules_match_addrs(const struct filter_rules *rules, const struct filter_source *source,
			      const struct ip_addr *src, const struct ip_addr *dst);
/* Source, protocol, and a destination with all ports. */
bool filter_rules_match_all_ports(const struct filter_rules *rules, uint8_t protocol,
				  const struct ip_addr *src, const struct ip_addr *dst);

bool filter_prefix_contains(const struct ip_prefix *prefix, const struct ip_addr *ip);

#endif
