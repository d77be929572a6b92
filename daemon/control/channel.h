/*
 * The encrypted channel to a coordination server: Noise IK, then records.
 * Bytes in, bytes out; what carries them is somebody else's business.
 */
#ifndef MESHWRAP_DAEMON_CONTROL_CHANNEL_H
#define MESHWRAP_DAEMON_CONTROL_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"

struct channel;

#define CHANNEL_INITIATION_LEN 101
#define CHANNEL_RESPONSE_LEN   51
#define CHANNEL_FRAME_MAX      4096
#define CHANNEL_HEADER_LEN     3
#define CHANNEL_TAG_LEN        16
#define CHANNEL_PLAIN_MAX      (CHANNEL_FRAME_MAX - CHANNEL_HEADER_LEN - CHANNEL_TAG_LEN)
#define CHANNEL_EARLY_MAX      (10u << 20)
#define CHANNEL_ERROR_MAX      200

struct channel_callbacks {
	/* Plain bytes of the stream, without the early payload. 0, or -errno: stop. */
	int (*opened)(void *owner, const uint8_t *bytes, size_t len);
	void *owner;
};

/* NULL: -ENOMEM, or a server key of low order. ephemeral: NULL, but for tests. */
struct channel *channel_create(const struct private_key *machine, const struct public_key *server,
			       uint16_t version, const struct private_key *ephemeral,
			       const struct channel_callbacks *callbacks);
/* Wipes. NULL is fine. */
void channel_destroy(struct channel *ch);

/* CHANNEL_INITIATION_LEN bytes to send first. */
const uint8_t *channel_initiation(const struct channel *ch);
/* The server has proved that it has its key. */
bool channel_is_open(const struct channel *ch);
/*
 * Bytes from the server, in any portions. 0; what opened() returned; -EPROTO: a
 * frame of wrong type or size; -EBADMSG: forged, or a wrong key;
 * -ECONNREFUSED: see channel_error(). After an error the channel is dead.
 */
int channel_receive(struct channel *ch, const uint8_t *bytes, size_t len);
/* What the server said instead of a response; printable, and not authenticated. */
const char *channel_error(const struct channel *ch);

/* How many bytes channel_seal() writes for len bytes. */
size_t channel_sealed_len(size_t len);
/* Seals len > 0 bytes as records, all of which must be sent, in order. Only when open. */
void channel_seal(struct channel *ch, const uint8_t *plain, size_t len, uint8_t *sealed);

#endif
