/*
 * The node's UDP sockets (IPv4 and IPv6, one port): batches in, batches out.
 *
 * recvmmsg with UDP_GRO, sendmmsg with UDP_SEGMENT where the kernel has them,
 * and single datagrams where it has not (found out at start, or on EIO).
 */
#ifndef MESHWRAP_DAEMON_PATH_UDP_H
#define MESHWRAP_DAEMON_PATH_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

struct loop;
struct udp_path;

struct udp_datagram {
	uint8_t *data; /* writable, until the callback returns */
	uint32_t len;
	struct endpoint from;
};

struct udp_callbacks {
	void (*received)(void *owner, struct udp_datagram *datagrams, unsigned count);
	/* The send queue was full (blocked) or has room again. */
	void (*blocked)(void *owner, bool blocked);
};

struct udp_stats {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, tx_calls, rx_calls, tx_dropped;
	bool gso, gro;
};

/*
 * port 0: any. Binds 0.0.0.0 and [::] to the same port; without IPv6 in the
 * kernel IPv4 alone will do. 0 or -errno (-EADDRINUSE: the port is taken).
 */
int udp_path_create(struct loop *loop, uint16_t port, const struct udp_callbacks *callbacks,
		    void *owner, struct udp_path **path);
void udp_path_destroy(struct udp_path *path);
uint16_t udp_path_port(const struct udp_path *path);

/*
 * Queues datagrams of segment_len bytes back to back (the last may be
 * shorter); copies nothing: the bytes must stay until udp_path_flush(). When
 * the table of queued sends is full it flushes by itself.
 */
void udp_path_send(struct udp_path *path, const struct endpoint *to, const uint8_t *bytes,
		   size_t len, size_t segment_len);
/*
 * Tells of addresses that the kernel says cannot be sent to (host or network
 * unreachable), from the loop and not from within a send; some may be missed.
 * Once, after creation. 0 or -ENOMEM.
 */
int udp_path_on_unreachable(struct udp_path *path,
			    void (*unreachable)(void *owner, const struct endpoint *to));
/* One sendmmsg per family. What the kernel does not take now is copied and kept, bounded. */
void udp_path_flush(struct udp_path *path);
/* Gives back the memory behind what was received last. */
void udp_path_trim(struct udp_path *path);
void udp_path_get_stats(const struct udp_path *path, struct udp_stats *stats);

#endif
