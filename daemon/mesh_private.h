/* What mesh.c and its helpers (peers, status) share. */
#ifndef MESHWRAP_DAEMON_MESH_PRIVATE_H
#define MESHWRAP_DAEMON_MESH_PRIVATE_H

#include "daemon/edge/edge.h"
#include "daemon/mesh.h"
#include "daemon/path/udp.h"
#include "daemon/pings.h"
#include "daemon/resolve.h"
#include "daemon/stack/netstack.h"
#include "daemon/wg/device.h"
#include "shared/log.h"

#define MESH_DATAGRAMS 256 /* given to WireGuard at once */

struct loop;

struct mesh_peer {
	const struct config_peer *config;
	struct wg_peer *wg;
	bool has_host_name;          /* its endpoint is looked up, and again when it fails */
	uint64_t looked_up_tx_bytes; /* what had been sent then */
};

struct mesh {
	struct config config;
	struct loop *loop;
	struct edge *edge;
	struct udp_path *udp;
	struct wg_device *wg;
	struct netstack *netstack;
	struct resolver *resolver;
	struct mesh_peer *peers; /* config.peer_count of them */
	uint64_t greeting_ns;    /* when peers are told that we are here; NEVER_NS: they were */
	uint64_t next_look_up_ns;
	unsigned look_up_at; /* peers before it had their turn in this pass */
	struct log_gate look_up_gate;
	const struct packet_batch *sending; /* the batch that is on its way out */
	struct pings pings;
	struct wg_datagram datagram[MESH_DATAGRAMS];
};

/* Creates all peers of the file. 0 or -errno with a sentence. */
int mesh_peers_create(struct mesh *mesh, char error[static 256]);
void mesh_peers_log_unresolved(struct mesh *mesh);
/* Greets peers soon after start; looks host names up again where a peer does not answer. */
uint64_t mesh_peers_deadline(const struct mesh *mesh);
void mesh_peers_expire(struct mesh *mesh, uint64_t now_ns);
/* What resolver_create() wants; owner is the mesh. */
void mesh_peers_looked_up(void *owner, unsigned token, const char *error,
			  const struct endpoint *ep);

/* The JSON of `meshctl status`, malloc'd, or NULL. */
char *mesh_status(struct mesh *mesh);

#endif
