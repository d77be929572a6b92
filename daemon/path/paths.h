/*
 * How each peer is reached: directly by UDP, or over a relay. The front door of
 * daemon/path's pure part (disco, STUN, path choice); udp.h has the sockets.
 *
 * Datagrams, events and the time come in; datagrams and news go out through
 * callbacks. Callbacks may call getters; those marked "quiet" may not call
 * anything else here. Bytes handed to send callbacks live until they return
 * when they were handed to paths_send*(), and so are disco's and STUN's own: a
 * sender that keeps references (udp_path_send) flushes before it returns when
 * the bytes are not of the batch it is just sending.
 */
#ifndef MESHWRAP_DAEMON_PATH_PATHS_H
#define MESHWRAP_DAEMON_PATH_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/path/netcheck.h"
#include "daemon/path/udp.h"
#include "shared/endpoint.h"

#define PATHS_KEY_LEN           32
#define PATHS_SELF_MAX          64 /* own endpoints that are advertised */
#define PATHS_MAP_ENDPOINTS_MAX 48 /* of one peer; what the map has above is ignored */

struct derp_map;
struct path_peer;
struct paths;

/* As control.md's EndpointTypes. */
enum paths_endpoint_type {
	PATHS_EP_UNKNOWN,
	PATHS_EP_LOCAL,
	PATHS_EP_STUN,
	PATHS_EP_PORTMAPPED,
	PATHS_EP_STUN_LOCAL_PORT,
	PATHS_EP_EXPLICIT
};

struct paths_endpoint {
	struct endpoint endpoint;
	enum paths_endpoint_type type;
};

struct paths_pong {
	uint64_t latency_ns;      /* NEVER_NS: no answer in 5 s, or the peer was removed */
	struct endpoint endpoint; /* port 0: it came over the relay */
	int region;               /* then: of the relay */
};

struct paths_callbacks {
	/* Quiet. len bytes in datagrams of segment_len, the last may be shorter. */
	void (*send_udp)(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len,
			 size_t segment_len);
	/* Quiet. The same through the relay of a region: each datagram is one packet for dst. */
	void (*send_relay)(void *owner, int region, const uint8_t dst[static PATHS_KEY_LEN],
			   const uint8_t *bytes, size_t len, size_t segment_len);
	/*
	 * What is WireGuard's, in order, out of the array (or packet) that was received.
	 * `from` is real, or a pseudo address that paths_send_to() understands.
	 */
	void (*wireguard)(void *owner, struct udp_datagram *datagrams, unsigned count);
	/* Quiet. Look a host name up, answer with paths_resolved(), at once or later. */
	void (*resolve)(void *owner, const char *host, uint64_t token);
	/* Quiet. Time an HTTPS request to a relay, answer with paths_https_measured(). Optional. */
	void (*measure_https)(void *owner, int region, uint64_t token);
	/* Own endpoints, NetInfo or home changed: tell control (paths_self(), paths_report()). */
	void (*self_changed)(void *owner);
	/* Quiet. Be connected to this region from now on (0: none known). */
	void (*home_changed)(void *owner, int region);
	/* Quiet. to NULL: the relay is used again. For the log; optional. */
	void (*direct_changed)(void *owner, void *peer_user, const struct endpoint *to);
	/*
	 * Quiet. A ping by relay was answered: the peer knows us, though what was sent to it
	 * before may have gone nowhere. Optional.
	 */
	void (*relay_answered)(void *owner, void *peer_user);
	/* Quiet. The answer to paths_ping(). */
	void (*pong)(void *owner, uint32_t ticket, const struct paths_pong *pong);
	/* Quiet. The report that paths_netcheck() asked for. */
	void (*netcheck)(void *owner, uint32_t ticket, const struct netcheck_report *report);
};

struct paths_config {
	uint8_t node_key[PATHS_KEY_LEN]; /* own, public */
	uint16_t udp_port;               /* as bound */
	bool has_fixed_port;             /* it was chosen by the user */
};

struct path_peer_config {
	uint8_t node_key[PATHS_KEY_LEN];
	uint8_t disco_key[PATHS_KEY_LEN]; /* all zero: relay only, or is_wireguard_only */
	const struct endpoint *endpoints; /* copied */
	unsigned endpoint_count;
	int home_region; /* 0: none */
	bool is_wireguard_only;
	void *user;
};

struct path_peer_status {
	bool is_direct;            /* by UDP, trusted now */
	bool is_active;            /* we sent within 45 s */
	struct endpoint direct_to; /* of is_direct */
	int relay_region;          /* the one that would be used; 0: none */
	int home_region;
	uint64_t latency_ns;   /* of the direct path, 0: unknown */
	uint64_t last_send_ns; /* 0: never */
	uint64_t last_rx_ns;   /* any disco or relayed packet; 0: never */
};

struct paths_stats {
	uint64_t disco_rx, disco_dropped, disco_tx;
	uint64_t stun_rx, geneve_dropped, relay_dropped; /* unknown source */
	uint64_t sent_direct, sent_relay, sent_both, sent_nowhere;
	uint64_t callme_limited, candidates_refused;
};

/* Makes a fresh disco key. NULL on -ENOMEM. crypto_init() came first. */
struct paths *paths_create(const struct paths_config *config,
			   const struct paths_callbacks *callbacks, void *owner);
/* All peers with it; open tickets are not answered any more. */
void paths_destroy(struct paths *paths);
void paths_disco_key(const struct paths *paths, uint8_t key[static PATHS_KEY_LEN]);

/* ---- peers ---- */

/* 0; -EEXIST: the node key is known; -ENOMEM. */
int paths_add_peer(struct paths *paths, const struct path_peer_config *config,
		   struct path_peer **peer);
/* Endpoints, disco key, home region, user: all of config but the node key. 0 or -ENOMEM (as
 * before). */
int paths_update_peer(struct paths *paths, struct path_peer *peer,
		      const struct path_peer_config *config, uint64_t now_ns);
/* Not from within a callback about this very peer. */
void paths_remove_peer(struct paths *paths, struct path_peer *peer);
struct path_peer *paths_find_peer(const struct paths *paths,
				  const uint8_t key[static PATHS_KEY_LEN]);
void path_peer_status(const struct paths *paths, const struct path_peer *peer, uint64_t now_ns,
		      struct path_peer_status *status);
/* The peer said inside the tunnel (TSMP) that this is its disco key now. 0, -EINVAL (zero),
 * -ENOMEM. */
int paths_peer_said_disco_key(struct paths *paths, struct path_peer *peer,
			      const uint8_t key[static PATHS_KEY_LEN], uint64_t now_ns);

/* ---- datagrams ---- */

/* WireGuard's for a peer: datagrams of segment_len bytes back to back. */
void paths_send(struct paths *paths, struct path_peer *peer, const uint8_t *bytes, size_t len,
		size_t segment_len, uint64_t now_ns);
/* To where a datagram came from (cookie replies): a real or a pseudo address. */
void paths_send_to(struct paths *paths, const struct endpoint *to, const uint8_t *bytes, size_t len,
		   size_t segment_len, uint64_t now_ns);
void paths_received_udp(struct paths *paths, struct udp_datagram *datagrams, unsigned count,
			uint64_t now_ns);
/* data is writable, until this returns. Packets of unknown keys are dropped here. */
void paths_received_relay(struct paths *paths, int region, const uint8_t src[static PATHS_KEY_LEN],
			  uint8_t *data, size_t len, uint64_t now_ns);
/* The kernel says that nothing can be sent to this address (host or network unreachable). */
void paths_unreachable(struct paths *paths, const struct endpoint *to, uint64_t now_ns);

/* ---- relays ---- */

/* NULL: no map. Copied as far as needed. 0 or -ENOMEM (the old one stays). */
int paths_set_derp_map(struct paths *paths, const struct derp_map *map, uint64_t now_ns);
/* The connection to a region is usable, or not any more. */
void paths_relay_state(struct paths *paths, int region, bool is_up, uint64_t now_ns);
/* The relay of this region says that the peer is not (any more) connected to it. */
void paths_peer_gone(struct paths *paths, int region, const uint8_t key[static PATHS_KEY_LEN]);
void paths_resolved(struct paths *paths, uint64_t token, const struct ip_addr *addrs,
		    unsigned count, uint64_t now_ns);
/* latency_ns 0: failed. */
void paths_https_measured(struct paths *paths, uint64_t token, uint64_t latency_ns,
			  uint64_t now_ns);

/* ---- this node ---- */

/* Local interface addresses (endpoints.h); call it at start, which also starts the first report. */
void paths_set_local(struct paths *paths, const struct ip_addr *addrs, unsigned count,
		     uint64_t now_ns);
/* Addresses or routes changed: direct paths are given up and sought again. Set local ones first. */
void paths_network_changed(struct paths *paths, uint64_t now_ns);
void paths_set_connected_to_control(struct paths *paths, bool is_connected);
/* At most max endpoints, in the order they are advertised. How many. */
unsigned paths_self(const struct paths *paths, struct paths_endpoint *out, unsigned max);
/* The last report, all zero before the first. */
const struct netcheck_report *paths_report(const struct paths *paths);
int paths_home(const struct paths *paths);

/*
 * Disco pings on every way there is, or becomes known, within 5 s; the first pong ends it. 0,
 * -EAGAIN: too many, -EOPNOTSUPP: the peer speaks WireGuard only.
 */
int paths_ping(struct paths *paths, struct path_peer *peer, uint32_t ticket, uint64_t now_ns);
/* A full report; answered by the netcheck callback. 0, -EAGAIN: too many, -ENOENT: no relay map. */
int paths_netcheck(struct paths *paths, uint32_t ticket, uint64_t now_ns);

void paths_get_stats(const struct paths *paths, struct paths_stats *stats);
uint64_t paths_deadline(const struct paths *paths);
void paths_expire(struct paths *paths, uint64_t now_ns);

#endif
