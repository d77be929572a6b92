/*
 * What a TUN device with IFF_VNET_HDR passes: packets behind a virtio_net_hdr, their "front".
 *
 * A super-packet is many UDP datagrams of one flow under one header, as UDP_SEGMENT
 * sends them and UDP_GRO takes them. Here it is cut into the packets that a wire
 * carries, and such packets are joined to one again. Checksums that the kernel has
 * left open stay open: its own programs at the other end need none.
 */
#ifndef MESHWRAP_TESTS_BENCH_OFFLOAD_H
#define MESHWRAP_TESTS_BENCH_OFFLOAD_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define OFFLOAD_FRONT     sizeof(struct virtio_net_hdr)
#define OFFLOAD_SUPER_MAX (OFFLOAD_FRONT + 65536)
#define OFFLOAD_JOIN_MAX  64 /* datagrams; the least limit of any kernel */

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

struct offload_cut {
	const uint8_t *bytes; /* the front and what is behind it */
	size_t len, at;
	size_t header_len;   /* IP and UDP; 0: one packet as it is */
	size_t datagram_len; /* without headers */
	uint16_t index;
};

struct offload_join {
	struct iovec piece[OFFLOAD_JOIN_MAX];
	int count;
	size_t header_len, datagram_len, len; /* len: of the IP packet it makes */
	bool is_closed;                       /* the last one was shorter */
};

/* bytes as the device gave them. False: nothing that was asked for. They stay until the last one
 * was taken. */
bool offload_cut_begin(struct offload_cut *cut, const uint8_t *bytes, size_t len);
/* The next packet with its front, in at most max bytes. Its length with the front; 0: none is left,
 * or it is longer than max. */
size_t offload_cut_next(struct offload_cut *cut, uint8_t *packet, size_t max);

/* packet: front and all. Its headers may be changed, and it stays until the join was written. */
void offload_join_begin(struct offload_join *join, uint8_t *packet, size_t len);
/* False: it is of another flow, or there is no room. */
bool offload_join_add(struct offload_join *join, uint8_t *packet, size_t len);
/* Now piece[0..count) is what the device takes. */
void offload_join_end(struct offload_join *join);

#endif
