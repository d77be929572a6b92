/*
 * The program's side of the daemon. The front door of daemon/edge.
 *
 * Owns the runtime folder's sockets and the shared map (as its only writer):
 * answers the shim, holds and completes its connects, carries bytes between
 * loopback sockets and the netstack, delivers inbound flows to local
 * listeners, and serves meshctl.
 */
#ifndef MESHWRAP_DAEMON_EDGE_EDGE_H
#define MESHWRAP_DAEMON_EDGE_EDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/stack/netstack.h"
#include "shared/endpoint.h"

struct dns;
struct edge;
struct localapi;
struct loop;

/* One node of the mesh, ourselves included, as mirrors need it. */
struct edge_node {
	const char *name; /* for messages, "" for none; what programs look up is edge_set_dns()'s */
	const struct ip_prefix *prefix;
	unsigned prefix_count; /* of a peer: its AllowedIPs; of ourselves: Address */
	bool is_self;
};

struct edge_config {
	const char *dir; /* the runtime folder; made (0700) when missing */
	uint32_t mtu;
	bool allow_all_users; /* else: our own uid and root */
	bool refuse_synhold;  /* tests: behave as if SYN hold did not work here */
};

struct edge_callbacks {
	/* Could a packet for this mesh address leave? 0, or a positive errno for the program. */
	int (*reachable)(void *owner, const struct ip_addr *mesh);
	/*
	 * Who has this mesh address, for what one peer may take: a pointer that is only
	 * compared. NULL: all of them are one peer's.
	 */
	const void *(*peer)(void *owner, const struct ip_addr *mesh);
	/*
	 * Whose it is, for edge_peers_changed() and edge_peers_missed(): the same as long as it is
	 * the same one's. NULL: peer tells that, too.
	 */
	const void *(*holder)(void *owner, const struct ip_addr *mesh);
};

/* 0 or -errno; error holds one sentence for the user. -EEXIST: a daemon already runs here. */
int edge_create(struct loop *loop, const struct edge_config *config,
		const struct edge_callbacks *callbacks, void *owner, struct edge **edge,
		char error[static 256]);
/* Removes its sockets and marks the map as not ready. */
void edge_destroy(struct edge *edge);

/* All nodes, at once; may be called again when the mesh changes. 0 or -errno with a sentence. */
int edge_set_nodes(struct edge *edge, const struct edge_node *nodes, unsigned count,
		   char error[static 256]);
/*
 * Holders of addresses are about to leave, while there is a way to them: what
 * programs have with them by TCP ends with an error, and with the next flush the far side
 * hears so. edge_peers_changed() is to follow.
 */
void edge_peers_leave(struct edge *edge, bool (*leaves)(const void *holder));
/*
 * Addresses have other holders than before, or none: what programs have with those of before
 * ends with an error. No holder may be told by the pointer of another one of before.
 */
void edge_peers_changed(struct edge *edge);
/*
 * The same for holders who may come back: that ends only what is so now and was so at the call
 * before. True: there is something of which the next call is to decide.
 */
bool edge_peers_missed(struct edge *edge);
/*
 * Whose names programs see, and who answers at the resolver's address and in
 * place of this machine's name servers. Once, before or after edge_set_nodes(); the
 * edge then follows every dns_set() by itself. dns_destroy() comes right before
 * edge_destroy().
 */
void edge_set_dns(struct edge *edge, struct dns *dns);
void edge_set_netstack(struct edge *edge, struct netstack *ns);
/* The mesh is usable (readers are told), or no longer. */
void edge_set_ready(struct edge *edge, bool ready);

/* To be given to netstack_create() with the edge as owner's member: what the mesh side reports. */
void edge_tcp_incoming(struct edge *edge, struct tcp_conn *conn, const struct endpoint *local,
		       const struct endpoint *remote);
void edge_tcp_event(struct edge *edge, struct tcp_conn *conn, void *user, unsigned events);
void edge_tcp_cancelled(struct edge *edge, struct tcp_conn *conn);
void edge_udp_received(struct edge *edge, const struct endpoint *local,
		       const struct endpoint *remote, const uint8_t *data, size_t len);
void edge_udp_failed(struct edge *edge, const struct endpoint *local, const struct endpoint *remote,
		     int error);

/* Where meshctl's questions come in: see localapi_set_backend(). */
struct localapi *edge_localapi(struct edge *edge);

uint64_t edge_deadline(const struct edge *edge);
void edge_expire(struct edge *edge, uint64_t now_ns);

struct edge_stats {
	uint64_t flows, udp_endpoints; /* now */
	uint64_t udp_evicted;          /* endpoints that made way for others */
	uint64_t udp_over_share;       /* of these: their peer had the most */
	uint64_t udp_ignored;          /* datagrams, of peers that tried many closed ports */
	uint64_t flows_stowed;         /* of these: idle, and without a descriptor of ours */
	uint64_t dialled, dial_failed, inbound, inbound_refused;
	bool synhold;            /* false: the fallback "dial first" */
	const char *synhold_why; /* why not */
};
void edge_get_stats(const struct edge *edge, struct edge_stats *stats);

#endif
