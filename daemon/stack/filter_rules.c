/*
 * Compiled rules.
 *
 * A rule's sources are sorted and merged per family, so that a rule with
 * thousands of them costs a binary search. Families are kept apart, since in our
 * form IPv4 addresses lie inside the range of all IPv6 ones. Destinations that no
 * local prefix reaches are left out, and rules that are left without any: a node
 * is given rules for many, and only a few concern it. Rules themselves are tried
 * one by one: only what opens a flow asks.
 */
#include "daemon/stack/filter_rules.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/stack/filter.h"

#define ALL_PORTS_LAST 65535u

struct span {
	uint32_t first, count;
};

struct rule {
	uint8_t protocol[32]; /* bits */
	struct span src[2];   /* in ranges; v4, v6 */
	struct span dst, cap;
};

struct filter_rules {
	struct rule *rule;
	struct netmap_range *range;
	struct netmap_dst *dst;
	char **cap;
	uint32_t rule_count, range_count, dst_count, cap_count;
};

static unsigned family_of(const struct ip_addr *ip)
{
	return ip_is_v4(ip) ? 0 : 1;
}

bool filter_prefix_contains(const struct ip_prefix *prefix, const struct ip_addr *ip)
{
	unsigned len = prefix->len, bytes;

	if (family_of(&prefix->addr) != family_of(ip))
		return false;
	if (ip_is_v4(ip))
		len += 96;
	bytes = len / 8;
	if (memcmp(prefix->addr.byte, ip->byte, bytes) != 0)
		return false;
	return len % 8 == 0 || ((prefix->addr.byte[bytes] ^ ip->byte[bytes]) >> (8 - len % 8)) == 0;
}

static bool is_range(const struct netmap_range *r)
{
	return family_of(&r->first) == family_of(&r->last) && ip_compare(&r->first, &r->last) <= 0;
}

static bool range_contains(const struct netmap_range *r, const struct ip_addr *ip)
{
	return ip_compare(&r->first, ip) <= 0 && ip_compare(ip, &r->last) <= 0;
}

static bool range_meets_prefix(const struct netmap_range *r, const struct ip_prefix *prefix)
{
	unsigned len = prefix->len + (ip_is_v4(&prefix->addr) ? 96u : 0u);
	struct netmap_range p = { prefix->addr, prefix->addr };

	if (family_of(&r->first) != family_of(&prefix->addr))
		return false;
	for (unsigned bit = len; bit < 128; bit++) {
		p.first.byte[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
		p.last.byte[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
	}
	return ip_compare(&r->first, &p.last) <= 0 && ip_compare(&p.first, &r->last) <= 0;
}

/* ---- making ---- */

static int compare_ranges(const void *a, const void *b)
{
	const struct netmap_range *x = a, *y = b;
	int order = ip_compare(&x->first, &y->first);

	return order ? order : ip_compare(&x->last, &y->last);
}

/* Sorts and joins what overlaps; the number left. */
static uint32_t merge_ranges(struct netmap_range *range, uint32_t count)
{
	uint32_t out = 0;

	if (count > 1)
		qsort(range, count, sizeof(*range), compare_ranges);
	for (uint32_t i = 0; i < count; i++) {
		if (out && ip_compare(&range[i].first, &range[out - 1].last) <= 0) {
			if (ip_compare(&range[i].last, &range[out - 1].last) > 0)
				range[out - 1].last = range[i].last;
		} else {
			range[out++] = range[i];
		}
	}
	return out;
}

static struct span add_sources(struct filter_rules *r, const struct netmap_rule *from,
			       unsigned family)
{
	struct span span = { r->range_count, 0 };

	for (unsigned i = 0; i < from->src_count; i++) {
		const struct netmap_range *range = &from->src[i];

		if (is_range(range) && family_of(&range->first) == family)
			r->range[span.first + span.count++] = *range;
	}
	span.count = merge_ranges(r->range + span.first, span.count);
	r->range_count += span.count;
	return span;
}

static struct span add_destinations(struct filter_rules *r, const struct netmap_rule *from,
				    const struct ip_prefix *local, unsigned local_count)
{
	struct span span = { r->dst_count, 0 };

	for (unsigned i = 0; i < from->dst_count; i++) {
		const struct netmap_dst *dst = &from->dst[i];
		bool is_local = false;

		if (!is_range(&dst->ip) || dst->first_port > dst->last_port)
			continue;
		for (unsigned k = 0; k < local_count && !is_local; k++)
			is_local = range_meets_prefix(&dst->ip, &local[k]);
		if (is_local)
			r->dst[span.first + span.count++] = *dst;
	}
	r->dst_count += span.count;
	return span;
}

static bool add_caps(struct filter_rules *r, const struct netmap_rule *from, struct span *span)
{
	*span = (struct span){ r->cap_count, 0 };
	for (unsigned i = 0; i < from->src_cap_count; i++) {
		r->cap[r->cap_count] = strdup(from->src_caps[i]);
		if (!r->cap[r->cap_count])
			return false;
		r->cap_count++;
		span->count++;
	}
	return true;
}

static bool add_rule(struct filter_rules *r, const struct netmap_rule *from,
		     const struct ip_prefix *local, unsigned local_count)
{
	struct rule *rule = &r->rule[r->rule_count];

	memset(rule, 0, sizeof(*rule));
	for (unsigned i = 0; i < from->protocol_count; i++)
		rule->protocol[from->protocols[i] / 8] |= (uint8_t)(1u << from->protocols[i] % 8);
	rule->dst = add_destinations(r, from, local, local_count);
	/* A capability lets an echo in whatever the destination. */
	if (rule->dst.count == 0 && (from->src_cap_count == 0 || from->dst_count == 0))
		return true;
	rule->src[0] = add_sources(r, from, 0);
	rule->src[1] = add_sources(r, from, 1);
	if (!add_caps(r, from, &rule->cap))
		return false;
	r->rule_count++;
	return true;
}

struct filter_rules *filter_rules_create(const struct netmap_rule *rules, unsigned count,
					 const struct ip_prefix *local, unsigned local_count)
{
	struct filter_rules *r = calloc(1, sizeof(*r));
	size_t ranges = 1, dsts = 1, caps = 1;

	if (!r)
		return NULL;
	for (unsigned i = 0; i < count; i++) {
		ranges += rules[i].src_count;
		dsts += rules[i].dst_count;
		caps += rules[i].src_cap_count;
	}
	r->rule = calloc(count + 1u, sizeof(*r->rule));
	r->range = calloc(ranges, sizeof(*r->range));
	r->dst = calloc(dsts, sizeof(*r->dst));
	r->cap = calloc(caps, sizeof(*r->cap));
	if (!r->rule || !r->range || !r->dst || !r->cap)
		goto fail;
	for (unsigned i = 0; i < count; i++) {
		if (!add_rule(r, &rules[i], local, local_count))
			goto fail;
	}
	return r;
fail:
	filter_rules_destroy(r);
	return NULL;
}

void filter_rules_destroy(struct filter_rules *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < r->cap_count; i++)
		free(r->cap[i]);
	free(r->cap);
	free(r->dst);
	free(r->range);
	free(r->rule);
	free(r);
}

/* ---- matching ---- */

static bool has_protocol(const struct rule *rule, uint8_t protocol)
{
	return rule->protocol[protocol / 8] >> protocol % 8 & 1;
}

static bool has_source(const struct filter_rules *r, const struct rule *rule,
		       const struct ip_addr *src)
{
	struct span span = rule->src[family_of(src)];
	const struct netmap_range *range = r->range + span.first;
	uint32_t low = 0, high = span.count;

	/* The last range that begins at or before src. */
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (ip_compare(&range[mid].first, src) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low > 0 && ip_compare(src, &range[low - 1].last) <= 0;
}

static bool has_cap(const struct filter_rules *r, const struct rule *rule,
		    const struct filter_source *source)
{
	if (!source || !source->has_cap)
		return false;
	for (uint32_t i = 0; i < rule->cap.count; i++) {
		if (source->has_cap(source->owner, r->cap[rule->cap.first + i]))
			return true;
	}
	return false;
}

static bool has_destination(const struct filter_rules *r, const struct rule *rule,
			    const struct ip_addr *dst, unsigned first_port, unsigned last_port)
{
	for (uint32_t i = 0; i < rule->dst.count; i++) {
		const struct netmap_dst *d = &r->dst[rule->dst.first + i];

		if (d->first_port <= first_port && last_port <= d->last_port &&
		    family_of(&d->ip.first) == family_of(dst) && range_contains(&d->ip, dst))
			return true;
	}
	return false;
}

bool filter_rules_match(const struct filter_rules *r, const struct filter_source *source,
			uint8_t protocol, const struct ip_addr *src, const struct endpoint *dst)
{
	for (uint32_t i = 0; r && i < r->rule_count; i++) {
		const struct rule *rule = &r->rule[i];

		if (has_protocol(rule, protocol) &&
		    has_destination(r, rule, &dst->addr, dst->port, dst->port) &&
		    (has_source(r, rule, src) || has_cap(r, rule, source)))
			return true;
	}
	return false;
}

bool filter_rules_match_addrs(const struct filter_rules *r, const struct filter_source *source,
			      const struct ip_addr *src, const struct ip_addr *dst)
{
	for (uint32_t i = 0; r && i < r->rule_count; i++) {
		const struct rule *rule = &r->rule[i];
		bool has_dst = false;

		if (has_cap(r, rule, source))
			return true;
		for (uint32_t k = 0; k < rule->dst.count && !has_dst; k++) {
			const struct netmap_range *ip = &r->dst[rule->dst.first + k].ip;

			has_dst = family_of(&ip->first) == family_of(dst) &&
				  range_contains(ip, dst);
		}
		if (has_dst && has_source(r, rule, src))
			return true;
	}
	return false;
}

bool filter_rules_match_all_ports(const struct filter_rules *r, uint8_t protocol,
				  const struct ip_addr *src, const struct ip_addr *dst)
{
	for (uint32_t i = 0; r && i < r->rule_count; i++) {
		const struct rule *rule = &r->rule[i];

		if (has_protocol(rule, protocol) && has_source(r, rule, src) &&
		    has_destination(r, rule, dst, 0, ALL_PORTS_LAST))
			return true;
	}
	return false;
}
