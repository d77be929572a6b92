/* A node of a tailnet: what the files mesh_tailnet.c, mesh_netmap.c and mesh_paths.c share. */
#ifndef MESHWRAP_DAEMON_MESH_TAILNET_H
#define MESHWRAP_DAEMON_MESH_TAILNET_H

#include "daemon/control/client.h"
#include "daemon/login.h"
#include "daemon/mesh_private.h"
#include "daemon/netmap/netmap.h"

struct netwatch;
struct paths;
struct relay_probe;
struct relays;
struct state;
struct tls_context;

#define TAILNET_LOOKUPS_MAX 64
#define TAILNET_PROBES_MAX  16
#define TAILNET_FOUND_MAX   64
#define TAILNET_HOST_MAX    256

/* A host name of a relay that waits for its turn to be looked up. */
struct tailnet_lookup {
	uint64_t token;
	char host[TAILNET_HOST_MAX];
};

/* A relay's latency being measured. */
struct tailnet_probe {
	struct tailnet *tailnet;
	struct relay_probe *probe; /* NULL: free */
	uint64_t token;
};

struct tailnet {
	struct mesh *mesh;
	const struct login_setup *login;
	struct state *state;
	struct tls_context *tls; /* of the server and the relays */
	struct control *control;
	struct filter *filter;
	struct netwatch *netwatch;
	struct mesh_peer *peers; /* by id */
	/* With a node key: */
	struct paths *paths;
	struct relays *relays;

	int64_t self_id;
	struct ip_addr own[CONFIG_MAX_OWN];
	unsigned own_count;

	int64_t found[TAILNET_FOUND_MAX]; /* peers that can be reached since this round */
	unsigned found_count;

	bool wants_running; /* not after "down" */
	bool is_carrying;   /* the data plane is up */
	bool is_saved;      /* a map of this run is on disk */
	bool is_saving;     /* state_save_begin() was called, and state_save_end() not yet */
	bool has_map;       /* from the server or from the state */
	bool is_leaving;    /* the server is being told that we go */
	uint64_t leave_by_ns;
	uint64_t names_at_ns; /* when names and mirrors are written next; NEVER_NS: they are true */
	uint64_t names_again_ns;  /* the last time they could not be: how long until the next */
	uint64_t expiry_at_ns;    /* when a key runs out next */
	uint64_t part_at_ns;      /* when nodes that left are missed; NEVER_NS: none has */
	uint64_t save_at_ns;      /* when the map is saved next; NEVER_NS: nothing new */
	struct event *save_event; /* a save is over; NULL: each is waited for */
	uint32_t logout_ticket;
	bool has_logout_ticket;
	uint64_t ignored; /* entries of maps that were invalid or above a limit */
	struct log_gate names_gate, save_gate, paths_gate, relay_gate, status_gate, ready_gate,
		url_gate;

	struct tailnet_probe probes[TAILNET_PROBES_MAX];
	struct tailnet_lookup lookups[TAILNET_LOOKUPS_MAX];
	unsigned lookup_first, lookup_count;
	bool is_looking_up;
};

/* ---- mesh_tailnet.c: logging in, and the life of it all ---- */

/* 0 or -errno with a sentence. The modules of mesh below it exist. */
int tailnet_create(struct mesh *mesh, const struct login_setup *login, char error[static 256]);
void tailnet_destroy(struct tailnet *t);
/* True when the server must be told first; mesh_stop() ends the loop later. */
bool tailnet_leave(struct tailnet *t);
/* WireGuard has put this second into a handshake. */
void tailnet_timestamp_used(struct tailnet *t, uint64_t seconds);
int tailnet_set_running(struct tailnet *t, bool running, char error[static 256]);
uint64_t tailnet_deadline(const struct tailnet *t);
void tailnet_expire(struct tailnet *t, uint64_t now_ns);
/* As status says it. */
const char *tailnet_backend_state(const struct tailnet *t);

/* ---- mesh_netmap.c: from the map to WireGuard, paths, filter and names ---- */

/* changes NULL: everything is looked at. */
void tailnet_sync(struct tailnet *t, const struct netmap_changes *changes);
void tailnet_drop_peers(struct tailnet *t);
/*
 * After a logout: the map was told to a node that is no more. Programs' flows stay, for the next
 * login may be as the same node.
 */
void tailnet_forget_map(struct tailnet *t);
void tailnet_publish_names(struct tailnet *t);
void tailnet_part(struct tailnet *t);
uint64_t tailnet_timestamp_s(void); /* the wall clock */
/* What edge_callbacks.holder wants; owner is the mesh. */
const void *tailnet_holder(void *owner, const struct ip_addr *addr);

/* ---- mesh_paths.c: between WireGuard, paths, UDP and relays ---- */

/* Device, paths and relays for the node key of the state. 0 or -ENOMEM with a sentence. */
int tailnet_plane_create(struct tailnet *t, char error[static 256]);
void tailnet_plane_destroy(struct tailnet *t);
void tailnet_received(struct tailnet *t, struct udp_datagram *datagrams, unsigned count);
void tailnet_transmit(struct tailnet *t, struct mesh_peer *peer, const struct endpoint *to,
		      const uint8_t *bytes, size_t len, size_t segment_len);
/* To peers that have just become directly reachable. */
void tailnet_use_found_paths(struct tailnet *t, uint64_t now_ns);
void tailnet_tell_control(struct tailnet *t);
/* What resolver_create() wants; owner is the tailnet's mesh. */
void tailnet_said_disco_key(struct tailnet *t, struct mesh_peer *peer,
			    const uint8_t key[static NETMAP_KEY_LEN]);
void tailnet_looked_up(void *owner, unsigned token, const char *error, const struct endpoint *ep);
/* What udp_path_on_unreachable() wants; owner is the mesh. */
void tailnet_unreachable(void *owner, const struct endpoint *to);
void tailnet_network_changed(void *owner);

#endif
