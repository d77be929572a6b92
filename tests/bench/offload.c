/*
 * Super-packets cut and joined.
 *
 * A datagram whose checksum is open carries in its checksum field the sum over the
 * pseudo header alone, and the length in there is the only part of that sum in
 * which datagrams of one flow differ; so it is corrected by the difference, for
 * IPv4 and IPv6 alike. An IPv4 header's own checksum is complete, and computed anew.
 */
#include "tests/bench/offload.h"

#include <netinet/in.h>
#include <string.h>

#include "shared/util.h"
#include "shared/wire.h"

#define V4_HEADER   20u
#define V6_HEADER   40u
#define UDP_HEADER  8u
#define UDP_LENGTH  4u
#define UDP_CHECK   6u
#define PORTS       4u
#define IP_LEN_MAX  65535u
#define V4_LENGTH   2u
#define V4_ID       4u
#define V4_FLAGS    6u
#define V4_PROTOCOL 9u
#define V4_CHECK    10u
#define V4_SOURCE   12u
#define V6_LENGTH   4u
#define V6_NEXT     6u

static bool is_v4(const uint8_t *ip)
{
	return ip[0] >> 4 == 4;
}

static uint16_t fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)(sum + (sum >> 16));
}

static void check_v4_header(uint8_t *ip, size_t len)
{
	uint32_t sum = 0;

	store_be16(ip + V4_CHECK, 0);
	for (size_t i = 0; i < len; i += 2)
		sum += load_be16(ip + i);
	store_be16(ip + V4_CHECK, (uint16_t)~fold(sum));
}

/* The headers say now that the packet is len bytes long. */
static void set_len(uint8_t *ip, size_t header_len, size_t len)
{
	size_t ip_header_len = header_len - UDP_HEADER;
	uint8_t *udp = ip + ip_header_len;
	uint16_t old = load_be16(udp + UDP_LENGTH), new = (uint16_t)(len - ip_header_len);

	store_be16(udp + UDP_LENGTH, new);
	store_be16(udp + UDP_CHECK,
		   fold((uint32_t)load_be16(udp + UDP_CHECK) + (uint16_t)~old + new));
	if (!is_v4(ip)) {
		store_be16(ip + V6_LENGTH, (uint16_t)(len - V6_HEADER));
		return;
	}
	store_be16(ip + V4_LENGTH, (uint16_t)len);
	check_v4_header(ip, ip_header_len);
}

/* IP and UDP of a datagram whose checksum is open; 0: it is something else. */
static size_t udp_header_len(const struct virtio_net_hdr *front, const uint8_t *ip, size_t len)
{
	size_t header_len = (size_t)front->csum_start + UDP_HEADER;
	size_t least = len > 0 && is_v4(ip) ? V4_HEADER : V6_HEADER;

	if (!(front->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) || front->csum_offset != UDP_CHECK ||
	    front->csum_start < least || front->csum_start % 2 != 0 || len <= header_len)
		return 0;
	if (ip[is_v4(ip) ? V4_PROTOCOL : V6_NEXT] != IPPROTO_UDP)
		return 0;
	return header_len;
}

bool offload_cut_begin(struct offload_cut *cut, const uint8_t *bytes, size_t len)
{
	struct virtio_net_hdr front;

	if (len <= OFFLOAD_FRONT)
		return false;
	memcpy(&front, bytes, sizeof(front));
	*cut = (struct offload_cut){ .bytes = bytes, .len = len, .at = OFFLOAD_FRONT };
	if (front.gso_type == VIRTIO_NET_HDR_GSO_NONE)
		return true;
	if (front.gso_type != VIRTIO_NET_HDR_GSO_UDP_L4 || front.gso_size == 0)
		return false;
	cut->header_len = udp_header_len(&front, bytes + OFFLOAD_FRONT, len - OFFLOAD_FRONT);
	cut->datagram_len = front.gso_size;
	cut->at += cut->header_len;
	return cut->header_len > 0;
}

static size_t cut_nothing(struct offload_cut *cut, uint8_t *packet, size_t max)
{
	if (cut->at == cut->len || cut->len > max)
		return 0;
	memcpy(packet, cut->bytes, cut->len);
	cut->at = cut->len;
	return cut->len;
}

size_t offload_cut_next(struct offload_cut *cut, uint8_t *packet, size_t max)
{
	size_t front_len = OFFLOAD_FRONT + cut->header_len;
	size_t len = MIN(cut->datagram_len, cut->len - cut->at);
	struct virtio_net_hdr front;
	uint8_t *ip = packet + OFFLOAD_FRONT;

	if (cut->header_len == 0)
		return cut_nothing(cut, packet, max);
	if (len == 0 || front_len + len > max)
		return 0;
	memcpy(packet, cut->bytes, front_len);
	memcpy(packet + front_len, cut->bytes + cut->at, len);
	memcpy(&front, packet, sizeof(front));
	front.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	front.gso_size = front.hdr_len = 0;
	memcpy(packet, &front, sizeof(front));
	if (is_v4(ip))
		store_be16(ip + V4_ID, (uint16_t)(load_be16(ip + V4_ID) + cut->index));
	set_len(ip, cut->header_len, cut->header_len + len);
	cut->index++;
	cut->at += len;
	return front_len + len;
}

void offload_join_begin(struct offload_join *join, uint8_t *packet, size_t len)
{
	struct virtio_net_hdr front;

	memcpy(&front, packet, sizeof(front));
	join->piece[0] = (struct iovec){ packet, len };
	join->count = 1;
	join->len = len - OFFLOAD_FRONT;
	join->header_len = udp_header_len(&front, packet + OFFLOAD_FRONT, join->len);
	join->datagram_len = join->len - join->header_len;
	join->is_closed = join->header_len == 0;
}

/* Same in all but length, number and checksums. */
static bool is_same_flow(const uint8_t *a, const uint8_t *b, size_t header_len)
{
	size_t ports_end = header_len - UDP_HEADER + PORTS;

	if (is_v4(a))
		return memcmp(a, b, V4_LENGTH) == 0 &&
		       memcmp(a + V4_FLAGS, b + V4_FLAGS, V4_CHECK - V4_FLAGS) == 0 &&
		       memcmp(a + V4_SOURCE, b + V4_SOURCE, ports_end - V4_SOURCE) == 0;
	return memcmp(a, b, V6_LENGTH) == 0 &&
	       memcmp(a + V6_NEXT, b + V6_NEXT, ports_end - V6_NEXT) == 0;
}

bool offload_join_add(struct offload_join *join, uint8_t *packet, size_t len)
{
	size_t headers = OFFLOAD_FRONT + join->header_len, datagram_len;

	if (join->is_closed || join->count == OFFLOAD_JOIN_MAX || len <= headers)
		return false;
	datagram_len = len - headers;
	if (datagram_len > join->datagram_len || join->len + datagram_len > IP_LEN_MAX ||
	    memcmp(packet, join->piece[0].iov_base, OFFLOAD_FRONT) != 0 ||
	    !is_same_flow((uint8_t *)join->piece[0].iov_base + OFFLOAD_FRONT,
			  packet + OFFLOAD_FRONT, join->header_len))
		return false;
	join->piece[join->count++] = (struct iovec){ packet + headers, datagram_len };
	join->len += datagram_len;
	join->is_closed = datagram_len < join->datagram_len;
	return true;
}

void offload_join_end(struct offload_join *join)
{
	uint8_t *packet = join->piece[0].iov_base;
	struct virtio_net_hdr front;

	if (join->count == 1)
		return;
	memcpy(&front, packet, sizeof(front));
	front.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4;
	front.gso_size = (uint16_t)join->datagram_len;
	front.hdr_len = (uint16_t)join->header_len;
	memcpy(packet, &front, sizeof(front));
	set_len(packet + OFFLOAD_FRONT, join->header_len, join->len);
}
