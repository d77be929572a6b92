/*
 * IPv4 and IPv6 headers as they cross the tunnel: reading and writing. Pure.
 */
#ifndef MESHWRAP_DAEMON_STACK_IP_H
#define MESHWRAP_DAEMON_STACK_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define IPV4_HEADER          20u
#define IPV6_HEADER          40u
#define IPV6_FRAGMENT_HEADER 8u
#define IP_HEADER_MAX        (IPV6_HEADER + IPV6_FRAGMENT_HEADER) /* of what we write */
#define IP_PACKET_MAX        65535u
#define IP_TTL               64

#define IPV6_MAX_EXTENSIONS 8 /* extension headers we are willing to walk */

enum ip_protocol {
	IP_PROTOCOL_ICMP = 1,
	IP_PROTOCOL_TCP = 6,
	IP_PROTOCOL_UDP = 17,
	IP_PROTOCOL_ICMPV6 = 58,
	IP_PROTOCOL_NONE = 59
};

struct ip_fragment {
	uint32_t id;
	uint32_t offset; /* bytes */
	bool has_more;
};

struct ip_packet {
	struct ip_addr src, dst;
	bool is_v6, is_fragment;
	uint8_t protocol; /* of the payload; of a fragment, of the payload of the whole */
	struct ip_fragment fragment;
	uint16_t protocol_at; /* where the header names the protocol, for ICMPv6 errors */
	const uint8_t *header;
	uint32_t header_len; /* all that stands before the payload */
	uint32_t payload_len;
};

static inline const uint8_t *ip_payload(const struct ip_packet *p)
{
	return p->header + p->header_len;
}

/*
 * One packet; bytes behind its own length are ignored. 0; -EBADMSG when it is
 * malformed; -EPROTONOSUPPORT when it is well-formed but nothing for an end
 * node (an unfinished routing header, more extension headers than we walk).
 */
int ip_packet_parse(const uint8_t *bytes, size_t len, struct ip_packet *out);
/* The same for the beginning of a packet, as an ICMP error quotes it. */
int ip_packet_parse_quoted(const uint8_t *bytes, size_t len, struct ip_packet *out);

/*
 * Writes the header of a packet with payload_len bytes of payload and returns
 * its length, at most IP_HEADER_MAX. fragment NULL: whole.
 */
size_t ip_header_write(uint8_t *out, const struct ip_addr *src, const struct ip_addr *dst,
		       uint8_t protocol, size_t payload_len, const struct ip_fragment *fragment);
/* What the pseudo header adds to the checksum of UDP, TCP and ICMPv6 (see tcp_sum()). */
uint64_t ip_pseudo_sum(const struct ip_addr *src, const struct ip_addr *dst, uint8_t protocol,
		       size_t len);

/* May a packet from another node carry this source? */
bool ip_is_valid_source(const struct ip_addr *ip);

#endif
