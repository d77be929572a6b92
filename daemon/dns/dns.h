/*
 * Names of the mesh: one resolver for every way of asking. The front door of
 * daemon/dns.
 *
 * It answers names and addresses of the mesh from a table, and forwards all
 * other queries to the resolvers of the matching route, else to the global
 * ones, else to the system's (/etc/resolv.conf, reread when it changes). UDP and TCP
 * listeners, the proxy and the shim's look-ups all enter by dns_query() or
 * dns_lookup(). Nothing here writes the shared map: the edge does, after
 * watcher.changed().
 */
#ifndef MESHWRAP_DAEMON_DNS_DNS_H
#define MESHWRAP_DAEMON_DNS_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/netmap/types.h"
#include "shared/endpoint.h"

#define DNS_PORT          53
#define DNS_RESOLVER_V4   "100.100.100.100"
#define DNS_RESOLVER_V6   "fd7a:115c:a1e0::53"
#define DNS_QUERY_MAX     4096  /* bytes; longer ones are not looked at */
#define DNS_ANSWER_MAX    65535 /* over TCP; UDP answers are at most 4095 */
#define DNS_IN_FLIGHT_MAX 256   /* queries that wait for one set of others; more are dropped */
#define DNS_IN_FLIGHT_ALL 512   /* and for all of them */
#define DNS_LOOKUP_MAX    16    /* addresses dns_lookup() gives */
#define DNS_SERVERS_MAX   8     /* of resolv.conf that are looked at */

struct dns;
struct dns_table;
struct loop;

struct dns_config_paths {
	const char *resolv_conf; /* NULL: /etc/resolv.conf */
};

/* Where a resolver is. */
enum dns_place {
	DNS_OUTSIDE, /* asked on the real network */
	DNS_TUNNEL,  /* a peer's address, or a network behind one */
	DNS_OWN,     /* a program of this node */
	DNS_NOBODY   /* a mesh address that nobody has now: never for the real network */
};

/* The way to resolvers that are in the mesh. Without one all are outside. */
struct dns_tunnel {
	enum dns_place (*place)(void *owner, const struct ip_addr *ip);
	/* Of DNS_OWN: where on loopback its program is. False: that is not known. */
	bool (*find_own)(void *owner, const struct endpoint *to, struct endpoint *at);
	/* Sends one datagram from our own mesh address and this port. 0 or -errno. */
	int (*send_udp)(void *owner, uint16_t local_port, const struct endpoint *to,
			const uint8_t *data, size_t len);
	void *owner;
};

/* The same for connections, which long answers need. */
struct dns_dialler {
	/*
	 * Begins one. 0, and later exactly one opened() unless it is cancelled before: an
	 * established stream socket that is the asker's now, or -errno. Or -errno at once.
	 */
	int (*start)(void *owner, const struct endpoint *to, void (*opened)(void *arg, int fd),
		     void *arg, void **dial);
	void (*cancel)(void *owner, void *dial);
	void *owner;
};

/* NULL on failure. Until dns_set() every query is forwarded to the system's resolvers. */
struct dns *dns_create(struct loop *loop, const struct dns_config_paths *paths);
/* Open queries are answered with NULL: so before those who have asked, the edge for one. */
void dns_destroy(struct dns *dns);
void dns_set_tunnel(struct dns *dns, const struct dns_tunnel *tunnel);
void dns_set_dialler(struct dns *dns, const struct dns_dialler *dialler);

/* What names come from. Everything is copied. */
struct dns_source {
	const struct netmap_node *self; /* NULL: no mesh yet, or our key has expired: no names */
	const struct netmap_node *const *peers;
	unsigned peer_count;
	const struct dns_config *config; /* NULL: no zones, routes or records */
	/*
	 * A node's IPv6 addresses are answered too, although it has an IPv4 one.
	 * Without it the rule of netmap applies (see table.h). File mode wants it.
	 */
	bool all_families;
	/* "--accept-dns=false": only names and records, no resolvers or routes of the server. */
	bool refuse_resolvers;
};
/*
 * The mesh has changed. In file mode: node names NAME.DOMAIN (NAME without a
 * domain), config = { is_proxied, domains = { DOMAIN }, one route DOMAIN
 * without resolvers }. A name that two nodes have is the first one's. 0 or
 * -ENOMEM (then nothing has changed).
 */
int dns_set(struct dns *dns, const struct dns_source *source);

/*
 * Called exactly once for each query, perhaps before dns_query() returns.
 * answer lives until the callback returns; NULL: there is none (dropped: too
 * many queries wait, or dns_destroy()).
 */
typedef void dns_done(void *arg, const uint8_t *answer, size_t len);
/* One DNS message, without the length prefix of TCP. is_tcp: the answer may be long. */
void dns_query(struct dns *dns, const uint8_t *query, size_t len, bool is_tcp, dns_done *done,
	       void *arg);

enum dns_want {
	DNS_WANT_V4 = 1,
	DNS_WANT_V6 = 2,
	/*
	 * Also mesh and loopback addresses that somebody outside the mesh has given a name.
	 * Without it they are left out: who asks for others must not be led inside by them
	 * (DNS rebinding). What routes of the mesh and resolvers behind the tunnel say may
	 * always lead into the mesh.
	 */
	DNS_WANT_INSIDE = 4
};
/*
 * error: 0 with addresses (IPv4 first); ENOENT: no such name; ENODATA: it has
 * none of the wanted family; EAGAIN: the resolvers did not answer, or not now.
 */
typedef void dns_found(void *arg, int error, const struct ip_addr *ips, unsigned count);
/*
 * Addresses of a name, for those who have no resolver of their own (the proxy,
 * the shim's getaddrinfo). Numbers and names of /etc/hosts are the caller's
 * affair. The search domains are applied unless is_absolute or the name has a
 * dot. found is called exactly once, perhaps before this returns.
 */
void dns_lookup(struct dns *dns, const char *name, unsigned want, bool is_absolute,
		dns_found *found, void *arg);

/*
 * A datagram of the mesh to one of our own addresses: true if it answers a query that
 * went out by tunnel.send_udp() from this port; nobody else wants it then.
 */
bool dns_tunnel_received(struct dns *dns, const struct endpoint *from, uint16_t local_port,
			 const uint8_t *data, size_t len);

/* ---- for who publishes names (the edge) ---- */

struct dns_watcher {
	/* The table or the system's servers have changed. */
	void (*changed)(void *owner);
	void *owner;
};
void dns_watch(struct dns *dns, const struct dns_watcher *watcher);
/* Lives until the next dns_set(). */
const struct dns_table *dns_names(const struct dns *dns);
/* The system's servers, port 53 each, in order; at most DNS_SERVERS_MAX. */
unsigned dns_servers(const struct dns *dns, struct ip_addr servers[static DNS_SERVERS_MAX]);

struct dns_stats {
	uint64_t queries, local, forwarded, failed, dropped, bad, spoofed;
	unsigned in_flight;
};
void dns_get_stats(const struct dns *dns, struct dns_stats *stats);

#endif
