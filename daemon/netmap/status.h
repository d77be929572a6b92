/*
 * The map and live data as JSON, in the shapes of `tailscale status --json` and
 * `tailscale whois --json`, key order included. Pure.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_STATUS_H
#define MESHWRAP_DAEMON_NETMAP_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/netmap/netmap.h"

struct json_object;

/* Live data of one peer. All zero: nothing known. Times are wall-clock seconds. */
struct status_peer {
	bool has_direct; /* the direct path is in use: cur_addr counts */
	struct endpoint cur_addr;
	uint64_t rx_bytes, tx_bytes;
	int64_t last_handshake_s, last_write_s;
	bool is_active;     /* sent within the last 45 s or so */
	bool in_magic_sock; /* we keep paths for it */
	bool in_engine;     /* it is a WireGuard peer just now */
};

struct status_source {
	const char *version;
	const char *backend_state; /* "Running", "NeedsLogin", ... */
	const char *auth_url;      /* "" for none */
	const char *host_name;     /* our own, until a map tells it */
	bool has_node_key, is_tun;
	bool is_file; /* a WireGuard file's addresses are of any network, not the tailnet's only */
	int64_t wall_s;
	const struct endpoint *self_addrs; /* own UDP endpoints */
	unsigned self_addr_count;
	int self_derp;               /* home region, 0: none */
	uint64_t rx_bytes, tx_bytes; /* of all peers */
	const char *const *health;   /* own texts, shown after the server's */
	unsigned health_count;
	bool without_peers; /* "Peer" is null */
	/* Fills *live, which is zeroed. May be NULL. */
	void (*peer)(void *owner, const struct netmap_node *node, struct status_peer *live);
	void *owner;
};

/* A new object (json_object_put()), or NULL on -ENOMEM. nm may be before its first map. */
struct json_object *status_build(const struct netmap *nm, const struct status_source *source);
/* {"Peer": {...}} of it, with these peers only, as far as they are in the map. As above. */
struct json_object *status_build_peers(const struct netmap *nm, const struct status_source *source,
				       const int64_t *ids, unsigned count);
/* {Name, MagicDNSSuffix, MagicDNSEnabled}. */
struct json_object *status_build_tailnet(const struct netmap *nm);
/* {ID, LoginName, DisplayName, ProfilePicURL?}. */
struct json_object *status_build_user(const struct netmap_user *user);
/* {Node, UserProfile, CapMap, CurrentTailnet}. */
struct json_object *status_build_whois(const struct netmap *nm, const struct netmap_node *node);

/*
 * Who is meant: an address (with or without port), a short name, an FQDN (with
 * or without trailing dot), or a host name as the node calls itself. Ourselves
 * included. NULL: nobody.
 */
const struct netmap_node *status_find_node(const struct netmap *nm, const char *who);
/* RFC 3339; 0 gives the zero time. */
#define STATUS_TIME_TEXT 21
char *status_time_text(int64_t time_s, char text[static STATUS_TIME_TEXT]);

#endif
