/* What the two files of the netcheck share. */
#ifndef MESHWRAP_DAEMON_PATH_NETCHECK_PRIVATE_H
#define MESHWRAP_DAEMON_PATH_NETCHECK_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/path/home.h"
#include "daemon/path/netcheck.h"
#include "daemon/path/stun.h"
#include "shared/endpoint.h"

#define NODES_MAX 8 /* of a region */
#define TRIES_MAX 4
#define HOST_MAX  256
#define FAMILIES  2

enum { IPV4, IPV6 };

struct node {
	char host[HOST_MAX]; /* "": nothing to look up */
	struct endpoint address[FAMILIES];
	bool has[FAMILIES];
	bool is_open[FAMILIES]; /* to be filled by looking host up */
	bool is_resolving, is_resolved;
};

struct region {
	unsigned node_count;
	struct node node[NODES_MAX];
};

struct
try {
	uint8_t txid[STUN_TXID_LEN];
	uint64_t sent_ns; /* 0: not in flight */
	struct endpoint to;
};

struct series {
	unsigned region; /* index */
	int family;
	unsigned tries, sent;
	uint64_t gap_ns, due_ns;
	bool is_answered;
	struct try try[TRIES_MAX];
};

struct netcheck {
	struct netcheck_callbacks callbacks;
	void *owner;
	bool has_family[FAMILIES];
	bool is_connected, is_running, is_measuring;
	unsigned region_count;
	struct region *regions;
	struct home_region *homes; /* parallel to regions */
	struct series *series;     /* room for region_count * FAMILIES */
	unsigned series_count;
	uint32_t generation; /* of the map and the report, in tokens */
	unsigned measures_open;
	bool has_been_measured[NETCHECK_REGIONS_MAX];
	struct endpoint first_v4_from; /* server of the first IPv4 answer */
	uint64_t start_ns, stop_ns, slowest_ns;
	uint64_t last_ns, last_full_ns;
	int home, heard_region;
	uint64_t heard_ns;
	struct netcheck_report current, last;
};

#endif
