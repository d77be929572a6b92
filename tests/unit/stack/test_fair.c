/* Who goes when a table is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/stack/fair.h"

#define ROOM 600

static const uint8_t secret[16] = { 7 };

struct thing {
	struct fair_entry fair;
	const void *peer;
	bool is_in;
};

struct table {
	struct fair fair;
	unsigned count;
	uint64_t now_ns;
	struct thing thing[8 * ROOM];
	unsigned made;
};

static const char peers[32];

static int setup(void **state)
{
	struct table *t = calloc(1, sizeof(*t));

	fair_init(&t->fair, secret);
	t->now_ns = 1000 * NS_PER_S;
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static struct thing *add(struct table *t, const void *peer)
{
	struct thing *thing = &t->thing[t->made++];

	assert_true(t->made <= ARRAY_LEN(t->thing));
	if (t->count == ROOM) {
		struct thing *gone =
			CONTAINER_OF(fair_evict(&t->fair, t->now_ns), struct thing, fair);

		assert_true(gone->is_in);
		gone->is_in = false;
		t->count--;
	}
	t->now_ns += NS_PER_MS;
	thing->peer = peer;
	thing->is_in = true;
	fair_enter(&t->fair, &thing->fair, peer, t->now_ns);
	t->count++;
	return thing;
}

static unsigned count_of(const struct table *t, const void *peer)
{
	unsigned count = 0;

	for (unsigned i = 0; i < t->made; i++)
		count += t->thing[i].is_in && t->thing[i].peer == peer;
	return count;
}

static void test_a_greedy_peer_pushes_out_its_own(void **state)
{
	struct table *t = *state;
	struct thing *few[5];

	for (unsigned i = 0; i < ARRAY_LEN(few); i++)
		few[i] = add(t, &peers[i]);
	for (unsigned i = 0; i < 3 * ROOM; i++)
		add(t, &peers[9]);
	for (unsigned i = 0; i < ARRAY_LEN(few); i++)
		assert_true(few[i]->is_in);
	assert_int_equal(count_of(t, &peers[9]), ROOM - ARRAY_LEN(few));
	assert_int_equal(t->fair.stats.evicted, 2 * ROOM + ARRAY_LEN(few));
	assert_int_equal(t->fair.stats.over_share, 2 * ROOM + ARRAY_LEN(few));
}

static void test_who_comes_late_gets_its_share_from_the_greedy_one(void **state)
{
	struct table *t = *state;

	for (unsigned i = 0; i < ROOM; i++)
		add(t, &peers[1]);
	for (unsigned i = 0; i < ROOM; i++)
		add(t, &peers[2]);
	assert_in_range(count_of(t, &peers[1]), ROOM / 2 - 1, ROOM / 2 + 1);
	for (unsigned i = 0; i < ROOM; i++) {
		add(t, &peers[1]);
		add(t, &peers[2]);
		add(t, &peers[3]);
	}
	for (unsigned i = 1; i <= 3; i++) {
		struct thing *oldest = CONTAINER_OF(TAILQ_FIRST(fair_list_of(&t->fair, &peers[i])),
						    struct thing, fair);

		assert_in_range(count_of(t, &peers[i]), ROOM / 3 - 2, ROOM / 3 + 2);
		assert_ptr_equal(oldest->peer, &peers[i]);
	}
}

static void test_alone_a_peer_has_it_all_and_its_oldest_goes(void **state)
{
	struct table *t = *state;

	for (unsigned i = 0; i < ROOM; i++)
		add(t, NULL);
	fair_used(&t->fair, &t->thing[0].fair, t->now_ns);
	add(t, NULL);
	assert_true(t->thing[0].is_in);
	assert_false(t->thing[1].is_in);
	assert_ptr_equal(fair_newest(&t->fair), &t->thing[ROOM].fair);
	assert_int_equal(t->fair.stats.over_share, 0);
}

static void test_what_is_idle_goes_first_whosever_it_is(void **state)
{
	struct table *t = *state;
	struct thing *old = add(t, &peers[1]), *kept = add(t, &peers[1]);

	t->now_ns += FAIR_IDLE_NS;
	fair_used(&t->fair, &kept->fair, t->now_ns);
	for (unsigned i = 0; i < ROOM; i++)
		add(t, &peers[2]);
	assert_false(old->is_in);
	assert_true(kept->is_in);
	assert_int_equal(count_of(t, &peers[2]), ROOM - 1);
}

static void test_an_empty_table_has_none_that_goes(void **state)
{
	struct table *t = *state;
	struct thing *thing = add(t, &peers[1]);

	fair_leave(&t->fair, &thing->fair);
	assert_null(fair_evict(&t->fair, t->now_ns));
	assert_null(fair_newest(&t->fair));
	assert_int_equal(t->fair.stats.evicted, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_greedy_peer_pushes_out_its_own),
		TEST(test_who_comes_late_gets_its_share_from_the_greedy_one),
		TEST(test_alone_a_peer_has_it_all_and_its_oldest_goes),
		TEST(test_what_is_idle_goes_first_whosever_it_is),
		TEST(test_an_empty_table_has_none_that_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
