/* The edge's timers: order, cancelling, and timers that change timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/edge/timer.h"
#include "shared/util.h"

#define MANY 2000

static struct edge_timers timers;
static struct edge_timer many[MANY];
static uint64_t last_ns;
static unsigned fired_count;

static void in_order(struct edge_timer *timer, uint64_t now_ns)
{
	assert_true(timer->at_ns >= last_ns);
	assert_true(timer->at_ns <= now_ns);
	last_ns = timer->at_ns;
	fired_count++;
}

static void test_timers_fire_in_order_whatever_was_cancelled(void **state)
{
	unsigned left = 0;

	(void)state;
	srand(7);
	for (unsigned i = 0; i < MANY; i++) {
		many[i].fired = in_order;
		edge_timer_set(&timers, &many[i], (uint64_t)rand() % 1000);
	}
	for (unsigned i = 0; i < MANY; i += 3)
		edge_timer_cancel(&timers, &many[i]);
	for (unsigned i = 1; i < MANY; i += 3)
		edge_timer_set(&timers, &many[i], (uint64_t)rand() % 1000 + 500);
	for (unsigned i = 0; i < MANY; i++)
		left += many[i].prev != NULL;
	for (uint64_t now = 0; now < 1600; now += 100) {
		edge_timers_expire(&timers, now);
		assert_true(edge_timers_deadline(&timers) > now);
	}
	assert_int_equal(fired_count, left);
	assert_true(edge_timers_deadline(&timers) == NEVER_NS);
}

static void sets_itself_again(struct edge_timer *timer, uint64_t now_ns)
{
	fired_count++;
	edge_timer_set(&timers, timer, now_ns + 10);
}

static void test_a_timer_may_set_itself_again(void **state)
{
	struct edge_timer t = { .fired = sets_itself_again };

	(void)state;
	fired_count = 0;
	edge_timer_set(&timers, &t, 5);
	edge_timers_expire(&timers, 4);
	assert_int_equal(fired_count, 0);
	edge_timers_expire(&timers, 5);
	edge_timers_expire(&timers, 14);
	edge_timers_expire(&timers, 15);
	assert_int_equal(fired_count, 2);
	edge_timer_cancel(&timers, &t);
	edge_timer_cancel(&timers, &t);
	assert_true(edge_timers_deadline(&timers) == NEVER_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers_fire_in_order_whatever_was_cancelled),
		cmocka_unit_test(test_a_timer_may_set_itself_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
