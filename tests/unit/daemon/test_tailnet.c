/* A tailnet's node inside mesh: what its files do to one another. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/dns/dns.h"
#include "daemon/edge/dgram.h"
#include "daemon/edge/edge.h"
#include "daemon/edge/localapi.h"
#include "daemon/edge/private.h"
#include "daemon/loop.h"
#include "daemon/mesh_tailnet.h"

static struct mesh mesh;
static struct login_setup login;
static struct tailnet tailnet = { .mesh = &mesh, .login = &login };
static struct ip_addr own, peer;

static void output(void *owner, struct packet_batch *batch)
{
	(void)owner;
	(void)batch;
}

static int setup(void **state)
{
	const struct netstack_callbacks callbacks = { .output = output };
	struct tcp_config tcp;

	(void)state;
	tcp_config_defaults(&tcp, 1280);
	assert_int_equal(ip_parse("100.64.0.1", &own), 0);
	assert_int_equal(ip_parse("100.64.0.2", &peer), 0);
	mesh.netstack = netstack_create(&own, 1, &tcp, &callbacks, NULL, NULL, NULL, &mesh);
	assert_non_null(mesh.netstack);
	mesh.tailnet = &tailnet;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	netstack_destroy(mesh.netstack);
	return 0;
}

static int ping(void)
{
	return netstack_ping(mesh.netstack, &own, &peer, 1, 1, NULL, 0);
}

/* With a new node key all of it is made anew. */
static void test_the_end_of_the_data_plane_ends_a_full_relays_hold(void **state)
{
	(void)state;
	mesh.is_relay_blocked = true;
	mesh_set_blocked(&mesh);
	assert_int_equal(ping(), -EAGAIN);
	tailnet_plane_destroy(&tailnet);
	assert_int_equal(ping(), 0);
}

/* ---- names, with an edge ---- */

static char dir[64];

static int reachable(void *owner, const struct ip_addr *ip)
{
	(void)owner;
	(void)ip;
	return 0;
}

static int set_up_edge(void **state)
{
	const struct edge_callbacks callbacks = { .reachable = reachable,
						  .holder = tailnet_holder };
	struct edge_config config = { .dir = dir, .mtu = 1280 };
	char error[256];

	snprintf(dir, sizeof(dir), "/tmp/meshwrap-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	mesh.loop = loop_create(NULL);
	mesh.netmap = netmap_create();
	assert_non_null(mesh.loop);
	assert_non_null(mesh.netmap);
	if (edge_create(mesh.loop, &config, &callbacks, &mesh, &mesh.edge, error) != 0)
		fail_msg("%s", error);
	mesh.dns = dns_create(mesh.loop, NULL);
	assert_non_null(mesh.dns);
	edge_set_dns(mesh.edge, mesh.dns);
	tailnet.names_at_ns = tailnet.save_at_ns = NEVER_NS;
	tailnet.expiry_at_ns = tailnet.part_at_ns = NEVER_NS;
	tailnet.is_carrying = true;
	return setup(state);
}

static int tear_down_edge(void **state)
{
	char command[128];

	dns_destroy(mesh.dns);
	edge_destroy(mesh.edge);
	netmap_destroy(mesh.netmap);
	teardown(state);
	loop_destroy(mesh.loop);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	memset(&mesh, 0, sizeof(mesh));
	return system(command);
}

static void apply(const char *peers)
{
	struct netmap_changes changes;
	char *message;

	assert_true(asprintf(&message,
			     "{\"Node\":{\"ID\":1,\"Key\":\"nodekey:%064d\",\"Name\":\"me.net.\","
			     "\"Addresses\":[\"100.64.0.1/32\"]},\"Peers\":[%s]}",
			     1, peers) > 0);
	assert_int_equal(netmap_apply(mesh.netmap, message, strlen(message), 0, &changes), 0);
	netmap_changes_finish(&changes);
	free(message);
}

/* All descriptors that may be open are. */
static unsigned take_descriptors(int filler[static 256])
{
	struct rlimit limit;
	unsigned count = 0;
	int fd;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = 200;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	while ((fd = dup(STDERR_FILENO)) >= 0)
		filler[count++] = fd;
	assert_int_equal(errno, EMFILE);
	return count;
}

static void give_descriptors_back(const int *filler, unsigned count)
{
	struct rlimit limit;

	while (count > 0)
		close(filler[--count]);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static enum map_verdict verdict_of(const char *text)
{
	struct ip_addr ip;
	uint32_t mirror;

	assert_int_equal(ip_parse(text, &ip), 0);
	return map_to_mirror(mapfile_map(mesh.edge->mapfile), &ip, &mirror);
}

#define PEER(id, address)                                                                          \
	"{\"ID\":" #id ",\"Key\":\"nodekey:000000000000000000000000000000000000000000000000000000" \
	"000000000" #id "\",\"Name\":\"p" #id ".net.\",\"Addresses\":[\"" address "/32\"],"        \
	"\"AllowedIPs\":[\"" address "/32\"]}"

/* The server sends no second map because we could not use the first one. */
static void test_addresses_that_could_not_be_had_are_asked_for_again(void **state)
{
	int filler[256];
	unsigned count;
	uint64_t again_ns;

	(void)state;
	apply(PEER(2, "100.64.0.2"));
	tailnet_publish_names(&tailnet);
	assert_int_equal(verdict_of("100.64.0.2"), MAP_PEER);
	assert_int_equal(tailnet.names_at_ns, NEVER_NS);
	/* An address in a network of its own wants another block of 127/8. */
	apply(PEER(2, "100.64.0.2") "," PEER(3, "10.77.0.3"));
	count = take_descriptors(filler);
	tailnet_publish_names(&tailnet);
	give_descriptors_back(filler, count);
	assert_int_equal(verdict_of("10.77.0.3"), MAP_OUTSIDE);
	assert_int_equal(verdict_of("100.64.0.2"), MAP_PEER);
	again_ns = tailnet.names_at_ns;
	assert_true(again_ns > loop_now(mesh.loop));
	assert_true(again_ns <= loop_now(mesh.loop) + 60 * NS_PER_S);
	tailnet_expire(&tailnet, again_ns - 1);
	assert_int_equal(verdict_of("10.77.0.3"), MAP_OUTSIDE);
	tailnet_expire(&tailnet, again_ns);
	assert_int_equal(verdict_of("10.77.0.3"), MAP_PEER);
	assert_int_equal(tailnet.names_at_ns, NEVER_NS);
}

/* What the map's changes would have it do by now. */
static void part(void)
{
	tailnet_expire(&tailnet, tailnet.part_at_ns);
}

/* Somebody comes or goes all the time, so that some such look is due at any moment. */
static void test_a_node_that_just_left_is_not_parted_from(void **state)
{
	struct endpoint to = { .port = 7 }, mirror;

	(void)state;
	apply(PEER(2, "100.64.0.2") "," PEER(3, "100.64.0.3"));
	tailnet_publish_names(&tailnet);
	assert_int_equal(ip_parse("100.64.0.2", &to.addr), 0);
	assert_int_equal(dgram_open(mesh.edge->dgrams, &to, false, &mirror), 0);

	tailnet.part_at_ns = loop_now(mesh.loop) + 1; /* another one came 5 s ago */
	apply(PEER(3, "100.64.0.3"));
	part();
	assert_int_equal(dgrams_count(mesh.edge->dgrams), 1);
	apply(PEER(2, "100.64.0.2") "," PEER(3, "100.64.0.3"));
	part();
	assert_int_equal(dgrams_count(mesh.edge->dgrams), 1);
	assert_int_equal(tailnet.part_at_ns, NEVER_NS);

	tailnet.part_at_ns = loop_now(mesh.loop) + 1;
	apply(PEER(3, "100.64.0.3"));
	part();
	assert_int_equal(dgrams_count(mesh.edge->dgrams), 1);
	assert_true(tailnet.part_at_ns <= loop_now(mesh.loop) + 10 * NS_PER_S);
	part();
	assert_int_equal(dgrams_count(mesh.edge->dgrams), 0);
	assert_int_equal(tailnet.part_at_ns, NEVER_NS);
}

static void test_after_a_logout_nothing_is_left_of_the_map_but_flows(void **state)
{
	struct endpoint to = { .port = 7 }, mirror;

	(void)state;
	apply(PEER(2, "100.64.0.2"));
	tailnet.has_map = true;
	tailnet.expiry_at_ns = tailnet.part_at_ns = loop_now(mesh.loop) + 1;
	tailnet_publish_names(&tailnet);
	assert_int_equal(ip_parse("100.64.0.2", &to.addr), 0);
	assert_int_equal(dgram_open(mesh.edge->dgrams, &to, false, &mirror), 0);

	tailnet.is_carrying = false; /* as without a node key */
	tailnet_forget_map(&tailnet);
	assert_null(netmap_self(mesh.netmap));
	assert_int_equal(netmap_peer_count(mesh.netmap), 0);
	/* Nothing of it is looked at again before the next one. */
	assert_int_equal(MIN(tailnet.expiry_at_ns, tailnet.part_at_ns), NEVER_NS);
	assert_int_equal(tailnet.names_at_ns, NEVER_NS);
	assert_false(tailnet.has_map);
	assert_int_equal(dgrams_count(mesh.edge->dgrams), 1);

	/* Logged in as the same node again. */
	apply(PEER(2, "100.64.0.2"));
	tailnet.part_at_ns = loop_now(mesh.loop) + 1;
	part();
	assert_int_equal(dgrams_count(mesh.edge->dgrams), 1);
}

static void test_there_is_no_file_to_read_again(void **state)
{
	char error[LOCALAPI_RELOAD_ERROR_MAX] = "";

	(void)state;
	assert_null(mesh_reload(&mesh, error));
	assert_non_null(strstr(error, "run by a coordination server, which tells it of every "
				      "change: there is no file to read again"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_the_end_of_the_data_plane_ends_a_full_relays_hold, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_addresses_that_could_not_be_had_are_asked_for_again, set_up_edge,
			tear_down_edge),
		cmocka_unit_test_setup_teardown(test_a_node_that_just_left_is_not_parted_from,
						set_up_edge, tear_down_edge),
		cmocka_unit_test_setup_teardown(
			test_after_a_logout_nothing_is_left_of_the_map_but_flows, set_up_edge,
			tear_down_edge),
		cmocka_unit_test_setup_teardown(test_there_is_no_file_to_read_again, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
