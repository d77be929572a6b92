/*
 * The packet filter: what a packet is, and whether it may pass.
 *
 * It reads headers by itself and not with ip.h: what it does not fully
 * understand must not pass, so it knows fewer forms than the stack (no IPv6
 * extension headers but a first fragment header). It sees packets as they came,
 * before reassembly: the first fragment must hold the whole transport header,
 * and later ones must lie behind where a header could reach. So nothing that is
 * put together can differ from what was judged.
 *
 * TCP that is no SYN passes without state: the endpoint knows its connections
 * better than any table here. Local prefixes are few; they are tried in turn.
 */
#include "daemon/stack/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/filter_flows.h"
#include "daemon/stack/filter_rules.h"
#include "daemon/stack/ip.h"
#include "daemon/stack/tsmp.h"
#include "daemon/tcp/segment.h"
#include "shared/util.h"
#include "shared/wire.h"

#define PROTOCOL_SCTP     132
#define PROTOCOL_RESERVED 255
#define PROTOCOL_HOPOPTS  0
#define V4_OFFSET_MASK    0x1fffu
#define V4_MORE           0x2000u
/* In units of 8 bytes: the longest IPv4 header and a TCP header without options. */
#define MIN_LATER_FRAGMENT ((60 + 20) / 8)
#define METADATA_ADDRESS   0xa9fea9feu /* 169.254.169.254 */

struct filter {
	struct filter_rules *rules;
	struct ip_prefix *local;
	unsigned local_count;
	bool is_shields_up;
	struct filter_flows flows;
	const void *(*peer_of)(void *owner, const struct ip_addr *addr);
	void *owner;
	uint64_t now_ns;
	struct filter_stats stats;
};

struct parsed {
	struct endpoint src, dst;
	const uint8_t *transport;
	size_t transport_len;
	uint8_t protocol;
	bool is_v6;
	bool is_later_fragment;
	unsigned fragment_units; /* of 8 bytes */
};

struct filter *filter_create(unsigned flows_max, const uint8_t secret[static 16])
{
	struct filter *f = calloc(1, sizeof(*f));

	if (f && filter_flows_init(&f->flows, MAX(flows_max, 1u), secret) < 0) {
		filter_destroy(f);
		return NULL;
	}
	return f;
}

void filter_destroy(struct filter *f)
{
	if (!f)
		return;
	filter_rules_destroy(f->rules);
	filter_flows_finish(&f->flows);
	free(f->local);
	free(f);
}

int filter_set(struct filter *f, const struct netmap_rule *rules, unsigned rule_count,
	       const struct ip_prefix *local, unsigned local_count)
{
	unsigned count = MIN(local_count, FILTER_PREFIXES_MAX);
	struct ip_prefix *copy = calloc(count + 1u, sizeof(*copy));
	struct filter_rules *compiled = copy ? filter_rules_create(rules, rule_count, local, count)
					     : NULL;

	if (!compiled) {
		free(copy);
		return -ENOMEM;
	}
	if (count)
		memcpy(copy, local, count * sizeof(*copy));
	filter_rules_destroy(f->rules);
	free(f->local);
	f->rules = compiled;
	f->local = copy;
	f->local_count = count;
	return 0;
}

void filter_set_peers(struct filter *f,
		      const void *(*peer_of)(void *owner, const struct ip_addr *addr), void *owner)
{
	f->peer_of = peer_of;
	f->owner = owner;
}

void filter_set_time(struct filter *f, uint64_t now_ns)
{
	f->now_ns = now_ns;
}

void filter_set_shields_up(struct filter *f, bool is_up)
{
	f->is_shields_up = is_up;
}

/* ---- what a packet is ---- */

static enum filter_verdict parse_v4(const uint8_t *b, size_t len, struct parsed *p)
{
	size_t total = len >= IPV4_HEADER ? load_be16(b + 2) : 0, header = (b[0] & 0x0fu) * 4u;
	unsigned flags;

	if (total > len || header < IPV4_HEADER || header > total)
		return FILTER_DROP_MALFORMED;
	flags = load_be16(b + 6);
	p->src.addr = ip_from_v4(load_be32(b + 12));
	p->dst.addr = ip_from_v4(load_be32(b + 16));
	p->protocol = b[9];
	p->fragment_units = flags & V4_OFFSET_MASK;
	p->is_later_fragment = p->fragment_units > 0;
	p->transport = b + header;
	p->transport_len = total - header;
	if (p->protocol == PROTOCOL_HOPOPTS || p->protocol == PROTOCOL_RESERVED)
		return FILTER_DROP_MALFORMED;
	return FILTER_ACCEPT;
}

/* Headers that stand between IPv6 and a transport: none is understood. */
static bool is_extension(uint8_t protocol)
{
	switch (protocol) {
	case PROTOCOL_HOPOPTS:
	case 43:  /* routing */
	case 44:  /* fragment, after another */
	case 50:  /* ESP */
	case 51:  /* AH */
	case 60:  /* destination options */
	case 135: /* mobility */
	case 139: /* HIP */
	case 140: /* shim6 */
	case PROTOCOL_RESERVED:
		return true;
	default:
		return false;
	}
}

static enum filter_verdict parse_v6(const uint8_t *b, size_t len, struct parsed *p)
{
	size_t total;

	if (len < IPV6_HEADER)
		return FILTER_DROP_MALFORMED;
	total = IPV6_HEADER + load_be16(b + 4);
	if (total > len)
		return FILTER_DROP_MALFORMED;
	p->is_v6 = true;
	memcpy(p->src.addr.byte, b + 8, 16);
	memcpy(p->dst.addr.byte, b + 24, 16);
	/* In our form these would be IPv4 addresses. */
	if (ip_is_v4(&p->src.addr) || ip_is_v4(&p->dst.addr))
		return FILTER_DROP_MALFORMED;
	p->protocol = b[6];
	p->transport = b + IPV6_HEADER;
	p->transport_len = total - IPV6_HEADER;
	if (p->protocol == 44) {
		if (p->transport_len < IPV6_FRAGMENT_HEADER)
			return FILTER_DROP_MALFORMED;
		p->protocol = p->transport[0];
		p->fragment_units = load_be16(p->transport + 2) >> 3;
		p->is_later_fragment = p->fragment_units > 0;
		p->transport += IPV6_FRAGMENT_HEADER;
		p->transport_len -= IPV6_FRAGMENT_HEADER;
	}
	return is_extension(p->protocol) ? FILTER_DROP_MALFORMED : FILTER_ACCEPT;
}

/* Bytes of its header that a first fragment must hold. */
static size_t transport_min(const struct parsed *p)
{
	switch (p->protocol) {
	case IP_PROTOCOL_TCP:
		return 20;
	case IP_PROTOCOL_UDP:
		return 8;
	case IP_PROTOCOL_ICMP:
	case IP_PROTOCOL_ICMPV6:
		return 4;
	case PROTOCOL_SCTP:
		return 12;
	default:
		return 0;
	}
}

static bool has_ports(uint8_t protocol)
{
	return protocol == IP_PROTOCOL_TCP || protocol == IP_PROTOCOL_UDP ||
	       protocol == PROTOCOL_SCTP;
}

static bool is_multicast(const struct ip_addr *ip)
{
	return ip_is_v4(ip) ? ip_v4(ip) >> 28 == 0xe : ip->byte[0] == 0xff;
}

static bool is_link_local(const struct ip_addr *ip)
{
	if (ip_is_v4(ip))
		return ip_v4(ip) >> 16 == 0xa9fe && ip_v4(ip) != METADATA_ADDRESS;
	return ip->byte[0] == 0xfe && (ip->byte[1] & 0xc0) == 0x80;
}

static enum filter_verdict parse(const uint8_t *packet, size_t len, struct parsed *p)
{
	enum filter_verdict verdict = FILTER_DROP_MALFORMED;

	if (len >= IPV4_HEADER && packet[0] >> 4 == 4)
		verdict = parse_v4(packet, len, p);
	else if (len >= IPV4_HEADER && packet[0] >> 4 == 6)
		verdict = parse_v6(packet, len, p);
	if (verdict != FILTER_ACCEPT)
		return verdict;
	if (is_multicast(&p->dst.addr))
		return FILTER_DROP_MULTICAST;
	if (is_link_local(&p->dst.addr))
		return FILTER_DROP_LINK_LOCAL;
	if (p->is_later_fragment)
		return p->fragment_units < MIN_LATER_FRAGMENT ? FILTER_DROP_FRAGMENT
							      : FILTER_ACCEPT;
	if (p->transport_len < transport_min(p))
		return FILTER_DROP_FRAGMENT;
	if (has_ports(p->protocol)) {
		p->src.port = load_be16(p->transport);
		p->dst.port = load_be16(p->transport + 2);
	}
	return FILTER_ACCEPT;
}

/* ---- may it pass ---- */

static bool is_local(const struct filter *f, const struct ip_addr *ip)
{
	for (unsigned i = 0; i < f->local_count; i++) {
		if (filter_prefix_contains(&f->local[i], ip))
			return true;
	}
	return false;
}

static const struct filter_rules *rules_for(const struct filter *f,
					    const struct filter_source *source)
{
	return f->is_shields_up || (source && source->is_jailed) ? NULL : f->rules;
}

/* An answer or an error that concerns what we sent. */
static bool is_icmp_answer(const struct parsed *p)
{
	uint8_t type = p->transport[0], code = p->transport[1];

	if (p->is_v6)
		return (type == 129 && code == 0) || (type >= 1 && type <= 4);
	return (type == 0 && code == 0) || type == 3 || type == 11;
}

static bool is_wanted(struct filter *f, const struct filter_source *source, const struct parsed *p)
{
	const struct filter_rules *rules = rules_for(f, source);
	const struct filter_flow_key flow = { p->dst.addr, p->src.addr, p->dst.port, p->src.port,
					      p->protocol };

	switch (p->protocol) {
	case IP_PROTOCOL_TCP:
		if ((p->transport[13] & (TCP_SYN | TCP_ACK)) != TCP_SYN)
			return true;
		break;
	case IP_PROTOCOL_UDP:
	case PROTOCOL_SCTP:
		if (filter_flows_use(&f->flows, &flow, f->now_ns))
			return true;
		break;
	case TSMP_PROTOCOL:
		return true;
	case IP_PROTOCOL_ICMP:
	case IP_PROTOCOL_ICMPV6:
		/* The other family's ICMP is like any other protocol. */
		if (p->is_v6 != (p->protocol == IP_PROTOCOL_ICMPV6))
			return filter_rules_match_all_ports(rules, p->protocol, &p->src.addr,
							    &p->dst.addr);
		return is_icmp_answer(p) ||
		       filter_rules_match_addrs(rules, source, &p->src.addr, &p->dst.addr);
	default:
		return filter_rules_match_all_ports(rules, p->protocol, &p->src.addr, &p->dst.addr);
	}
	return filter_rules_match(rules, source, p->protocol, &p->src.addr, &p->dst);
}

static enum filter_verdict judge_in(struct filter *f, const struct filter_source *source,
				    const uint8_t *packet, size_t len)
{
	struct parsed p = { .protocol = 0 };
	enum filter_verdict verdict;

	if (len == 0)
		return FILTER_ACCEPT;
	verdict = parse(packet, len, &p);
	if (verdict != FILTER_ACCEPT || p.is_later_fragment)
		return verdict;
	if (!is_local(f, &p.dst.addr))
		return FILTER_DROP_NOT_LOCAL;
	return is_wanted(f, source, &p) ? FILTER_ACCEPT : FILTER_DROP_RULES;
}

enum filter_verdict filter_in(struct filter *f, const struct filter_source *source,
			      const uint8_t *packet, size_t len)
{
	enum filter_verdict verdict = judge_in(f, source, packet, len);

	f->stats.in[verdict]++;
	return verdict;
}

void filter_flow_out(struct filter *f, uint8_t protocol, const struct endpoint *local,
		     const struct endpoint *remote)
{
	const struct filter_flow_key flow = { local->addr, remote->addr, local->port, remote->port,
					      protocol };

	if (filter_flows_use(&f->flows, &flow, f->now_ns))
		return;
	filter_flows_add(&f->flows, &flow, f->peer_of ? f->peer_of(f->owner, &remote->addr) : NULL,
			 f->now_ns);
}

void filter_get_stats(const struct filter *f, struct filter_stats *stats)
{
	*stats = f->stats;
	stats->flows_evicted = f->flows.fair.stats.evicted;
	stats->flows_over_share = f->flows.fair.stats.over_share;
	stats->flows = f->flows.count;
}
