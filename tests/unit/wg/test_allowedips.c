/* The trie against a list that is searched from end to end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/wg/allowedips.h"
#include "daemon/wg/message.h"

enum { PEERS = 200, PREFIXES = 4000 };

struct slow_entry {
	struct ip_addr addr;
	uint8_t len;
	int peer; /* -1: removed */
};

struct slow {
	struct slow_entry entry[PREFIXES];
	unsigned count;
};

static struct wg_peer *peer_at(int i)
{
	return (struct wg_peer *)(uintptr_t)(i + 1);
}

static bool covers(const struct slow_entry *e, const struct ip_addr *addr)
{
	unsigned len = e->len + (ip_is_v4(&e->addr) ? 96 : 0);

	if (ip_is_v4(addr) != ip_is_v4(&e->addr))
		return false;
	for (unsigned i = 0; i < len; i++)
		if ((addr->byte[i / 8] ^ e->addr.byte[i / 8]) & (0x80 >> i % 8))
			return false;
	return true;
}

static struct wg_peer *slow_lookup(const struct slow *s, const struct ip_addr *addr)
{
	int best = -1, best_len = -1;

	for (unsigned i = 0; i < s->count; i++) {
		const struct slow_entry *e = &s->entry[i];

		if (e->peer >= 0 && e->len > best_len && covers(e, addr)) {
			best = e->peer;
			best_len = e->len;
		}
	}
	return best < 0 ? NULL : peer_at(best);
}

static void slow_insert(struct slow *s, const struct ip_addr *addr, uint8_t len, int peer)
{
	struct slow_entry new = { *addr, len, peer };

	for (unsigned i = 0; i < s->count; i++)
		if (s->entry[i].len == len && covers(&s->entry[i], addr))
			s->entry[i].peer = -1;
	s->entry[s->count++] = new;
}

/* Few distinct bits, so that prefixes nest and fork in every way. */
static struct ip_addr random_addr(void)
{
	struct ip_addr a;

	if (random() & 1)
		return ip_from_v4((uint32_t)random() & 0xff0f3003);
	for (int i = 0; i < 16; i++)
		a.byte[i] = (uint8_t)(random() & (i % 5 ? 1 : 0x83));
	a.byte[0] = 0xfd;
	return a;
}

static void test_the_trie_agrees_with_a_list(void **state)
{
	struct slow *slow = calloc(1, sizeof(*slow));
	struct wg_allowed_list list[PEERS] = { 0 };
	struct wg_allowedips a = { 0 };

	(void)state;
	srandom(11);
	for (int i = 0; i < PREFIXES; i++) {
		struct ip_addr addr = random_addr();
		uint8_t len = (uint8_t)(random() % (ip_is_v4(&addr) ? 33 : 129));
		int peer = (int)(random() % PEERS);

		assert_int_equal(wg_allowedips_reserve(&a, 1, NULL), 0);
		wg_allowedips_insert(&a, &addr, len, peer_at(peer), &list[peer]);
		slow_insert(slow, &addr, len, peer);
		if (i % 40 == 39) {
			int gone = (int)(random() % PEERS);

			wg_allowedips_remove_all(&a, &list[gone]);
			for (unsigned k = 0; k < slow->count; k++)
				if (slow->entry[k].peer == gone)
					slow->entry[k].peer = -1;
		}
		for (int k = 0; k < 8; k++) {
			addr = random_addr();
			assert_ptr_equal(wg_allowedips_lookup(&a, &addr), slow_lookup(slow, &addr));
		}
	}
	for (int i = 0; i < PEERS; i++)
		wg_allowedips_remove_all(&a, &list[i]);
	assert_int_equal(a.prefixes, 0);
	assert_int_equal(a.root[0] | a.root[1], 0);
	wg_allowedips_finish(&a);
	free(slow);
}

static void test_default_routes_keep_to_their_family(void **state)
{
	struct wg_allowedips a = { 0 };
	struct wg_allowed_list list[2] = { 0 };
	struct ip_addr v4 = ip_from_v4(0x01020304), v6 = { { 0x20, 1 } }, any4 = ip_from_v4(0),
		       any6 = { { 0 } };

	(void)state;
	assert_null(wg_allowedips_lookup(&a, &v4));
	assert_int_equal(wg_allowedips_reserve(&a, 2, NULL), 0);
	wg_allowedips_insert(&a, &any6, 0, peer_at(6), &list[0]);
	assert_null(wg_allowedips_lookup(&a, &v4));
	assert_ptr_equal(wg_allowedips_lookup(&a, &v6), peer_at(6));
	wg_allowedips_insert(&a, &any4, 0, peer_at(4), &list[1]);
	assert_ptr_equal(wg_allowedips_lookup(&a, &v4), peer_at(4));
	assert_ptr_equal(wg_allowedips_lookup(&a, &v6), peer_at(6));
	wg_allowedips_finish(&a);
}

static void test_a_prefix_moves_to_the_peer_that_got_it_last(void **state)
{
	struct wg_allowedips a = { 0 };
	struct wg_allowed_list list[2] = { 0 };
	struct ip_addr v4 = ip_from_v4(0x64400005), other = ip_from_v4(0x644000ff);

	(void)state;
	assert_int_equal(wg_allowedips_reserve(&a, 2, NULL), 0);
	wg_allowedips_insert(&a, &v4, 24, peer_at(0), &list[0]);
	assert_ptr_equal(wg_allowedips_lookup(&a, &other), peer_at(0));
	wg_allowedips_insert(&a, &other, 24, peer_at(1), &list[1]);
	assert_ptr_equal(wg_allowedips_lookup(&a, &v4), peer_at(1));
	assert_int_equal(a.prefixes, 1);
	wg_allowedips_remove_all(&a, &list[0]);
	assert_ptr_equal(wg_allowedips_lookup(&a, &v4), peer_at(1));
	wg_allowedips_remove_all(&a, &list[1]);
	assert_null(wg_allowedips_lookup(&a, &v4));
	wg_allowedips_finish(&a);
}

static void test_prefixes_are_bounded(void **state)
{
	struct wg_allowedips a = { 0 };

	(void)state;
	assert_int_equal(wg_allowedips_reserve(&a, WG_PREFIXES_MAX + 1, NULL), -E2BIG);
	assert_int_equal(wg_allowedips_reserve(&a, 100, NULL), 0);
	assert_int_equal(wg_allowedips_reserve(&a, UINT32_MAX, NULL), -E2BIG);
	wg_allowedips_finish(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_trie_agrees_with_a_list),
		cmocka_unit_test(test_default_routes_keep_to_their_family),
		cmocka_unit_test(test_a_prefix_moves_to_the_peer_that_got_it_last),
		cmocka_unit_test(test_prefixes_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
