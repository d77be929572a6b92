/*
 * Which relay is near, and how does the world see our UDP socket? STUN probes of
 * the relay map's nodes, HTTPS when no UDP comes back. Pure.
 *
 * One report runs at a time. The map is copied as far as it is needed. Callbacks
 * may not call the netcheck again, except netcheck_resolved() from resolve and
 * netcheck_measured() from measure.
 */
#ifndef MESHWRAP_DAEMON_PATH_NETCHECK_H
#define MESHWRAP_DAEMON_PATH_NETCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define NETCHECK_REGIONS_MAX  256 /* of a map; what is above is not probed */
#define NETCHECK_COUNTERS_MAX 16  /* mapped addresses of one family in a report */

struct derp_map;
struct netcheck;

/* Not known, no, yes. */
enum netcheck_tristate { NETCHECK_UNKNOWN, NETCHECK_NO, NETCHECK_YES };

struct netcheck_region_latency {
	int region;
	uint64_t v4_ns, v6_ns; /* 0: no answer */
	uint64_t best_ns;      /* of the two, or over HTTPS */
};

struct netcheck_counter {
	struct endpoint mapped;
	unsigned count; /* answers that said so */
};

struct netcheck_report {
	bool has_udp, has_ipv4, has_ipv6; /* an answer came */
	bool can_send_ipv4, can_send_ipv6, os_has_ipv6;
	bool is_full;
	enum netcheck_tristate mapping_varies; /* MappingVariesByDestIP */
	struct endpoint global_v4, global_v6;  /* port 0: none */
	struct netcheck_counter v4[NETCHECK_COUNTERS_MAX], v6[NETCHECK_COUNTERS_MAX];
	unsigned v4_count, v6_count;
	int preferred; /* home region, 0: none */
	struct netcheck_region_latency region[NETCHECK_REGIONS_MAX];
	unsigned region_count;
};

struct netcheck_callbacks {
	void (*send)(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len);
	/* Look up host (for a node without address in the map); answer with netcheck_resolved(). */
	void (*resolve)(void *owner, const char *host, uint64_t token);
	/* Time a GET /derp/latency-check of this region; answer with netcheck_measured(). Optional.
	 */
	void (*measure)(void *owner, int region, uint64_t token);
	/* The report is complete and stays readable by netcheck_last(). */
	void (*done)(void *owner, const struct netcheck_report *report);
};

/* NULL on -ENOMEM. */
struct netcheck *netcheck_create(const struct netcheck_callbacks *callbacks, void *owner);
void netcheck_destroy(struct netcheck *nc);
/* Replaces the map; a running report ends without its done callback. 0 or -ENOMEM. */
int netcheck_set_map(struct netcheck *nc, const struct derp_map *map);
/* Which families there are local addresses of. */
void netcheck_set_families(struct netcheck *nc, bool has_ipv4, bool has_ipv6);
/* Home never changes while this is false. */
void netcheck_set_connected(struct netcheck *nc, bool is_connected);
/* Frames came from this region's relay: it is alive, whatever the probes say. */
void netcheck_relay_heard(struct netcheck *nc, int region, uint64_t now_ns);
/* Its relay connection stands, or not any more. */
void netcheck_relay_state(struct netcheck *nc, int region, bool is_up);
/* Home could not be connected to for a while: the next report prefers any other that answers. */
void netcheck_home_lost(struct netcheck *nc, uint64_t now_ns);

/*
 * Starts a report. A full one is made anyway when the last is older than 5
 * minutes, and there was none yet. -EALREADY while one runs (wait for done),
 * -ENOENT without a map.
 */
int netcheck_start(struct netcheck *nc, bool is_full, uint64_t now_ns);
bool netcheck_is_running(const struct netcheck *nc);
/* A STUN datagram. True when it answered one of our probes. */
bool netcheck_received(struct netcheck *nc, const struct endpoint *from, const uint8_t *bytes,
		       size_t len, uint64_t now_ns);
void netcheck_resolved(struct netcheck *nc, uint64_t token, const struct ip_addr *addrs,
		       unsigned count, uint64_t now_ns);
/* latency_ns 0: failed. */
void netcheck_measured(struct netcheck *nc, uint64_t token, uint64_t latency_ns, uint64_t now_ns);
/* What was mapped is void: the host moved. Home and latencies stay until new ones are measured. */
void netcheck_network_changed(struct netcheck *nc);
/* The last complete report (all zero before the first), and when it ended (0: never). */
const struct netcheck_report *netcheck_last(const struct netcheck *nc);
uint64_t netcheck_last_ns(const struct netcheck *nc);
int netcheck_home(const struct netcheck *nc);
/* Addresses the world sees us at, best first: of the running report as far as it is, or the last.
 */
unsigned netcheck_mapped(const struct netcheck *nc, struct endpoint *out, unsigned max);

uint64_t netcheck_deadline(const struct netcheck *nc);
void netcheck_expire(struct netcheck *nc, uint64_t now_ns);

#endif
