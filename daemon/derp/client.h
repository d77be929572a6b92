/*
 * One connection to a relay of a region: from trying its nodes to the end. It does not
 * come back by itself.
 */
#ifndef MESHWRAP_DAEMON_DERP_CLIENT_H
#define MESHWRAP_DAEMON_DERP_CLIENT_H

#include "daemon/derp/frame.h"
#include "daemon/packet.h"
#include "shared/endpoint.h"

struct derp_client;
struct derp_region;
struct loop;
struct tls_context;

#define DERP_QUEUE_MAX   (256u * 1024) /* bytes waiting to be sent, urgent ones included */
#define DERP_QUEUE_HIGH  (128u * 1024) /* above, only what is urgent is accepted */
#define DERP_QUEUE_BLOCK (64u * 1024)  /* above, the producer is asked to stop */
#define DERP_QUEUE_LOW   (32u * 1024)  /* drained() below */

/* All come from the loop; the client may be destroyed in each. */
struct derp_client_callbacks {
	void (*up)(void *owner); /* logged in */
	/* Packets of one source, in place, until this returns. */
	void (*received)(void *owner, const struct public_key *from, struct packet *packets,
			 unsigned count);
	void (*peer_gone)(void *owner, const struct public_key *peer, uint8_t reason);
	void (*health)(void *owner, const char *sentence); /* "": well again */
	/* The relay will end the connection and asks to come back after wait_ms. */
	void (*restarting)(void *owner, uint32_t wait_ms);
	void (*drained)(void *owner);
	void (*down)(void *owner, const char *sentence); /* once, the last */
};

/* key, region and tls outlive it. NULL: -ENOMEM. */
struct derp_client *derp_client_open(struct loop *loop, const struct tls_context *tls,
				     const struct private_key *key,
				     const struct derp_region *region,
				     const struct derp_client_callbacks *callbacks, void *owner);
void derp_client_destroy(struct derp_client *c);

/* Says whether this region is our home, now or as soon as possible. */
void derp_client_set_preferred(struct derp_client *c, bool is_home);
/*
 * Sends datagrams of segment_len back to back, each in a frame of its own, none longer
 * than DERP_PACKET_MAX. The bytes that are on their way: all, or the whole datagrams in front
 * that the relay's limit allows. -EAGAIN: not logged in; -ENOBUFS: too much is waiting, or the
 * limit allows none. The others are dropped.
 */
long derp_client_send(struct derp_client *c, const struct public_key *to, const uint8_t *bytes,
		      size_t len, size_t segment_len);
/* Ends the connection unless something comes within 3 s. It does so by itself when what
 * was sent has brought nothing back for 3 s. */
void derp_client_ping(struct derp_client *c);
size_t derp_client_queued(const struct derp_client *c);
bool derp_client_is_up(const struct derp_client *c);
const char *derp_client_node(const struct derp_client *c); /* "" while there is none */
void derp_client_remote(const struct derp_client *c, struct endpoint *remote);

#endif
