/*
 * Ranges and mirrors.
 *
 * IPv4: a mirror keeps the low 16 bits of its address, so a plan is no more
 * than "mesh a.b.0.0/16 is 127.n.0.0/16". A prefix of /10 to /16 asks for an
 * aligned run of blocks and becomes one range; where no run is free its /16s
 * get blocks one by one and it becomes several. 100.64.0.0/10 prefers
 * 127.64.0.0/10, where the mirror can be read with the naked eye.
 * IPv6: single addresses get mirrors one after another, in blocks of their own;
 * so do the addresses of services, whatever their family.
 *
 * Mirrored are own addresses and what peers are allowed; the rest of an own
 * address's network belongs to the mesh, but has no mirror: nobody is there, a
 * connect fails at once, and a node with a /10 needs no /10 of loopback. So
 * dozens of daemons fit into one network namespace. An IPv6 prefix has no
 * mirror beyond the single addresses in it: 127/8 is too small for it.
 *
 * Mirrors are never moved, since programs hold sockets bound to them; when they are free
 * again: plan_mirrors.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/edge/claims.h"
#include "daemon/edge/plan_private.h"
#include "shared/util.h"
#include "shared/wire.h"

#define V4_WIDEST 10
#define V6_WIDEST 8

/* What is collected before anything is decided. */
struct input {
	struct spans mirrored; /* IPv4 */
	struct spans single;   /* IPv6, one address each */
	struct spans known;    /* mesh addresses in all, mirrored or not */
};

struct plan *plan_create(const struct plan_blocks *blocks)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (plan)
		plan->blocks = *blocks;
	return plan;
}

void plan_destroy(struct plan *plan)
{
	if (!plan)
		return;
	for (unsigned b = CLAIMS_FIRST; b <= CLAIMS_LAST; b++)
		if (plan->block[b].is_used)
			plan->blocks.give_back(plan->blocks.owner, b);
	free(plan->single);
	free(plan->rested);
	free(plan);
}

/* ---- collecting ---- */

static int refuse(char *error, const struct edge_node *node, const struct ip_prefix *p,
		  const char *why)
{
	char text[IP_TEXT_MAX];

	snprintf(error, 256, "%s %.*s%s%s/%u %s", node->is_self ? "own address" : "peer",
		 node->is_self ? 0 : 63, node->is_self ? "" : node->name,
		 node->is_self ? "" : (node->name[0] ? ": " : ""), ip_format(&p->addr, text),
		 p->len, why);
	return -EINVAL;
}

static bool overlaps(const struct span *s, const char *first, const char *last)
{
	struct ip_addr a, b;

	return ip_parse(first, &a) == 0 && ip_parse(last, &b) == 0 &&
	       ip_compare(&s->first, &b) <= 0 && ip_compare(&a, &s->last) <= 0;
}

static int check_prefix(const struct edge_node *node, const struct ip_prefix *p, char *error)
{
	struct span s = span_of(&p->addr, p->len);
	bool v4 = ip_is_v4(&p->addr);

	if (v4 && p->len < V4_WIDEST && !node->is_self)
		return refuse(error, node, p,
			      "is too wide: meshwrap mirrors IPv4 networks of /10 or smaller; "
			      "list the networks you need instead");
	if (p->len < V6_WIDEST)
		return refuse(error, node, p,
			      "is too wide for a mesh network: it must be /8 or smaller");
	if (v4 ? overlaps(&s, "0.0.0.0", "0.255.255.255") ||
			    overlaps(&s, "127.0.0.0", "127.255.255.255") ||
			    overlaps(&s, "224.0.0.0", "255.255.255.255")
	       : overlaps(&s, "::", "ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff") ||
			    overlaps(&s, "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
		return refuse(error, node, p,
			      "holds loopback, multicast or unspecified addresses, which cannot be "
			      "on a mesh");
	return 0;
}

static int collect_prefix(struct input *in, const struct edge_node *node, const struct ip_prefix *p,
			  char *error)
{
	struct span net = span_of(&p->addr, p->len), one = { p->addr, p->addr };
	bool v4 = ip_is_v4(&p->addr);
	int err = check_prefix(node, p, error);

	if (err)
		return err;
	err = spans_add(&in->known, net);
	if (err == 0 && v4)
		err = spans_add(&in->mirrored, node->is_self ? one : net);
	else if (err == 0 && (node->is_self || p->len == 128))
		err = spans_add(&in->single, one);
	return err;
}

static int collect_own(const struct edge_node *node, struct map_directory *dir, char *error)
{
	for (unsigned i = 0; i < node->prefix_count; i++) {
		if (dir->own_count == MAP_MAX_OWN) {
			snprintf(error, 256, "more than %d own addresses", MAP_MAX_OWN);
			return -E2BIG;
		}
		dir->own[dir->own_count++] = (struct map_own){ .addr = node->prefix[i].addr,
							       .prefix_len = node->prefix[i].len };
	}
	return 0;
}

/* ---- laying out ---- */

static int add_range(struct map_directory *dir, const struct span *s, uint32_t mirror, char *error)
{
	struct map_range *last = dir->range_count ? &dir->ranges[dir->range_count - 1] : NULL;
	uint32_t count = load_be32(s->last.byte + 12) - load_be32(s->first.byte + 12) + 1;
	struct ip_addr after;

	if (last && mirror && ip_is_v4(&s->first) && last->mirror &&
	    last->mirror + last->count == mirror) {
		after = span_next_address(last->last);
		if (ip_equal(&after, &s->first)) {
			last->last = s->last;
			last->count += count;
			return 0;
		}
	}
	if (dir->range_count == MAP_MAX_RANGES) {
		snprintf(error, 256, "the peers' networks make more than %d ranges of addresses",
			 MAP_MAX_RANGES);
		return -E2BIG;
	}
	dir->ranges[dir->range_count++] =
		(struct map_range){ s->first, s->last, mirror, mirror ? count : 0 };
	return 0;
}

static uint32_t mirror_of_v4(const struct plan *plan, const struct ip_addr *ip)
{
	return 127u << 24 | (uint32_t)plan->block_of[ip_v4(ip) >> 16] << 16 | (ip_v4(ip) & 0xffff);
}

/* A mirrored IPv4 span, cut where its blocks do not follow one another. */
static int lay_v4(const struct plan *plan, struct map_directory *dir, struct span s, char *error)
{
	uint32_t first = ip_v4(&s.first), last = ip_v4(&s.last);
	int err = 0;

	for (;;) {
		uint32_t end = MIN(last, first | 0xffff);
		struct span piece = { ip_from_v4(first), ip_from_v4(end) };

		err = add_range(dir, &piece, mirror_of_v4(plan, &piece.first), error);
		if (err || end == last)
			return err;
		first = end + 1;
	}
}

/* Those of the sorted spans that lie in the network, and the gaps between them. */
static int lay_network(const struct plan *plan, struct map_directory *dir, struct span net,
		       const struct spans *mirrored, char *error)
{
	size_t low = 0, high = mirrored->count;
	int err = 0;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (ip_compare(&mirrored->at[mid].last, &net.first) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (; err == 0 && low < mirrored->count; low++) {
		struct span s = mirrored->at[low];

		if (ip_compare(&s.first, &net.last) > 0)
			break;
		if (ip_compare(&net.first, &s.first) < 0) {
			struct span gap = { net.first, span_previous_address(s.first) };

			err = add_range(dir, &gap, 0, error);
		}
		if (err == 0)
			err = ip_is_v4(&s.first)
				      ? lay_v4(plan, dir, s, error)
				      : add_range(dir, &s, plan_find_single(plan, &s.first)->mirror,
						  error);
		if (ip_equal(&s.last, &net.last))
			return err;
		net.first = span_next_address(s.last);
	}
	return err ? err : add_range(dir, &net, 0, error);
}

static int compare_mirrors(const void *a, const void *b)
{
	uint32_t x = ((const struct map_mirror *)a)->first,
		 y = ((const struct map_mirror *)b)->first;

	return (x > y) - (x < y);
}

static void index_mirrors(struct map_directory *dir)
{
	dir->mirror_count = 0;
	for (uint32_t i = 0; i < dir->range_count; i++)
		if (dir->ranges[i].mirror)
			dir->mirrors[dir->mirror_count++] =
				(struct map_mirror){ dir->ranges[i].mirror, i };
	qsort(dir->mirrors, dir->mirror_count, sizeof(*dir->mirrors), compare_mirrors);
}

static int lay_out(struct plan *plan, struct input *in, struct map_directory *dir, char *error)
{
	int err = 0;

	spans_normalise(&in->known);
	spans_normalise(&in->mirrored);
	for (size_t i = 0; err == 0 && i < in->known.count; i++) {
		bool v4 = ip_is_v4(&in->known.at[i].first);

		err = lay_network(plan, dir, in->known.at[i], v4 ? &in->mirrored : &in->single,
				  error);
	}
	if (err)
		return err;
	index_mirrors(dir);
	for (uint32_t i = 0; i < dir->own_count; i++) {
		const struct ip_addr *addr = &dir->own[i].addr;

		dir->own[i].mirror = ip_is_v4(addr) ? mirror_of_v4(plan, addr)
						    : plan_find_single(plan, addr)->mirror;
	}
	return 0;
}

static int compare_widths(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	uint32_t width_x = ip_v4(&x->last) - ip_v4(&x->first);
	uint32_t width_y = ip_v4(&y->last) - ip_v4(&y->first);

	return width_x != width_y ? (width_x < width_y ? 1 : -1) : span_compare(a, b);
}

static int collect(const struct edge_node *nodes, unsigned count, struct input *in,
		   struct map_directory *dir, char *error)
{
	int err = 0;

	for (unsigned n = 0; err == 0 && n < count; n++) {
		if (nodes[n].is_self)
			err = collect_own(&nodes[n], dir, error);
		for (unsigned i = 0; err == 0 && i < nodes[n].prefix_count; i++)
			err = collect_prefix(in, &nodes[n], &nodes[n].prefix[i], error);
	}
	return err;
}

int plan_apply(struct plan *plan, const struct edge_node *nodes, unsigned count, uint64_t now_ns,
	       struct map_directory *dir, char error[static 256])
{
	struct input in = { 0 };
	int err;

	plan->now_ns = now_ns;
	snprintf(error, 256, "out of memory");
	dir->own_count = dir->range_count = dir->mirror_count = 0;
	err = collect(nodes, count, &in, dir, error);
	if (err)
		goto out;
	if (in.single.count)
		spans_drop_doubles(&in.single);
	plan_want(plan, &in.mirrored);
	/* Wide networks first, while there are runs for them. */
	if (in.mirrored.count)
		qsort(in.mirrored.at, in.mirrored.count, sizeof(*in.mirrored.at), compare_widths);
	for (size_t i = 0; err == 0 && i < in.mirrored.count; i++)
		err = plan_assign_v4(plan, &in.mirrored.at[i], error);
	if (err == 0)
		err = plan_assign_singles(plan, &in.single, error);
	if (err == 0)
		err = lay_out(plan, &in, dir, error);
	if (err == 0) {
		for (uint32_t i = 0; i < dir->own_count; i++)
			plan_keep_for_ever(plan, &dir->own[i].addr);
		plan_settle(plan, &in.single);
		error[0] = '\0';
	}
out:
	free(in.mirrored.at);
	free(in.single.at);
	free(in.known.at);
	return err;
}

/* ---- single addresses ---- */

int plan_single(struct plan *plan, const struct ip_addr *addr, uint32_t *mirror,
		char error[static 256])
{
	struct span one = { *addr, *addr };
	struct spans single = { &one, 1, 1 };
	int err;

	snprintf(error, 256, "out of memory");
	err = plan_assign_singles(plan, &single, error);
	if (err == 0) {
		plan_keep_for_ever(plan, addr);
		*mirror = plan_find_single(plan, addr)->mirror;
	}
	return err;
}

/* The range at i, which holds addr, without it: none, one or two ranges remain. Returns where addr
 * belongs. */
static uint32_t cut_range(struct map_directory *dir, uint32_t i, const struct ip_addr *addr)
{
	struct map_range *r = &dir->ranges[i], left = *r, right = *r;
	uint32_t offset = load_be32(addr->byte + 12) - load_be32(r->first.byte + 12);
	bool has_left = !ip_equal(&r->first, addr), has_right = !ip_equal(&r->last, addr);
	uint32_t pieces = (uint32_t)has_left + has_right;

	left.last = span_previous_address(*addr);
	right.first = span_next_address(*addr);
	if (r->mirror) {
		left.count = offset;
		right.mirror += offset + 1;
		right.count -= offset + 1;
	}
	memmove(r + pieces, r + 1, (dir->range_count - i - 1) * sizeof(*r));
	dir->range_count += pieces - 1;
	if (has_left)
		*r++ = left;
	if (has_right)
		*r = right;
	return i + has_left;
}

int plan_add_single(struct plan *plan, const struct ip_addr *addr, struct map_directory *dir,
		    char error[static 256])
{
	uint32_t mirror, i = 0;
	int err = plan_single(plan, addr, &mirror, error);

	if (err)
		return err;
	if (dir->range_count + 2 > MAP_MAX_RANGES) {
		snprintf(error, 256, "the peers' networks make more than %d ranges of addresses",
			 MAP_MAX_RANGES);
		return -E2BIG;
	}
	while (i < dir->range_count && ip_compare(&dir->ranges[i].last, addr) < 0)
		i++;
	if (i < dir->range_count && ip_compare(&dir->ranges[i].first, addr) <= 0)
		i = cut_range(dir, i, addr);
	memmove(&dir->ranges[i + 1], &dir->ranges[i],
		(dir->range_count - i) * sizeof(dir->ranges[0]));
	dir->ranges[i] = (struct map_range){ *addr, *addr, mirror, 1 };
	dir->range_count++;
	index_mirrors(dir);
	return 0;
}
