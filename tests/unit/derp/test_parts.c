/* The small parts: bucket, waiting datagrams, copies of regions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "daemon/derp/bucket.h"
#include "daemon/derp/copy.h"
#include "daemon/derp/relays.h"
#include "daemon/derp/waiting.h"

static struct public_key peer(uint32_t number)
{
	struct public_key key = { { 0 } };

	memcpy(key.byte, &number, sizeof(number));
	return key;
}

static void test_a_bucket_gives_its_burst_then_its_rate(void **state)
{
	struct bucket b;
	uint64_t now = 5, given = 0;

	(void)state;
	bucket_init(&b, 1000, 300, now);
	assert_true(bucket_take(&b, 300, now));
	assert_false(bucket_take(&b, 1, now));
	/* Asked every 100 us for a second: none of the time is lost. */
	for (int i = 0; i < 10000; i++)
		given += bucket_take(&b, 1, now += 100 * NS_PER_US);
	assert_in_range(given, 999, 1000);
	/* Nor what is left over when a token has come: now each is some 200 us old. */
	given = 0;
	for (int i = 0; i < 3334; i++)
		given += bucket_take(&b, 1, now += 300 * NS_PER_US);
	assert_in_range(given, 999, 1001);
	assert_true(bucket_take(&b, 300, now + NS_PER_S));
	assert_false(bucket_take(&b, 301, UINT64_MAX / 2));
	assert_true(bucket_take(&b, 300, UINT64_MAX / 2));
}

static void test_an_absurd_rate_overflows_nothing(void **state)
{
	struct bucket b;

	(void)state;
	bucket_init(&b, UINT64_MAX, UINT64_MAX, 0);
	assert_true(bucket_take(&b, UINT64_MAX, 0));
	assert_true(bucket_take(&b, 1000, NS_PER_S));
	assert_true(bucket_take(&b, 1000, UINT64_MAX));
	bucket_init(&b, 0, 10, 0);
	assert_true(bucket_take(&b, 10, 0));
	assert_false(bucket_take(&b, 1, UINT64_MAX));
}

static void test_the_oldest_waiting_datagram_goes_first(void **state)
{
	static uint8_t bytes[RELAYS_SEND_MAX];
	struct public_key to = peer(1);
	struct waiting w = { 0 };

	(void)state;
	for (unsigned i = 0; i < WAITING_PACKETS; i++) {
		bytes[0] = (uint8_t)i;
		assert_int_equal(waiting_put(&w, &to, bytes, 10), 0);
	}
	assert_int_equal(waiting_put(&w, &to, bytes, 10), 1);
	assert_int_equal(w.first->bytes[0], 1);
	assert_int_equal(w.count, WAITING_PACKETS);
	/* By bytes as well. */
	waiting_put(&w, &to, bytes, sizeof(bytes));
	assert_true(w.bytes <= WAITING_BYTES);
	waiting_put(&w, &to, bytes, sizeof(bytes));
	assert_int_equal(w.count, 2);
	assert_int_equal(waiting_clear(&w), 2);
	assert_null(w.first);
	assert_int_equal(w.bytes, 0);
}

static const struct derp_node plain = {
	.name = "1a",
	.host_name = "relay.test",
	.cert_name = "",
	.ipv4 = "",
	.ipv6 = "",
	.stun_test_ip = "",
	.region_id = 1,
	.stun_port = 3478,
	.derp_port = 443,
};

static void test_a_copied_region_stands_alone(void **state)
{
	char name[] = "1a";
	struct derp_node nodes[2] = { plain, plain };
	struct derp_region region = { .id = 1,
				      .code = "x",
				      .name = "X",
				      .nodes = nodes,
				      .node_count = 2 },
			   *copy;

	(void)state;
	nodes[0].name = name;
	copy = derp_region_copy(&region);
	assert_true(derp_region_same(&region, copy));
	name[0] = '2';
	assert_string_equal(copy->nodes[0].name, "1a");
	assert_false(derp_region_same(&region, copy));
	name[0] = '1';
	nodes[1].stun_port = 5; /* no matter to a connection */
	assert_true(derp_region_same(&region, copy));
	nodes[1].derp_port = 444;
	assert_false(derp_region_same(&region, copy));
	nodes[1].derp_port = 443;
	nodes[1].cert_name = "other";
	assert_false(derp_region_same(&region, copy));
	region.node_count = 1;
	assert_false(derp_region_same(&region, copy));
	free(copy);
}

static void test_a_node_says_how_it_is_reached(void **state)
{
	struct derp_node node = plain;
	struct derp_target target;
	char host[300];

	(void)state;
	assert_true(derp_node_target(&node, NULL, &target));
	assert_null(target.options.candidates); /* looked up */
	assert_string_equal(target.options.host, "relay.test");
	node.ipv4 = "192.0.2.1";
	node.ipv6 = "none";
	node.derp_port = 8443;
	node.cert_name = "cert.test";
	assert_true(derp_node_target(&node, NULL, &target));
	assert_int_equal(target.options.candidate_count, 1);
	assert_int_equal(target.candidate[0].port, 8443);
	assert_string_equal(target.options.verify_name, "cert.test");
	assert_null(target.options.pin_sha256);
	derp_node_authority(&node, host);
	assert_string_equal(host, "relay.test:8443");
	node.ipv6 = "2001:db8::1";
	node.cert_name = "sha256-raw:ab";
	assert_true(derp_node_target(&node, NULL, &target));
	assert_int_equal(target.options.candidate_count, 2);
	assert_string_equal(target.options.pin_sha256, "ab");
	node.derp_port = 443;
	node.host_name = "2001:db8::1";
	derp_node_authority(&node, host);
	assert_string_equal(host, "[2001:db8::1]");
}

static void test_nodes_that_may_not_or_cannot_be_used_are_refused(void **state)
{
	struct derp_target target;
	struct derp_node node = plain;

	(void)state;
	node.is_stun_only = true;
	assert_false(derp_node_target(&node, NULL, &target));
	node = plain;
	node.ipv4 = node.ipv6 = "none";
	assert_false(derp_node_target(&node, NULL, &target));
	node = plain;
	node.host_name = "a\r\nX-Evil: 1";
	assert_false(derp_node_target(&node, NULL, &target));
	node.host_name = "";
	assert_false(derp_node_target(&node, NULL, &target));
	node = plain;
	node.name = "a b";
	assert_false(derp_node_target(&node, NULL, &target));
	node = plain;
	node.derp_port = 65536;
	assert_false(derp_node_target(&node, NULL, &target));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_bucket_gives_its_burst_then_its_rate),
		cmocka_unit_test(test_an_absurd_rate_overflows_nothing),
		cmocka_unit_test(test_the_oldest_waiting_datagram_goes_first),
		cmocka_unit_test(test_a_copied_region_stands_alone),
		cmocka_unit_test(test_a_node_says_how_it_is_reached),
		cmocka_unit_test(test_nodes_that_may_not_or_cannot_be_used_are_refused),
	};

	return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
