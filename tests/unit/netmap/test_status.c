/* The shapes of status and whois. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
#include "daemon/netmap/status.h"

#define SELF_KEY "nodekey:c7b67b44a3d956bbc76707f709ff67d1fd63dc3686b931fe6b9f89d9f3da241c"
#define PEER_KEY "nodekey:ed88f679b4d9e4981f04a56ee7682bef20dbe19dd972b58f66c6ccaad726c940"

/* The tailnet of the vector. */
static const char map[] =
	"{\"Node\":{\"ID\":7,\"StableID\":\"1\",\"Name\":\"node-a.t.example.\",\"User\":1,\"Key\":\"" SELF_KEY
	"\",\"Addresses\":[\"100.64.0.1/32\"],\"AllowedIPs\":[],"
	"\"Hostinfo\":{\"Hostname\":\"node-a\",\"OS\":\"linux\"}},"
	"\"DERPMap\":{\"Regions\":{\"900\":{\"RegionID\":900,\"RegionCode\":\"lo\"}}},"
	"\"DNSConfig\":{\"Proxied\":true},\"Domain\":\"t.example\","
	"\"Peers\":[{\"ID\":2,\"StableID\":\"2\",\"Name\":\"b.t.example.\",\"Key\":\"" PEER_KEY
	"\",\"Addresses\":[\"100.64.0.2/32\"],\"AllowedIPs\":[],\"HomeDERP\":900,"
	"\"Hostinfo\":{\"Hostname\":\"b\"}}],"
	"\"UserProfiles\":[{\"ID\":1,\"LoginName\":\"u@\",\"DisplayName\":\"u\"}]}";

static const struct status_source plain = {
	.version = "1.80.0", .backend_state = "Running", .auth_url = "", .has_node_key = true
};

/* Same members in the same order, same values. What differs here by design is named. */
static void check_same(struct json_object *got, struct json_object *wanted, const char *path)
{
	struct json_object_iterator a, b;
	char deeper[512];

	if (!json_object_is_type(wanted, json_type_object)) {
		if (strstr(path, "/NodeID") || strstr(path, "/Peer/" PEER_KEY "/InNetworkMap"))
			return;
		if (strcmp(json_object_to_json_string(got), json_object_to_json_string(wanted)))
			fail_msg("%s: %s, not %s", path, json_object_to_json_string(got),
				 json_object_to_json_string(wanted));
		return;
	}
	assert_int_equal(json_object_object_length(got), json_object_object_length(wanted));
	a = json_object_iter_begin(got);
	b = json_object_iter_begin(wanted);
	for (int i = 0; i < json_object_object_length(wanted); i++) {
		const char *name = json_object_iter_peek_name(&b);

		assert_string_equal(json_object_iter_peek_name(&a), name);
		snprintf(deeper, sizeof(deeper), "%s/%s", path, name);
		check_same(json_object_iter_peek_value(&a), json_object_iter_peek_value(&b),
			   deeper);
		json_object_iter_next(&a);
		json_object_iter_next(&b);
	}
}

static void test_status_has_the_shape_of_the_reference(void **state)
{
	struct json_object *file = vectors_load("json_shapes.json"), *status;
	struct netmap *nm = netmap_create();

	(void)state;
	apply_text(nm, map, NULL);
	status = status_build(nm, &plain);
	assert_non_null(status);
	check_same(status, vectors_get(file, "status_json"), "");
	json_object_put(status);
	json_object_put(file);
	netmap_destroy(nm);
}

static void test_status_before_the_first_map_is_mostly_empty(void **state)
{
	struct status_source source = { .version = "1",
					.backend_state = "NeedsLogin",
					.auth_url = "http://x/y",
					.host_name = "laptop" };
	struct netmap *nm = netmap_create();
	struct json_object *o = status_build(nm, &source);

	(void)state;
	assert_string_equal(
		json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							  JSON_C_TO_STRING_NOSLASHESCAPE),
		"{\"Version\":\"1\",\"TUN\":false,\"BackendState\":\"NeedsLogin\","
		"\"AuthURL\":\"http://x/y\",\"TailscaleIPs\":null,\"Self\":{\"ID\":\"\",\"NodeID\":0,"
		"\"PublicKey\":\"nodekey:"
		"0000000000000000000000000000000000000000000000000000000000000000\","
		"\"HostName\":\"laptop\",\"DNSName\":\"\",\"OS\":\"linux\",\"UserID\":0,"
		"\"TailscaleIPs\":null,\"Addrs\":null,\"CurAddr\":\"\",\"Relay\":\"\","
		"\"PeerRelay\":\"\",\"RxBytes\":0,\"TxBytes\":0,"
		"\"Created\":\"0001-01-01T00:00:00Z\",\"LastWrite\":\"0001-01-01T00:00:00Z\","
		"\"LastSeen\":\"0001-01-01T00:00:00Z\","
		"\"LastHandshake\":\"0001-01-01T00:00:00Z\",\"Online\":false,"
		"\"ExitNode\":false,\"ExitNodeOption\":false,\"Active\":false,"
		"\"PeerAPIURL\":null,\"TaildropTarget\":0,\"NoFileSharingReason\":\"\","
		"\"InNetworkMap\":false,\"InMagicSock\":false,\"InEngine\":false},\"Health\":[],"
		"\"MagicDNSSuffix\":\"\",\"CurrentTailnet\":null,\"CertDomains\":null,"
		"\"ExtraRecords\":null,\"Peer\":null,\"User\":null,\"ClientVersion\":null}");
	json_object_put(o);
	netmap_destroy(nm);
}

static void test_addresses_of_a_file_are_of_any_network(void **state)
{
	struct status_source source = plain;
	struct netmap *nm = netmap_create();
	struct json_object *o;

	(void)state;
	apply_text(
		nm,
		"{\"Node\":{\"ID\":1,\"Key\":\"" SELF_KEY
		"\",\"Addresses\":[\"10.9.0.1/32\",\"fd00::1/128\"]},\"Peers\":[{\"ID\":2,\"Key\":\"" PEER_KEY
		"\",\"Addresses\":[\"10.9.0.2/32\",\"10.8.0.0/16\"]}]}",
		NULL);
	for (int i = 0; i < 2; i++) {
		source.is_file = i == 1;
		o = status_build(nm, &source);
		assert_non_null(o);
		assert_string_equal(json_object_get_string(vectors_get(o, "TailscaleIPs")),
				    i ? "[ \"10.9.0.1\", \"fd00::1\" ]" : "[ ]");
		assert_string_equal(
			json_object_get_string(vectors_get(
				vectors_get(vectors_get(o, "Peer"), PEER_KEY), "TailscaleIPs")),
			i ? "[ \"10.9.0.2\" ]" : "[ ]");
		json_object_put(o);
	}
	netmap_destroy(nm);
}

static void give_live(void *owner, const struct netmap_node *node, struct status_peer *live)
{
	assert_int_equal(node->id, 2);
	++*(int *)owner;
	live->has_direct = true;
	live->cur_addr = (struct endpoint){ ip_from_v4(0xc0000202), 41641 };
	live->rx_bytes = 5;
	live->last_handshake_s = WALL_S;
	live->is_active = live->in_engine = live->in_magic_sock = true;
}

static const char *member(struct json_object *o, const char *name)
{
	return json_object_get_string(vectors_get(o, name));
}

static void test_live_data_and_everything_optional_is_shown(void **state)
{
	const struct endpoint own = { ip_from_v4(0xc0000201), 1 };
	const char *texts[] = { "no relay" };
	int calls = 0;
	struct status_source source = plain;
	struct netmap *nm = netmap_create();
	struct json_object *o, *peer;

	(void)state;
	source.peer = give_live;
	source.owner = &calls;
	source.self_addrs = &own;
	source.self_addr_count = 1;
	source.health = texts;
	source.health_count = 1;
	source.wall_s = WALL_S;
	source.self_derp = 900;
	apply_text(nm, map, NULL);
	apply_text(
		nm,
		"{\"PeersChanged\":[{\"ID\":2,\"StableID\":\"2\",\"Key\":\"" PEER_KEY
		"\",\"Sharer\":3,\"Addresses\":[\"100.64.0.2/32\",\"fd7a:115c:a1e0::2/128\",\"10.0.0.1/32\"],"
		"\"AllowedIPs\":[\"0.0.0.0/0\",\"::/0\"],\"Tags\":[\"tag:a\"],"
		"\"PrimaryRoutes\":[\"10.0.0.0/8\"],\"Created\":\"2026-01-02T03:04:05.123Z\","
		"\"KeyExpiry\":\"2026-01-02T03:04:05Z\",\"CapMap\":{\"c\":[1]},\"Online\":true,"
		"\"Hostinfo\":{\"ShareeNode\":true,\"Location\":{\"City\":\"X\"},\"sshHostKeys\":[\"k\"],"
		"\"Services\":[{\"Proto\":\"peerapi4\",\"Port\":99},{\"Proto\":\"peerapi6\",\"Port\":98}]}}],"
		"\"DNSConfig\":{\"CertDomains\":[\"c.t\"],\"ExtraRecords\":[{\"Name\":\"r.t\",\"Value\":\"10.0.0.1\"}]}}",
		NULL);
	o = status_build(nm, &source);
	assert_non_null(o);
	assert_int_equal(calls, 1);
	peer = vectors_get(vectors_get(o, "Peer"), PEER_KEY);
	assert_string_equal(member(peer, "TailscaleIPs"),
			    "[ \"100.64.0.2\", \"fd7a:115c:a1e0::2\" ]");
	assert_string_equal(member(peer, "CurAddr"), "192.0.2.2:41641");
	assert_string_equal(member(peer, "AltSharerUserID"), "3");
	assert_string_equal(member(peer, "Created"), "2026-01-02T03:04:05.123Z");
	assert_string_equal(member(peer, "LastHandshake"), "2026-11-18T11:06:40Z");
	assert_string_equal(member(peer, "ExitNodeOption"), "true");
	assert_string_equal(member(peer, "Online"), "true");
	assert_string_equal(member(peer, "Expired"), "true");
	assert_string_equal(member(peer, "ShareeNode"), "true");
	assert_string_equal(member(peer, "Capabilities"), "[ \"c\" ]");
	assert_string_equal(member(peer, "DNSName"), "");
	assert_string_equal(json_object_to_json_string_ext(vectors_get(peer, "PeerAPIURL"),
							   JSON_C_TO_STRING_PLAIN |
								   JSON_C_TO_STRING_NOSLASHESCAPE),
			    "[\"http://100.64.0.2:99\",\"http://[fd7a:115c:a1e0::2]:98\"]");
	assert_string_equal(member(vectors_get(o, "Self"), "Relay"), "lo");
	assert_string_equal(member(vectors_get(o, "Self"), "Addrs"), "[ \"192.0.2.1:1\" ]");
	assert_string_equal(member(o, "Health"), "[ \"no relay\" ]");
	assert_string_equal(member(o, "CertDomains"), "[ \"c.t\" ]");
	json_object_put(o);
	netmap_destroy(nm);
}

static void test_whois_tells_the_grants_of_the_filter(void **state)
{
	struct netmap *nm = netmap_create();
	struct json_object *o;

	(void)state;
	apply_text(nm, map, NULL);
	o = status_build_whois(nm, netmap_peer_at(nm, 0));
	assert_null(vectors_get(o, "CapMap"));
	assert_string_equal(member(vectors_get(o, "Node"), "Name"), "b.t.example.");
	assert_string_equal(member(vectors_get(o, "CurrentTailnet"), "Name"), "t.example");
	json_object_put(o);
	apply_text(
		nm,
		"{\"PacketFilter\":["
		"{\"SrcIPs\":[\"100.64.0.0/24\"],\"CapGrant\":[{\"Dsts\":[\"100.64.0.1/32\"],"
		"\"CapMap\":{\"x\":[1]},\"Caps\":[\"old\"]}]},"
		"{\"SrcIPs\":[\"*\"],\"CapGrant\":[{\"Dsts\":[\"100.64.0.1\"],\"CapMap\":{\"x\":[2]}},"
		"{\"Dsts\":[\"100.64.0.9/32\"],\"CapMap\":{\"not-us\":[]}}]},"
		"{\"SrcIPs\":[\"100.64.0.3\"],\"CapGrant\":[{\"Dsts\":[\"*\"],\"CapMap\":{\"not-it\":[]}}]}]}",
		NULL);
	o = status_build_whois(nm, netmap_peer_at(nm, 0));
	assert_string_equal(
		json_object_to_json_string_ext(vectors_get(o, "CapMap"), JSON_C_TO_STRING_PLAIN),
		"{\"old\":[],\"x\":[1,2]}");
	json_object_put(o);
	netmap_destroy(nm);
}

static void test_whois_names_a_node_as_the_stock_client_does(void **state)
{
	static const struct {
		const char *name, *host, *computed, *with_host;
	} cases[] = {
		{ "b.t.example.", "b", "b", "b" },
		{ "b.t.example.", "B", "b", "b" },
		{ "b-2.t.example.", "B", "b-2", "b-2 (b)" },
		{ "c.other.example.", "My Laptop.local", "c.other.example",
		  "c.other.example (my-laptop)" },
		{ "", "-Pod_7!-", "pod-7", "pod-7" },
		{ "", "", PEER_KEY, PEER_KEY },
	};
	struct netmap *nm = netmap_create();
	char text[512];

	(void)state;
	apply_text(nm, map, NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct json_object *o;

		snprintf(text, sizeof(text),
			 "{\"PeersChanged\":[{\"ID\":2,\"Key\":\"" PEER_KEY "\",\"Name\":\"%s\","
			 "\"Hostinfo\":{\"Hostname\":\"%s\"}}]}",
			 cases[i].name, cases[i].host);
		apply_text(nm, text, NULL);
		o = status_build_whois(nm, netmap_peer_at(nm, 0));
		assert_string_equal(member(vectors_get(o, "Node"), "ComputedName"),
				    cases[i].computed);
		assert_string_equal(member(vectors_get(o, "Node"), "ComputedNameWithHost"),
				    cases[i].with_host);
		json_object_put(o);
	}
	netmap_destroy(nm);
}

static void test_no_time_is_the_zero_time(void **state)
{
	char text[STATUS_TIME_TEXT];

	(void)state;
	assert_string_equal(status_time_text(0, text), "0001-01-01T00:00:00Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status_has_the_shape_of_the_reference),
		cmocka_unit_test(test_status_before_the_first_map_is_mostly_empty),
		cmocka_unit_test(test_addresses_of_a_file_are_of_any_network),
		cmocka_unit_test(test_live_data_and_everything_optional_is_shown),
		cmocka_unit_test(test_whois_tells_the_grants_of_the_filter),
		cmocka_unit_test(test_whois_names_a_node_as_the_stock_client_does),
		cmocka_unit_test(test_no_time_is_the_zero_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
