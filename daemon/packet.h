/*
 * Packets in batches: what travels between the layers of the data path.
 *
 * Outbound, a batch is one arena in which each packet is laid with just the
 * room that sealing it needs before and after (16 bytes of header, padding, 16
 * bytes of tag). So sealed packets of equal size stand back to back, and one
 * send with UDP_SEGMENT carries them all without a copy.
 * Inbound, packets are opened where they were received: a struct packet then
 * points into the receive buffer and lives until the callback returns.
 */
#ifndef MESHWRAP_DAEMON_PACKET_H
#define MESHWRAP_DAEMON_PACKET_H

#include <stddef.h>
#include <stdint.h>

#include "shared/util.h"

#define PACKET_HEADER 16 /* before an outbound packet: WireGuard's type, index, counter */
#define PACKET_TAG    16 /* after it */
#define PACKET_MAX    65535

#define BATCH_PACKETS 64 /* the kernel's limit on UDP_SEGMENT */
#define BATCH_BYTES   (PACKET_HEADER + PACKET_MAX + 16 + PACKET_TAG)

struct packet {
	uint8_t *data;
	uint32_t len;
};

struct packet_batch {
	uint32_t mtu; /* padding never goes beyond it */
	unsigned count;
	size_t used; /* bytes of the arena */
	struct packet packet[BATCH_PACKETS];
	uint8_t arena[BATCH_BYTES];
};

/*
 * The padded length of an inner packet: to 16 bytes, but not beyond the MTU. A
 * longer one is padded as its last MTU's worth. MTU 0: no bound.
 */
static inline size_t packet_padded(size_t len, size_t mtu)
{
	size_t last = mtu && len > mtu ? len % mtu : len;
	size_t padded = (last + 15) & ~(size_t)15;

	if (mtu && padded > mtu)
		padded = mtu;
	return len - last + padded;
}

static inline void batch_reset(struct packet_batch *b)
{
	b->count = 0;
	b->used = 0;
}

/* Where the next packet of up to len bytes goes, or NULL: the batch must be sent first. */
static inline uint8_t *batch_reserve(struct packet_batch *b, size_t len)
{
	size_t need = PACKET_HEADER + packet_padded(len, b->mtu) + PACKET_TAG;

	if (b->count == BATCH_PACKETS || need > sizeof(b->arena) - b->used)
		return NULL;
	return b->arena + b->used + PACKET_HEADER;
}

/* The packet that was written there, of len bytes (at most what was reserved). */
static inline void batch_commit(struct packet_batch *b, size_t len)
{
	b->packet[b->count++] =
		(struct packet){ b->arena + b->used + PACKET_HEADER, (uint32_t)len };
	b->used += PACKET_HEADER + packet_padded(len, b->mtu) + PACKET_TAG;
}

#endif
