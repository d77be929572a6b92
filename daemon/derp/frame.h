/*
 * The relay protocol's frames and boxes. Pure.
 */
#ifndef MESHWRAP_DAEMON_DERP_FRAME_H
#define MESHWRAP_DAEMON_DERP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"

#define DERP_HEADER     5                                /* type, length */
#define DERP_FRAME_MAX  (1u << 20)                       /* longer payloads end the connection */
#define DERP_PACKET_MAX 65536                            /* of a packet, keys not counted */
#define DERP_KNOWN_MAX  (2u * KEY_LEN + DERP_PACKET_MAX) /* of a frame whose type we read */
#define DERP_SEND_EXTRA (DERP_HEADER + KEY_LEN)          /* in front of a packet to send */
#define DERP_NONCE      24
#define DERP_TAG        16
#define DERP_PING       8
#define DERP_INFO_MAX   128 /* bytes of a ClientInfo frame of ours */

enum derp_type {
	DERP_SERVER_KEY = 0x01,
	DERP_CLIENT_INFO = 0x02,
	DERP_SERVER_INFO = 0x03,
	DERP_SEND_PACKET = 0x04,
	DERP_RECV_PACKET = 0x05,
	DERP_KEEP_ALIVE = 0x06,
	DERP_NOTE_PREFERRED = 0x07,
	DERP_PEER_GONE = 0x08,
	DERP_TYPE_PING = 0x12,
	DERP_TYPE_PONG = 0x13,
	DERP_HEALTH = 0x14,
	DERP_RESTARTING = 0x15,
};

/* What a frame from a relay says, into the bytes that were parsed. */
struct derp_frame {
	uint8_t type;
	bool is_skipped;          /* unknown, or too short: nothing else is set */
	const uint8_t *key;       /* of the relay, the source, or the peer that is gone */
	const uint8_t *bytes;     /* packet, ping or pong, health text, sealed info */
	size_t len;               /* of bytes */
	uint8_t reason;           /* of PeerGone */
	uint32_t wait_ms, try_ms; /* of Restarting */
};

struct derp_server_info {
	uint64_t bytes_per_second, burst; /* 0: no limit */
};

/*
 * The frame at the start of bytes. >0: its whole length, and it is all there; -EAGAIN: it is not
 * (*need: its whole length, 0 while not even that is known; the type is set when it is); -EPROTO:
 * the connection must end.
 */
long derp_frame_parse(const uint8_t *bytes, size_t len, struct derp_frame *frame, size_t *need);
/* Whether frames of this type are read at all: all others may be skipped unseen. */
bool derp_type_is_known(uint8_t type);

void derp_put_header(uint8_t *to, enum derp_type type, size_t len);
/* The 37 bytes in front of a packet of len bytes. */
void derp_put_send(uint8_t to[static DERP_SEND_EXTRA], const struct public_key *peer, size_t len);

/* Writes the whole frame to out and returns its length, 0 for a relay's key of low order. */
size_t derp_seal_client_info(uint8_t out[static DERP_INFO_MAX], const struct private_key *own,
			     const struct public_key *relay,
			     const uint8_t nonce[static DERP_NONCE]);
/* Opens and reads what a ServerInfo frame holds (nonce and box). 0, -EBADMSG, -ENOMEM. */
int derp_open_server_info(const uint8_t *bytes, size_t len, const struct private_key *own,
			  const struct public_key *relay, struct derp_server_info *info);
/* The JSON inside. Names match in any case; unknown members are ignored. 0 or -EBADMSG. */
int derp_parse_server_info(const char *json, size_t len, struct derp_server_info *info);

#endif
