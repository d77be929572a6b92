/* What the files of a relay connection share. */
#ifndef MESHWRAP_DAEMON_DERP_CLIENT_PRIVATE_H
#define MESHWRAP_DAEMON_DERP_CLIENT_PRIVATE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"
#include "daemon/derp/bucket.h"
#include "daemon/derp/client.h"
#include "daemon/derp/frame.h"
#include "daemon/packet.h"
#include "daemon/stream.h"
#include "shared/log.h"

#define BUFFER_LEN (128u * 1024)

static_assert(BUFFER_LEN >= DERP_HEADER + DERP_KNOWN_MAX, "what is read fits");

enum client_state {
	CLIENT_NEW,        /* -> DIALING */
	CLIENT_DIALING,    /* -> UPGRADING, GREETING (fast start), CLOSED */
	CLIENT_UPGRADING,  /* the answer to the request is to come -> GREETING, CLOSED */
	CLIENT_GREETING,   /* the relay's key is to come -> LOGGING_IN, CLOSED */
	CLIENT_LOGGING_IN, /* we said who we are -> UP, CLOSED */
	CLIENT_UP,         /* -> CLOSED */
	CLIENT_CLOSED,
};

struct derp_client {
	struct loop *loop;
	const struct tls_context *tls;
	const struct private_key *key;
	const struct derp_region *region;
	struct derp_client_callbacks callbacks;
	void *owner;
	enum client_state state;
	struct net_stream *stream;
	struct event *timer, *bulk_timer;
	bool is_bulk;         /* so much comes that the kernel is to wait for more of it */
	size_t counted_bytes; /* that came since counted_ns, or since the bulk timer was set */
	uint64_t counted_ns;
	unsigned node; /* index of the one in use */
	bool has_node, is_preferred, was_preferred_said, is_destroyed;
	struct public_key relay_key;
	uint64_t login_by_ns, heard_ns;
	uint64_t asked_ns;              /* when something was sent first after heard_ns */
	uint64_t pinged_ns, pong_by_ns; /* NEVER_NS: no ping is out */
	uint64_t armed_ns;              /* when the timer fires */
	uint8_t ping[DERP_PING];
	bool has_limit;
	struct bucket limit; /* bytes that the relay lets us send */
	struct bucket gone;  /* PeerGone frames that are believed */
	struct log_gate gate;
	char sentence[NET_STREAM_REASON_MAX];

	struct public_key from; /* of the run of packets */
	unsigned packet_count;
	struct packet packet[BATCH_PACKETS];
	size_t have, skip; /* bytes in the buffer; bytes to come that nobody reads */
	uint8_t buffer[BUFFER_LEN];
};

/* client.c */
bool derp_client_is_over(const struct derp_client *c);
/* The connection is of no use; before the login the next node may be. */
void derp_client_failed(struct derp_client *c, const char *sentence);
/* Its timer, for the next deadline. */
void derp_client_arm(struct derp_client *c);
void derp_client_put(struct derp_client *c, enum derp_type type, const void *payload, size_t len);
/* Says who we are. False: the relay's key is none. */
bool derp_client_log_in(struct derp_client *c);

/* client_frames.c */
/* Parses frames from at on; gives where the first incomplete one starts. */
size_t derp_client_take_frames(struct derp_client *c, size_t at);

#endif
