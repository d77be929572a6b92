/*
 * TCP segments inside IP packets.
 *
 * Reading is a pure function on (bytes, len): every length is checked against
 * what is left before it is used, and nothing is cast to a wider type in
 * place. Writing goes through a template, since a train of segments shares all
 * but four fields: the one's complement sum of the shared part is computed
 * once, and each packet adds its own sequence number, flags and data.
 *
 * Sums are taken over memory as native words. One's complement addition does
 * not care for byte order, so the folded result is stored as it is (RFC 1071).
 *
 * IPv4 packets carry DF and a zero identification: atomic datagrams need no
 * identification (RFC 6864), and then equal sizes have equal headers.
 */
#include "daemon/tcp/segment.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "daemon/tcp/sum.h"
#include "shared/util.h"
#include "shared/wire.h"

#define IPV4_HEADER 20u
#define IPV6_HEADER 40u
#define TCP_HEADER  20u
#define TTL         64u

/* Offsets in the TCP header. */
#define TCP_OFF_SEQ      4
#define TCP_OFF_ACK      8
#define TCP_OFF_LEN      12
#define TCP_OFF_FLAGS    13
#define TCP_OFF_WINDOW   14
#define TCP_OFF_CHECKSUM 16

enum {
	OPT_END = 0,
	OPT_NOP = 1,
	OPT_MSS = 2,
	OPT_SCALE = 3,
	OPT_SACK_PERMITTED = 4,
	OPT_SACK = 5,
	OPT_TIMESTAMP = 8
};

static_assert(sizeof(struct tcp_flow_key) == 40, "flow keys are compared as bytes");

static uint64_t pseudo_sum(const uint8_t *addresses, size_t addresses_len, size_t tcp_len)
{
	uint8_t tail[8] = { 0 };

	store_be32(tail, (uint32_t)tcp_len);
	tail[7] = IPPROTO_TCP;
	return tcp_sum(addresses, addresses_len) + tcp_sum(tail, sizeof(tail));
}

static void v4_mapped(struct ip_addr *out, const uint8_t *v4)
{
	memset(out->byte, 0, 10);
	out->byte[10] = out->byte[11] = 0xff;
	memcpy(out->byte + 12, v4, 4);
}

uint32_t tcp_segment_space(const struct tcp_segment *s)
{
	return s->len + !!(s->flags & TCP_SYN) + !!(s->flags & TCP_FIN);
}

static void parse_sack(const uint8_t *p, unsigned len, struct tcp_segment *out)
{
	unsigned n = MIN((len - 2) / 8, TCP_MAX_SACK);

	for (unsigned i = 0; i < n; i++) {
		out->sack[i].start = load_be32(p + 2 + 8 * i);
		out->sack[i].end = load_be32(p + 6 + 8 * i);
	}
	out->sack_count = (uint8_t)n;
}

/* p: one whole option of len bytes. */
static void parse_option(const uint8_t *p, unsigned len, struct tcp_segment *out)
{
	switch (p[0]) {
	case OPT_MSS:
		if (len == 4 && (out->flags & TCP_SYN))
			out->mss = load_be16(p + 2);
		break;
	case OPT_SCALE:
		if (len == 3 && (out->flags & TCP_SYN))
			out->scale = MIN(p[2], TCP_MAX_SCALE);
		break;
	case OPT_SACK_PERMITTED:
		if (len == 2 && (out->flags & TCP_SYN))
			out->sack_permitted = true;
		break;
	case OPT_TIMESTAMP:
		if (len != 10)
			break;
		out->has_timestamp = true;
		out->ts_value = load_be32(p + 2);
		out->ts_echo = load_be32(p + 6);
		break;
	case OPT_SACK:
		if (len >= 10 && (len - 2) % 8 == 0 && !(out->flags & TCP_SYN))
			parse_sack(p, len, out);
		break;
	}
}

static void parse_options(const uint8_t *p, size_t len, struct tcp_segment *out)
{
	const uint8_t *end = p + len;

	/* What nearly every segment carries. */
	if (len == 12 && load_be32(p) == 0x0101080a) {
		out->has_timestamp = true;
		out->ts_value = load_be32(p + 4);
		out->ts_echo = load_be32(p + 8);
		return;
	}
	while (p < end && *p != OPT_END) {
		if (*p == OPT_NOP) {
			p++;
			continue;
		}
		if (end - p < 2 || p[1] < 2 || p[1] > end - p)
			return;
		parse_option(p, p[1], out);
		p += p[1];
	}
}

/* Where the TCP header starts, or 0. *ip_total: the length the IP header claims. */
static size_t parse_ip(const uint8_t *p, size_t len, struct ip_addr *src, struct ip_addr *dst,
		       size_t *ip_total)
{
	size_t header;

	if (len >= IPV4_HEADER && p[0] >> 4 == 4) {
		header = (p[0] & 0xfu) * 4;
		*ip_total = load_be16(p + 2);
		if (header < IPV4_HEADER || header > len || *ip_total < header)
			return 0;
		if (p[9] != IPPROTO_TCP || (load_be16(p + 6) & 0x3fff) != 0)
			return 0;
		v4_mapped(src, p + 12);
		v4_mapped(dst, p + 16);
		return header;
	}
	if (len >= IPV6_HEADER && p[0] >> 4 == 6) {
		*ip_total = IPV6_HEADER + load_be16(p + 4);
		if (p[6] != IPPROTO_TCP)
			return 0;
		memcpy(src->byte, p + 8, 16);
		memcpy(dst->byte, p + 24, 16);
		return IPV6_HEADER;
	}
	return 0;
}

int tcp_segment_parse(const uint8_t *packet, size_t len, bool verify_checksum,
		      struct tcp_segment *out)
{
	size_t ip_total = 0, ip_len, tcp_len, header_len;
	const uint8_t *t;

	ip_len = parse_ip(packet, len, &out->key.remote, &out->key.local, &ip_total);
	if (ip_len == 0 || ip_total > len || ip_total - ip_len < TCP_HEADER)
		return -EBADMSG;
	t = packet + ip_len;
	tcp_len = ip_total - ip_len;
	header_len = (size_t)(t[TCP_OFF_LEN] >> 4) * 4;
	if (header_len < TCP_HEADER || header_len > tcp_len)
		return -EBADMSG;
	if (verify_checksum) {
		bool is_v4 = packet[0] >> 4 == 4;
		uint64_t sum = pseudo_sum(packet + (is_v4 ? 12 : 8), is_v4 ? 8 : 32, tcp_len);

		if (tcp_sum_fold(sum + tcp_sum(t, tcp_len)) != 0xffff)
			return -EBADMSG;
		if (is_v4 && tcp_sum_fold(tcp_sum(packet, ip_len)) != 0xffff)
			return -EBADMSG;
	}
	out->key.remote_port = load_be16(t);
	out->key.local_port = load_be16(t + 2);
	out->key.zero = 0;
	if (out->key.remote_port == 0 || out->key.local_port == 0)
		return -EBADMSG;
	out->seq = load_be32(t + TCP_OFF_SEQ);
	out->ack = load_be32(t + TCP_OFF_ACK);
	out->flags = t[TCP_OFF_FLAGS];
	out->window = load_be16(t + TCP_OFF_WINDOW);
	out->data = t + header_len;
	out->len = (uint32_t)(tcp_len - header_len);
	out->mss = 0;
	out->scale = TCP_NO_SCALE;
	out->has_timestamp = out->sack_permitted = false;
	out->sack_count = 0;
	parse_options(t + TCP_HEADER, header_len - TCP_HEADER, out);
	return 0;
}

int tcp_segment_parse_quoted(const uint8_t *packet, size_t len, struct tcp_flow_key *key,
			     uint32_t *seq)
{
	size_t ip_total, ip_len;

	ip_len = parse_ip(packet, len, &key->local, &key->remote, &ip_total);
	if (ip_len == 0 || len - ip_len < 8)
		return -EBADMSG;
	key->local_port = load_be16(packet + ip_len);
	key->remote_port = load_be16(packet + ip_len + 2);
	key->zero = 0;
	*seq = load_be32(packet + ip_len + TCP_OFF_SEQ);
	return 0;
}

static uint8_t *write_timestamp(uint8_t *p, const struct tcp_options *o)
{
	store_be32(p, 0x0101080a);
	store_be32(p + 4, o->ts_value);
	store_be32(p + 8, o->ts_echo);
	return p + 12;
}

static size_t write_options(uint8_t *start, const struct tcp_options *o)
{
	uint8_t *p = start;

	if (o->mss) {
		store_be32(p, (uint32_t)OPT_MSS << 24 | 4u << 16 | o->mss);
		p += 4;
	}
	if (o->has_scale) {
		store_be32(p, (uint32_t)OPT_NOP << 24 | (uint32_t)OPT_SCALE << 16 | 3u << 8 |
				      o->scale);
		p += 4;
	}
	if (o->sack_permitted) {
		store_be32(p, 0x01010402);
		p += 4;
	}
	if (o->has_timestamp)
		p = write_timestamp(p, o);
	if (o->sack_count) {
		store_be32(p, 0x01010500u | (2u + 8u * o->sack_count));
		p += 4;
		for (unsigned i = 0; i < o->sack_count; i++, p += 8) {
			store_be32(p, o->sack[i].start);
			store_be32(p + 4, o->sack[i].end);
		}
	}
	assert((size_t)(p - start) <= TCP_MAX_OPTIONS);
	return (size_t)(p - start);
}

static void write_ip(struct tcp_template *t, const struct tcp_flow_key *key)
{
	uint8_t *p = t->bytes;

	if (ip_is_v4(&key->local)) {
		t->ip_len = IPV4_HEADER;
		memset(p, 0, IPV4_HEADER);
		p[0] = 0x45;
		p[6] = 0x40; /* DF */
		p[8] = TTL;
		p[9] = IPPROTO_TCP;
		memcpy(p + 12, key->local.byte + 12, 4);
		memcpy(p + 16, key->remote.byte + 12, 4);
		t->pseudo_sum = pseudo_sum(p + 12, 8, 0);
		return;
	}
	t->ip_len = IPV6_HEADER;
	memset(p, 0, 8);
	p[0] = 0x60;
	p[6] = IPPROTO_TCP;
	p[7] = TTL;
	memcpy(p + 8, key->local.byte, 16);
	memcpy(p + 24, key->remote.byte, 16);
	t->pseudo_sum = pseudo_sum(p + 8, 32, 0);
}

void tcp_template_init(struct tcp_template *t, const struct tcp_flow_key *key,
		       const struct tcp_options *options)
{
	uint8_t *tcp;
	size_t options_len;

	write_ip(t, key);
	tcp = t->bytes + t->ip_len;
	memset(tcp, 0, TCP_HEADER);
	store_be16(tcp, key->local_port);
	store_be16(tcp + 2, key->remote_port);
	options_len = write_options(tcp + TCP_HEADER, options);
	tcp[TCP_OFF_LEN] = (uint8_t)((TCP_HEADER + options_len) / 4 << 4);
	t->header_len = t->ip_len + TCP_HEADER + (uint32_t)options_len;
	t->header_sum = tcp_sum(tcp, TCP_HEADER + options_len);
}

void tcp_template_set(struct tcp_template *t, uint32_t ack, uint16_t window)
{
	uint8_t *tcp = t->bytes + t->ip_len;

	store_be32(tcp + TCP_OFF_ACK, ack);
	store_be16(tcp + TCP_OFF_WINDOW, window);
	t->header_sum = tcp_sum(tcp, t->header_len - t->ip_len);
}

void tcp_template_write(const struct tcp_template *t, uint8_t *out, uint32_t seq, uint8_t flags,
			size_t data_len)
{
	size_t tcp_len = t->header_len - t->ip_len + data_len;
	uint8_t *tcp = out + t->ip_len;
	uint8_t own[8] = { 0 }; /* what the template does not have: seq, length, flags */
	uint16_t checksum;

	memcpy(out, t->bytes, t->header_len);
	store_be32(tcp + TCP_OFF_SEQ, seq);
	tcp[TCP_OFF_FLAGS] = flags;
	store_be32(own, seq);
	own[5] = flags;
	store_be16(own + 6, (uint16_t)tcp_len);
	checksum = (uint16_t)~tcp_sum_fold(t->pseudo_sum + t->header_sum + tcp_sum(own, 8) +
					   tcp_sum(out + t->header_len, data_len));
	memcpy(tcp + TCP_OFF_CHECKSUM, &checksum, 2);

	if (t->ip_len == IPV6_HEADER) {
		store_be16(out + 4, (uint16_t)tcp_len);
		return;
	}
	store_be16(out + 2, (uint16_t)(t->ip_len + tcp_len));
	checksum = (uint16_t)~tcp_sum_fold(tcp_sum(out, IPV4_HEADER));
	memcpy(out + 10, &checksum, 2);
}
