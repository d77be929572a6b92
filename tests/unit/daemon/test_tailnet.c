/* A tailnet's node inside mesh: what its files do to one another. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/mesh_tailnet.h"

static struct mesh mesh;
static struct tailnet tailnet = { .mesh = &mesh };
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_the_end_of_the_data_plane_ends_a_full_relays_hold, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
