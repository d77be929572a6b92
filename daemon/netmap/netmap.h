/*
 * The network map as the coordination server tells it: full messages and deltas
 * applied, looked up, and written out again. Pure: text and the wall clock in.
 *
 * What is read out belongs to the map and lives until the next call that takes a
 * non-const map. Text from the server is bounded and free of control characters;
 * names that are not host names are "" and `localhost` is never a name.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_NETMAP_H
#define MESHWRAP_DAEMON_NETMAP_NETMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/netmap/types.h"

#define NETMAP_MESSAGE_MAX (64u << 20) /* bytes of JSON */
#define NETMAP_PEERS_MAX   16384       /* further ones are ignored and counted */
#define NETMAP_USERS_MAX   16384

struct netmap;

/* Sorted, without duplicates. */
struct netmap_ids {
	int64_t *id;
	unsigned count, room;
};

/*
 * What one message changed. A peer is in one list at most. "Changed" is by what
 * the struct says, or because another peer's change lets it have (or takes from
 * it) a prefix or its key: ask netmap_node_accepted() again.
 */
struct netmap_changes {
	bool self, derp, dns, filter, users, domain, health;
	/* Peers came or went, or one has another name, address, route or capability. */
	bool faces;
	struct netmap_ids added, changed, removed;
	unsigned ignored; /* entries that were invalid or above a limit */
};

/* NULL on -ENOMEM. */
struct netmap *netmap_create(void);
void netmap_destroy(struct netmap *nm);

/*
 * A new map stream began: its first message tells everything, so that what it
 * does not name is gone. Until it comes the old state stands. A new map is in
 * this state.
 */
void netmap_stream_started(struct netmap *nm);
/*
 * One MapResponse. wall_s: seconds since 1970. changes is initialised here and
 * finished by netmap_changes_finish() also after a failure. 0; -EINVAL: not JSON
 * of an object, too long or deep, or the first of a stream without Node;
 * -ENOMEM. After a failure nothing has changed.
 */
int netmap_apply(struct netmap *nm, const char *json, size_t len, int64_t wall_s,
		 struct netmap_changes *changes);
void netmap_changes_finish(struct netmap_changes *changes);
/*
 * The whole state as one MapResponse, to be saved and applied to a new map.
 * malloc()ed, *len without the terminator. NULL on -ENOMEM. "{}" before the first map.
 */
char *netmap_export(const struct netmap *nm, size_t *len);

/* NULL before the first map. */
const struct netmap_node *netmap_self(const struct netmap *nm);
unsigned netmap_peer_count(const struct netmap *nm);
/* By position, sorted by id. */
const struct netmap_node *netmap_peer_at(const struct netmap *nm, unsigned at);
const struct netmap_node *netmap_peer_by_id(const struct netmap *nm, int64_t id);
/* Of several, the one with the smallest id. These three find ourselves, too. */
const struct netmap_node *netmap_node_by_key(const struct netmap *nm,
					     const uint8_t key[static NETMAP_KEY_LEN]);
/* An own address of the node, exactly. */
const struct netmap_node *netmap_node_by_addr(const struct netmap *nm, const struct ip_addr *addr);
/* The FQDN, any case, with or without trailing dot; a host name without dot is not completed. */
const struct netmap_node *netmap_node_by_name(const struct netmap *nm, const char *name);

/* What came last, each whole; empty ones before the first map. */
const struct derp_map *netmap_derp(const struct netmap *nm);
const struct dns_config *netmap_dns(const struct netmap *nm);
const struct netmap_rule *netmap_filter(const struct netmap *nm, unsigned *count);
const struct netmap_user *netmap_user(const struct netmap *nm, int64_t id); /* or NULL */
unsigned netmap_user_count(const struct netmap *nm);
const struct netmap_user *netmap_user_at(const struct netmap *nm, unsigned at);
const char *netmap_domain(const struct netmap *nm);
/* Our name after its first label, "" for none. */
const char *netmap_suffix(const struct netmap *nm);
/* Health, then titles and texts of DisplayMessages. */
const char *const *netmap_health(const struct netmap *nm, unsigned *count);

/* As the server says, or because its key has run out. */
bool netmap_node_is_expired(const struct netmap *nm, const struct netmap_node *node,
			    int64_t wall_s);
/* When the next key of ourselves or a peer runs out, INT64_MAX: none. */
int64_t netmap_next_expiry_s(const struct netmap *nm, int64_t wall_s);
bool netmap_node_has_cap(const struct netmap_node *node, const char *cap);

/*
 * What may be routed to a peer and may come from it: written to out (room for
 * node->allowed_count), the number returned. Nothing for a peer whose key is
 * zero, ours, or that of another with a smaller id; that is expired by the
 * server's word, not authorized to talk or unusable. Never our own
 * addresses, loopback, link-local, multicast, the service addresses, or default
 * routes; routes beyond the node's own addresses only with accept_routes. Of
 * several peers that claim one prefix, one whose own address it is wins, then
 * the smallest id. Key expiry by the clock is the caller's to check.
 */
unsigned netmap_node_accepted(const struct netmap *nm, const struct netmap_node *node,
			      bool accept_routes, struct ip_prefix *out);

/*
 * One SrcIPs or DstPorts.IP entry without cap: -- an address, CIDR without host
 * bits, range, or "*" (two ranges). The number of ranges, 0: invalid.
 */
unsigned netmap_range_parse(const char *text, struct netmap_range out[static 2]);

#endif
