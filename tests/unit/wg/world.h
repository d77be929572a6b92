/*
 * Two WireGuard devices, a clock that the test moves, and a wire between them
 * that keeps what was sent until the test lets it pass, drops or copies it.
 */
#ifndef MESHWRAP_TESTS_WG_WORLD_H
#define MESHWRAP_TESTS_WG_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/wg/device.h"
#include "daemon/wg/state.h"

#define WIRE_MAX      1024
#define DELIVERED_MAX 4096
#define MTU           1280

struct sent {
	int sender; /* 0 or 1 */
	struct wg_peer *peer;
	struct endpoint from, to;
	uint32_t len;
	uint8_t *bytes;
};

struct node {
	struct world *world;
	int id;
	uint8_t private_key[WG_KEY_LEN], public_key[WG_KEY_LEN];
	struct endpoint at; /* what the other sees as our address */
	uint32_t inner;     /* our inner IPv4 address */
	struct wg_device *dev;
	struct wg_peer *peer;
	unsigned transmits;    /* calls */
	unsigned sent_type[5]; /* datagrams by type */
	unsigned keepalives;   /* of which empty */
	unsigned established;
	unsigned receives;           /* calls */
	unsigned received;           /* packets */
	uint32_t seq[DELIVERED_MAX]; /* what the packets carried, in order */
	bool checks_padding;         /* of what it receives: zeros */
	bool removes_peer_on_receive, removes_peer_on_established;
	struct packet_batch batch;
};

struct world {
	uint64_t now_ns;
	uint64_t wall_s;
	uint32_t wall_ns;
	bool wall_is_frozen;
	struct node node[2];
	struct sent wire[WIRE_MAX];
	unsigned wire_count;
	struct workers *workers; /* of both nodes; NULL: none */
};

struct world_options {
	bool is_roaming;
	bool has_psk;
	uint16_t keepalive_s; /* node 0's */
	bool no_endpoint_1;   /* node 1 does not know where node 0 is */
	unsigned workers;     /* threads of a device, 0 as 1 */
};

struct world *world_create(const struct world_options *options);
void world_destroy(struct world *w);
/* Node i forgets everything but its key, as a restarted daemon does. */
void world_restart(struct world *w, int i, const struct world_options *options);

/* Sends count packets from node i to the other, numbered from seq, len bytes each. */
void world_send(struct world *w, int i, uint32_t seq, unsigned count, uint32_t len);
/* An inner packet with source and destination of choice. */
void world_send_from_to(struct world *w, int i, uint32_t source, uint32_t destination,
			uint32_t seq);
/* Delivers what is on the wire now, in one call for each receiver. True if there was anything. */
bool world_deliver(struct world *w);
/* Until the wire is empty. */
void world_settle(struct world *w);
/* Gives one datagram to node i, as from there. The bytes are copied. */
void world_inject(struct world *w, int i, const void *bytes, uint32_t len,
		  const struct endpoint *from);
void world_drop_all(struct world *w);
/* A copy of the first datagram of the type on the wire, and its length; 0: none. */
uint32_t world_peek(struct world *w, int sender, uint32_t type, uint8_t copy[static 2048]);
/* Time passes: timers run as they come due; what they send stays on the wire. */
void world_pass(struct world *w, uint64_t ns);
/* The same, and the wire delivers at once. */
void world_run(struct world *w, uint64_t ns);
/* Data from node i, which must arrive. */
void world_exchange(struct world *w, int i);
/* No index is leaked: each belongs to a handshake or a keypair. */
void world_check_indices(struct world *w);
/* Handshake, both sides know. */
void world_connect(struct world *w);

#endif
