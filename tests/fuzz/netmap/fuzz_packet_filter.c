/*
 * Rules and packets; the verdicts against an evaluator that is as plain as the
 * specification: it reads every rule for every packet and keeps flows in a list.
 *
 * Input: the rules as JSON, a newline, then records: one byte (odd: outbound,
 * bit 1: from a jailed peer), two of length, a packet.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "daemon/stack/filter.h"
#include "daemon/stack/ip.h"
#include "shared/util.h"
#include "shared/wire.h"

#define FLOWS 256 /* fewer records than this: nothing is forgotten */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct plain_packet {
	struct ip_addr src, dst;
	uint8_t protocol;
	bool is_v6;
	unsigned offset; /* of a fragment, in units */
	const uint8_t *bytes;
	size_t len;
};

struct plain_flow {
	struct ip_addr local, remote;
	uint8_t protocol, ports[4];
};

struct plain {
	const struct netmap_rule *rules;
	unsigned rule_count;
	struct ip_addr own[2];
	struct plain_flow flow[FLOWS];
	unsigned flow_count;
};

static bool read_packet(const uint8_t *b, size_t len, struct plain_packet *p)
{
	size_t head, total;

	memset(p, 0, sizeof(*p));
	if (len < 20)
		return false;
	p->is_v6 = b[0] >> 4 == 6;
	if (!p->is_v6 && b[0] >> 4 != 4)
		return false;
	if (p->is_v6 && len < 40)
		return false;
	total = p->is_v6 ? 40u + (b[4] * 256u + b[5]) : b[2] * 256u + b[3];
	head = p->is_v6 ? 40 : (b[0] & 15) * 4u;
	if (total > len || head < 20 || head > total)
		return false;
	p->protocol = p->is_v6 ? b[6] : b[9];
	if (p->is_v6) {
		memcpy(p->src.byte, b + 8, 16);
		memcpy(p->dst.byte, b + 24, 16);
		if (ip_is_v4(&p->src) || ip_is_v4(&p->dst))
			return false;
	} else {
		p->src = ip_from_v4(load_be32(b + 12));
		p->dst = ip_from_v4(load_be32(b + 16));
		p->offset = (b[6] & 31) * 256u + b[7];
	}
	if (p->is_v6 && p->protocol == 44) {
		if (total < 48)
			return false;
		p->protocol = b[40];
		p->offset = (b[42] * 256u + b[43]) / 8;
		head = 48;
	}
	p->bytes = b + head;
	p->len = total - head;
	if (p->protocol == 0 || p->protocol == 255)
		return false;
	return !(p->is_v6 && strchr("\x2b\x2c\x32\x33\x3c\x87\x8b\x8c", p->protocol));
}

static bool is_bad_destination(const struct ip_addr *ip)
{
	uint32_t v4 = ip_is_v4(ip) ? ip_v4(ip) : 0;

	if (ip_is_v4(ip))
		return (v4 & 0xf0000000) == 0xe0000000 ||
		       ((v4 & 0xffff0000) == 0xa9fe0000 && v4 != 0xa9fea9fe);
	return ip->byte[0] == 0xff || (ip->byte[0] == 0xfe && ip->byte[1] >> 6 == 2);
}

static bool is_inside(const struct netmap_range *r, const struct ip_addr *ip)
{
	return ip_is_v4(&r->first) == ip_is_v4(ip) && ip_compare(&r->first, ip) <= 0 &&
	       ip_compare(ip, &r->last) <= 0;
}

static bool has_cap(void *owner, const char *cap)
{
	(void)owner;
	return cap[0] & 1;
}

static bool has_source(const struct netmap_rule *r, const struct ip_addr *ip)
{
	for (unsigned i = 0; i < r->src_count; i++) {
		if (is_inside(&r->src[i], ip))
			return true;
	}
	return false;
}

static bool has_source_cap(const struct netmap_rule *r)
{
	for (unsigned i = 0; i < r->src_cap_count; i++) {
		if (has_cap(NULL, r->src_caps[i]))
			return true;
	}
	return false;
}

enum ports { ONE_PORT, ANY_PORTS, ALL_PORTS };

static bool admits(const struct netmap_rule *r, const struct plain_packet *p, enum ports ports)
{
	unsigned port = ports == ONE_PORT ? load_be16(p->bytes + 2) : 0;
	bool has_protocol = ports == ANY_PORTS, has_dst = false;

	for (unsigned i = 0; i < r->protocol_count; i++)
		has_protocol |= r->protocols[i] == p->protocol;
	for (unsigned i = 0; i < r->dst_count; i++) {
		const struct netmap_dst *d = &r->dst[i];

		has_dst |= is_inside(&d->ip, &p->dst) &&
			   (ports == ANY_PORTS ||
			    (ports == ONE_PORT && d->first_port <= port && port <= d->last_port) ||
			    (ports == ALL_PORTS && d->first_port == 0 && d->last_port == 65535));
	}
	if (ports == ANY_PORTS && r->dst_count > 0 && has_source_cap(r))
		return true;
	return has_protocol && has_dst &&
	       (has_source(r, &p->src) || (ports == ONE_PORT && has_source_cap(r)));
}

static bool any_rule(const struct plain *w, const struct plain_packet *p, bool is_jailed,
		     enum ports ports)
{
	for (unsigned i = 0; i < w->rule_count && !is_jailed; i++) {
		if (admits(&w->rules[i], p, ports))
			return true;
	}
	return false;
}

static bool is_header_whole(const struct plain_packet *p)
{
	static const uint8_t need[256] = { [6] = 20, [17] = 8, [1] = 4, [58] = 4, [132] = 12 };

	return p->len >= need[p->protocol];
}

static bool is_known_flow(const struct plain *w, const struct plain_packet *p)
{
	for (unsigned i = 0; i < w->flow_count; i++) {
		const struct plain_flow *f = &w->flow[i];

		if (ip_equal(&f->local, &p->dst) && ip_equal(&f->remote, &p->src) &&
		    f->protocol == p->protocol && memcmp(f->ports, p->bytes + 2, 2) == 0 &&
		    memcmp(f->ports + 2, p->bytes, 2) == 0)
			return true;
	}
	return false;
}

static bool is_icmp_free(const struct plain_packet *p)
{
	uint8_t type = p->bytes[0], code = p->bytes[1];

	return p->is_v6 ? (type == 129 && code == 0) || (type > 0 && type < 5)
			: (type == 0 && code == 0) || type == 3 || type == 11;
}

static bool plain_in(const struct plain *w, const uint8_t *b, size_t len, bool is_jailed)
{
	struct plain_packet p;

	if (len == 0)
		return true;
	if (!read_packet(b, len, &p) || is_bad_destination(&p.dst))
		return false;
	if (p.offset)
		return p.offset >= 10;
	if (!is_header_whole(&p) ||
	    (!ip_equal(&p.dst, &w->own[0]) && !ip_equal(&p.dst, &w->own[1])))
		return false;
	if (p.protocol == 6)
		return (p.bytes[13] & 0x12) != 2 || any_rule(w, &p, is_jailed, ONE_PORT);
	if (p.protocol == 17 || p.protocol == 132)
		return is_known_flow(w, &p) || any_rule(w, &p, is_jailed, ONE_PORT);
	if (p.protocol == (p.is_v6 ? 58 : 1))
		return is_icmp_free(&p) || any_rule(w, &p, is_jailed, ANY_PORTS);
	return p.protocol == 99 || any_rule(w, &p, is_jailed, ALL_PORTS);
}

/* Ours: the flow that it begins is known to both from now on. */
static void send_out(struct filter *f, struct plain *w, const uint8_t *b, size_t len)
{
	struct plain_packet p;
	struct endpoint from, to;

	if (!read_packet(b, len, &p) || is_bad_destination(&p.dst) || p.offset ||
	    !is_header_whole(&p) || (p.protocol != 17 && p.protocol != 132))
		return;
	from = (struct endpoint){ p.src, load_be16(p.bytes) };
	to = (struct endpoint){ p.dst, load_be16(p.bytes + 2) };
	filter_flow_out(f, p.protocol, &from, &to);
	w->flow[w->flow_count] = (struct plain_flow){ p.src, p.dst, p.protocol, { 0 } };
	memcpy(w->flow[w->flow_count++].ports, p.bytes, 4);
}

static void run_packets(struct filter *f, struct plain *w, struct wire_reader *r)
{
	struct filter_source source = { .has_cap = has_cap };

	for (unsigned i = 0; i < FLOWS && wire_left(r) > 0; i++) {
		uint8_t flags = wire_u8(r), *packet;
		size_t len = MIN((size_t)wire_be16(r), wire_left(r));
		const uint8_t *bytes = wire_take(r, len);

		if (!bytes)
			return;
		packet = malloc(len + !len);
		memcpy(packet, bytes, len);
		source.is_jailed = flags & 2;
		if (flags & 1)
			send_out(f, w, packet, len);
		else if ((filter_in(f, &source, packet, len) == FILTER_ACCEPT) !=
			 plain_in(w, packet, len, source.is_jailed))
			abort();
		free(packet);
	}
}

static bool apply_rules(struct netmap *nm, const char *rules, size_t len)
{
	char *message;
	int err = asprintf(&message,
			   "{\"Node\":{\"ID\":1,\"Key\":\"nodekey:%064d\"},\"PacketFilter\":%.*s}",
			   1, (int)len, rules);

	if (err < 0)
		return false;
	err = apply(nm, message, strlen(message));
	free(message);
	return err == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t secret[16];
	const uint8_t *eol = size ? memchr(data, '\n', size) : NULL;
	struct netmap *nm = netmap_create();
	struct filter *f = filter_create(FLOWS, secret);
	struct plain *w = calloc(1, sizeof(*w));
	struct ip_prefix own[2] = { { .len = 32 }, { .len = 128 } };
	struct wire_reader r;

	if (!eol || !apply_rules(nm, (const char *)data, (size_t)(eol - data)))
		goto out;
	ip_parse("100.64.0.1", &own[0].addr);
	ip_parse("fd7a:115c:a1e0::1", &own[1].addr);
	w->own[0] = own[0].addr;
	w->own[1] = own[1].addr;
	w->rules = netmap_filter(nm, &w->rule_count);
	if (filter_set(f, w->rules, w->rule_count, own, 2) < 0)
		abort();
	r = wire_reader(eol + 1, size - (size_t)(eol + 1 - data));
	run_packets(f, w, &r);
out:
	free(w);
	filter_destroy(f);
	netmap_destroy(nm);
	return 0;
}
