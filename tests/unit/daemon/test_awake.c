/*
 * The loop that stays awake within a dialogue, with a clock of the test's own: a
 * reading takes a microsecond, letting others run takes ten. What the loop does not
 * notice it sleeps over, and that shows as time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/util.h"

static uint64_t now_ns;
static unsigned yields;

static int test_clock_gettime(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	now_ns += NS_PER_US;
	ts->tv_sec = (time_t)(now_ns / NS_PER_S);
	ts->tv_nsec = (long)(now_ns % NS_PER_S);
	return 0;
}

static int test_sched_yield(void)
{
	yields++;
	now_ns += 10 * NS_PER_US;
	return 0;
}

static unsigned test_cores_usable(void)
{
	return 2;
}

#define clock_gettime test_clock_gettime
#define sched_yield   test_sched_yield
#define cores_usable  test_cores_usable
#include "daemon/loop.c"

#define QUESTIONS 100

struct dialogue {
	struct loop *loop;
	int pipe[2];
	bool is_marking;
	unsigned questions, answers;
	uint64_t asked_ns, slowest_ns; /* from a question to the end of its round */
};

/* As an edge that moves a program's bytes: it has no use for the time. */
static void question(evutil_socket_t fd, short events, void *arg)
{
	struct dialogue *d = arg;
	char byte;

	(void)events;
	assert_int_equal(read(fd, &byte, 1), 1);
	if (d->is_marking)
		loop_mark(d->loop);
	d->questions++;
	d->asked_ns = now_ns;
}

/* The answer goes out, and the next question is there at once. */
static uint64_t answer(void *owner, uint64_t at_ns)
{
	struct dialogue *d = owner;

	if (d->answers < d->questions) {
		d->slowest_ns = MAX(d->slowest_ns, at_ns - d->asked_ns);
		d->answers = d->questions;
	}
	if (d->answers == QUESTIONS)
		loop_stop(d->loop);
	else
		assert_int_equal(write(d->pipe[1], "q", 1), 1);
	return NEVER_NS;
}

static void converse(struct dialogue *d)
{
	const struct loop_hooks hooks = { answer, d };
	struct event *readable;

	now_ns = NS_PER_S;
	yields = 0;
	d->loop = loop_create(&hooks);
	assert_non_null(d->loop);
	assert_int_equal(pipe(d->pipe), 0);
	readable = event_new(loop_base(d->loop), d->pipe[0], EV_READ | EV_PERSIST, question, d);
	assert_non_null(readable);
	assert_int_equal(event_add(readable, NULL), 0);
	assert_int_equal(loop_run(d->loop), 0);
	assert_int_equal(d->answers, QUESTIONS);
	event_free(readable);
	close(d->pipe[0]);
	close(d->pipe[1]);
}

static void test_a_marked_round_ends_at_once_and_the_dialogue_goes_on(void **state)
{
	struct dialogue d = { .is_marking = true };

	(void)state;
	converse(&d);
	assert_true(d.slowest_ns < 10 * NS_PER_US);
	assert_int_equal(yields, 0);
	/* It was awake all the time: no round broke the row. */
	assert_true(d.loop->short_rounds >= QUESTIONS - 1);
	loop_destroy(d.loop);
}

/* Why there is a mark at all: the loop cannot know of such a callback. */
static void test_an_unmarked_round_ends_late_and_so_does_the_dialogue(void **state)
{
	struct dialogue d = { .is_marking = false };

	(void)state;
	converse(&d);
	assert_true(d.slowest_ns >= AWAKE_NS);
	assert_true(yields > 0);
	assert_true(d.loop->short_rounds <= SHORT_ROUNDS);
	loop_destroy(d.loop);
}

/* A mark is of one look: what was marked once keeps nobody awake later. */
static void test_a_mark_does_not_outlive_its_round(void **state)
{
	struct dialogue d = { .is_marking = true };

	(void)state;
	converse(&d);
	d.loop->short_rounds = SHORT_ROUNDS;
	d.loop->asleep_till_ns = 0;
	d.loop->ended_ns = now_ns;
	assert_int_equal(stay_awake(d.loop), 0);
	assert_true(yields > 0);
	assert_int_equal(d.loop->short_rounds, 0);
	loop_destroy(d.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_marked_round_ends_at_once_and_the_dialogue_goes_on),
		cmocka_unit_test(test_an_unmarked_round_ends_late_and_so_does_the_dialogue),
		cmocka_unit_test(test_a_mark_does_not_outlive_its_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
