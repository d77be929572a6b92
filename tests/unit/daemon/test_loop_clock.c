/* The loop's clock: it counts the time that the machine sleeps. The clocks here are the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>

#include <cmocka.h>
#include <event2/event.h>

#include "shared/util.h"

#define HOURS_NS (3600 * NS_PER_S)

static uint64_t awake_ns; /* CLOCK_MONOTONIC */
static uint64_t slept_ns;
static int timer_clock = -1;

static int test_clock_gettime(clockid_t clock, struct timespec *ts)
{
	uint64_t now_ns = awake_ns + (clock == CLOCK_BOOTTIME ? slept_ns : 0);

	assert_true(clock == CLOCK_BOOTTIME || clock == CLOCK_MONOTONIC);
	ts->tv_sec = (time_t)(now_ns / NS_PER_S);
	ts->tv_nsec = (long)(now_ns % NS_PER_S);
	return 0;
}

static int test_timerfd_create(clockid_t clock, int flags)
{
	timer_clock = clock;
	return timerfd_create(clock, flags);
}

#define clock_gettime  test_clock_gettime
#define timerfd_create test_timerfd_create
#include "daemon/loop.c" /* NOLINT: with the test's clocks */
#undef clock_gettime
#undef timerfd_create

struct fixture {
	struct loop *loop;
	uint64_t deadline_ns, late_ns;
	unsigned rounds, expired;
};

static uint64_t fixture_round_end(void *owner, uint64_t now_ns)
{
	struct fixture *f = owner;

	f->rounds++;
	if (now_ns >= f->deadline_ns) {
		f->expired++;
		f->late_ns = now_ns - f->deadline_ns;
		f->deadline_ns = now_ns + 60 * NS_PER_S;
	}
	return f->deadline_ns;
}

static void wake_up(evutil_socket_t fd, short events, void *arg)
{
	(void)fd, (void)events, (void)arg;
	slept_ns += 8 * HOURS_NS;
}

static void stop_loop(evutil_socket_t fd, short events, void *arg)
{
	struct fixture *f = arg;

	(void)fd, (void)events;
	loop_stop(f->loop);
}

static void test_what_fell_due_asleep_is_due_once(void **state)
{
	const struct loop_hooks hooks = { fixture_round_end, &(struct fixture){ 0 } };
	struct fixture *f = hooks.owner;
	const struct timeval soon = { 0, 5000 }, later = { 0, 60000 };

	(void)state;
	f->loop = loop_create(&hooks);
	assert_non_null(f->loop);
	f->deadline_ns = loop_now(f->loop) + 60 * NS_PER_S;
	assert_int_equal(event_base_once(loop_base(f->loop), -1, EV_TIMEOUT, wake_up, f, &soon), 0);
	assert_int_equal(event_base_once(loop_base(f->loop), -1, EV_TIMEOUT, stop_loop, f, &later),
			 0);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->expired, 1);
	assert_true(f->late_ns >= 8 * HOURS_NS - 60 * NS_PER_S);
	/* The start, the wake-up, the end, and at most the timer that was armed before. */
	assert_true(f->rounds <= 4);
	assert_int_equal(f->deadline_ns, loop_now(f->loop) + 60 * NS_PER_S);
	loop_destroy(f->loop);
}

static void test_the_timer_goes_by_the_same_clock(void **state)
{
	struct loop *loop = loop_create(NULL);

	(void)state;
	assert_non_null(loop);
	assert_int_equal(timer_clock, CLOCK_BOOTTIME);
	loop_destroy(loop);
}

/* Not before the true time, by which the kernel's timer goes: that would fire for ever. */
static int start_clock(void **state)
{
	struct timespec ts;

	(void)state;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	awake_ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_fell_due_asleep_is_due_once),
		cmocka_unit_test(test_the_timer_goes_by_the_same_clock),
	};

	return cmocka_run_group_tests(tests, start_clock, NULL);
}
