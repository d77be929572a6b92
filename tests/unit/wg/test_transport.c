/* Packets: order, trains, routing, replay, roaming, peers that go. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/wire.h"
#include "world.h"

static const struct world_options plain = { 0 };
static const struct world_options roaming = { .is_roaming = true };

static void test_staged_packets_arrive_in_order_after_the_handshake(void **state)
{
	struct world *w = world_create(&plain);
	struct node *b = &w->node[1];

	(void)state;
	world_send(w, 0, 0, 100, 1280);
	assert_int_equal(w->wire_count, 1);
	world_settle(w);
	assert_int_equal(b->received, 100);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(b->seq[i], i);
	assert_int_equal(w->node[0].established, 1);
	assert_int_equal(b->established, 1);
	/* The data was the confirmation: no keepalive was needed. */
	assert_int_equal(w->node[0].keepalives, 0);
	world_send(w, 1, 7, 1, 40);
	world_settle(w);
	assert_int_equal(w->node[0].received, 1);
	assert_int_equal(w->node[0].seq[0], 7);
	world_destroy(w);
}

static void test_a_responder_waits_for_the_first_packet(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	wg_peer_wake(w->node[0].peer, w->now_ns);
	world_deliver(w); /* the initiation */
	assert_int_equal(w->node[1].sent_type[WG_RESPONSE], 1);
	world_send(w, 1, 0, 3, 100);
	assert_int_equal(w->node[1].sent_type[WG_TRANSPORT], 0);
	assert_int_equal(w->node[1].established, 0);
	world_deliver(w); /* the response; a keepalive comes back */
	assert_int_equal(w->node[0].keepalives, 1);
	world_settle(w);
	assert_int_equal(w->node[0].received, 3);
	assert_int_equal(w->node[1].established, 1);
	world_destroy(w);
}

static void test_equal_packets_leave_as_one_train(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];

	(void)state;
	world_connect(w);
	a->transmits = 0;
	world_send(w, 0, 0, 40, 1280);
	assert_int_equal(a->transmits, 1);
	world_settle(w);
	assert_int_equal(w->node[1].receives, 1);
	assert_int_equal(w->node[1].received, 40);
	world_destroy(w);
}

static void lay(struct packet_batch *b, uint32_t len, uint32_t destination)
{
	uint8_t *p = batch_reserve(b, len);

	if (!p)
		abort();
	memset(p, 0, len);
	p[0] = 0x45;
	store_be16(p + 2, (uint16_t)len);
	store_be32(p + 12, 0x64400001);
	store_be32(p + 16, destination);
	batch_commit(b, len);
}

static void test_a_shorter_packet_ends_its_train_and_a_longer_one_starts_another(void **state)
{
	static const uint32_t lens[] = { 1280, 1280, 100, 100, 100, 1280, 1279, 60 };
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];

	(void)state;
	world_connect(w);
	a->transmits = 0;
	batch_reset(&a->batch);
	for (unsigned i = 0; i < ARRAY_LEN(lens); i++)
		lay(&a->batch, lens[i], 0x64400002);
	wg_device_send(a->dev, &a->batch, w->now_ns);
	/* 1280 1280 100 | 100 100 | 1280 1279 (padded to 1280) 60 */
	assert_int_equal(a->transmits, 3);
	world_settle(w);
	assert_int_equal(w->node[1].received, ARRAY_LEN(lens));
	world_destroy(w);
}

static void test_new_allowed_addresses_take_effect_within_a_session(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0], *b = &w->node[1];
	struct ip_prefix moved = { ip_from_v4(0x64400042), 32 };
	struct ip_prefix broken = { ip_from_v4(0x64400042), 33 };
	struct ip_addr old = ip_from_v4(0x64400002);

	(void)state;
	world_connect(w);
	assert_int_equal(wg_peer_set_allowed(a->peer, &broken, 1), -EINVAL);
	assert_ptr_equal(wg_device_route(a->dev, &old), a->peer);
	assert_int_equal(wg_peer_set_allowed(a->peer, &moved, 1), 0);
	assert_null(wg_device_route(a->dev, &old));
	assert_ptr_equal(wg_device_route(a->dev, &moved.addr), a->peer);
	world_send_from_to(w, 1, 0x64400002, 0x64400001, 1); /* not its any more */
	world_send_from_to(w, 1, 0x64400042, 0x64400001, 2);
	world_settle(w);
	assert_int_equal(a->seq[a->received - 1], 2);
	assert_int_equal(a->peer->dropped_source, 1);
	assert_int_equal(a->sent_type[WG_INITIATION] + b->sent_type[WG_INITIATION], 1);
	world_destroy(w);
}

static void test_packets_that_nobody_routes_are_left_out(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];
	struct ip_addr b_inner = ip_from_v4(0x64400002), nobody = ip_from_v4(0x64400063);

	(void)state;
	world_connect(w);
	a->transmits = 0;
	batch_reset(&a->batch);
	lay(&a->batch, 100, 0x64400002);
	lay(&a->batch, 100, 0x64400063);
	lay(&a->batch, 100, 0x64400002);
	lay(&a->batch, 100, 0x64400002);
	a->batch.packet[3].data[0] = 0x75; /* neither IPv4 nor IPv6 */
	wg_device_send(a->dev, &a->batch, w->now_ns);
	assert_int_equal(a->transmits, 2);
	world_settle(w);
	assert_int_equal(w->node[1].received, 2);
	assert_ptr_equal(wg_device_route(a->dev, &b_inner), a->peer);
	assert_null(wg_device_route(a->dev, &nobody));
	world_destroy(w);
}

static void test_an_ipv6_packet_goes_its_way(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];
	uint8_t *p;

	(void)state;
	world_connect(w);
	batch_reset(&a->batch);
	p = batch_reserve(&a->batch, 61);
	memset(p, 0, 61);
	p[0] = 0x60;
	store_be16(p + 4, 21);
	p[8] = p[24] = 0xfd;
	p[23] = 1;
	p[39] = 2;
	store_be32(p + 40, 99);
	batch_commit(&a->batch, 61);
	wg_device_send(a->dev, &a->batch, w->now_ns);
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	assert_int_equal(w->node[1].seq[0], 99);
	world_destroy(w);
}

static void test_a_packet_may_be_as_long_as_ip_allows(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_send(w, 0, 1, 1, 65535 - 32); /* staged */
	world_settle(w);
	world_send(w, 0, 2, 1, 65535 - 32);
	world_settle(w);
	assert_int_equal(w->node[1].received, 2);
	world_destroy(w);
}

static void test_a_source_outside_allowed_ips_is_dropped(void **state)
{
	struct world *w = world_create(&plain);
	struct wg_peer_stats stats;

	(void)state;
	world_connect(w);
	world_send_from_to(w, 0, 0x64400009, 0x64400002, 1);
	world_send_from_to(w, 0, 0x64400001, 0x64400002, 2);
	world_send_from_to(w, 0, 0x64400002, 0x64400002, 3); /* the receiver's own address */
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	assert_int_equal(w->node[1].seq[0], 2);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.dropped_source, 2);
	world_destroy(w);
}

static void test_a_source_of_another_peer_is_dropped(void **state)
{
	struct world *w = world_create(&plain);
	struct ip_prefix prefix = { ip_from_v4(0x64400009), 32 };
	struct wg_peer_config third = { .allowed = &prefix, .allowed_count = 1 };
	struct wg_peer *peer;
	struct wg_peer_stats stats;

	(void)state;
	world_connect(w);
	memcpy(third.public_key, w->node[0].public_key, WG_KEY_LEN);
	third.public_key[0] ^= 1; /* somebody's, whoever has it */
	assert_int_equal(wg_device_add_peer(w->node[1].dev, &third, &peer), 0);
	world_send_from_to(w, 0, 0x64400009, 0x64400002, 1);
	world_settle(w);
	assert_int_equal(w->node[1].received, 0);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.dropped_source, 1);
	/* Nor may a packet for the new peer go to the old one. */
	w->node[1].transmits = 0;
	world_send_from_to(w, 1, 0x64400002, 0x64400009, 2);
	assert_int_equal(w->node[1].transmits, 0);
	world_destroy(w);
}

static void test_a_route_that_was_missing_is_found_once_there_is_a_peer(void **state)
{
	struct world *w = world_create(&plain);
	struct ip_prefix prefix = { ip_from_v4(0x64400009), 32 };
	struct wg_peer_config third = { .allowed = &prefix,
					.allowed_count = 1,
					.has_endpoint = true,
					.endpoint = w->node[1].at };
	struct wg_peer *peer;

	(void)state;
	world_send_from_to(w, 0, 0x64400001, 0x64400009, 1);
	assert_int_equal(w->wire_count, 0);
	memcpy(third.public_key, w->node[1].public_key, WG_KEY_LEN);
	third.public_key[0] ^= 1;
	assert_int_equal(wg_device_add_peer(w->node[0].dev, &third, &peer), 0);
	world_send_from_to(w, 0, 0x64400001, 0x64400009, 2);
	assert_int_equal(w->wire_count, 1);
	assert_ptr_equal(w->wire[0].peer, peer);
	world_destroy(w);
}

static void test_padding_is_zeros_whatever_lay_there(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];

	(void)state;
	world_connect(w);
	w->node[1].checks_padding = true;
	for (uint32_t len = 24; len < 60; len++) {
		memset(a->batch.arena, 0xee, sizeof(a->batch.arena));
		world_send(w, 0, 1, 3, len);
	}
	world_settle(w);
	assert_int_equal(w->node[1].received, 36 * 3);
	world_destroy(w);
}

static void test_inner_packets_with_false_lengths_are_dropped(void **state)
{
	static const uint16_t totals[] = { 0, 19, 65, 2000, 65535 };
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0];
	struct wg_peer_stats stats;

	(void)state;
	world_connect(w);
	for (unsigned i = 0; i < ARRAY_LEN(totals); i++) {
		batch_reset(&a->batch);
		lay(&a->batch, 64, 0x64400002);
		store_be16(a->batch.packet[0].data + 2, totals[i]);
		wg_device_send(a->dev, &a->batch, w->now_ns);
	}
	world_settle(w);
	assert_int_equal(w->node[1].received, 0);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.dropped_invalid, ARRAY_LEN(totals));
	world_destroy(w);
}

static void test_a_replayed_packet_is_dropped(void **state)
{
	struct world *w = world_create(&plain);
	struct wg_peer_stats stats;
	uint8_t copy[2048];
	uint32_t len;

	(void)state;
	world_connect(w);
	world_send(w, 0, 1, 1, 100);
	len = world_peek(w, 0, WG_TRANSPORT, copy);
	world_settle(w);
	world_inject(w, 1, copy, len, &w->node[0].at);
	assert_int_equal(w->node[1].received, 1);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.dropped_invalid, 1);
	world_destroy(w);
}

static void test_a_forged_packet_is_dropped_and_the_true_one_taken(void **state)
{
	struct world *w = world_create(&roaming);
	struct endpoint elsewhere = { ip_from_v4(0x0a0a0a0a), 1 };
	struct wg_peer_stats stats;
	uint8_t copy[2048];
	uint32_t len;

	(void)state;
	world_connect(w);
	world_send(w, 0, 1, 1, 100);
	len = world_peek(w, 0, WG_TRANSPORT, copy);
	for (uint32_t at = 0; at < len; at++) {
		copy[at] ^= 1;
		world_inject(w, 1, copy, len, &elsewhere);
		copy[at] ^= 1;
	}
	for (uint32_t cut = 0; cut < len; cut++)
		world_inject(w, 1, copy, cut, &elsewhere);
	assert_int_equal(w->node[1].received, 0);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_true(endpoint_equal(&stats.endpoint, &w->node[0].at));
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	world_destroy(w);
}

static void test_packets_may_come_in_any_order(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_connect(w);
	world_send(w, 0, 0, 200, 60);
	for (unsigned i = 0; i < w->wire_count / 2; i++) {
		struct sent swap = w->wire[i];

		w->wire[i] = w->wire[w->wire_count - 1 - i];
		w->wire[w->wire_count - 1 - i] = swap;
	}
	world_settle(w);
	assert_int_equal(w->node[1].received, 200);
	assert_int_equal(w->node[1].seq[0], 199);
	world_destroy(w);
}

static void test_a_long_burst_is_delivered_in_parts(void **state)
{
	struct world *w = world_create(&plain);

	(void)state;
	world_connect(w);
	world_send(w, 0, 0, 400, 60);
	world_settle(w);
	assert_int_equal(w->node[1].received, 400);
	assert_int_equal(w->node[1].receives, 2);
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(w->node[1].seq[i], i);
	world_destroy(w);
}

static void test_the_endpoint_follows_authentic_packets_when_roaming(void **state)
{
	struct world *w = world_create(&roaming);
	struct wg_peer_stats stats;

	(void)state;
	world_connect(w);
	w->node[0].at.port = 999;
	world_send(w, 0, 1, 1, 100);
	world_settle(w);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.endpoint.port, 999);
	world_send(w, 1, 2, 1, 100);
	world_settle(w);
	assert_int_equal(w->node[0].received, 1);
	world_destroy(w);
}

static void test_the_endpoint_stays_when_not_roaming(void **state)
{
	struct world *w = world_create(&plain);
	struct endpoint moved = { ip_from_v4(0xc0000207), 7 };
	struct wg_peer_stats stats;

	(void)state;
	world_connect(w);
	w->node[0].at.port = 999;
	world_send(w, 0, 1, 1, 100);
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.endpoint.port, 51820);
	wg_peer_set_endpoint(w->node[1].peer, &moved);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_true(endpoint_equal(&stats.endpoint, &moved));
	world_destroy(w);
}

static void test_a_peer_without_an_endpoint_is_learned_by_its_initiation(void **state)
{
	struct world_options o = { .is_roaming = true, .no_endpoint_1 = true };
	struct world *w = world_create(&o);
	struct wg_peer_stats stats;

	(void)state;
	world_send(w, 1, 1, 5, 100);
	wg_peer_wake(w->node[1].peer, w->now_ns);
	assert_int_equal(w->wire_count, 0);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.dropped_staged, 5);
	assert_false(stats.has_endpoint);
	world_connect(w);
	world_send(w, 1, 2, 1, 100);
	world_settle(w);
	assert_int_equal(w->node[0].received, 1);
	world_destroy(w);
}

static void test_without_roaming_an_unknown_endpoint_is_answered_but_not_kept(void **state)
{
	struct world_options o = { .no_endpoint_1 = true };
	struct world *w = world_create(&o);
	struct wg_peer_stats stats;

	(void)state;
	world_connect(w);
	world_send(w, 0, 1, 1, 100);
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_false(stats.has_endpoint);
	world_run(w, 15 * NS_PER_S); /* its passive keepalive has nowhere to go */
	assert_int_equal(w->node[1].sent_type[WG_TRANSPORT], 0);
	world_destroy(w);
}

static void test_a_removed_peer_is_gone(void **state)
{
	struct world *w = world_create(&plain);
	struct node *a = &w->node[0], *b = &w->node[1];
	struct ip_addr inner = ip_from_v4(a->inner);

	(void)state;
	world_connect(w);
	world_send(w, 1, 1, 1, 100);
	world_settle(w);
	world_send(w, 0, 1, 3, 100);
	b->peer->keypairs.current->created_ns -= WG_REJECT_AFTER_TIME;
	world_send(w, 1, 1, 1, 100);
	assert_true(b->dev->staged.bytes > 0);
	wg_device_remove_peer(b->dev, b->peer);
	b->peer = NULL;
	world_drop_all(w);
	world_send(w, 0, 1, 3, 100);
	assert_int_equal(b->dev->staged.bytes, 0);
	assert_int_equal(b->dev->indices.count, 0);
	assert_null(wg_device_route(b->dev, &inner));
	assert_true(wg_device_deadline(b->dev) == NEVER_NS);
	world_send(w, 1, 1, 1, 100);
	world_settle(w);
	assert_int_equal(b->received, 0);
	assert_int_equal(a->received, 1);
	/* Nor does it get an answer to a handshake. */
	world_run(w, 30 * NS_PER_S);
	assert_true(a->sent_type[WG_INITIATION] > 1);
	assert_int_equal(b->sent_type[WG_RESPONSE], 1);
	world_destroy(w);
}

static void test_a_peer_may_be_removed_in_its_own_callbacks(void **state)
{
	for (int which = 0; which < 3; which++) {
		struct world *w = world_create(&plain);
		struct node *b = &w->node[1];

		(void)state;
		if (which == 0)
			b->removes_peer_on_receive = true;
		else if (which == 1)
			b->removes_peer_on_established = true;
		else
			w->node[0].removes_peer_on_established = true;
		world_send(w, 0, 0, 400, 60);
		world_settle(w);
		/* The run that was being delivered is; what follows it is dropped. */
		assert_int_equal(b->received, which == 0 ? 64 * 4 : which == 1 ? 0 : 400);
		world_destroy(w);
	}
}

static void test_junk_of_every_type_and_length_is_ignored(void **state)
{
	struct world *w = world_create(&plain);
	uint8_t junk[400] = { 0 };

	(void)state;
	world_connect(w);
	for (uint32_t type = 0; type < 7; type++) {
		for (uint32_t len = 0; len < sizeof(junk); len++) {
			junk[0] = (uint8_t)type;
			junk[3] = len % 5 == 4;
			world_inject(w, 1, junk, len, &w->node[0].at);
		}
	}
	assert_int_equal(w->wire_count, 0);
	world_send(w, 0, 5, 1, 100);
	world_settle(w);
	assert_int_equal(w->node[1].received, 1);
	world_destroy(w);
}

static void test_byte_counts_are_those_of_the_wire(void **state)
{
	struct world *w = world_create(&plain);
	struct wg_peer_stats a, b;

	(void)state;
	world_connect(w);
	world_send(w, 0, 1, 2, 100); /* 112 padded + 32 */
	world_settle(w);
	wg_peer_stats(w->node[0].peer, &a);
	wg_peer_stats(w->node[1].peer, &b);
	assert_int_equal(a.tx_bytes, 148 + 32 + 2 * 144);
	assert_int_equal(b.rx_bytes, a.tx_bytes);
	assert_int_equal(b.tx_bytes, 92);
	assert_int_equal(a.rx_bytes, 92);
	assert_true(a.has_session && b.has_session);
	assert_true(a.handshake_ns == w->now_ns && a.handshake_wall_s == 1700001000);
	assert_ptr_equal(wg_peer_user(w->node[0].peer), &w->node[0]);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_staged_packets_arrive_in_order_after_the_handshake),
		cmocka_unit_test(test_a_responder_waits_for_the_first_packet),
		cmocka_unit_test(test_equal_packets_leave_as_one_train),
		cmocka_unit_test(
			test_a_shorter_packet_ends_its_train_and_a_longer_one_starts_another),
		cmocka_unit_test(test_new_allowed_addresses_take_effect_within_a_session),
		cmocka_unit_test(test_packets_that_nobody_routes_are_left_out),
		cmocka_unit_test(test_an_ipv6_packet_goes_its_way),
		cmocka_unit_test(test_a_packet_may_be_as_long_as_ip_allows),
		cmocka_unit_test(test_a_source_outside_allowed_ips_is_dropped),
		cmocka_unit_test(test_a_source_of_another_peer_is_dropped),
		cmocka_unit_test(test_a_route_that_was_missing_is_found_once_there_is_a_peer),
		cmocka_unit_test(test_padding_is_zeros_whatever_lay_there),
		cmocka_unit_test(test_inner_packets_with_false_lengths_are_dropped),
		cmocka_unit_test(test_a_replayed_packet_is_dropped),
		cmocka_unit_test(test_a_forged_packet_is_dropped_and_the_true_one_taken),
		cmocka_unit_test(test_packets_may_come_in_any_order),
		cmocka_unit_test(test_a_long_burst_is_delivered_in_parts),
		cmocka_unit_test(test_the_endpoint_follows_authentic_packets_when_roaming),
		cmocka_unit_test(test_the_endpoint_stays_when_not_roaming),
		cmocka_unit_test(test_a_peer_without_an_endpoint_is_learned_by_its_initiation),
		cmocka_unit_test(test_without_roaming_an_unknown_endpoint_is_answered_but_not_kept),
		cmocka_unit_test(test_a_removed_peer_is_gone),
		cmocka_unit_test(test_a_peer_may_be_removed_in_its_own_callbacks),
		cmocka_unit_test(test_junk_of_every_type_and_length_is_ignored),
		cmocka_unit_test(test_byte_counts_are_those_of_the_wire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
