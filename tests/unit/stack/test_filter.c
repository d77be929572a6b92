/* The packet filter against the reference's verdicts, and what those do not reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json.h>
#include <sodium.h>

#include "daemon/netmap/netmap.h"
#include "daemon/stack/filter.h"
#include "daemon/stack/ip.h"
#include "daemon/tcp/segment.h"
#include "shared/util.h"
#include "shared/wire.h"

#define FILTERS_IN_VECTORS 13

static const uint8_t secret[16] = { 1, 2, 3 };

/* A filter fed from the server's JSON, as in the daemon. */
struct world {
	struct netmap *nm;
	struct filter *f;
	struct json_object *caps; /* address -> list */
	char peer[IP_TEXT_MAX];
};

static void world_open(struct world *w, const char *rules, const struct ip_prefix *local,
		       unsigned local_count)
{
	struct netmap_changes changes;
	const struct netmap_rule *parsed;
	char *message;
	unsigned count;

	memset(w, 0, sizeof(*w));
	w->nm = netmap_create();
	w->f = filter_create(512, secret);
	assert_non_null(w->f);
	assert_true(asprintf(&message,
			     "{\"Node\":{\"ID\":1,\"Key\":\"nodekey:%064d\"},\"PacketFilter\":%s}",
			     1, rules) > 0);
	assert_int_equal(netmap_apply(w->nm, message, strlen(message), 0, &changes), 0);
	netmap_changes_finish(&changes);
	free(message);
	parsed = netmap_filter(w->nm, &count);
	assert_int_equal(filter_set(w->f, parsed, count, local, local_count), 0);
}

static void world_close(struct world *w)
{
	filter_destroy(w->f);
	netmap_destroy(w->nm);
}

static struct ip_prefix prefix_of(const char *text)
{
	struct netmap_range range[2];
	struct ip_prefix p;

	assert_int_equal(netmap_range_parse(text, range), 1);
	p.addr = range[0].first;
	p.len = (uint8_t)atoi(strchr(text, '/') + 1);
	return p;
}

static bool has_cap(void *owner, const char *cap)
{
	struct world *w = owner;
	struct json_object *list;

	if (!w->caps || !json_object_object_get_ex(w->caps, w->peer, &list))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		if (strcmp(json_object_get_string(json_object_array_get_idx(list, i)), cap) == 0)
			return true;
	}
	return false;
}

/* What the stack says of a packet that it sends. */
static void sent(struct filter *f, const uint8_t *packet, size_t len)
{
	struct endpoint from, to;
	struct ip_packet p;

	assert_int_equal(ip_packet_parse(packet, len, &p), 0);
	if (p.protocol != IP_PROTOCOL_UDP)
		return;
	from = (struct endpoint){ p.src, load_be16(ip_payload(&p)) };
	to = (struct endpoint){ p.dst, load_be16(ip_payload(&p) + 2) };
	filter_flow_out(f, p.protocol, &from, &to);
}

static void run_step(struct world *w, struct json_object *step)
{
	const char *hex = json_object_get_string(json_object_object_get(step, "packet"));
	const char *dir = json_object_get_string(json_object_object_get(step, "dir"));
	const char *wanted = json_object_get_string(json_object_object_get(step, "verdict"));
	struct filter_source source = { .has_cap = has_cap, .owner = w };
	enum filter_verdict verdict = FILTER_ACCEPT; /* ours may leave */
	uint8_t packet[2048], *exact;
	struct ip_packet parsed;
	size_t len;

	assert_int_equal(sodium_hex2bin(packet, sizeof(packet), hex, strlen(hex), NULL, &len, NULL),
			 0);
	if (ip_packet_parse(packet, len, &parsed) == 0)
		ip_format(&parsed.src, w->peer);
	/* Of its exact size, so that a sanitizer sees what is read behind it. */
	exact = malloc(len + !len);
	assert_non_null(exact);
	memcpy(exact, packet, len);
	if (strcmp(dir, "in") == 0)
		verdict = filter_in(w->f, &source, exact, len);
	else
		sent(w->f, exact, len);
	free(exact);
	if ((verdict == FILTER_ACCEPT) != (strcmp(wanted, "accept") == 0))
		fail_msg("%s: %d, wanted %s",
			 json_object_get_string(json_object_object_get(step, "desc")), verdict,
			 wanted);
}

static void run_case(struct json_object *o)
{
	struct json_object *prefixes = json_object_object_get(o, "local_prefixes");
	struct json_object *steps = json_object_object_get(o, "steps");
	struct ip_prefix local[8];
	struct world w;
	unsigned count = (unsigned)json_object_array_length(prefixes);

	print_message("%s\n", json_object_get_string(json_object_object_get(o, "name")));
	for (unsigned i = 0; i < count; i++)
		local[i] =
			prefix_of(json_object_get_string(json_object_array_get_idx(prefixes, i)));
	world_open(&w, json_object_to_json_string(json_object_object_get(o, "rules")), local,
		   count);
	w.caps = json_object_object_get(o, "source_node_caps");
	for (size_t i = 0; i < json_object_array_length(steps); i++)
		run_step(&w, json_object_array_get_idx(steps, i));
	world_close(&w);
}

static void test_every_verdict_is_that_of_the_reference(void **state)
{
	struct json_object *file = json_object_from_file(VECTORS_DIR "/filter.json");
	struct json_object *cases = json_object_object_get(file, "cases");

	(void)state;
	assert_int_equal(json_object_array_length(cases), FILTERS_IN_VECTORS);
	for (size_t i = 0; i < json_object_array_length(cases); i++)
		run_case(json_object_array_get_idx(cases, i));
	json_object_put(file);
}

/* ---- packets made here ---- */

static const char me[] = "100.64.0.1", peer[] = "100.64.0.2";

static struct endpoint at(const char *ip, uint16_t port)
{
	struct endpoint ep = { .port = port };

	assert_int_equal(ip_parse(ip, &ep.addr), 0);
	return ep;
}

static size_t make(uint8_t *out, uint8_t protocol, struct endpoint src, struct endpoint dst,
		   uint8_t flags)
{
	uint8_t transport[20] = { 0 };
	size_t header;

	store_be16(transport, src.port);
	store_be16(transport + 2, dst.port);
	transport[12] = 0x50;
	transport[13] = flags;
	header = ip_header_write(out, &src.addr, &dst.addr, protocol, sizeof(transport), NULL);
	memcpy(out + header, transport, sizeof(transport));
	return header + sizeof(transport);
}

static const char all[] =
	"[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":65535}}]}]";

static void test_the_flow_used_longest_ago_is_forgotten(void **state)
{
	struct ip_prefix local = prefix_of("100.64.0.1/32");
	struct world w;
	uint8_t p[64];
	struct filter_stats stats;

	(void)state;
	world_open(&w, "[]", &local, 1);
	for (unsigned i = 0; i <= 512; i++) {
		struct endpoint from = at(me, (uint16_t)(10000 + i)), to = at(peer, 53);

		filter_flow_out(w.f, IP_PROTOCOL_UDP, &from, &to);
	}
	assert_int_equal(
		filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_UDP, at(peer, 53), at(me, 10000), 0)),
		FILTER_DROP_RULES);
	assert_int_equal(
		filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_UDP, at(peer, 53), at(me, 10001), 0)),
		FILTER_ACCEPT);
	/* Used just now, so that the next new one costs another. */
	filter_flow_out(w.f, IP_PROTOCOL_UDP, &(struct endpoint){ at(me, 1).addr, 1 },
			&(struct endpoint){ at(peer, 1).addr, 1 });
	assert_int_equal(
		filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_UDP, at(peer, 53), at(me, 10001), 0)),
		FILTER_ACCEPT);
	assert_int_equal(
		filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_UDP, at(peer, 53), at(me, 10002), 0)),
		FILTER_DROP_RULES);
	filter_get_stats(w.f, &stats);
	assert_int_equal(stats.flows, 512);
	assert_int_equal(stats.flows_evicted, 2);
	assert_int_equal(stats.in[FILTER_DROP_RULES], 2);
	world_close(&w);
}

static const void *peer_by_address(void *owner, const struct ip_addr *addr)
{
	const struct endpoint other = at(peer, 0);

	/* All but one address are one peer's. */
	return ip_equal(addr, &other.addr) ? owner : NULL;
}

/* Peer 100.64.9.0/24 asks us from everywhere, and we answer. */
static void test_a_greedy_peer_pushes_out_its_own_flows(void **state)
{
	struct ip_prefix local = prefix_of("100.64.0.1/32");
	const struct endpoint ours = at(me, 53), theirs = at(peer, 4000);
	struct filter_stats stats;
	struct world w;
	uint8_t p[64];

	(void)state;
	world_open(&w, "[]", &local, 1);
	filter_set_peers(w.f, peer_by_address, &w);
	filter_set_time(w.f, NS_PER_S);
	filter_flow_out(w.f, IP_PROTOCOL_UDP, &ours, &theirs);
	for (unsigned i = 0; i < 2000; i++) {
		struct endpoint from = { ip_from_v4(0x64400900 + i % 256), (uint16_t)(1 + i) };

		filter_flow_out(w.f, IP_PROTOCOL_UDP, &ours, &from);
	}
	assert_int_equal(filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_UDP, theirs, ours, 0)),
			 FILTER_ACCEPT);
	filter_get_stats(w.f, &stats);
	assert_int_equal(stats.flows, 512);
	assert_int_equal(stats.flows_evicted, 2000 + 1 - 512);
	assert_int_equal(stats.flows_over_share, 2000 + 1 - 512);
	world_close(&w);
}

static void test_flows_outlive_their_rules(void **state)
{
	struct ip_prefix local = prefix_of("100.64.0.1/32");
	const struct endpoint ours = at(me, 7), theirs = at(peer, 8);
	struct world w;
	uint8_t p[64];

	(void)state;
	world_open(&w, all, &local, 1);
	filter_flow_out(w.f, IP_PROTOCOL_UDP, &ours, &theirs);
	assert_int_equal(filter_set(w.f, NULL, 0, &local, 1), 0);
	assert_int_equal(
		filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_UDP, at(peer, 8), at(me, 7), 0)),
		FILTER_ACCEPT);
	assert_int_equal(
		filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_TCP, at(peer, 8), at(me, 7), TCP_SYN)),
		FILTER_DROP_RULES);
	assert_int_equal(
		filter_in(w.f, NULL, p, make(p, IP_PROTOCOL_TCP, at(peer, 8), at(me, 7), TCP_ACK)),
		FILTER_ACCEPT);
	world_close(&w);
}

static void test_a_jailed_peer_may_only_answer(void **state)
{
	struct ip_prefix local = prefix_of("100.64.0.1/32");
	struct filter_source jailed = { .is_jailed = true };
	const struct endpoint from = at(peer, 8), to = at(me, 7);
	struct world w;
	uint8_t p[64];
	size_t syn;

	(void)state;
	world_open(&w, all, &local, 1);
	syn = make(p, IP_PROTOCOL_TCP, from, to, TCP_SYN);
	assert_int_equal(filter_in(w.f, NULL, p, syn), FILTER_ACCEPT);
	assert_int_equal(filter_in(w.f, &jailed, p, syn), FILTER_DROP_RULES);
	filter_flow_out(w.f, IP_PROTOCOL_UDP, &to, &from);
	assert_int_equal(filter_in(w.f, &jailed, p, make(p, IP_PROTOCOL_UDP, from, to, 0)),
			 FILTER_ACCEPT);
	filter_set_shields_up(w.f, true);
	syn = make(p, IP_PROTOCOL_TCP, from, to, TCP_SYN);
	assert_int_equal(filter_in(w.f, NULL, p, syn), FILTER_DROP_RULES);
	filter_set_shields_up(w.f, false);
	assert_int_equal(filter_in(w.f, NULL, p, syn), FILTER_ACCEPT);
	world_close(&w);
}

static void test_without_a_map_nothing_comes_in(void **state)
{
	struct filter *f = filter_create(1, secret);
	uint8_t p[64];

	(void)state;
	assert_int_equal(
		filter_in(f, NULL, p, make(p, IP_PROTOCOL_TCP, at(peer, 8), at(me, 7), TCP_ACK)),
		FILTER_DROP_NOT_LOCAL);
	assert_int_equal(filter_in(f, NULL, p, 0), FILTER_ACCEPT); /* a keepalive */
	assert_int_equal(filter_in(f, NULL, p, 19), FILTER_DROP_MALFORMED);
	filter_destroy(f);
	filter_destroy(NULL);
}

static void test_rules_cannot_be_widened_by_entries_that_are_invalid(void **state)
{
	static const char *const invalid[] = {
		("[{\"SrcIPs\":[\"100.64.0.0/33\",\"::ffff:100.64.0.2\",\"1-2\",\"\"],"
		 "\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":65535}}]}]"),
		"[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":5,\"Last\":70000}}]}]",
		"[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":9,\"Last\":6}}]}]",
		"[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\"}]}]",
		"[{\"SrcIPs\":[\"*\"],\"IPProto\":6,\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":65535}}]}]",
		"[{\"SrcIPs\":[\"*\"],\"SrcBits\":[32],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":65535}}]}]",
		"[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Bits\":8,\"Ports\":{\"First\":0,\"Last\":65535}}]}]",
		"[{\"SrcIPs\":\"*\",\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":65535}}]}]",
		"[{\"SrcIPs\":[\"cap:\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":0,\"Last\":65535}}]}]",
		"[null,7,\"*\",[]]",
	};
	struct ip_prefix local = prefix_of("100.64.0.1/32");
	uint8_t p[64];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(invalid); i++) {
		struct world w;

		world_open(&w, invalid[i], &local, 1);
		assert_int_equal(
			filter_in(w.f, NULL, p,
				  make(p, IP_PROTOCOL_TCP, at(peer, 8), at(me, 7), TCP_SYN)),
			FILTER_DROP_RULES);
		assert_int_equal(filter_in(w.f, NULL, p,
					   make(p, IP_PROTOCOL_UDP, at(peer, 8), at(me, 7), 0)),
				 FILTER_DROP_RULES);
		world_close(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_verdict_is_that_of_the_reference),
		cmocka_unit_test(test_the_flow_used_longest_ago_is_forgotten),
		cmocka_unit_test(test_a_greedy_peer_pushes_out_its_own_flows),
		cmocka_unit_test(test_flows_outlive_their_rules),
		cmocka_unit_test(test_a_jailed_peer_may_only_answer),
		cmocka_unit_test(test_without_a_map_nothing_comes_in),
		cmocka_unit_test(test_rules_cannot_be_widened_by_entries_that_are_invalid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
