/*
 * TSMP: what nodes tell one another inside the tunnel, as IP protocol 99: pings,
 * that a flow was refused, and their disco key. Reading and writing. Pure.
 */
#ifndef MESHWRAP_DAEMON_STACK_TSMP_H
#define MESHWRAP_DAEMON_STACK_TSMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TSMP_PROTOCOL  99
#define TSMP_PING_DATA 8u
#define TSMP_KEY_LEN   32u
#define TSMP_MAX       (1 + TSMP_KEY_LEN) /* the longest we write */

enum tsmp_kind {
	TSMP_PING = 'p',
	TSMP_PONG = 'o',
	TSMP_REJECT = '!',
	TSMP_DISCO_KEY = 'a',
};

enum tsmp_reason {
	TSMP_REASON_ACL = 'A',
	TSMP_REASON_SHIELDS_UP = 'S',
	TSMP_REASON_NO_FORWARDING = 'F',
	TSMP_REASON_HOST_FIREWALL = 'W',
};

struct tsmp_message {
	enum tsmp_kind kind;
	uint8_t data[TSMP_PING_DATA]; /* of pings and pongs */
	uint16_t peerapi_port;        /* of pongs; 0: none */
	/* Of rejects: what was refused, ports as in the refused packet. */
	uint8_t protocol, reason;
	uint16_t src_port, dst_port;
	bool maybe_broken; /* the sender is not sure that the flow is dead */
	uint8_t disco_key[TSMP_KEY_LEN];
};

/* The payload of an IP packet. 0, or -EBADMSG: too short or of no known kind. */
int tsmp_parse(const uint8_t *bytes, size_t len, struct tsmp_message *out);
/* Returns the length, at most TSMP_MAX. */
size_t tsmp_write(const struct tsmp_message *m, uint8_t out[static TSMP_MAX]);

#endif
