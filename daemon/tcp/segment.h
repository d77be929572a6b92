/*
 * TCP segments inside IP packets: reading and writing. Pure.
 *
 * A flow key names a connection as this node sees it: local is the destination
 * of what we receive and the source of what we send.
 */
#ifndef MESHWRAP_DAEMON_TCP_SEGMENT_H
#define MESHWRAP_DAEMON_TCP_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_RST 0x04u
#define TCP_PSH 0x08u
#define TCP_ACK 0x10u

#define TCP_NO_SCALE    0xffu
#define TCP_MAX_SCALE   14u
#define TCP_MAX_SACK    4u
#define TCP_MAX_OPTIONS 40u
#define TCP_MAX_HEADER  (40u + 20u + TCP_MAX_OPTIONS) /* IPv6 + TCP + options */

/* Compared and hashed as bytes: no padding, tail always zero. Ports in host byte order. */
struct tcp_flow_key {
	struct ip_addr remote, local;
	uint16_t remote_port, local_port;
	uint32_t zero;
};

struct tcp_sack_block {
	uint32_t start, end; /* [start, end) */
};

struct tcp_segment {
	struct tcp_flow_key key;
	uint32_t seq, ack;
	uint32_t len; /* of data */
	const uint8_t *data;
	uint16_t window; /* as on the wire, not scaled */
	uint16_t mss;    /* 0: option absent */
	uint8_t flags;
	uint8_t scale; /* TCP_NO_SCALE: option absent */
	bool has_timestamp, sack_permitted;
	uint8_t sack_count;
	uint32_t ts_value, ts_echo;
	struct tcp_sack_block sack[TCP_MAX_SACK];
};

/* The options of one segment to write; zero-initialised means none. */
struct tcp_options {
	uint16_t mss;  /* 0: none */
	uint8_t scale; /* used with has_scale */
	uint8_t sack_count;
	bool has_scale, sack_permitted, has_timestamp;
	uint32_t ts_value, ts_echo;
	struct tcp_sack_block sack[TCP_MAX_SACK];
};

/*
 * IP and TCP header of a train of segments that differ in sequence number,
 * length, flags and data only.
 */
struct tcp_template {
	uint8_t bytes[TCP_MAX_HEADER];
	uint32_t ip_len, header_len; /* header_len: both headers with options */
	uint64_t pseudo_sum;
	uint64_t header_sum; /* of the TCP header as it stands in bytes */
};

/*
 * One whole IP packet; trailing bytes after the IP length are ignored. On
 * success out->data points into packet. Unknown and malformed options are
 * skipped, as RFC 9293 wants robustness here. 0, or -EBADMSG.
 */
int tcp_segment_parse(const uint8_t *packet, size_t len, bool verify_checksum,
		      struct tcp_segment *out);
/*
 * The start of a packet that an ICMP error quotes: at least the IP header and
 * eight bytes. It was sent by us, so key.local is its source. 0, or -EBADMSG.
 */
int tcp_segment_parse_quoted(const uint8_t *packet, size_t len, struct tcp_flow_key *key,
			     uint32_t *seq);
/* Sequence space the segment takes: data, SYN and FIN. */
uint32_t tcp_segment_space(const struct tcp_segment *s);

void tcp_template_init(struct tcp_template *t, const struct tcp_flow_key *key,
		       const struct tcp_options *options);
void tcp_template_set(struct tcp_template *t, uint32_t ack, uint16_t window);
/*
 * Completes the packet at out: data of data_len bytes already stands at out +
 * t->header_len. Writes the headers and both checksums.
 */
void tcp_template_write(const struct tcp_template *t, uint8_t *out, uint32_t seq, uint8_t flags,
			size_t data_len);

/* a < b and so on in sequence space (RFC 9293, 3.4). */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool seq_le(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

static inline uint32_t seq_max(uint32_t a, uint32_t b)
{
	return seq_lt(a, b) ? b : a;
}

static inline uint32_t seq_min(uint32_t a, uint32_t b)
{
	return seq_lt(a, b) ? a : b;
}

#endif
