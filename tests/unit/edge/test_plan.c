/* From prefixes to ranges, mirrors and names. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/dns/table.h"
#include "daemon/edge/plan.h"
#include "shared/util.h"

static bool taken_by_others[256], taken[256];
static int take_error; /* of all that are asked for */
static unsigned asked;

static int take(void *owner, unsigned block)
{
	(void)owner;
	assert_in_range(block, 2, 254);
	asked++;
	if (take_error)
		return take_error;
	if (taken_by_others[block])
		return -EADDRINUSE;
	assert_false(taken[block]);
	taken[block] = true;
	return 0;
}

static void give_back(void *owner, unsigned block)
{
	(void)owner;
	assert_true(taken[block]);
	taken[block] = false;
}

struct fixture {
	struct plan *plan;
	struct map *map; /* only dir is used */
	uint64_t now_ns;
	uint32_t living; /* a flow's mirror, or 0 */
	char error[256];
};

static void keep_living(void *owner, struct plan *plan)
{
	const struct fixture *f = owner;

	if (f->living)
		plan_keep(plan, f->living);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct plan_blocks blocks = { take, give_back, keep_living, f };

	memset(taken_by_others, 0, sizeof(taken_by_others));
	take_error = 0;
	f->now_ns = NS_PER_S;
	f->plan = plan_create(&blocks);
	f->map = calloc(1, sizeof(*f->map));
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	plan_destroy(f->plan);
	for (int i = 0; i < 256; i++)
		assert_false(taken[i]);
	free(f->map);
	free(f);
	return 0;
}

static struct ip_prefix prefix(const char *addr, unsigned len)
{
	struct ip_prefix p = { .len = (uint8_t)len };

	assert_int_equal(ip_parse(addr, &p.addr), 0);
	return p;
}

static uint32_t v4(const char *text)
{
	struct ip_addr ip;

	assert_int_equal(ip_parse(text, &ip), 0);
	return ip_v4(&ip);
}

static enum map_verdict verdict(struct fixture *f, const char *mesh, uint32_t *mirror)
{
	struct ip_addr ip;

	assert_int_equal(ip_parse(mesh, &ip), 0);
	return map_to_mirror(f->map, &ip, mirror);
}

/* The mirror of an address, and back again. */
static uint32_t round_trip(struct fixture *f, const char *mesh, enum map_verdict wanted)
{
	struct ip_addr ip, back;
	uint32_t mirror = 0;

	assert_int_equal(verdict(f, mesh, &mirror), wanted);
	assert_int_equal(mirror >> 24, 127);
	assert_true(map_from_mirror(f->map, mirror, &back));
	ip_parse(mesh, &ip);
	assert_true(ip_equal(&ip, &back));
	return mirror;
}

static int apply(struct fixture *f, const struct edge_node *nodes, unsigned count)
{
	return plan_apply(f->plan, nodes, count, f->now_ns, &f->map->dir[0], f->error);
}

static void test_cgnat_addresses_are_mirrored_bit_for_bit(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own = prefix("100.64.0.1", 10), peer = prefix("100.90.1.7", 32);
	struct edge_node nodes[] = { { "a", &own, 1, true }, { "b", &peer, 1, false } };
	uint32_t mirror;

	assert_int_equal(apply(f, nodes, 2), 0);
	assert_int_equal(round_trip(f, "100.64.0.1", MAP_OWN), v4("127.64.0.1"));
	assert_int_equal(round_trip(f, "100.90.1.7", MAP_PEER), v4("127.90.1.7"));
	assert_int_equal(verdict(f, "100.90.1.8", &mirror), MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "100.127.255.255", &mirror), MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "100.128.0.0", &mirror), MAP_OUTSIDE);
	assert_int_equal(verdict(f, "100.63.255.255", &mirror), MAP_OUTSIDE);
	assert_int_equal(f->map->dir[0].own[0].prefix_len, 10);
	assert_int_equal(f->map->dir[0].own[0].mirror, v4("127.64.0.1"));
}

static void test_a_whole_ten_is_one_range(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own = prefix("100.64.0.1", 32), peer = prefix("100.64.0.0", 10);
	struct ip_prefix other = prefix("10.64.0.0", 10);
	struct edge_node nodes[] = { { "a", &own, 1, true },
				     { "b", &peer, 1, false },
				     { "c", &other, 1, false } };

	assert_int_equal(apply(f, nodes, 3), 0);
	assert_int_equal(f->map->dir[0].range_count, 2);
	assert_int_equal(round_trip(f, "100.127.255.255", MAP_PEER), v4("127.127.255.255"));
	assert_int_equal(round_trip(f, "100.64.0.1", MAP_OWN), v4("127.64.0.1"));
	assert_int_equal(round_trip(f, "10.64.0.0", MAP_PEER), v4("127.128.0.0"));
	assert_int_equal(round_trip(f, "10.127.3.4", MAP_PEER), v4("127.191.3.4"));
}

static void test_blocks_of_other_daemons_are_left_alone(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own = prefix("100.64.0.1", 32), peer = prefix("100.64.0.0", 10);
	struct edge_node nodes[] = { { "a", &own, 1, true }, { "b", &peer, 1, false } };

	taken_by_others[100] = true;
	assert_int_equal(apply(f, nodes, 2), 0);
	assert_int_equal(round_trip(f, "100.64.0.1", MAP_OWN) & 0xffff, 1);
	assert_int_equal(round_trip(f, "100.127.0.9", MAP_PEER), v4("127.191.0.9"));
}

static void test_without_a_free_run_the_blocks_are_taken_one_by_one(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix peer = prefix("10.0.0.0", 10);
	struct edge_node nodes[] = { { "b", &peer, 1, false } };

	taken_by_others[70] = taken_by_others[150] = taken_by_others[200] = true;
	assert_int_equal(apply(f, nodes, 1), 0);
	for (unsigned i = 0; i < 64; i++) {
		char text[32];

		snprintf(text, sizeof(text), "10.%u.255.254", i);
		round_trip(f, text, MAP_PEER);
	}
}

static void test_small_networks_of_one_sixteen_share_a_block(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own = prefix("10.7.0.1", 24);
	struct ip_prefix peers[] = { prefix("10.7.0.2", 32), prefix("10.7.9.0", 24),
				     prefix("10.7.9.128", 25) };
	struct edge_node nodes[] = { { "a", &own, 1, true }, { "b", peers, 3, false } };
	uint32_t first, mirror;

	assert_int_equal(apply(f, nodes, 2), 0);
	first = round_trip(f, "10.7.0.1", MAP_OWN);
	assert_int_equal(first & 0xffff, 1);
	assert_int_equal(round_trip(f, "10.7.0.2", MAP_PEER), first + 1);
	assert_int_equal(round_trip(f, "10.7.9.200", MAP_PEER), (first & 0xffff0000) | 0x9c8);
	assert_int_equal(verdict(f, "10.7.0.77", &mirror), MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "10.7.1.0", &mirror), MAP_OUTSIDE);
}

static void test_single_ipv6_addresses_get_mirrors_and_their_networks_none(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own[] = { prefix("fd7a:115c:a1e0::1", 48), prefix("100.64.0.1", 10) };
	struct ip_prefix peers[] = { prefix("fd7a:115c:a1e0::2", 128),
				     prefix("fd7a:115c:a1e0::3", 128), prefix("fd99::", 64) };
	struct edge_node nodes[] = { { "a", own, 2, true }, { "b", peers, 3, false } };
	uint32_t mirror;

	assert_int_equal(apply(f, nodes, 2), 0);
	round_trip(f, "fd7a:115c:a1e0::1", MAP_OWN);
	assert_int_not_equal(round_trip(f, "fd7a:115c:a1e0::2", MAP_PEER),
			     round_trip(f, "fd7a:115c:a1e0::3", MAP_PEER));
	assert_int_equal(verdict(f, "fd7a:115c:a1e0::4", &mirror), MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff", &mirror),
			 MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "fd99::1", &mirror), MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "fd7a:115c:a1e1::", &mirror), MAP_OUTSIDE);
	assert_int_equal(verdict(f, "2001:db8::1", &mirror), MAP_OUTSIDE);
}

static void test_mirrors_stay_when_the_mesh_changes(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own = prefix("10.7.0.1", 24);
	struct ip_prefix first[] = { prefix("fd00::5", 128), prefix("10.7.0.2", 32) };
	struct ip_prefix later[] = { prefix("fd00::1", 128), prefix("fd00::5", 128),
				     prefix("10.4.0.0", 14), prefix("10.7.0.2", 32) };
	struct edge_node nodes[] = { { "a", &own, 1, true }, { "b", first, 2, false } };
	uint32_t v6, v4_own, v4_peer;

	assert_int_equal(apply(f, nodes, 2), 0);
	v6 = round_trip(f, "fd00::5", MAP_PEER);
	v4_own = round_trip(f, "10.7.0.1", MAP_OWN);
	v4_peer = round_trip(f, "10.7.0.2", MAP_PEER);
	nodes[1].prefix = later;
	nodes[1].prefix_count = 4;
	assert_int_equal(apply(f, nodes, 2), 0);
	assert_int_equal(round_trip(f, "fd00::5", MAP_PEER), v6);
	assert_int_equal(round_trip(f, "10.7.0.1", MAP_OWN), v4_own);
	assert_int_equal(round_trip(f, "10.7.0.2", MAP_PEER), v4_peer);
	round_trip(f, "10.4.0.0", MAP_PEER);
	round_trip(f, "10.6.255.255", MAP_PEER);
}

static void refused(struct fixture *f, const char *addr, unsigned len, bool is_self,
		    const char *because)
{
	struct ip_prefix p = prefix(addr, len);
	struct edge_node node = { "b", &p, 1, is_self };

	assert_int_equal(apply(f, &node, 1), -EINVAL);
	assert_non_null(strstr(f->error, because));
	assert_non_null(strstr(f->error, addr));
}

static void test_prefixes_that_cannot_be_on_a_mesh_are_refused(void **state)
{
	struct fixture *f = *state;

	refused(f, "0.0.0.0", 0, false, "too wide");
	refused(f, "10.0.0.0", 9, false, "too wide");
	refused(f, "::", 0, false, "too wide");
	refused(f, "127.0.0.0", 16, false, "loopback");
	refused(f, "127.3.0.1", 32, true, "loopback");
	refused(f, "224.0.0.0", 24, false, "multicast");
	refused(f, "::1", 128, false, "loopback");
	refused(f, "ff02::1", 128, false, "multicast");
	assert_non_null(strstr(f->error, "peer b: "));
}

static void test_more_networks_than_blocks_are_refused_with_a_sentence(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix p[300];
	struct edge_node node = { "b", p, 300, false };

	for (unsigned i = 0; i < 300; i++) {
		p[i] = (struct ip_prefix){ ip_from_v4(0x0a000000 + (i << 16)), 24 };
		if (i >= 256)
			p[i].addr = ip_from_v4(0x0b000000 + (i << 16));
	}
	assert_int_equal(apply(f, &node, 1), -EADDRNOTAVAIL);
	assert_non_null(strstr(f->error, "no block"));
}

/* No descriptor is left to ask with: not the same as none that is free, and it passes. */
static void test_blocks_that_cannot_be_asked_for_are_told_as_that(void **state)
{
	static const char *const peers[] = { "10.9.0.2", "fd00::9" };
	struct fixture *f = *state;
	uint32_t mirror;

	for (unsigned i = 0; i < 2; i++) {
		struct ip_prefix own = prefix("100.64.0.1", 10), p = prefix(peers[i], i ? 128 : 32);
		struct edge_node nodes[] = { { "me", &own, 1, true }, { "peer", &p, 1, false } };

		assert_int_equal(apply(f, nodes, 1), 0);
		take_error = -EMFILE;
		asked = 0;
		assert_int_equal(apply(f, nodes, 2), -EMFILE);
		assert_string_equal(f->error,
				    "no block of 127.0.0.0/8 can be claimed: Too many open files");
		assert_int_equal(asked, 1);
		take_error = 0;
		assert_int_equal(apply(f, nodes, 2), 0);
		assert_int_equal(verdict(f, peers[i], &mirror), MAP_PEER);
	}
}

static void test_more_own_addresses_than_the_map_holds_are_refused(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix p[MAP_MAX_OWN + 1];
	struct edge_node node = { "a", p, MAP_MAX_OWN + 1, true };

	for (unsigned i = 0; i <= MAP_MAX_OWN; i++)
		p[i] = (struct ip_prefix){ ip_from_v4(0x0a000001 + i), 32 };
	assert_int_equal(apply(f, &node, 1), -E2BIG);
}

static void test_more_ranges_than_the_map_holds_are_refused(void **state)
{
	struct fixture *f = *state;
	unsigned n = MAP_MAX_RANGES + 1;
	struct ip_prefix *p = calloc(n, sizeof(*p));
	struct edge_node node = { "b", p, n, false };

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct ip_prefix){ ip_from_v4(0x0a000000 + 2 * i), 32 };
	assert_int_equal(apply(f, &node, 1), -E2BIG);
	node.prefix_count = n - 1;
	assert_int_equal(apply(f, &node, 1), 0);
	assert_int_equal(f->map->dir[0].mirror_count, MAP_MAX_RANGES);
	round_trip(f, "10.0.2.4", MAP_PEER);
	free(p);
}

/* ---- peers that come and go ---- */

static unsigned blocks_taken(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 256; i++)
		count += taken[i];
	return count;
}

#define CROWD 1000u

static struct ip_addr nth_v6(unsigned n)
{
	struct ip_addr ip = prefix("fd7a:115c:a1e0::", 128).addr;

	for (unsigned i = 0; i < 4; i++)
		ip.byte[15 - i] = (uint8_t)(n >> 8 * i);
	return ip;
}

/* A new crowd each quarter of an hour for a week; one peer stays. */
static void test_ipv6_peers_of_before_give_their_mirrors_back(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix *p = calloc(CROWD + 1, sizeof(*p));
	struct edge_node node = { "b", p, CROWD + 1, false };
	uint32_t stays = 0, mirror;

	p[CROWD] = prefix("fd7a:115c:a1e0:1::9", 128);
	for (unsigned round = 0; round < 4 * 24 * 7; round++) {
		for (unsigned i = 0; i < CROWD; i++)
			p[i] = (struct ip_prefix){ nth_v6(1 + round * CROWD + i), 128 };
		assert_int_equal(apply(f, &node, 1), 0);
		mirror = round_trip(f, "fd7a:115c:a1e0:1::9", MAP_PEER);
		stays = stays ? stays : mirror;
		assert_int_equal(mirror, stays);
		f->now_ns += PLAN_REST_NS / 4;
	}
	assert_in_range(blocks_taken(), 1, 1);
	free(p);
}

static void test_a_mirror_rests_before_it_is_anothers(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix p = prefix("fd00::1", 128), *many = calloc(70000, sizeof(*many));
	struct edge_node one = { "b", &p, 1, false }, crowd = { "c", many, 1000, false };
	uint32_t first, mirror, v6;
	struct ip_addr back;

	assert_int_equal(apply(f, &one, 1), 0);
	first = round_trip(f, "fd00::1", MAP_PEER);
	/* Nearly the whole block is used once. */
	for (unsigned round = 0; round < 65; round++) {
		for (unsigned i = 0; i < 1000; i++)
			many[i] = (struct ip_prefix){ nth_v6(1 + round * 1000 + i), 128 };
		assert_int_equal(apply(f, &crowd, 1), 0);
		assert_false(map_from_mirror(f->map, first, &back));
	}
	/* It comes back in time. */
	f->now_ns += PLAN_REST_NS - 1;
	assert_int_equal(apply(f, &one, 1), 0);
	assert_int_equal(round_trip(f, "fd00::1", MAP_PEER), first);
	/* Gone for longer, but a flow has it: the others' are taken and not this one. */
	assert_int_equal(apply(f, &crowd, 1), 0);
	f->living = first;
	for (unsigned round = 0; round < 100; round++) {
		f->now_ns += PLAN_REST_NS;
		for (unsigned i = 0; i < 1000; i++)
			many[i] = (struct ip_prefix){ nth_v6(1000000 + round * 1000 + i), 128 };
		assert_int_equal(apply(f, &crowd, 1), 0);
		assert_false(map_from_mirror(f->map, first, &back));
	}
	assert_int_equal(apply(f, &one, 1), 0);
	assert_int_equal(verdict(f, "fd00::1", &v6), MAP_PEER);
	assert_int_equal(v6, first);
	/* The flow has ended, too. */
	f->living = 0;
	assert_int_equal(apply(f, &crowd, 1), 0);
	f->now_ns += PLAN_REST_NS;
	assert_int_equal(apply(f, &crowd, 1), 0);
	assert_int_equal(apply(f, &one, 1), 0);
	mirror = round_trip(f, "fd00::1", MAP_PEER);
	assert_int_not_equal(mirror, first);
	free(many);
}

static void test_networks_of_before_give_their_blocks_back(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own = prefix("10.0.0.1", 24), p = own;
	struct edge_node nodes[] = { { "a", &own, 1, true }, { "b", &p, 1, false } };
	uint32_t mirror, mine, living = 0;
	char text[32];

	for (unsigned i = 0; i < 700; i++) {
		p = (struct ip_prefix){ ip_from_v4(0x0b000000u + (i << 16)), 24 };
		assert_int_equal(apply(f, nodes, 2), 0);
		mine = round_trip(f, "10.0.0.1", MAP_OWN);
		snprintf(text, sizeof(text), "%u.%u.0.7", 11 + (i >> 8), i & 0xff);
		mirror = round_trip(f, text, MAP_PEER);
		assert_true(mine >> 16 != mirror >> 16);
		if (i == 3)
			f->living = living = mirror;
		else
			assert_true(mirror >> 16 != living >> 16);
		f->now_ns += PLAN_REST_NS / 100;
	}
	/* What has not rested is not given away: then there are too many. */
	for (unsigned i = 0; i < 160; i++) {
		p = (struct ip_prefix){ ip_from_v4(0x20000000u + (i << 16)), 24 };
		if (apply(f, nodes, 2) != 0)
			break;
		assert_true(i < 159);
	}
	assert_non_null(strstr(f->error, "no block"));
	f->now_ns += PLAN_REST_NS;
	assert_int_equal(apply(f, nodes, 2), 0);
}

static void add_host(struct dns_table *table, const char *name, const char *v4, const char *v6,
		     bool hide_v6)
{
	struct ip_addr ips[2];
	struct dns_host host = { .name = name, .ips = ips, .is_node = true };

	if (v4)
		assert_int_equal(ip_parse(v4, &ips[host.count++]), 0);
	host.answered = host.count;
	if (v6)
		assert_int_equal(ip_parse(v6, &ips[host.count++]), 0);
	host.answered = hide_v6 ? host.answered : host.count;
	assert_int_equal(dns_table_add_host(table, &host), 0);
}

static void test_names_zones_and_search_domains_are_in_the_map(void **state)
{
	struct fixture *f = *state;
	struct dns_table *table = dns_table_create();
	struct ip_addr v4 = prefix("100.64.0.2", 32).addr, v6 = prefix("fd00::2", 128).addr, back;
	struct dns_resolver upstream = { "10.0.0.1", { prefix("10.0.0.1", 32).addr, 53 } };
	struct map_name found;
	char name[MAP_NAME_MAX];

	add_host(table, "Node-A.mesh", "100.64.0.1", NULL, false);
	add_host(table, "node-b.mesh", "100.64.0.2", "fd00::2", true);
	dns_table_add_suffix(table, "mesh", NULL, 0);
	dns_table_add_suffix(table, "64.100.in-addr.arpa", NULL, 0);
	dns_table_add_suffix(table, "corp.example", &upstream, 1);
	dns_table_add_search(table, "mesh");
	assert_int_equal(dns_table_finish(table), 0);
	assert_int_equal(plan_names(table, &f->map->dir[0]), 0);
	assert_true(map_find_name(f->map, "NODE-B.mesh.", &found));
	assert_int_equal(found.flags, MAP_NAME_CANONICAL | MAP_NAME_HIDE_V6);
	assert_true(ip_equal(&found.v4, &v4) && ip_equal(&found.v6, &v6));
	assert_true(map_name_of(f->map, &v6, name));
	assert_string_equal(name, "node-b.mesh");
	assert_true(map_v4_of_v6(f->map, &v6, &back));
	assert_true(ip_equal(&back, &v4));
	assert_int_equal(f->map->dir[0].suffix_count, 2);
	assert_int_equal(map_suffix_of(f->map, "x.mesh"), MAP_SUFFIX_ZONE);
	assert_int_equal(map_suffix_of(f->map, "x.corp.example"), MAP_SUFFIX_ROUTE);
	assert_true(map_search_domain(f->map, 0, name));
	assert_string_equal(name, "mesh");
	assert_int_equal(plan_names(NULL, &f->map->dir[0]), 0);
	assert_false(map_find_name(f->map, "node-b.mesh", &found));
	dns_table_destroy(table);
}

static void test_names_beyond_what_the_map_holds_are_left_out(void **state)
{
	struct fixture *f = *state;
	struct dns_table *table = dns_table_create();
	struct map_name found;
	char name[32];

	for (unsigned i = 0; i < MAP_MAX_NAMES + 10; i++) {
		snprintf(name, sizeof(name), "n%05u.mesh", i);
		add_host(table, name, "100.64.0.2", NULL, false);
	}
	dns_table_add_suffix(table, "mesh", NULL, 0);
	assert_int_equal(dns_table_finish(table), 0);
	assert_int_equal(plan_names(table, &f->map->dir[0]), 10);
	assert_true(map_find_name(f->map, "n00000.mesh", &found));
	assert_int_equal(map_suffix_of(f->map, "x.mesh"), MAP_SUFFIX_ZONE);
	dns_table_destroy(table);
}

static void test_a_single_address_lies_over_whatever_network_it_is_in(void **state)
{
	struct fixture *f = *state;
	struct ip_prefix own = prefix("100.64.0.1", 10), peer = prefix("100.100.0.0", 16);
	struct edge_node nodes[] = { { "a", &own, 1, true }, { "b", &peer, 1, false } };
	struct ip_addr single = prefix("100.100.100.100", 32).addr, gap, v6;
	uint32_t mirror;

	ip_parse("100.99.1.1", &gap);
	ip_parse("fd7a:115c:a1e0::53", &v6);
	assert_int_equal(apply(f, nodes, 2), 0);
	assert_int_equal(plan_add_single(f->plan, &single, &f->map->dir[0], f->error), 0);
	assert_int_equal(plan_add_single(f->plan, &gap, &f->map->dir[0], f->error), 0);
	assert_int_equal(plan_add_single(f->plan, &v6, &f->map->dir[0], f->error), 0);
	round_trip(f, "100.100.100.100", MAP_PEER);
	round_trip(f, "100.99.1.1", MAP_PEER);
	round_trip(f, "fd7a:115c:a1e0::53", MAP_PEER);
	round_trip(f, "100.100.100.99", MAP_PEER);
	round_trip(f, "100.100.100.101", MAP_PEER);
	round_trip(f, "100.100.0.0", MAP_PEER);
	round_trip(f, "100.100.255.255", MAP_PEER);
	round_trip(f, "100.64.0.1", MAP_OWN);
	assert_int_equal(verdict(f, "100.99.1.0", &mirror), MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "100.99.1.2", &mirror), MAP_NO_MIRROR);
	assert_int_equal(verdict(f, "fd7a:115c:a1e0::54", &mirror), MAP_OUTSIDE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cgnat_addresses_are_mirrored_bit_for_bit),
		TEST(test_a_whole_ten_is_one_range),
		TEST(test_blocks_of_other_daemons_are_left_alone),
		TEST(test_without_a_free_run_the_blocks_are_taken_one_by_one),
		TEST(test_small_networks_of_one_sixteen_share_a_block),
		TEST(test_single_ipv6_addresses_get_mirrors_and_their_networks_none),
		TEST(test_mirrors_stay_when_the_mesh_changes),
		TEST(test_ipv6_peers_of_before_give_their_mirrors_back),
		TEST(test_a_mirror_rests_before_it_is_anothers),
		TEST(test_networks_of_before_give_their_blocks_back),
		TEST(test_prefixes_that_cannot_be_on_a_mesh_are_refused),
		TEST(test_more_networks_than_blocks_are_refused_with_a_sentence),
		TEST(test_blocks_that_cannot_be_asked_for_are_told_as_that),
		TEST(test_more_own_addresses_than_the_map_holds_are_refused),
		TEST(test_more_ranges_than_the_map_holds_are_refused),
		TEST(test_names_zones_and_search_domains_are_in_the_map),
		TEST(test_names_beyond_what_the_map_holds_are_left_out),
		TEST(test_a_single_address_lies_over_whatever_network_it_is_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
