/* What changed, who is found, and what a hostile server cannot do. */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common.h"
#include "daemon/netmap/status.h"
#include "shared/util.h"

#define SELF                                                                                 \
	"\"Node\":{\"ID\":1,\"Name\":\"me.t.example.\",\"Key\":\"nodekey:"                   \
	"00000000000000000000000000000000000000000000000000000000000000ff\",\"Addresses\":[" \
	"\"100.64.0.1/32\"]}"
#define KEY(n) "nodekey:000000000000000000000000000000000000000000000000000000000000000" #n
#define PEER(n, rest)                                                        \
	"{\"ID\":" #n ",\"Name\":\"p" #n                                     \
	".t.example.\",\"Key\":\"" KEY(n) "\",\"Addresses\":[\"100.64.0." #n \
					  "/32\",\"fd7a:115c:a1e0::" #n "/128\"]" rest "}"

static struct netmap *open_map(const char *peers)
{
	struct netmap *nm = netmap_create();
	char *message;

	assert_non_null(nm);
	assert_true(asprintf(&message, "{" SELF ",\"Domain\":\"t.example\",\"Peers\":[%s]}",
			     peers) > 0);
	apply_text(nm, message, NULL);
	free(message);
	return nm;
}

static unsigned accepted(const struct netmap *nm, int64_t id, bool routes)
{
	struct ip_prefix out[1024];

	return netmap_node_accepted(nm, netmap_peer_by_id(nm, id), routes, out);
}

static void test_the_first_message_must_tell_who_we_are(void **state)
{
	struct netmap *nm = netmap_create();
	size_t len;
	char *json = netmap_export(nm, &len);

	(void)state;
	assert_string_equal(json, "{}");
	free(json);
	assert_int_equal(try_text(nm, "{\"KeepAlive\":true}"), 0);
	assert_int_equal(try_text(nm, "{\"Peers\":[]}"), -EINVAL);
	assert_int_equal(try_text(nm, "{\"Node\":{\"ID\":1,\"Key\":\"nodekey:xx\"}}"), -EINVAL);
	assert_int_equal(try_text(nm, "{" SELF "} x"), -EINVAL);
	assert_int_equal(try_text(nm, "[]"), -EINVAL);
	assert_int_equal(try_text(nm, ""), -EINVAL);
	assert_int_equal(try_text(nm, "{" SELF), -EINVAL);
	assert_int_equal(try_text(nm, "{" SELF ",\"Domain\":\"\xff\"}"), -EINVAL);
	assert_int_equal(try_text(nm, "{" SELF ",\"KeepAliveS\":1e}"), -EINVAL);
	assert_int_equal(try_text(nm, "{" SELF ",\"Domain\":'x'}"), -EINVAL);
	assert_null(netmap_self(nm));
	assert_int_equal(try_text(nm, "{" SELF "}\n"), 0);
	assert_non_null(netmap_self(nm));
	netmap_destroy(nm);
	netmap_destroy(NULL);
}

static void test_a_new_stream_replaces_everything(void **state)
{
	struct netmap *nm = open_map(PEER(2, "") "," PEER(3, ""));
	struct netmap_changes changes;

	(void)state;
	apply_text(nm, "{\"PacketFilter\":[{\"SrcIPs\":[\"*\"]}]}", NULL);
	netmap_stream_started(nm);
	assert_int_equal(netmap_peer_count(nm), 2); /* the old map stands until then */
	apply_text(nm, "{" SELF ",\"Peers\":[" PEER(3, "") "]}", &changes);
	assert_false(changes.self);
	assert_true(changes.filter);
	assert_int_equal(changes.added.count, 0);
	assert_int_equal(changes.changed.count, 0);
	assert_int_equal(changes.removed.count, 1);
	assert_int_equal(changes.removed.id[0], 2);
	netmap_changes_finish(&changes);
	netmap_stream_started(nm);
	apply_text(nm, "{" SELF "}", &changes);
	assert_int_equal(changes.removed.count, 1);
	assert_int_equal(netmap_peer_count(nm), 0);
	netmap_changes_finish(&changes);
	netmap_destroy(nm);
}

static void test_only_what_differs_is_reported(void **state)
{
	struct netmap *nm = open_map(PEER(2, "") "," PEER(3, ""));
	const struct netmap_node *two = netmap_peer_by_id(nm, 2);
	struct netmap_changes changes;

	(void)state;
	apply_text(nm,
		   "{\"PeersChanged\":[" PEER(2, "") "," PEER(3, ",\"Online\":true") "," PEER(
			   4, "") "]}",
		   &changes);
	assert_ptr_equal(netmap_peer_by_id(nm, 2), two);
	assert_int_equal(changes.changed.count, 1);
	assert_int_equal(changes.changed.id[0], 3);
	assert_int_equal(changes.added.count, 1);
	assert_int_equal(changes.added.id[0], 4);
	assert_int_equal(changes.removed.count, 0);
	netmap_changes_finish(&changes);
	/* Removed and there again: nothing happened. */
	apply_text(nm, "{\"PeersRemoved\":[2],\"PeersChanged\":[" PEER(2, "") "]}", &changes);
	assert_int_equal(changes.added.count + changes.changed.count + changes.removed.count, 0);
	netmap_changes_finish(&changes);
	/* A patch for one that the same message brought. */
	apply_text(nm,
		   "{\"PeersChanged\":[" PEER(
			   5, "") "],\"PeersChangedPatch\":[{\"NodeID\":5,\"Cap\":9},"
				  "{\"NodeID\":1,\"Cap\":9},7]}",
		   &changes);
	assert_int_equal(changes.added.count, 1);
	assert_int_equal(changes.ignored, 1);
	assert_int_equal(netmap_peer_by_id(nm, 5)->cap_version, 9);
	netmap_changes_finish(&changes);
	netmap_destroy(nm);
}

/* Names and mirrors are written anew then, which thousands of peers make dear. */
static void test_it_is_told_whether_anybody_looks_different(void **state)
{
	static const struct {
		const char *message;
		bool expected;
	} steps[] = {
		{ "{\"PeersChangedPatch\":[{\"NodeID\":2,\"Endpoints\":[\"192.0.2.1:1\"]}]}",
		  false },
		{ "{\"OnlineChange\":{\"2\":true,\"3\":false}}", false },
		{ "{\"PeerSeenChange\":{\"2\":true}}", false },
		{ "{\"PeersChanged\":[" PEER(2, ",\"Name\":\"a.t.example.\"") "]}", true },
		{ "{\"PeersChanged\":[" PEER(2, ",\"Name\":\"a.t.example.\",\"HomeDERP\":7") "]}",
		  false },
		{ "{\"PeersChanged\":[" PEER(2, ",\"Name\":\"b.t.example.\"") "]}", true },
		{ "{\"PeersChangedPatch\":[{\"NodeID\":2,\"CapMap\":{\"x\":null}}]}", true },
		{ "{\"PeersChanged\":[" PEER(3, ",\"AllowedIPs\":[\"10.1.0.0/16\"]") "]}", true },
		{ "{\"PeersChanged\":[" PEER(3, ",\"Expired\":true") "]}", true },
		{ "{\"PeersRemoved\":[3]}", true },
		{ "{\"PeersRemoved\":[3]}", false },
		{ "{\"PeersChanged\":[" PEER(3, "") "]}", true },
	};
	struct netmap *nm = open_map(PEER(2, "") "," PEER(3, ""));
	struct netmap_changes changes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		apply_text(nm, steps[i].message, &changes);
		if (changes.faces != steps[i].expected)
			fail_msg("step %zu", i);
		netmap_changes_finish(&changes);
	}
	netmap_destroy(nm);
}

static void test_we_are_no_peer_even_when_given_a_peers_number(void **state)
{
	struct netmap *nm = open_map(PEER(2, "") "," PEER(3, ""));
	struct netmap_changes changes;

	(void)state;
	apply_text(nm, "{\"Node\":" PEER(2, "") "}", &changes);
	assert_true(changes.self);
	assert_int_equal(changes.removed.count, 1);
	assert_int_equal(changes.removed.id[0], 2);
	assert_int_equal(netmap_peer_count(nm), 1);
	assert_null(netmap_peer_by_id(nm, 2));
	netmap_changes_finish(&changes);
	netmap_destroy(nm);
}

static void test_a_prefix_belongs_to_one_peer(void **state)
{
	struct netmap *nm = open_map(
		PEER(2, ",\"AllowedIPs\":[\"100.64.0.2/32\",\"100.64.0.3/32\",\"10.0.0.0/16\"]") "," PEER(
			3, "") "," PEER(4, ",\"AllowedIPs\":[\"100.64.0.4/32\",\"10.0.0.0/16\"]"));
	struct netmap_changes changes;

	(void)state;
	assert_int_equal(accepted(nm, 2, false), 1);
	assert_int_equal(accepted(nm, 2, true), 2); /* not the address of 3 */
	assert_int_equal(accepted(nm, 3, true), 2);
	assert_int_equal(accepted(nm, 4, true), 1);
	/* Who comes after it is told when the first one goes. */
	apply_text(nm, "{\"PeersRemoved\":[2]}", &changes);
	assert_int_equal(changes.changed.count, 2);
	assert_int_equal(accepted(nm, 4, true), 2);
	netmap_changes_finish(&changes);
	netmap_destroy(nm);
}

static void test_keys_that_are_zero_or_taken_are_not_believed(void **state)
{
	struct netmap *nm = open_map("{\"ID\":2,\"Key\":\"" KEY(
		0) "\",\"Addresses\":[\"100.64.0.2/32\"]},"
		   "{\"ID\":3,\"Key\":\"" KEY(
			   5) "\",\"Addresses\":[\"100.64.0.3/32\"]},"
			      "{\"ID\":4,\"Key\":\"" KEY(
				      5) "\",\"Addresses\":[\"100.64.0.4/32\"]},"
					 "{\"ID\":6,\"Key\":\"nodekey:"
					 "00000000000000000000000000000000000000000000000000000000000000ff\","
					 "\"Addresses\":[\"100.64.0.6/32\"]},"
					 "{\"ID\":7,\"Key\":\"nodekey:7\",\"Addresses\":[\"100.64.0.7/32\"]},"
					 "{\"ID\":0,\"Key\":\"" KEY(8) "\"}," PEER(
						 9,
						 ",\"Expired\":true") "," PEER(8,
									       ",\"UnsignedPeerAPIOnly\":true"));

	(void)state;
	assert_int_equal(netmap_peer_count(nm), 6);
	assert_int_equal(accepted(nm, 2, true), 0);
	assert_int_equal(accepted(nm, 3, true), 1);
	assert_int_equal(accepted(nm, 4, true), 0);
	assert_int_equal(accepted(nm, 6, true), 0);
	assert_int_equal(accepted(nm, 8, true), 0);
	assert_int_equal(accepted(nm, 9, true), 0);
	netmap_destroy(nm);
}

static void test_a_peer_cannot_have_what_is_not_the_meshs(void **state)
{
	static const char *const refused[] = {
		"0.0.0.0/0",
		"::/0",
		"0.0.0.0/1",
		"128.0.0.0/1",
		"127.0.0.0/8",
		"127.0.0.1/32",
		"169.254.0.0/16",
		"169.254.169.254/32",
		"224.0.0.0/4",
		"255.255.255.255/32",
		"fe80::/10",
		"fe80::1/128",
		"ff02::1/128",
		"::1/128",
		"100.64.0.1/32",
		"100.100.100.100/32",
		"2000::/3",
		"fd7a:115c:a1e0::53/128",
		"::ffff:10.0.0.0/104",
		"10.0.0.0/33",
		"10.0.0.0",
		"0.0.0.0/32",
		"168.0.0.0/7",
		"169.0.0.0/8",
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
		char peer[512];
		struct netmap *nm;

		snprintf(
			peer, sizeof(peer),
			"{\"ID\":2,\"Key\":\"" KEY(
				2) "\",\"Addresses\":[\"%s\"],\"AllowedIPs\":[\"%s\",\"10.9.0.0/16\"]}",
			refused[i], refused[i]);
		nm = open_map(peer);
		if (accepted(nm, 2, true) != 1 || accepted(nm, 2, false) != 0)
			fail_msg("%s is accepted", refused[i]);
		netmap_destroy(nm);
	}
}

static void test_names_are_host_names_or_nothing(void **state)
{
	static const struct {
		const char *given, *taken;
	} names[] = {
		{ "A.t.Example.", "a.t.example" },
		{ "localhost.", "" },
		{ "localhost.t.example.", "" },
		{ "x.localhost", "" },
		{ "localhosts.t.example", "localhosts.t.example" },
		{ "a..b", "" },
		{ ".", "" },
		{ "a b.t.example", "" },
		{ "a\\u0000b", "" },
		{ "a\\nb", "" },
		{ "..", "" },
		{ "b\\u00fc.t.example", "" },
		{ "under_score.x", "under_score.x" },
	};
	char label[80], peer[512];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		struct netmap *nm;

		snprintf(peer, sizeof(peer), "{\"ID\":2,\"Key\":\"" KEY(2) "\",\"Name\":\"%s\"}",
			 names[i].given);
		nm = open_map(peer);
		assert_string_equal(netmap_peer_at(nm, 0)->name, names[i].taken);
		netmap_destroy(nm);
	}
	for (size_t len = 63; len <= 64; len++) {
		struct netmap *nm;

		memset(label, 'x', len);
		label[len] = '\0';
		snprintf(peer, sizeof(peer), "{\"ID\":2,\"Key\":\"" KEY(2) "\",\"Name\":\"%s.t\"}",
			 label);
		nm = open_map(peer);
		assert_int_equal(strlen(netmap_peer_at(nm, 0)->name), len == 63 ? 65 : 0);
		netmap_destroy(nm);
	}
}

static void test_texts_cannot_steer_a_terminal(void **state)
{
	struct netmap *nm = open_map("{\"ID\":2,\"Key\":\"" KEY(
		2) "\",\"Hostinfo\":{\"Hostname\":\"a\\u001b[2J\\u0000\\u009bx\"}}");

	(void)state;
	assert_string_equal(netmap_peer_at(nm, 0)->host_name, "a?[2J???x");
	netmap_destroy(nm);
}

static void test_an_expired_key_is_seen_by_the_servers_clock(void **state)
{
	struct netmap *nm = open_map(PEER(2, ",\"KeyExpiry\":\"2026-11-18T10:00:00Z\"") "," PEER(
		3, ",\"KeyExpiry\":\"0001-01-01T00:00:00Z\""));
	const struct netmap_node *n = netmap_peer_by_id(nm, 2);
	const int64_t expiry = n->key_expiry;

	(void)state;
	assert_int_equal(expiry, 1794996000);
	assert_false(netmap_node_is_expired(nm, n, expiry - 1));
	assert_true(netmap_node_is_expired(nm, n, expiry));
	assert_int_equal(netmap_next_expiry_s(nm, expiry - 5), expiry);
	assert_int_equal(netmap_next_expiry_s(nm, expiry), INT64_MAX);
	assert_false(netmap_node_is_expired(nm, n, 1000)); /* a clock that was never set */
	/* WALL_S is 2026-11-18T11:06:40Z; the server is an hour and more behind. */
	apply_text(nm, "{\"ControlTime\":\"2026-11-18T09:06:40.5Z\"}", NULL);
	assert_false(netmap_node_is_expired(nm, n, expiry + 7199));
	assert_true(netmap_node_is_expired(nm, n, expiry + 7200));
	apply_text(nm, "{\"ControlTime\":\"2026-11-18T11:07:00Z\"}", NULL);
	/* Seconds between the two are nothing: our own clock counts again. */
	assert_false(netmap_node_is_expired(nm, n, expiry - 1));
	assert_true(netmap_node_is_expired(nm, n, expiry));
	assert_int_equal(netmap_next_expiry_s(nm, expiry - 1), expiry);
	assert_false(netmap_node_is_expired(nm, netmap_peer_by_id(nm, 3), expiry));
	netmap_destroy(nm);
}

static void test_ranges_are_what_they_say_or_nothing(void **state)
{
	static const struct {
		const char *text, *first, *last;
	} good[] = {
		{ "100.64.0.1", "100.64.0.1", "100.64.0.1" },
		{ "100.64.0.0/10", "100.64.0.0", "100.127.255.255" },
		{ "0.0.0.0/0", "0.0.0.0", "255.255.255.255" },
		{ "10.0.0.5-10.0.1.2", "10.0.0.5", "10.0.1.2" },
		{ "10.0.0.5-10.0.0.5", "10.0.0.5", "10.0.0.5" },
		{ "fd7a:115c:a1e0::/48",
		  "fd7a:115c:a1e0::", "fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff" },
		{ "fd00::1-fd00::f", "fd00::1", "fd00::f" },
	};
	static const char *const bad[] = { "",
					   "host",
					   "100.64.0.1/10",
					   "fd00::1/64",
					   "10.0.0.0/33",
					   "10.0.0.0/",
					   "/8",
					   "10.0.0.2-10.0.0.1",
					   "10.0.0.1-fd00::1",
					   "10.0.0.1-",
					   "-10.0.0.1",
					   "10.0.0.1-10.0.0.2-10.0.0.3",
					   "fd00::2-10.0.0.255" };
	struct netmap_range range[2];
	struct ip_addr first, last;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(netmap_range_parse(good[i].text, range), 1);
		assert_int_equal(ip_parse(good[i].first, &first) | ip_parse(good[i].last, &last),
				 0);
		assert_true(ip_equal(&range[0].first, &first) && ip_equal(&range[0].last, &last));
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (netmap_range_parse(bad[i], range) != 0)
			fail_msg("\"%s\" is taken", bad[i]);
	assert_int_equal(netmap_range_parse("*", range), 2);
}

static void test_more_peers_than_the_bound_are_ignored(void **state)
{
	char *message = NULL;
	size_t len;
	FILE *f = open_memstream(&message, &len);
	struct netmap *nm = netmap_create();
	struct netmap_changes changes;

	(void)state;
	fprintf(f, "{" SELF ",\"Peers\":[");
	for (unsigned i = 0; i < NETMAP_PEERS_MAX + 10; i++)
		fprintf(f, "%s{\"ID\":%u,\"Key\":\"nodekey:%064x\",\"Name\":\"same.t\"}",
			i ? "," : "", i + 2, i + 1000);
	fprintf(f, "]}");
	fclose(f);
	apply_text(nm, message, &changes);
	assert_int_equal(netmap_peer_count(nm), NETMAP_PEERS_MAX);
	assert_int_equal(changes.ignored, 10);
	assert_int_equal(netmap_node_by_name(nm, "Same.t.")->id, 2);
	netmap_changes_finish(&changes);
	free(message);
	netmap_destroy(nm);
}

#define MANY        2500u
#define SAME_ROUTES 60u

/* Peers with keys from first_key on; the same routes for all, or each its own. */
static char *routers(unsigned first_key, bool is_same)
{
	char *json = NULL;
	size_t len;
	FILE *f = open_memstream(&json, &len);

	fprintf(f, "{\"Node\":{\"ID\":1,\"Name\":\"me.\",\"Key\":\"nodekey:%064x\"},\"Peers\":[",
		1 << 20);
	for (unsigned i = 0; i < MANY; i++) {
		fprintf(f, "%s{\"ID\":%u,\"Key\":\"nodekey:%064x\",\"AllowedIPs\":[", i ? "," : "",
			i + 2, first_key + i);
		for (unsigned k = 0; k < SAME_ROUTES; k++)
			fprintf(f, "%s\"fd00:%x:%x::/48\"", k ? "," : "", is_same ? 0 : i, k);
		fputs("]}", f);
	}
	fputs("]}", f);
	fclose(f);
	return json;
}

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Two whole maps, of which the second changes every peer. */
static double seconds_for_routers(bool is_same)
{
	struct netmap *nm = netmap_create();
	double took = 0;

	for (unsigned round = 0; round < 2; round++) {
		char *json = routers(1 + round * MANY, is_same);
		double start = cpu_s();
		unsigned count = 0;

		netmap_stream_started(nm);
		apply_text(nm, json, NULL);
		for (unsigned i = 0; i < MANY; i++)
			count += accepted(nm, i + 2, true);
		took += cpu_s() - start;
		assert_int_equal(count, SAME_ROUTES * (is_same ? 1 : MANY));
		assert_int_equal(accepted(nm, 2, true), SAME_ROUTES);
		free(json);
	}
	netmap_destroy(nm);
	return took;
}

static void test_routes_that_all_peers_announce_cost_no_more(void **state)
{
	double own, same;

	(void)state;
#ifdef M_PERTURB
	/* With meson glibc writes over all of a large free block whenever json-c takes some of it.
	 */
	mallopt(M_PERTURB, 0);
#endif
	own = seconds_for_routers(false);
	same = seconds_for_routers(true);
	if (same > 4 * own)
		fail_msg("%.2f s, with routes of their own %.2f s", same, own);
}

static void test_names_and_addresses_find_the_node(void **state)
{
	struct netmap *nm =
		open_map(PEER(2, ",\"Hostinfo\":{\"Hostname\":\"Box\"}") "," PEER(3, ""));

	(void)state;
	assert_int_equal(status_find_node(nm, "p2")->id, 2);
	assert_int_equal(status_find_node(nm, "P2.t.example.")->id, 2);
	assert_int_equal(status_find_node(nm, "100.64.0.3")->id, 3);
	assert_int_equal(status_find_node(nm, "100.64.0.3:80")->id, 3);
	assert_int_equal(status_find_node(nm, "[fd7a:115c:a1e0::3]:80")->id, 3);
	assert_int_equal(status_find_node(nm, "box")->id, 2);
	assert_int_equal(status_find_node(nm, "me")->id, 1);
	assert_null(status_find_node(nm, "nobody"));
	assert_null(status_find_node(nm, ""));
	assert_null(status_find_node(nm, "100.64.0.9"));
	/* After a rename the old name is nobody's. */
	apply_text(nm,
		   "{\"PeersChanged\":[{\"ID\":3,\"Name\":\"new.t.example.\",\"Key\":\"" KEY(
			   3) "\",\"Addresses\":[\"100.64.0.33/32\"]}]}",
		   NULL);
	assert_null(status_find_node(nm, "p3"));
	assert_null(status_find_node(nm, "100.64.0.3"));
	assert_int_equal(status_find_node(nm, "new")->id, 3);
	netmap_destroy(nm);
}

static void test_health_is_the_list_and_the_messages(void **state)
{
	struct netmap *nm = open_map("");
	struct netmap_changes changes;
	unsigned count;

	(void)state;
	apply_text(
		nm,
		"{\"Health\":[\"one\"],\"DisplayMessages\":{\"a\":{\"Title\":\"T\",\"Text\":\"x\"},"
		"\"b\":{\"Title\":\"B\"}}}",
		&changes);
	assert_true(changes.health);
	netmap_changes_finish(&changes);
	assert_string_equal(netmap_health(nm, &count)[1], "T: x");
	assert_int_equal(count, 3);
	apply_text(nm, "{\"DisplayMessages\":{\"a\":null}}", NULL);
	assert_string_equal(netmap_health(nm, &count)[1], "B");
	apply_text(nm, "{\"Health\":[],\"DisplayMessages\":{\"*\":null}}", NULL);
	netmap_health(nm, &count);
	assert_int_equal(count, 0);
	netmap_destroy(nm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_message_must_tell_who_we_are),
		cmocka_unit_test(test_a_new_stream_replaces_everything),
		cmocka_unit_test(test_only_what_differs_is_reported),
		cmocka_unit_test(test_it_is_told_whether_anybody_looks_different),
		cmocka_unit_test(test_we_are_no_peer_even_when_given_a_peers_number),
		cmocka_unit_test(test_a_prefix_belongs_to_one_peer),
		cmocka_unit_test(test_keys_that_are_zero_or_taken_are_not_believed),
		cmocka_unit_test(test_a_peer_cannot_have_what_is_not_the_meshs),
		cmocka_unit_test(test_names_are_host_names_or_nothing),
		cmocka_unit_test(test_texts_cannot_steer_a_terminal),
		cmocka_unit_test(test_an_expired_key_is_seen_by_the_servers_clock),
		cmocka_unit_test(test_ranges_are_what_they_say_or_nothing),
		cmocka_unit_test(test_more_peers_than_the_bound_are_ignored),
		cmocka_unit_test(test_routes_that_all_peers_announce_cost_no_more),
		cmocka_unit_test(test_names_and_addresses_find_the_node),
		cmocka_unit_test(test_health_is_the_list_and_the_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
