/*
 * The insides of a device and its peers, shared by the files of this folder
 * (and by its tests, which set what nature would). Callers use device.h.
 */
#ifndef MESHWRAP_DAEMON_WG_STATE_H
#define MESHWRAP_DAEMON_WG_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "daemon/wg/allowedips.h"
#include "daemon/wg/cookie.h"
#include "daemon/wg/deadlines.h"
#include "daemon/wg/device.h"
#include "daemon/wg/handshake.h"
#include "daemon/wg/index.h"
#include "daemon/wg/keypair.h"
#include "daemon/wg/load.h"
#include "daemon/wg/message.h"
#include "daemon/wg/ratelimit.h"
#include "daemon/wg/staging.h"
#include "daemon/wg/timers.h"

struct wg_peer {
	struct wg_device *dev;
	struct public_key public;
	UT_hash_handle by_key;
	struct wg_keypairs keypairs;
	struct wg_timers timers;
	struct wg_deadline deadline;
	struct wg_staging staging;
	struct endpoint endpoint;
	bool has_endpoint;
	bool is_renewing; /* nothing more is sent under the current keypair */
	bool is_removed;  /* within a callback: freed when the device is left */
	struct wg_peer *next_removed;
	struct wg_handshake handshake;
	struct wg_macs macs;
	struct wg_allowed_list allowed;
	uint64_t rx_bytes, tx_bytes;
	uint64_t handshake_wall_s, handshake_ns;
	uint64_t dropped_staged, dropped_invalid, dropped_source;
	void *user;
};

/* The last answer of the routing table. */
struct wg_route_cache {
	struct ip_addr addr;
	struct wg_peer *peer;
	bool is_valid;
};

#define WG_AHEAD      256 /* datagrams opened before their turn */
#define WG_SHARED_MIN 16  /* packets that are worth sharing with workers */
#define WG_PIECE      8   /* of them taken at once: 5 us */

/* What was found of a transport packet before its turn: opened by keypair, or NULL: not opened. */
struct wg_ahead {
	const struct wg_keypair *keypair;
	bool is_good;
};

struct wg_device {
	struct wg_callbacks callbacks;
	void *owner;
	uint32_t mtu;
	bool is_roaming;
	struct wg_identity *identity; /* in secret memory */
	struct blake2s *engine;
	struct aead_cipher *cipher;
	struct workers *workers; /* NULL: everything is done here */
	struct wg_checker checker;
	struct wg_load load;
	struct wg_ratelimit *ratelimit;
	struct wg_peer *peers; /* by key */
	struct wg_index_table indices;
	struct wg_allowedips allowed;
	struct wg_route_cache destination, source;
	struct wg_deadlines deadlines;
	struct wg_staging_total staged;
	uint64_t now_ns; /* of the last call */
	uint64_t jitter; /* state of a generator that nobody's safety depends on */

	unsigned depth;          /* calls into the device under way */
	bool is_transmitting;    /* no calls are allowed then */
	bool is_receiving;       /* nor a second receive in a receive callback */
	struct wg_peer *removed; /* to be freed when depth is 0 */

	struct packet inbox[WG_RECEIVE_RUN];
	struct wg_ahead ahead[WG_AHEAD];
	struct packet_batch scratch; /* staged packets on their way out */
};

/* Around everything that may call back. */
void wg_enter(struct wg_device *dev, uint64_t now_ns);
void wg_leave(struct wg_device *dev);

/* peer.c */
/* 0, -EINVAL for a key of low order, or -ENOMEM. */
int wg_peer_create(struct wg_device *dev, const struct wg_peer_config *config,
		   struct wg_peer **out);
/* Out of every table, everything secret gone; then wg_peer_free(). */
void wg_peer_detach(struct wg_peer *peer);
void wg_peer_free(struct wg_peer *peer);
bool wg_peer_can_send(const struct wg_peer *peer, uint64_t now_ns);
/* Starts a handshake if the 5 s since the last handshake message are over. */
void wg_peer_initiate(struct wg_peer *peer, bool is_retry, uint64_t now_ns);
/* Answers the initiation just consumed; from is used when the peer has no endpoint. */
void wg_peer_respond(struct wg_peer *peer, const struct endpoint *from, uint64_t now_ns);
/* The response just consumed. */
void wg_peer_session_initiated(struct wg_peer *peer, uint64_t now_ns);
/* The first packet under the keypair that we made as responder. */
void wg_peer_session_confirmed(struct wg_peer *peer, uint64_t now_ns);
void wg_peer_keepalive(struct wg_peer *peer, uint64_t now_ns);
void wg_peer_expire(struct wg_peer *peer, uint64_t now_ns);
/* After any event: a timer may be due earlier than the device knows. */
void wg_peer_rearm(struct wg_peer *peer);

/* send.c */
void wg_peer_send_staged(struct wg_peer *peer, uint64_t now_ns);
void wg_transmit(struct wg_device *dev, struct wg_peer *peer, const struct endpoint *to,
		 const void *bytes, size_t len, size_t segment_len);
struct wg_peer *wg_route_cached(const struct wg_device *dev, struct wg_route_cache *cache,
				const struct ip_addr *addr);

/* device.c */
uint64_t wg_jitter(struct wg_device *dev);
struct wg_peer *wg_device_find_peer(struct wg_device *dev, const struct public_key *key);

#endif
