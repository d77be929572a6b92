/* Reports about relays and NATs, with answers by hand and a clock by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json.h>
#include <sodium.h>

#include "../wg/vectors.h"
#include "daemon/netmap/types.h"
#include "daemon/path/home.h"
#include "daemon/path/netcheck.h"
#include "daemon/path/netcheck_report.h"
#include "daemon/path/stun.h"
#include "shared/util.h"
#include "tests/unit/path/stun_relay.h"

#define SENT_MAX 64

struct bench {
	struct netcheck *nc;
	uint64_t now_ns;
	struct {
		struct endpoint to;
		uint8_t txid[STUN_TXID_LEN];
	} sent[SENT_MAX];
	unsigned sent_count, done, resolves, measures;
	uint64_t token[8];
	int measured_region[8];
	struct netcheck_report report;
	struct derp_node node[4];
	struct derp_region region[4];
	struct derp_map map;
};

static void probe(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len)
{
	struct bench *t = owner;

	assert_true(t->sent_count < SENT_MAX);
	t->sent[t->sent_count].to = *to;
	assert_int_equal(stun_parse_request(bytes, len, t->sent[t->sent_count++].txid), 0);
}

static void resolve(void *owner, const char *host, uint64_t token)
{
	struct bench *t = owner;

	assert_string_equal(host, "relay.example");
	t->token[t->resolves++ % 8] = token;
}

static void measure(void *owner, int region, uint64_t token)
{
	struct bench *t = owner;

	t->measured_region[t->measures % 8] = region;
	t->token[t->measures++ % 8] = token;
}

static void done(void *owner, const struct netcheck_report *report)
{
	struct bench *t = owner;

	t->done++;
	t->report = *report;
}

static int set_up(void **state)
{
	static const char *const address[] = { "198.51.100.1", "198.51.100.2", "198.51.100.3",
					       "198.51.100.4" };
	const struct netcheck_callbacks callbacks = { probe, resolve, measure, done };
	struct bench *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->now_ns = 1000 * NS_PER_S;
	for (int i = 0; i < 4; i++) {
		t->node[i] = (struct derp_node){ .host_name = "relay.example",
						 .cert_name = "",
						 .ipv4 = address[i],
						 .ipv6 = "none",
						 .stun_test_ip = "",
						 .region_id = i + 1 };
		t->region[i] = (struct derp_region){ .id = i + 1,
						     .code = "loop",
						     .name = "Loop",
						     .score = 1,
						     .nodes = &t->node[i],
						     .node_count = 1 };
	}
	t->map = (struct derp_map){ t->region, 4 };
	t->nc = netcheck_create(&callbacks, t);
	assert_non_null(t->nc);
	netcheck_set_connected(t->nc, true);
	*state = t;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *t = *state;

	netcheck_destroy(t->nc);
	free(t);
	return 0;
}

static void run(struct bench *t, uint64_t ns)
{
	uint64_t end_ns = t->now_ns + ns;

	while (netcheck_deadline(t->nc) <= end_ns) {
		t->now_ns = MAX(t->now_ns, netcheck_deadline(t->nc));
		netcheck_expire(t->nc, t->now_ns);
	}
	t->now_ns = end_ns;
}

static bool reply(struct bench *t, unsigned i, const char *mapped)
{
	uint8_t bytes[STUN_RESPONSE_MAX];
	struct endpoint ep;
	size_t len;

	assert_int_equal(endpoint_parse(mapped, &ep), 0);
	len = stun_make_response(t->sent[i].txid, &ep, bytes);
	return netcheck_received(t->nc, &t->sent[i].to, bytes, len, t->now_ns);
}

static void set_map(struct bench *t, unsigned regions)
{
	t->map.region_count = regions;
	assert_int_equal(netcheck_set_map(t->nc, &t->map), 0);
}

/* ---- ---- */

static void test_a_report_asks_every_region_and_ends_when_all_answered(void **state)
{
	struct bench *t = *state;

	set_map(t, 2);
	assert_int_equal(netcheck_start(t->nc, false, t->now_ns), 0);
	assert_int_equal(netcheck_start(t->nc, false, t->now_ns), -EALREADY);
	assert_int_equal(t->sent_count, 2);
	assert_int_equal(t->sent[0].to.port, 3478);
	run(t, 20 * NS_PER_MS);
	assert_true(reply(t, 1, "203.0.113.7:41641"));
	assert_false(reply(t, 1, "203.0.113.7:41641")); /* counts once */
	assert_int_equal(t->done, 0);
	run(t, 10 * NS_PER_MS);
	assert_true(reply(t, 0, "203.0.113.7:41641"));
	assert_int_equal(t->done, 1);
	assert_true(t->report.has_udp && t->report.has_ipv4 && t->report.is_full);
	assert_int_equal(t->report.mapping_varies, NETCHECK_NO);
	assert_int_equal(t->report.global_v4.port, 41641);
	assert_int_equal(t->report.preferred, 2);
	assert_int_equal(t->report.region_count, 2);
	assert_int_equal(netcheck_home(t->nc), 2);
}

static void test_different_mappings_are_a_hard_nat(void **state)
{
	struct bench *t = *state;

	set_map(t, 2);
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 20 * NS_PER_MS);
	reply(t, 0, "203.0.113.7:1000");
	reply(t, 1, "203.0.113.7:1001");
	assert_int_equal(t->report.mapping_varies, NETCHECK_YES);
	assert_int_equal(t->report.v4_count, 2);
}

static void test_one_server_alone_cannot_tell_how_a_nat_maps(void **state)
{
	struct bench *t = *state;

	set_map(t, 1);
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 20 * NS_PER_MS);
	reply(t, 0, "203.0.113.7:1000");
	assert_int_equal(t->done, 1);
	assert_int_equal(t->report.mapping_varies, NETCHECK_UNKNOWN);
}

static void test_lost_probes_are_sent_again_and_three_seconds_are_the_end(void **state)
{
	struct bench *t = *state;

	set_map(t, 2);
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 250 * NS_PER_MS);
	assert_int_equal(t->sent_count, 6);
	reply(t, 2, "203.0.113.7:1000");
	run(t, 2700 * NS_PER_MS);
	assert_int_equal(t->done, 0);
	run(t, 100 * NS_PER_MS);
	assert_int_equal(t->done, 1);
	assert_int_equal(t->sent_count, 6);
}

static void test_three_answers_do_not_wait_long_for_a_fourth(void **state)
{
	struct bench *t = *state;

	set_map(t, 4);
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 50 * NS_PER_MS);
	for (unsigned i = 0; i < 3; i++)
		reply(t, i, "203.0.113.7:1000");
	assert_int_equal(t->done, 0);
	run(t, 110 * NS_PER_MS);
	assert_int_equal(t->done, 1);
}

static void test_without_udp_the_regions_are_measured_over_https(void **state)
{
	struct bench *t = *state;

	set_map(t, 2);
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 3 * NS_PER_S);
	assert_int_equal(t->measures, 2);
	netcheck_measured(t->nc, t->token[0], 80 * NS_PER_MS, t->now_ns);
	netcheck_measured(t->nc, t->token[0], 1, t->now_ns);
	assert_int_equal(t->done, 0);
	netcheck_measured(t->nc, t->token[1], 0, t->now_ns);
	assert_int_equal(t->done, 1);
	assert_false(t->report.has_udp);
	assert_int_equal(t->report.preferred, 1);
	/* Nobody answers at all: five seconds, home stays. */
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 6 * NS_PER_S);
	assert_int_equal(t->done, 2);
	assert_int_equal(t->report.preferred, 1);
}

static void test_names_are_looked_up_and_probed_when_known(void **state)
{
	struct bench *t = *state;
	struct ip_addr found = ip_from_v4(0xc6336409);

	t->node[0].ipv4 = "";
	set_map(t, 1);
	netcheck_start(t->nc, true, t->now_ns);
	assert_int_equal(t->resolves, 1);
	assert_int_equal(t->sent_count, 0);
	run(t, 100 * NS_PER_MS);
	netcheck_resolved(t->nc, t->token[0] + 7, &found, 1, t->now_ns);
	netcheck_resolved(t->nc, t->token[0], &found, 1, t->now_ns);
	run(t, 0);
	assert_int_equal(t->sent_count, 1);
	assert_true(ip_equal(&t->sent[0].to.addr, &found));
	reply(t, 0, "203.0.113.7:1000");
	assert_int_equal(t->done, 1);
}

static void test_a_name_that_does_not_exist_ends_in_https(void **state)
{
	struct bench *t = *state;

	t->node[0].ipv4 = "";
	set_map(t, 1);
	netcheck_start(t->nc, true, t->now_ns);
	netcheck_resolved(t->nc, t->token[0], NULL, 0, t->now_ns);
	run(t, 3 * NS_PER_S);
	assert_int_equal(t->measures, 1);
}

static void test_a_quick_report_asks_few(void **state)
{
	struct bench *t = *state;

	set_map(t, 4);
	netcheck_start(t->nc, true, t->now_ns);
	for (unsigned i = 0; i < 4; i++) {
		run(t, 10 * NS_PER_MS);
		reply(t, i, "203.0.113.7:1000");
	}
	run(t, NS_PER_S);
	assert_int_equal(t->done, 1);
	t->sent_count = 0;
	t->now_ns += 20 * NS_PER_S;
	netcheck_start(t->nc, false, t->now_ns);
	assert_int_equal(t->sent_count, 3);
	run(t, 10 * NS_PER_MS);
	for (unsigned i = 0; i < 3; i++)
		reply(t, i, "203.0.113.7:1000");
	assert_int_equal(t->done, 2);
	assert_false(t->report.is_full);
	assert_int_equal(t->report.mapping_varies, NETCHECK_NO);
}

static void test_a_new_map_or_network_ends_what_runs(void **state)
{
	struct bench *t = *state;

	assert_int_equal(netcheck_start(t->nc, true, t->now_ns), -ENOENT);
	set_map(t, 2);
	netcheck_start(t->nc, true, t->now_ns);
	set_map(t, 1);
	assert_false(netcheck_is_running(t->nc));
	assert_false(reply(t, 0, "203.0.113.7:1000"));
	netcheck_start(t->nc, true, t->now_ns);
	netcheck_network_changed(t->nc);
	assert_false(reply(t, 2, "203.0.113.7:1000"));
	assert_int_equal(t->done, 0);
	assert_true(netcheck_deadline(t->nc) == NEVER_NS);
	t->node[0].stun_port = -1;
	set_map(t, 1);
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 6 * NS_PER_S);
	assert_int_equal(t->done, 1);
}

/* ---- home ---- */

static struct home_region region_of(int id, unsigned ms, uint64_t now_ns)
{
	struct home_region r = { .id = id, .score = 1 };

	if (ms)
		home_region_measured(&r, ms * NS_PER_MS, now_ns);
	return r;
}

static void test_home_changes_only_for_a_clear_gain(void **state)
{
	uint64_t now_ns = 1000 * NS_PER_S;
	struct home_region r[2] = { region_of(1, 100, now_ns), region_of(2, 70, now_ns) };

	(void)state;
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns), 1); /* more than 2/3 */
	assert_int_equal(home_choose(r, 2, 0, false, 0, now_ns), 2);
	r[1] = region_of(2, 60, now_ns);
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns), 2);
	r[0] = region_of(1, 12, now_ns);
	r[1] = region_of(2, 3, now_ns);
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns), 1); /* less than 10 ms */
	r[1].score = 10;
	assert_int_equal(home_choose(r, 2, 0, false, 0, now_ns), 1);
	r[1].score = -5; /* nonsense counts as 1 */
	assert_int_equal(home_choose(r, 2, 0, false, 0, now_ns), 2);
}

static void test_home_is_kept_while_its_relay_is_heard(void **state)
{
	uint64_t now_ns = 1000 * NS_PER_S;
	struct home_region r[2] = { region_of(1, 0, now_ns), region_of(2, 5, now_ns) };

	(void)state;
	assert_int_equal(home_choose(r, 2, 1, true, 0, now_ns), 1);
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns), 2);
	/* Six minutes later nothing is known any more. */
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns + 360 * NS_PER_S), 1);
}

static void test_home_without_data_is_any_that_may_be(void **state)
{
	struct home_region r[3] = { region_of(1, 0, 1), region_of(2, 0, 1), region_of(3, 0, 1) };

	(void)state;
	r[0].avoid = true;
	r[1].no_measure_no_home = true;
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(home_choose(r, 3, 0, false, i, NS_PER_S), 3);
	assert_int_equal(home_choose(r, 2, 0, false, 0, NS_PER_S), 0);
	assert_int_equal(home_choose(r, 2, 1, false, 0, NS_PER_S), 1);
}

static void test_a_lost_home_gives_way_to_any_that_answers(void **state)
{
	uint64_t now_ns = 1000 * NS_PER_S;
	struct home_region r[3] = { region_of(1, 5, now_ns), region_of(2, 200, now_ns),
				    region_of(3, 0, now_ns) };

	(void)state;
	home_region_lost(&r[0], now_ns);
	/* However near its host is, and however lately it was heard. */
	assert_int_equal(home_choose(r, 3, 1, true, 0, now_ns), 2);
	/* It does not come back soon, */
	assert_int_equal(home_choose(r, 3, 2, false, 0, now_ns + 200 * NS_PER_S), 2);
	/* but it does when that is over, or its relay was connected. */
	home_region_measured(&r[0], 5 * NS_PER_MS, now_ns + 301 * NS_PER_S);
	home_region_measured(&r[1], 200 * NS_PER_MS, now_ns + 301 * NS_PER_S);
	assert_int_equal(home_choose(r, 3, 2, false, 0, now_ns + 301 * NS_PER_S), 1);
	/* The second time it is avoided for longer. */
	home_region_lost(&r[0], now_ns + 301 * NS_PER_S);
	assert_int_equal(home_choose(r, 3, 2, false, 0, now_ns + 602 * NS_PER_S), 2);
}

static void test_a_lost_home_stays_when_nobody_else_answers(void **state)
{
	uint64_t now_ns = 1000 * NS_PER_S;
	struct home_region r[2] = { region_of(1, 5, now_ns), region_of(2, 0, now_ns) };

	(void)state;
	home_region_lost(&r[0], now_ns);
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns), 1);
	r[1].is_up = true; /* a connection is an answer, too */
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns), 2);
	r[1].no_measure_no_home = true;
	assert_int_equal(home_choose(r, 2, 1, false, 0, now_ns), 1);
}

static void test_home_never_changes_without_control(void **state)
{
	struct bench *t = *state;

	set_map(t, 2);
	netcheck_set_connected(t->nc, false);
	for (unsigned n = 0; n < 2; n++) {
		unsigned first = t->sent_count;

		netcheck_start(t->nc, true, t->now_ns);
		run(t, 10 * NS_PER_MS);
		reply(t, first + n, "203.0.113.7:1000");
		run(t, 60 * NS_PER_MS);
		reply(t, first + 1 - n, "203.0.113.7:1000");
		run(t, 4 * NS_PER_S);
		t->now_ns += 400 * NS_PER_S;
		assert_int_equal(netcheck_home(t->nc), 1);
	}
	assert_int_equal(t->done, 2);
}

/* ---- the report as JSON ---- */

static void test_json_has_the_recorded_keys_in_order(void **state)
{
	struct json_object *all = vectors_load("json_shapes.json");
	struct json_object *want = vectors_get(all, "netcheck_report_json"), *got;
	struct bench *t = *state;
	struct json_object_iterator a, b, end;

	t->report.has_udp = t->report.has_ipv4 = t->report.can_send_ipv4 = true;
	t->report.os_has_ipv6 = true;
	t->report.mapping_varies = NETCHECK_NO;
	t->report.preferred = 900;
	assert_int_equal(endpoint_parse("192.0.2.1:41641", &t->report.global_v4), 0);
	got = netcheck_report_json(&t->report, 1767225600, 0);
	assert_non_null(got);
	a = json_object_iter_begin(want);
	end = json_object_iter_end(want);
	b = json_object_iter_begin(got);
	while (!json_object_iter_equal(&a, &end)) {
		assert_string_equal(json_object_iter_peek_name(&a), json_object_iter_peek_name(&b));
		json_object_iter_next(&a);
		json_object_iter_next(&b);
	}
	assert_true(json_object_equal(want, got));
	assert_int_equal(netcheck_report_add_regions(got, &t->map), 0);
	assert_string_equal(vectors_text(got, "Regions/1/Code"), "loop");
	json_object_put(got);
	json_object_put(all);
}

static void test_json_tells_latencies_counters_and_unknowns(void **state)
{
	struct bench *t = *state;
	struct json_object *o, *none;

	set_map(t, 1);
	netcheck_start(t->nc, true, t->now_ns);
	run(t, 20 * NS_PER_MS);
	reply(t, 0, "203.0.113.7:1000");
	o = netcheck_report_json(&t->report, 1767225600, 120000000);
	assert_non_null(o);
	assert_string_equal(vectors_text(o, "Now"), "2026-01-01T00:00:00.12Z");
	assert_int_equal(vectors_number(o, "RegionLatency/1"), 20 * NS_PER_MS);
	assert_int_equal(vectors_number(o, "GlobalV4Counters/203.0.113.7:1000"), 1);
	assert_true(json_object_object_get_ex(o, "MappingVariesByDestIP", &none) && !none);
	assert_true(json_object_object_get_ex(o, "RegionV6Latency", &none) && !none);
	json_object_put(o);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_a_report_asks_every_region_and_ends_when_all_answered),
		T(test_different_mappings_are_a_hard_nat),
		T(test_one_server_alone_cannot_tell_how_a_nat_maps),
		T(test_lost_probes_are_sent_again_and_three_seconds_are_the_end),
		T(test_three_answers_do_not_wait_long_for_a_fourth),
		T(test_without_udp_the_regions_are_measured_over_https),
		T(test_names_are_looked_up_and_probed_when_known),
		T(test_a_name_that_does_not_exist_ends_in_https),
		T(test_a_quick_report_asks_few),
		T(test_a_new_map_or_network_ends_what_runs),
		T(test_home_changes_only_for_a_clear_gain),
		T(test_home_is_kept_while_its_relay_is_heard),
		T(test_a_lost_home_gives_way_to_any_that_answers),
		T(test_a_lost_home_stays_when_nobody_else_answers),
		T(test_home_without_data_is_any_that_may_be),
		T(test_home_never_changes_without_control),
		T(test_json_has_the_recorded_keys_in_order),
		T(test_json_tells_latencies_counters_and_unknowns),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
