/*
 * WireGuard: all peers of one node, both roles. The front door of daemon/wg.
 *
 * Pure: datagrams, inner packets and the time come in, datagrams and inner
 * packets go out through callbacks. No sockets, no clock (key randomness
 * excepted). Source: the WireGuard paper; constants: message.h. Callbacks may
 * call the device again and remove peers; transmit and wall_clock may not.
 */
#ifndef MESHWRAP_DAEMON_WG_DEVICE_H
#define MESHWRAP_DAEMON_WG_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/packet.h"
#include "shared/endpoint.h"

#define WG_KEY_LEN 32

struct wg_device;
struct wg_peer;
struct workers;

/* Datagrams received together. data is opened in place. */
struct wg_datagram {
	uint8_t *data;
	uint32_t len;
	struct endpoint from;
};

struct wg_callbacks {
	/*
	 * Send len bytes to peer's endpoint: datagrams of segment_len bytes back to
	 * back, the last one may be shorter. peer is NULL for an answer to somebody
	 * who is not (yet) known to be one: cookie replies. The bytes live until
	 * the callback returns.
	 */
	void (*transmit)(void *owner, struct wg_peer *peer, const struct endpoint *to,
			 const uint8_t *bytes, size_t len, size_t segment_len);
	/* Inner packets of one peer, authentic, source inside its AllowedIPs, padding stripped. */
	void (*receive)(void *owner, struct wg_peer *peer, struct packet *packets, unsigned count);
	/* A handshake has ended well: packets flow. Optional. */
	void (*established)(void *owner, struct wg_peer *peer);
	/* Wall clock for TAI64N: seconds and nanoseconds since 1970. */
	void (*wall_clock)(void *owner, uint64_t *seconds, uint32_t *nanoseconds);
};

struct wg_peer_config {
	uint8_t public_key[WG_KEY_LEN];
	uint8_t preshared_key[WG_KEY_LEN]; /* all zero: none */
	const struct ip_prefix *allowed;
	unsigned allowed_count;
	bool has_endpoint;
	struct endpoint endpoint;
	uint16_t keepalive_s; /* persistent keepalive; 0: off */
	void *user;           /* wg_peer_user() */
};

struct wg_peer_stats {
	uint64_t rx_bytes, tx_bytes; /* on the wire, as wg(8) counts */
	uint64_t handshake_wall_s;   /* of the last completed handshake, 0: never */
	uint64_t handshake_ns;       /* the same by the clock of `now` */
	bool has_session;            /* a keypair that could send at the last call */
	bool has_endpoint;
	struct endpoint endpoint;
	uint64_t dropped_staged, dropped_invalid, dropped_source;
};

/* roaming: the endpoint follows authenticated datagrams (plain WireGuard). NULL on -ENOMEM. */
struct wg_device *wg_device_create(const uint8_t private_key[static WG_KEY_LEN], uint32_t mtu,
				   bool roaming, const struct wg_callbacks *callbacks, void *owner);
void wg_device_destroy(struct wg_device *dev);
/*
 * count threads (the caller among them) that share the sealing and opening of larger
 * batches; they must outlive the device. Before it has peers.
 */
void wg_device_set_workers(struct wg_device *dev, struct workers *workers, unsigned count);
/* The library that seals and opens its packets. */
const char *wg_device_library(const struct wg_device *dev);
void wg_device_public_key(const struct wg_device *dev, uint8_t public_key[static WG_KEY_LEN]);

/* 0; -EEXIST for a key that is known; -EINVAL for our own or a low-order key; -ENOMEM; -E2BIG. */
int wg_device_add_peer(struct wg_device *dev, const struct wg_peer_config *config,
		       struct wg_peer **peer);
void wg_device_remove_peer(struct wg_device *dev, struct wg_peer *peer);

/*
 * Routes each packet by AllowedIPs, seals it in place and transmits; without
 * a session it is staged (copied, bounded) and a handshake starts. Packets
 * without a peer, or whose peer has no endpoint, are dropped: callers ask
 * wg_device_route() first where that matters. The batch may be reset
 * afterwards.
 */
void wg_device_send(struct wg_device *dev, struct packet_batch *batch, uint64_t now_ns);
void wg_device_receive(struct wg_device *dev, struct wg_datagram *datagrams, unsigned count,
		       uint64_t now_ns);

/* The peer for an inner destination address, or NULL. */
struct wg_peer *wg_device_route(const struct wg_device *dev, const struct ip_addr *inner);

uint64_t wg_device_deadline(const struct wg_device *dev);
void wg_device_expire(struct wg_device *dev, uint64_t now_ns);

void *wg_peer_user(const struct wg_peer *peer);
void wg_peer_stats(const struct wg_peer *peer, struct wg_peer_stats *stats);
void wg_peer_set_endpoint(struct wg_peer *peer, const struct endpoint *endpoint);
/*
 * Replaces the peer's AllowedIPs; its session goes on. A prefix that another
 * peer had is this one's now. 0, or with nothing changed -EINVAL, -E2BIG, -ENOMEM.
 */
int wg_peer_set_allowed(struct wg_peer *peer, const struct ip_prefix *allowed, unsigned count);
/*
 * Room for so many prefixes more than there are: until then wg_peer_set_allowed() has memory. 0,
 * -E2BIG or -ENOMEM.
 */
int wg_device_reserve(struct wg_device *dev, unsigned prefixes);
/* Of the next handshakes; the session goes on until then. All zero: none. */
void wg_peer_set_preshared_key(struct wg_peer *peer,
			       const uint8_t preshared_key[static WG_KEY_LEN]);
/* Persistent keepalive, 0: off. The first is sent soon. */
void wg_peer_set_keepalive(struct wg_peer *peer, uint16_t keepalive_s);
/*
 * The other side has probably forgotten our session (it has started again):
 * what is sent next asks for a new one first. What still comes under the old one is taken.
 */
void wg_peer_renew(struct wg_peer *peer);
/*
 * New keys at once (subject to the rate limits); the session goes on meanwhile, in case the
 * other side still has it.
 */
void wg_peer_rekey(struct wg_peer *peer, uint64_t now_ns);
/* Starts a handshake now if there is no session (subject to the rate limits). */
void wg_peer_wake(struct wg_peer *peer, uint64_t now_ns);
/*
 * A way to the peer is known now. An initiation that has had no answer yet was
 * probably lost for want of one: the next goes at once, not after its 5 s.
 */
void wg_peer_path_found(struct wg_peer *peer, uint64_t now_ns);

#endif
