/*
 * IPv4 (RFC 791) and IPv6 (RFC 8200) headers.
 *
 * The parser checks what could mislead us and nothing more: lengths, the IPv4
 * header checksum, and that extension headers end. It keeps offsets and copies
 * addresses; payloads stay where they are.
 */
#include "daemon/stack/ip.h"

#include <errno.h>
#include <string.h>

#include "daemon/tcp/sum.h"
#include "shared/wire.h"

#define V4_MORE_FRAGMENTS 0x2000u
#define V4_OFFSET_MASK    0x1fffu
#define V6_HOP_BY_HOP     0
#define V6_ROUTING        43
#define V6_FRAGMENT       44
#define V6_DESTINATION    60

static int parse_v4(const uint8_t *b, size_t len, bool is_quoted, struct ip_packet *out)
{
	uint32_t total, fragment;

	if (len < IPV4_HEADER)
		return -EBADMSG;
	out->is_v6 = false;
	out->header_len = (b[0] & 15u) * 4u;
	total = load_be16(b + 2);
	if (out->header_len < IPV4_HEADER || total < out->header_len || out->header_len > len)
		return -EBADMSG;
	if (is_quoted)
		total = (uint32_t)(total < len ? total : len);
	else if (total > len || tcp_sum_fold(tcp_sum(b, out->header_len)) != 0xffff)
		return -EBADMSG;
	out->payload_len = total - out->header_len;
	out->protocol = b[9];
	out->protocol_at = 9;
	out->src = ip_from_v4(load_be32(b + 12));
	out->dst = ip_from_v4(load_be32(b + 16));
	fragment = load_be16(b + 6);
	out->fragment.id = load_be16(b + 4);
	out->fragment.offset = (fragment & V4_OFFSET_MASK) * 8;
	out->fragment.has_more = fragment & V4_MORE_FRAGMENTS;
	out->is_fragment = fragment & (V4_OFFSET_MASK | V4_MORE_FRAGMENTS);
	return 0;
}

/* Steps over one extension header. 1: walk on, 0: what follows is the payload, or -errno. */
static int skip_extension(const uint8_t *b, uint32_t end, struct ip_packet *out)
{
	const uint8_t *h = b + out->header_len;
	uint32_t left = end - out->header_len, step;

	switch (out->protocol) {
	case V6_HOP_BY_HOP:
	case V6_ROUTING:
	case V6_DESTINATION:
	case V6_FRAGMENT:
		break;
	default:
		return 0;
	}
	if (left < 8)
		return -EBADMSG;
	step = out->protocol == V6_FRAGMENT ? IPV6_FRAGMENT_HEADER : (h[1] + 1u) * 8;
	if (step > left)
		return -EBADMSG;
	if (out->protocol == V6_ROUTING && h[3] != 0)
		return -EPROTONOSUPPORT;
	if (out->protocol == V6_FRAGMENT) {
		if (out->is_fragment)
			return -EBADMSG;
		out->fragment.id = load_be32(h + 4);
		out->fragment.offset = load_be16(h + 2) & 0xfff8u;
		out->fragment.has_more = h[3] & 1;
		/* Alone in its packet (RFC 6946) it is no fragment. */
		out->is_fragment = out->fragment.offset > 0 || out->fragment.has_more;
	}
	out->protocol_at = (uint16_t)out->header_len;
	out->protocol = h[0];
	out->header_len += step;
	return !out->is_fragment;
}

static int parse_v6(const uint8_t *b, size_t len, bool is_quoted, struct ip_packet *out)
{
	uint32_t end;

	if (len < IPV6_HEADER)
		return -EBADMSG;
	end = IPV6_HEADER + load_be16(b + 4);
	if (is_quoted)
		end = (uint32_t)(end < len ? end : len);
	else if (end > len)
		return -EBADMSG;
	out->is_v6 = true;
	out->is_fragment = false;
	out->header_len = IPV6_HEADER;
	out->protocol = b[6];
	out->protocol_at = 6;
	memcpy(out->src.byte, b + 8, 16);
	memcpy(out->dst.byte, b + 24, 16);
	/* In our form these would be IPv4 addresses, which came as IPv6 (RFC 4942, 2.1.10). */
	if (ip_is_v4(&out->src) || ip_is_v4(&out->dst))
		return -EBADMSG;
	for (unsigned i = 0;; i++) {
		int more = i < IPV6_MAX_EXTENSIONS ? skip_extension(b, end, out) : -EPROTONOSUPPORT;

		if (more < 0)
			return more;
		if (more == 0)
			break;
	}
	out->payload_len = end - out->header_len;
	return 0;
}

static int parse(const uint8_t *bytes, size_t len, bool is_quoted, struct ip_packet *out)
{
	if (len == 0)
		return -EBADMSG;
	out->header = bytes;
	switch (bytes[0] >> 4) {
	case 4:
		return parse_v4(bytes, len, is_quoted, out);
	case 6:
		return parse_v6(bytes, len, is_quoted, out);
	default:
		return -EBADMSG;
	}
}

int ip_packet_parse(const uint8_t *bytes, size_t len, struct ip_packet *out)
{
	return parse(bytes, len, false, out);
}

int ip_packet_parse_quoted(const uint8_t *bytes, size_t len, struct ip_packet *out)
{
	return parse(bytes, len, true, out);
}

static size_t write_v4(uint8_t *out, const struct ip_addr *src, const struct ip_addr *dst,
		       uint8_t protocol, size_t payload_len, const struct ip_fragment *fragment)
{
	uint16_t checksum;

	memset(out, 0, IPV4_HEADER);
	out[0] = 0x45;
	store_be16(out + 2, (uint16_t)(IPV4_HEADER + payload_len));
	if (fragment) {
		store_be16(out + 4, (uint16_t)fragment->id);
		store_be16(out + 6, (uint16_t)(fragment->offset / 8 |
					       (fragment->has_more ? V4_MORE_FRAGMENTS : 0)));
	}
	out[8] = IP_TTL;
	out[9] = protocol;
	store_be32(out + 12, ip_v4(src));
	store_be32(out + 16, ip_v4(dst));
	checksum = (uint16_t)~tcp_sum_fold(tcp_sum(out, IPV4_HEADER));
	memcpy(out + 10, &checksum, sizeof(checksum));
	return IPV4_HEADER;
}

size_t ip_header_write(uint8_t *out, const struct ip_addr *src, const struct ip_addr *dst,
		       uint8_t protocol, size_t payload_len, const struct ip_fragment *fragment)
{
	size_t extension = fragment ? IPV6_FRAGMENT_HEADER : 0;

	if (ip_is_v4(src))
		return write_v4(out, src, dst, protocol, payload_len, fragment);
	memset(out, 0, IPV6_HEADER + extension);
	out[0] = 0x60;
	store_be16(out + 4, (uint16_t)(payload_len + extension));
	out[6] = fragment ? V6_FRAGMENT : protocol;
	out[7] = IP_TTL;
	memcpy(out + 8, src->byte, 16);
	memcpy(out + 24, dst->byte, 16);
	if (fragment) {
		out[IPV6_HEADER] = protocol;
		store_be16(out + IPV6_HEADER + 2,
			   (uint16_t)(fragment->offset | (fragment->has_more ? 1 : 0)));
		store_be32(out + IPV6_HEADER + 4, fragment->id);
	}
	return IPV6_HEADER + extension;
}

uint64_t ip_pseudo_sum(const struct ip_addr *src, const struct ip_addr *dst, uint8_t protocol,
		       size_t len)
{
	uint8_t tail[8] = { 0 };
	unsigned skip = ip_is_v4(src) ? 12 : 0;

	store_be32(tail, (uint32_t)len);
	tail[7] = protocol;
	return tcp_sum(src->byte + skip, 16 - skip) + tcp_sum(dst->byte + skip, 16 - skip) +
	       tcp_sum(tail, sizeof(tail));
}

bool ip_is_valid_source(const struct ip_addr *ip)
{
	if (ip_is_any(ip) || ip_is_loopback(ip))
		return false;
	if (ip_is_v4(ip))
		return ip_v4(ip) >> 24 != 0 &&
		       ip_v4(ip) >> 28 < 14; /* no multicast, no broadcast */
	return ip->byte[0] != 0xff;
}
