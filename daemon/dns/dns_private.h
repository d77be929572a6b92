/* For dns.c and lookup.c. */
#ifndef MESHWRAP_DAEMON_DNS_DNS_PRIVATE_H
#define MESHWRAP_DAEMON_DNS_DNS_PRIVATE_H

#include <assert.h>

#include "daemon/dns/dns.h"
#include "shared/log.h"

struct forwarder;
struct dns_system;

struct dns {
	struct loop *loop;
	struct forwarder *forwarder;
	struct dns_system *system;
	struct dns_table *table;
	struct dns_watcher watcher;
	struct dns_stats stats;
	struct log_gate busy_gate, rebind_gate, unfit_gate;
	bool has_warned;
};

#endif
