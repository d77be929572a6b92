/* Calm is a stretch with hardly a round; then nothing is looked at until much has happened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/calm.h"
#include "shared/util.h"

#define STRETCH (300 * NS_PER_MS)

static void rounds(struct calm *calm, unsigned count, uint64_t now_ns)
{
	while (count-- > 0)
		calm_round(calm, now_ns);
}

static void test_a_calm_stretch_is_told_once(void **state)
{
	struct calm calm;

	(void)state;
	calm_expect(&calm, 7);
	assert_int_equal(calm.deadline_ns, 7 + STRETCH);
	rounds(&calm, 4, 8);
	assert_true(calm_expired(&calm, 7 + STRETCH));
	assert_true(calm.deadline_ns == NEVER_NS);
	rounds(&calm, 100, 20 * STRETCH);
	assert_true(calm.deadline_ns == NEVER_NS);
}

static void test_a_busy_loop_is_looked_at_again(void **state)
{
	struct calm calm;

	(void)state;
	calm_expect(&calm, 0);
	for (uint64_t i = 1; i < 5; i++) {
		rounds(&calm, 5000, i * STRETCH - 1);
		assert_int_equal(calm.deadline_ns, i * STRETCH);
		assert_false(calm_expired(&calm, i * STRETCH));
	}
	assert_true(calm_expired(&calm, 5 * STRETCH));
}

static void test_much_after_a_calm_time_is_looked_at_again(void **state)
{
	struct calm calm;

	(void)state;
	calm_expect(&calm, 0);
	assert_true(calm_expired(&calm, STRETCH));
	rounds(&calm, 5000, 9 * STRETCH);
	assert_int_equal(calm.deadline_ns, 10 * STRETCH);
	calm_expect(&calm, 11 * STRETCH);
	assert_true(calm_expired(&calm, 12 * STRETCH));
	calm_expect(&calm, 13 * STRETCH);
	assert_int_equal(calm.deadline_ns, 14 * STRETCH);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_calm_stretch_is_told_once),
		cmocka_unit_test(test_a_busy_loop_is_looked_at_again),
		cmocka_unit_test(test_much_after_a_calm_time_is_looked_at_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
