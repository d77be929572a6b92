/* The loop: rounds, the deadline timer, deferred work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <event2/event.h>

#include "daemon/loop.h"
#include "shared/util.h"

struct fixture {
	struct loop *loop;
	uint64_t start_ns, deadline_ns, fired_ns;
	unsigned rounds, deferred, stop_after;
};

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	struct fixture *f = owner;

	f->rounds++;
	if (now_ns >= f->deadline_ns && !f->fired_ns)
		f->fired_ns = now_ns;
	if (f->fired_ns || (f->stop_after && f->rounds >= f->stop_after))
		loop_stop(f->loop);
	return f->fired_ns ? NEVER_NS : f->deadline_ns;
}

static void open_loop(struct fixture *f)
{
	const struct loop_hooks hooks = { round_end, f };

	f->loop = loop_create(&hooks);
	assert_non_null(f->loop);
	f->start_ns = loop_now(f->loop);
}

static void test_the_round_end_runs_soon_after_its_deadline(void **state)
{
	struct fixture f = { 0 };

	(void)state;
	open_loop(&f);
	f.deadline_ns = f.start_ns + 300 * NS_PER_US;
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(f.fired_ns >= f.deadline_ns);
	assert_true(f.rounds <= 3);
	loop_destroy(f.loop);
}

static void test_a_deadline_that_has_passed_does_not_hang(void **state)
{
	struct fixture f = { 0 };

	(void)state;
	open_loop(&f);
	f.deadline_ns = 1;
	assert_int_equal(loop_run(f.loop), 0);
	loop_destroy(f.loop);
}

static void push_back(evutil_socket_t fd, short events, void *arg)
{
	struct fixture *f = arg;

	(void)fd;
	(void)events;
	f->deadline_ns = f->start_ns + 6 * NS_PER_MS;
}

static void test_a_deadline_that_moves_away_and_near_is_met(void **state)
{
	struct fixture f = { 0 };
	const struct timeval soon = { 0, 1000 };
	struct event *ev;

	(void)state;
	open_loop(&f);
	f.deadline_ns = f.start_ns + 4 * NS_PER_MS;
	ev = event_new(loop_base(f.loop), -1, 0, push_back, &f);
	assert_int_equal(event_add(ev, &soon), 0);
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(f.fired_ns >= f.start_ns + 6 * NS_PER_MS);
	event_free(ev);

	f.start_ns = loop_now(f.loop);
	f.fired_ns = 0;
	f.deadline_ns = f.start_ns + NS_PER_MS; /* nearer than anything armed before */
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(f.fired_ns >= f.deadline_ns);
	loop_destroy(f.loop);
}

static void count_deferred(void *arg)
{
	struct fixture *f = arg;

	f->deferred++;
}

static void defer_again(void *arg)
{
	struct fixture *f = arg;

	f->deferred++;
	for (int i = 0; i < 200; i++)
		assert_int_equal(loop_defer(f->loop, count_deferred, f), 0);
}

static void test_deferred_work_runs_in_the_same_round_and_may_defer(void **state)
{
	struct fixture f = { .stop_after = 1, .deadline_ns = NEVER_NS };

	(void)state;
	open_loop(&f);
	assert_int_equal(loop_defer(f.loop, defer_again, &f), 0);
	assert_int_equal(f.deferred, 0);
	assert_int_equal(loop_run(f.loop), 0);
	assert_int_equal(f.deferred, 201);
	loop_destroy(f.loop);
}

static void test_deferred_work_is_done_even_if_the_loop_never_ran(void **state)
{
	struct fixture f = { 0 };

	(void)state;
	open_loop(&f);
	assert_int_equal(loop_defer(f.loop, count_deferred, &f), 0);
	loop_destroy(f.loop);
	assert_int_equal(f.deferred, 1);
	loop_destroy(NULL);
}

static void test_the_clock_stands_still_within_a_round(void **state)
{
	const struct timespec nap = { 0, 100000 };
	struct fixture f = { 0 };
	uint64_t first;

	(void)state;
	open_loop(&f);
	first = loop_now(f.loop);
	nanosleep(&nap, NULL);
	assert_true(loop_now(f.loop) == first);
	loop_destroy(f.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_round_end_runs_soon_after_its_deadline),
		cmocka_unit_test(test_a_deadline_that_has_passed_does_not_hang),
		cmocka_unit_test(test_a_deadline_that_moves_away_and_near_is_met),
		cmocka_unit_test(test_deferred_work_runs_in_the_same_round_and_may_defer),
		cmocka_unit_test(test_deferred_work_is_done_even_if_the_loop_never_ran),
		cmocka_unit_test(test_the_clock_stands_still_within_a_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
