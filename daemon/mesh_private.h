/* What mesh.c and its helpers share: the node's modules, and what each file does for them. */
#ifndef MESHWRAP_DAEMON_MESH_PRIVATE_H
#define MESHWRAP_DAEMON_MESH_PRIVATE_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "daemon/calm.h"
#include "daemon/edge/edge.h"
#include "daemon/mesh.h"
#include "daemon/netmap/types.h"
#include "daemon/path/udp.h"
#include "daemon/pings.h"
#include "daemon/resolve.h"
#include "daemon/stack/filter.h"
#include "daemon/stack/netstack.h"
#include "daemon/wg/device.h"
#include "shared/log.h"

#define MESH_DATAGRAMS 256 /* given to WireGuard at once */
#define MESH_LOOK_UPS  16u /* names of peers' endpoints at a time */

struct dns;
struct proxy;
struct localapi;
struct loop;
struct mesh_status_all;
struct netmap;
struct path_peer;
struct tailnet;

/* What stands behind a WireGuard peer. */
struct mesh_peer {
	struct mesh *mesh;
	struct wg_peer *wg;
	/* File mode. */
	const struct config_peer *config;
	bool is_listed;     /* in the file that is being read again */
	bool is_new;        /* it has not been greeted yet */
	bool has_host_name; /* its endpoint is looked up, and again when it fails */
	bool has_moved;     /* its name is another now: looked up whether it answers or not */
	uint64_t looked_up_tx_bytes; /* what had been sent then */
	unsigned look_up;            /* the one that runs, by: */
	struct resolver *resolver;
	bool was_looked_up; /* once at least */
	bool was_told;      /* that it failed */
	/* Both modes: as in the map. */
	int64_t id;
	/* Tailnet mode. */
	uint8_t key[NETMAP_KEY_LEN], disco_key[NETMAP_KEY_LEN];
	struct path_peer *path;
	struct filter_source source;
	UT_hash_handle by_id;
};

struct mesh {
	struct mesh_options options; /* as it was started */
	struct config config;        /* of file mode; of tailnet mode only port and MTU */
	struct tailnet *tailnet;     /* NULL: file mode */
	struct netmap *netmap;       /* what status, whois and names are read from */
	struct loop *loop;
	struct dns *dns;
	struct proxy *proxy; /* NULL: none */
	struct edge *edge;
	struct udp_path *udp;
	unsigned worker_count;   /* threads that encrypt, this one among them */
	struct workers *workers; /* NULL: this one alone */
	struct wg_device *wg;    /* tailnet mode: NULL while there is no node key */
	struct netstack *netstack;
	struct resolver *resolver; /* tailnet mode */
	struct mesh_peer **peers;  /* file mode: config.peer_count of them */
	struct mesh_peer *by_id;   /* the same */
	int64_t last_id;           /* given to a peer; none is given twice */
	uint64_t greeting_ns;      /* when peers are told that we are here; NEVER_NS: they were */
	unsigned greeted;          /* so many of those that are told now were */
	struct resolver *look_ups[MESH_LOOK_UPS];
	uint64_t next_look_up_ns;
	uint64_t ready_ns;       /* when programs are told, at the latest; NEVER_NS: they were */
	unsigned last_look_up;   /* each has a number, 0 is none */
	unsigned first_look_ups; /* that have not ended */
	unsigned look_up_at;     /* peers before it had their turn in this pass */
	const struct packet_batch *sending; /* the batch that is on its way out */
	uint64_t timestamp_floor_s;         /* WireGuard's timestamps never go below */
	bool is_udp_blocked, is_relay_blocked;
	struct pings pings;
	struct mesh_status_all *status_all; /* NULL until it is asked for */
	uint64_t due_ns;                    /* when the loop is to wake up next */
	struct calm calm;                   /* then memory is given back */
	struct wg_datagram datagram[MESH_DATAGRAMS];
};

/* ---- mesh.c ---- */

/* The device with this node key. 0 or -ENOMEM with a sentence. */
int mesh_create_wg(struct mesh *mesh, const uint8_t private_key[static WG_KEY_LEN], bool roaming,
		   char error[static 256]);
/* Sends by UDP; bytes that are not of the batch on its way out are gone when this returns. */
void mesh_send_udp(struct mesh *mesh, const struct endpoint *to, const uint8_t *bytes, size_t len,
		   size_t segment_len);
void mesh_give_to_wg(struct mesh *mesh, const struct udp_datagram *datagrams, unsigned count);
void mesh_set_blocked(struct mesh *mesh);

/* A node of a file without a Name. */
void mesh_choose_name(struct config *config);
/* Who has this address: the peer's filter_source, or NULL. owner is the mesh. */
const void *mesh_source_of(void *owner, const struct ip_addr *addr);

/* ---- mesh_dns.c: name servers inside the mesh ---- */

void mesh_dns_install(struct mesh *mesh);

/* ---- mesh_file.c: peers and names of a WireGuard file ---- */

/* Device, peers and names. 0 or -errno with a sentence. */
int mesh_file_create(struct mesh *mesh, char error[static 256]);
void mesh_file_destroy(struct mesh *mesh);
/* A peer as the file has it, but without AllowedIPs: nothing is for it yet. As above. */
int mesh_file_add_peer(struct mesh *mesh, const struct config_peer *config, struct mesh_peer **peer,
		       char error[static 256]);
void mesh_file_remove_peer(struct mesh *mesh, struct mesh_peer *peer);
/*
 * Map, mirrors and names as the file has them; peers[i] is file->peers[i]. As above; what was
 * shown before is to be shown again after a failure.
 */
int mesh_file_show(struct mesh *mesh, const struct config *file, struct mesh_peer *const *peers,
		   char error[static 256]);

/* ---- mesh_endpoints.c: where the peers of a WireGuard file are ---- */

/* 0, or -ENOENT with a sentence: its Endpoint cannot exist. */
int mesh_endpoint_check(const struct config_peer *config, char error[static 256]);
bool mesh_endpoint_is_name(const struct config_peer *config);
bool mesh_endpoint_is_address(const struct config_peer *config, struct endpoint *at);
/* So that as many names can be looked up. 0 or -ENOMEM with a sentence. */
int mesh_endpoints_prepare(struct mesh *mesh, unsigned names, char error[static 256]);
void mesh_endpoints_finish(struct mesh *mesh);
/* The peers are others now, and so many Endpoints are names. */
void mesh_endpoints_begin(struct mesh *mesh, unsigned names);
/* At start: programs are told that the mesh is ready when names are known, or soon anyway. */
void mesh_endpoints_wait(struct mesh *mesh);
void mesh_endpoint_added(struct mesh *mesh, struct mesh_peer *peer);
void mesh_endpoint_removed(struct mesh *mesh, struct mesh_peer *peer);
/* The peer's config has another Endpoint than before. */
void mesh_endpoint_moved(struct mesh *mesh, struct mesh_peer *peer);
/* Greets new peers soon; looks host names up, and again where a peer does not answer. */
uint64_t mesh_peers_deadline(const struct mesh *mesh);
void mesh_peers_expire(struct mesh *mesh, uint64_t now_ns);

/* ---- mesh_reload.c: the file, read again ---- */

/* For localapi_backend; owner is the mesh. */
char *mesh_reload(void *owner, char *error);

/* ---- mesh_api.c: what meshctl asks ---- */

struct control_ping;
struct netcheck_report;
struct paths_pong;

void mesh_api_install(struct mesh *mesh);
/* Our first address of this family, or NULL. */
const struct ip_addr *mesh_own_address(const struct mesh *mesh, bool want_v6);
/* Of an ICMP ping; round_trip_ns NEVER_NS: no answer came in time. */
void mesh_api_ponged(struct mesh *mesh, uint32_t ticket, const struct ip_addr *from,
		     uint64_t round_trip_ns);
void mesh_api_tsmp_ponged(struct mesh *mesh, const struct ip_addr *from, const uint8_t data[8],
			  uint16_t peerapi_port);
/* A ping that the coordination server wants; it is told how it went. */
void mesh_api_ping_for_control(struct mesh *mesh, const struct control_ping *wanted);
void mesh_api_disco_ponged(struct mesh *mesh, uint32_t ticket, const struct paths_pong *pong);
void mesh_api_netchecked(struct mesh *mesh, uint32_t ticket, const struct netcheck_report *report);

/* ---- mesh_status.c ---- */

#define MESH_STATUS_FORM (JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE)

/* The JSON of `meshctl status`, malloc'd, or NULL. Without peers it is small. */
char *mesh_status(struct mesh *mesh, bool want_peers);
/* {"Peer": {...}} of these, as far as they are there; NULL without memory. */
struct json_object *mesh_status_peers(struct mesh *mesh, const int64_t *ids, unsigned count);

/* ---- mesh_status_options.c ---- */

/* What the node was started with. */
void mesh_status_add_options(const struct mesh *mesh, struct json_object *status);

/* ---- mesh_status_all.c ---- */

/* For localapi_backend; owner is the mesh. */
int mesh_status_all(void *owner, uint32_t ticket, char *error);
void mesh_status_all_destroy(struct mesh_status_all *all);

#endif
