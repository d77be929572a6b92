/* A stream without a network, in place of daemon/stream.c: bytes are put in and taken out. */
#ifndef MESHWRAP_TESTS_DERP_MOCK_STREAM_H
#define MESHWRAP_TESTS_DERP_MOCK_STREAM_H

#include "daemon/stream.h"

struct mock {
	struct net_stream_options
		options;           /* of the last one opened; texts only while its node lives */
	struct net_stream *stream; /* the open one, or NULL */
	unsigned opened;
	bool has_relay_key, is_stuck; /* stuck: writes are queued and stay */
	uint8_t relay_key[32];
	uint8_t *in;                 /* what the relay sent */
	size_t in_at, in_len, piece; /* bytes a read gives at most, 0: all */
	uint8_t out[1 << 20];
	size_t out_len;
	size_t wake_at;
};
extern struct mock mock;

void mock_reset(void);
/* Each as the loop would. Nothing happens when there is no stream. */
void mock_connected(void);
void mock_received(const void *bytes, size_t len);
void mock_drained(void);
void mock_closed(const char *sentence);

#endif
