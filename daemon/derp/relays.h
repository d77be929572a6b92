/*
 * The set of relay connections of this node, one a region at most.
 *
 * The home region is always connected; others are when something is sent there, and
 * are closed after 60 s without a write. Nothing here waits; all callbacks come from
 * the loop, from inside relays_send() (blocked only) or relays_set_map() (state, blocked).
 */
#ifndef MESHWRAP_DAEMON_DERP_RELAYS_H
#define MESHWRAP_DAEMON_DERP_RELAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"
#include "daemon/packet.h"
#include "shared/endpoint.h"

struct derp_map;
struct derp_node;
struct loop;
struct relays;
struct tls_context;

#define RELAYS_REGIONS_MAX 512   /* of a map; more are left out, with a log line */
#define RELAYS_SEND_MAX    65536 /* bytes of one datagram */

enum relays_gone { RELAYS_GONE_DISCONNECTED = 0, RELAYS_GONE_NOT_HERE = 1 };

struct relays_callbacks {
	/* Datagrams of one source, in order. They may be written to, until this returns. */
	void (*received)(void *owner, int region, const struct public_key *from,
			 struct packet *packets, unsigned count);
	/*
	 * Some connection's queue is full (is_blocked), or none any more: hold back data; what is
	 * urgent still goes. A connection that stands still for 100 ms does not count:
	 * what is sent there is then dropped.
	 */
	void (*blocked)(void *owner, bool is_blocked);
	void (*peer_gone)(void *owner, int region, const struct public_key *peer,
			  enum relays_gone reason);
	/* Up: logged in. Down: the sentence says why. Also for health (up, with a sentence). */
	void (*state)(void *owner, int region, bool is_up, const char *sentence);
};

/* key: this node's; copied, wiped at the end. NULL: -ENOMEM. tls outlives it. */
struct relays *relays_create(struct loop *loop, const struct tls_context *tls,
			     const struct private_key *key,
			     const struct relays_callbacks *callbacks, void *owner);
/* Also from inside callbacks; none follows. NULL is fine. */
void relays_destroy(struct relays *r);

/*
 * The map is copied. Connections of regions that are gone or whose nodes differ end;
 * the home region and regions that had traffic lately are connected anew. 0 or -ENOMEM (all
 * stays as it was).
 */
int relays_set_map(struct relays *r, const struct derp_map *map);
/* 0: none. */
void relays_set_home(struct relays *r, int region);

/*
 * Sends datagrams of segment_len that stand back to back (the last may be shorter) and connects
 * first where needed. The bytes are copied. Urgent (disco) ones go while blocked. 0; -ENOENT:
 * no such region; -EMSGSIZE; -ENOBUFS: dropped and counted.
 */
int relays_send(struct relays *r, int region, const struct public_key *to, const uint8_t *bytes,
		size_t len, size_t segment_len, bool is_urgent);

/* Interfaces or addresses changed: connections that do not answer a ping within 3 s are made
 * anew. */
void relays_network_changed(struct relays *r);

struct relays_status {
	int region;
	bool is_connected, is_home;
	const char *node;     /* name of the node that is connected, or "" */
	const char *sentence; /* why it is down, or its health, or "" */
	struct endpoint remote;
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, tx_dropped, rx_dropped;
	uint64_t connects, failures;
};
/* The index-th region that was ever used with this map; false: there are no more. */
bool relays_status(const struct relays *r, unsigned index, struct relays_status *status);

/* ---- latency over HTTPS, where UDP is blocked ---- */

struct relay_probe;
/*
 * Times one GET /derp/latency-check: from the request to the answer. done is called once:
 * error NULL and the time, or why not in a sentence. It ends within 5 s. NULL: -ENOMEM.
 */
typedef void relay_probe_done(void *owner, const char *error, uint64_t round_trip_ns,
			      const struct endpoint *remote);
struct relay_probe *relay_probe_start(struct loop *loop, const struct tls_context *tls,
				      const struct derp_node *node, relay_probe_done *done,
				      void *owner);
/* Once, after done() (from inside it too) or before; then done() does not come. NULL is fine. */
void relay_probe_destroy(struct relay_probe *probe);

#endif
