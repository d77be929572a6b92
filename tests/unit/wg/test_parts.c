/* The small parts: replay window, padding, load, rate limit, indices, keypairs, staging ... */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "daemon/wg/deadlines.h"
#include "daemon/wg/index.h"
#include "daemon/wg/keypair.h"
#include "daemon/wg/load.h"
#include "daemon/wg/message.h"
#include "daemon/wg/ratelimit.h"
#include "daemon/wg/replay.h"
#include "daemon/wg/staging.h"
#include "vectors.h"

static void test_the_replay_window_agrees(void **state)
{
	struct json_object *v = vectors_load("replay_window.json");
	struct json_object *rows = vectors_get(v, "sequence");
	struct wg_replay r = { 0 };

	(void)state;
	assert_int_equal(vectors_number(v, "window_bits"), WG_REPLAY_WINDOW);
	assert_true(vectors_number(v, "reject_at_or_above") == WG_REJECT_AFTER_MESSAGES);
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		bool accept = json_object_get_boolean(vectors_get(row, "accept"));

		assert_int_equal(wg_replay_accept(&r, vectors_number(row, "counter")), accept);
	}
	json_object_put(v);
}

static void test_the_replay_window_agrees_with_a_set(void **state)
{
	enum { COUNTERS = 60000 };
	struct wg_replay r = { 0 };
	bool *seen = calloc(COUNTERS, sizeof(*seen));
	uint32_t highest = 0, base = 0;

	(void)state;
	srandom(7);
	for (int i = 0; i < 200000; i++) {
		uint32_t c, jump = (uint32_t)random() % 9000;
		bool want;

		base += (uint32_t)(random() % 3 == 0);
		c = base + (random() % 50 ? jump % 64 : jump);
		if (c >= COUNTERS)
			break;
		want = !seen[c] && (c > highest || highest - c <= WG_REPLAY_WINDOW);
		assert_int_equal(wg_replay_accept(&r, c), want);
		if (want)
			seen[c] = true;
		if (want && c > highest)
			highest = c;
	}
	free(seen);
}

static void test_padding_agrees(void **state)
{
	struct json_object *v = vectors_load("padding.json"), *rows = vectors_get(v, "rows");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(rows); i++) {
		struct json_object *row = json_object_array_get_idx(rows, i);
		size_t len = vectors_number(row, "len"), mtu = vectors_number(row, "mtu");

		assert_int_equal(packet_padded(len, mtu) - len, vectors_number(row, "padding"));
	}
	json_object_put(v);
}

static void test_load_is_a_rate_and_is_remembered_for_a_second(void **state)
{
	uint64_t now_ns = 77 * NS_PER_S + 400 * NS_PER_MS;
	struct wg_load l;

	(void)state;
	wg_load_init(&l, 10);
	for (int i = 0; i < 100; i++, now_ns += NS_PER_S / 8)
		assert_false(wg_load_message(&l, now_ns));
	now_ns += 10 * NS_PER_S;
	for (int i = 0; i < 10; i++)
		assert_false(wg_load_message(&l, now_ns));
	assert_true(wg_load_message(&l, now_ns));
	/* The busy half seconds are past, the verdict is not. */
	assert_true(wg_load_message(&l, now_ns + NS_PER_S - 1));
	assert_false(wg_load_message(&l, now_ns + NS_PER_S));
}

static void test_a_source_has_five_at_once_and_twenty_a_second(void **state)
{
	struct wg_ratelimit *r = wg_ratelimit_create();
	struct ip_addr a = ip_from_v4(0x01020304), b = ip_from_v4(0x01020305);
	uint64_t now_ns = NS_PER_S;
	unsigned allowed = 0;

	(void)state;
	for (int i = 0; i < 5; i++)
		assert_true(wg_ratelimit_allow(r, &a, now_ns));
	assert_false(wg_ratelimit_allow(r, &a, now_ns));
	assert_true(wg_ratelimit_allow(r, &b, now_ns));
	for (int ms = 1; ms <= 1000; ms++)
		allowed += wg_ratelimit_allow(r, &a, now_ns + (uint64_t)ms * NS_PER_MS);
	assert_int_equal(allowed, 20);
	now_ns += 60 * NS_PER_S;
	for (int i = 0; i < 5; i++)
		assert_true(wg_ratelimit_allow(r, &a, now_ns));
	assert_false(wg_ratelimit_allow(r, &a, now_ns));
	wg_ratelimit_destroy(r);
}

static void test_an_ipv6_source_is_its_64(void **state)
{
	struct wg_ratelimit *r = wg_ratelimit_create();
	struct ip_addr a = { { 0x20, 1, 0xd, 0xb8 } };
	unsigned allowed = 0;

	(void)state;
	for (int i = 0; i < 100; i++) {
		a.byte[15] = (uint8_t)i;
		a.byte[8] = (uint8_t)i;
		allowed += wg_ratelimit_allow(r, &a, NS_PER_S);
	}
	assert_int_equal(allowed, WG_RATE_BURST);
	wg_ratelimit_destroy(r);
}

static void test_the_rate_table_is_bounded_and_recovers(void **state)
{
	struct wg_ratelimit *r = wg_ratelimit_create();
	unsigned refused = 0;

	(void)state;
	for (uint32_t i = 0; i < 20000; i++) {
		struct ip_addr a = ip_from_v4(i);

		refused += !wg_ratelimit_allow(r, &a, NS_PER_S);
	}
	assert_true(refused > 15000 && refused < 20000);
	for (uint32_t i = 0; i < 100; i++) {
		struct ip_addr a = ip_from_v4(0x80000000u + i);

		assert_true(wg_ratelimit_allow(r, &a, 2 * NS_PER_S));
	}
	wg_ratelimit_destroy(r);
}

static void test_indices_are_unique_and_found_until_removed(void **state)
{
	enum { COUNT = 4000 };
	struct wg_index_table t = { 0 };
	struct wg_peer *peer = (struct wg_peer *)(uintptr_t)1;
	uint32_t *index = calloc(COUNT, sizeof(*index));

	(void)state;
	assert_null(wg_index_find(&t, 5));
	assert_int_equal(wg_index_reserve(&t, 1), 0);
	index[0] = wg_index_insert(&t, peer);
	assert_int_equal(wg_index_reserve(&t, COUNT / WG_INDICES_PER_PEER), 0);
	assert_int_equal(wg_index_reserve(&t, 1), 0);
	for (unsigned i = 1; i < COUNT; i++)
		index[i] = wg_index_insert(&t, peer);
	for (unsigned i = 0; i < COUNT; i += 2)
		wg_index_remove(&t, index[i]);
	wg_index_remove(&t, 0);
	wg_index_remove(&t, index[0]);
	assert_int_equal(t.count, COUNT / 2);
	for (unsigned i = 0; i < COUNT; i++) {
		struct wg_index_entry *e = wg_index_find(&t, index[i]);

		assert_int_equal(e != NULL, i % 2);
		if (e)
			assert_int_equal(e->index, index[i]);
	}
	wg_index_finish(&t);
	free(index);
}

static struct wg_keypair *keypair(struct aead_cipher *cipher, struct wg_index_table *t,
				  bool is_initiator)
{
	static const struct symmetric_key key;
	struct wg_keypair *k = wg_keypair_create(cipher, &key, &key, is_initiator, 1);

	assert_non_null(k);
	k->local_index = wg_index_insert(t, (struct wg_peer *)(uintptr_t)1);
	wg_index_set_keypair(t, k->local_index, k);
	return k;
}

static void test_keypairs_move_from_next_to_current_to_previous(void **state)
{
	struct aead_cipher *cipher = aead_cipher_create();
	struct wg_index_table t = { 0 };
	struct wg_keypairs s = { 0 };
	struct wg_keypair *a, *b, *c;

	(void)state;
	assert_int_equal(wg_index_reserve(&t, 4), 0);
	/* As initiator: at once. */
	wg_keypairs_install(&s, a = keypair(cipher, &t, true), &t);
	assert_true(s.current == a && !s.previous && !s.next);
	wg_keypairs_install(&s, b = keypair(cipher, &t, true), &t);
	assert_true(s.current == b && s.previous == a && !s.next);
	/* As responder: when confirmed; previous goes at once. */
	wg_keypairs_install(&s, c = keypair(cipher, &t, false), &t);
	assert_true(s.current == b && !s.previous && s.next == c);
	wg_keypairs_confirm(&s, &t);
	assert_true(s.current == c && s.previous == b && !s.next);
	assert_int_equal(t.count, 2);
	/* Not confirmed, and overtaken by a newer one of either kind. */
	wg_keypairs_install(&s, a = keypair(cipher, &t, false), &t);
	wg_keypairs_install(&s, a = keypair(cipher, &t, false), &t);
	assert_true(s.current == c && !s.previous && s.next == a);
	wg_keypairs_install(&s, b = keypair(cipher, &t, true), &t);
	assert_true(s.current == b && s.previous == a && !s.next);
	assert_int_equal(t.count, 2);
	wg_keypairs_clear(&s, &t);
	assert_int_equal(t.count, 0);
	wg_index_finish(&t);
	aead_cipher_destroy(cipher);
}

static void test_the_earliest_deadline_is_first(void **state)
{
	enum { COUNT = 500 };
	struct wg_deadlines d = { 0 };
	struct wg_deadline m[COUNT];
	uint64_t before = 0;

	(void)state;
	srandom(3);
	assert_null(wg_deadlines_first(&d));
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(wg_deadlines_add(&d, &m[i]), 0);
	for (int i = 0; i < 5 * COUNT; i++)
		wg_deadlines_move(&d, &m[random() % COUNT], (uint64_t)random());
	for (int i = 0; i < COUNT; i += 3)
		wg_deadlines_remove(&d, &m[i]);
	while (wg_deadlines_first(&d)) {
		assert_true(wg_deadlines_first(&d)->at_ns >= before);
		before = wg_deadlines_first(&d)->at_ns;
		wg_deadlines_remove(&d, wg_deadlines_first(&d));
	}
	wg_deadlines_finish(&d);
}

static void test_staging_drops_the_oldest(void **state)
{
	static struct packet_batch batch;
	struct wg_staging_total total = { 0 };
	struct wg_staging s;
	uint8_t data[1000] = { 0 };
	struct packet p = { data, sizeof(data) };
	unsigned lost = 0, left = 0;

	(void)state;
	wg_staging_init(&s);
	for (uint16_t i = 0; i < 1000; i++) {
		memcpy(data, &i, sizeof(i));
		lost += wg_staging_add(&s, &total, &p);
	}
	assert_true(lost > 400 && s.bytes <= WG_STAGED_BYTES && total.bytes == s.bytes);
	batch.mtu = 1280;
	for (uint16_t want = (uint16_t)lost;;) {
		batch_reset(&batch);
		if (!wg_staging_take(&s, &total, &batch))
			break;
		left += batch.count;
		for (unsigned i = 0; i < batch.count; i++, want++)
			assert_memory_equal(batch.packet[i].data, &want, sizeof(want));
	}
	assert_int_equal(lost + left, 1000);
	assert_true(wg_staging_is_empty(&s) && !s.bytes && !total.bytes);
}

static void test_staging_of_all_peers_is_bounded(void **state)
{
	enum { PEERS = 80 };
	struct wg_staging_total total = { 0 };
	struct wg_staging s[PEERS];
	static uint8_t data[60000];
	struct packet p = { data, sizeof(data) };
	unsigned lost = 0, dropped = 0;

	(void)state;
	for (int i = 0; i < PEERS; i++) {
		wg_staging_init(&s[i]);
		for (int k = 0; k < 8; k++)
			lost += wg_staging_add(&s[i], &total, &p);
	}
	assert_true(lost > 0 && total.bytes <= WG_STAGED_BYTES_TOTAL);
	for (int i = 0; i < PEERS; i++)
		dropped += wg_staging_drop_all(&s[i], &total);
	assert_int_equal(lost + dropped, 8 * PEERS);
	assert_int_equal(total.bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_replay_window_agrees),
		cmocka_unit_test(test_the_replay_window_agrees_with_a_set),
		cmocka_unit_test(test_padding_agrees),
		cmocka_unit_test(test_load_is_a_rate_and_is_remembered_for_a_second),
		cmocka_unit_test(test_a_source_has_five_at_once_and_twenty_a_second),
		cmocka_unit_test(test_an_ipv6_source_is_its_64),
		cmocka_unit_test(test_the_rate_table_is_bounded_and_recovers),
		cmocka_unit_test(test_indices_are_unique_and_found_until_removed),
		cmocka_unit_test(test_keypairs_move_from_next_to_current_to_previous),
		cmocka_unit_test(test_the_earliest_deadline_is_first),
		cmocka_unit_test(test_staging_drops_the_oldest),
		cmocka_unit_test(test_staging_of_all_peers_is_bounded),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
