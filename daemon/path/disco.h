/*
 * Disco packets: sealed messages between nodes that look for a direct path.
 * Pure. Layouts: magic(6) sender key(32) nonce(24) tag(16) type(1) version(1) payload.
 */
#ifndef MESHWRAP_DAEMON_PATH_DISCO_H
#define MESHWRAP_DAEMON_PATH_DISCO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define DISCO_KEY_LEN      32
#define DISCO_TXID_LEN     12
#define DISCO_NONCE_LEN    24
#define DISCO_BOX_AT       62 /* magic, key, nonce */
#define DISCO_TAG_LEN      16
#define DISCO_OVERHEAD     80 /* all before the payload */
#define DISCO_ENDPOINT_LEN 18
#define DISCO_PING_LEN     46 /* plaintexts that we make */
#define DISCO_PONG_LEN     32
#define DISCO_CALLME_MAX   64 /* endpoints in one that we make */
#define DISCO_PLAIN_MAX    (2 + DISCO_CALLME_MAX * DISCO_ENDPOINT_LEN)
#define DISCO_PACKET_MAX   (DISCO_BOX_AT + DISCO_TAG_LEN + DISCO_PLAIN_MAX)

enum disco_type {
	DISCO_PING = 1,
	DISCO_PONG = 2,
	DISCO_CALL_ME_MAYBE = 3,
	/* Of UDP relaying by other nodes, which this node does not do; known to be told apart. */
	DISCO_BIND = 4,
	DISCO_BIND_CHALLENGE = 5,
	DISCO_BIND_ANSWER = 6,
	DISCO_CALL_ME_MAYBE_VIA = 7,
	DISCO_ALLOCATE_REQUEST = 8,
	DISCO_ALLOCATE_RESPONSE = 9
};

/* What both halves of a key pair of disco keys give; secret. */
struct disco_box_key {
	uint8_t byte[32];
};

struct disco_message {
	enum disco_type type;
	uint8_t txid[DISCO_TXID_LEN];    /* ping, pong */
	uint8_t node_key[DISCO_KEY_LEN]; /* ping; all zero: none */
	size_t padding;                  /* ping: bytes after it */
	struct endpoint src;             /* pong: where the ping was seen to come from */
	const uint8_t *endpoints;        /* call-me-maybe (07, 09 too): within the plaintext */
	unsigned endpoint_count;
};

/* False for a key of low order, with which nothing can be said in secret. */
bool disco_box_key(const uint8_t private_key[static 32], const uint8_t public_key[static 32],
		   struct disco_box_key *box);

/* Has it the magic and room for a sender key? */
bool disco_is_packet(const uint8_t *bytes, size_t len);
/* The sender's key; only for disco_is_packet(). */
static inline const uint8_t *disco_sender(const uint8_t *bytes)
{
	return bytes + 6;
}

/* Opens in place. The plaintext within bytes, or NULL: not made with this key, or too short. */
uint8_t *disco_open(const struct disco_box_key *box, uint8_t *bytes, size_t len, size_t *plain_len);
/* len is at most DISCO_PLAIN_MAX; returns the packet's length. */
size_t disco_seal(const struct disco_box_key *box, const uint8_t sender[static DISCO_KEY_LEN],
		  const uint8_t nonce[static DISCO_NONCE_LEN], const uint8_t *plain, size_t len,
		  uint8_t out[static DISCO_PACKET_MAX]);

/* 0, -EMSGSIZE: too short, -EPROTONOSUPPORT: unknown type. */
int disco_parse(const uint8_t *plain, size_t len, struct disco_message *m);
void disco_endpoint(const struct disco_message *m, unsigned i, struct endpoint *ep);

/* Plaintexts. They return the length. */
size_t disco_make_ping(const uint8_t txid[static DISCO_TXID_LEN],
		       const uint8_t node_key[static DISCO_KEY_LEN],
		       uint8_t out[static DISCO_PING_LEN]);
size_t disco_make_pong(const uint8_t txid[static DISCO_TXID_LEN], const struct endpoint *src,
		       uint8_t out[static DISCO_PONG_LEN]);
/* count is at most DISCO_CALLME_MAX. */
size_t disco_make_call_me_maybe(const struct endpoint *endpoints, unsigned count,
				uint8_t out[static DISCO_PLAIN_MAX]);

#endif
