/*
 * The network map: one form of the mesh, whatever it came from (a coordination
 * server, or a WireGuard file). Plain values, read by everybody, written by
 * netmap.c alone.
 *
 * Times are wall-clock seconds since 1970, 0: not set. Text is never NULL ("" for
 * none), owned by the map. Names are FQDNs in lower case without trailing dot.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_TYPES_H
#define MESHWRAP_DAEMON_NETMAP_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define NETMAP_KEY_LEN 32

enum netmap_online { NETMAP_ONLINE_UNKNOWN, NETMAP_OFFLINE, NETMAP_ONLINE };

/* A node: ourselves or a peer. */
struct netmap_node {
	int64_t id;
	const char *stable_id;
	const char *name;                  /* FQDN, or one label, or "" */
	uint8_t key[NETMAP_KEY_LEN];       /* WireGuard, and identity at relays */
	uint8_t disco_key[NETMAP_KEY_LEN]; /* all zero: none */
	struct ip_prefix *addresses;       /* its own; the first of a family is "the" address */
	unsigned address_count;
	struct ip_prefix
		*allowed; /* what may come from it and is routed to it, own addresses included */
	unsigned allowed_count;
	struct endpoint *endpoints; /* UDP candidates */
	unsigned endpoint_count;
	int home_derp; /* region, 0: unknown */
	int64_t key_expiry, last_seen, created;
	int64_t user, sharer; /* keys of the users' table; sharer 0: none */
	const char *const *tags;
	unsigned tag_count;
	const char *const *caps; /* keys of CapMap and Capabilities */
	unsigned cap_count;
	const char *host_name, *os; /* of Hostinfo */
	int cap_version;
	enum netmap_online online;
	bool is_expired;    /* as the server says; see also netmap_node_is_expired() */
	bool is_authorized; /* MachineAuthorized */
	bool is_jailed;     /* may not open flows to us */
	bool is_wireguard_only;
	bool is_hidden; /* shared-in user's node: not shown in status */
	/* Nothing may flow to or from it: not signed, or it knows us by another address. */
	bool is_unusable;
	/* Where its PeerAPI listens, 0: none. */
	uint16_t peerapi4_port, peerapi6_port;
	/* The server's JSON of this node with all patches applied; "" in file mode. */
	const char *json;
};

struct netmap_user {
	int64_t id;
	const char *login_name, *display_name, *picture_url;
};

/* ---- relays ---- */

struct derp_node {
	const char *name;        /* unique label */
	const char *host_name;   /* TCP target when the map gives no address, TLS SNI, Host: */
	const char *cert_name;   /* "": host_name; a name; or "sha256-raw:HEX" */
	const char *ipv4, *ipv6; /* "": look host_name up; no address: do not use this family */
	const char *stun_test_ip;
	int region_id;
	int stun_port; /* UDP; 3478 where the map says 0; -1: none */
	int derp_port; /* TCP; 443 where the map says 0 */
	bool is_stun_only, is_insecure, has_port_80;
};

struct derp_region {
	int id;
	const char *code, *name;
	bool avoid, no_measure_no_home;
	double score; /* HomeParams.RegionScore: latency is multiplied by it; 1 when not given */
	struct derp_node *nodes; /* by priority */
	unsigned node_count;
};

struct derp_map {
	struct derp_region *regions; /* by id */
	unsigned region_count;
};

/* ---- packet filter: inbound rules of this node ---- */

/* One SrcIPs entry or the address part of one DstPorts entry: an inclusive range. */
struct netmap_range {
	struct ip_addr first, last; /* same family */
};

struct netmap_dst {
	struct netmap_range ip;
	uint16_t first_port, last_port;
};

struct netmap_rule {
	struct netmap_range *src; /* "*" is two of them */
	unsigned src_count;
	const char *const *src_caps; /* "cap:NAME" without the prefix */
	unsigned src_cap_count;
	uint8_t *protocols;
	unsigned protocol_count; /* as given; the default (TCP, UDP, ICMP, ICMPv6) is filled in */
	struct netmap_dst *dst;
	unsigned dst_count;
	/* CapGrant: for whois only. JSON text of the list, "" for none. */
	const char *cap_grants;
};

/* ---- names ---- */

struct dns_resolver {
	const char *addr;         /* "1.1.1.1", "ip:port", "https://..." or "http://..." */
	struct endpoint endpoint; /* of the first two forms, else port 0 */
};

struct dns_route {
	const char *suffix; /* lower case, without trailing dot; "" is everything */
	struct dns_resolver *resolvers;
	unsigned resolver_count; /* 0: we are authoritative */
};

struct dns_record {
	const char *name; /* lower case, without trailing dot */
	struct ip_addr addr;
};

struct dns_config {
	bool is_proxied;            /* MagicDNS is on */
	const char *const *domains; /* search list */
	unsigned domain_count;
	struct dns_resolver *resolvers;
	unsigned resolver_count;
	struct dns_resolver *fallbacks;
	unsigned fallback_count;
	struct dns_route *routes;
	unsigned route_count;
	struct dns_record *records; /* ExtraRecords */
	unsigned record_count;
	const char *const *cert_domains;
	unsigned cert_domain_count;
};

#endif
