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
#include "daemon/awake.c"
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
	assert_true(d.loop->awake.short_rounds >= QUESTIONS - 1);
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
	/* Some such rounds after 16 and after 32 short ones; then it wants 64. */
	assert_true(yields <= 2 * MISSES * AWAKE_NS / (10 * NS_PER_US));
	assert_int_equal(d.loop->awake.needed, 4 * SHORT_ROUNDS);
	loop_destroy(d.loop);
}

/* A mark is of one look: what was marked once keeps nobody awake later. */
static void test_a_mark_does_not_outlive_its_round(void **state)
{
	struct dialogue d = { .is_marking = true };

	(void)state;
	converse(&d);
	d.loop->awake.short_rounds = SHORT_ROUNDS;
	d.loop->awake.asleep_till_ns = 0;
	d.loop->ended_ns = now_ns;
	assert_int_equal(stay_awake(d.loop), 0);
	assert_true(yields > 0);
	assert_int_equal(d.loop->awake.hits, 0);
	assert_true(d.loop->is_tired); /* the next time it sleeps */
	loop_destroy(d.loop);
}

/* ---- the decisions alone ---- */

#define ASLEEP_WAIT_NS (120 * NS_PER_US) /* of a dialogue that takes 20 us awake */
#define WORK_NS        (10 * NS_PER_US)

static void fall_into_dialogue(struct awake *a)
{
	awake_init(a, true);
	for (unsigned i = 0; i < SHORT_ROUNDS; i++) {
		assert_false(awake_wanted(a, NS_PER_S));
		awake_round(a, ASLEEP_WAIT_NS, WORK_NS);
	}
	assert_true(awake_wanted(a, NS_PER_S));
}

static void test_waits_that_are_long_only_for_sleeping_end_in_being_awake(void **state)
{
	struct awake a;

	(void)state;
	fall_into_dialogue(&a);
}

static void test_one_late_answer_puts_nobody_to_sleep(void **state)
{
	struct awake a;

	(void)state;
	fall_into_dialogue(&a);
	for (unsigned i = 0; i < 1000; i++) {
		if (i % 10 == 0) {
			awake_miss(&a);
			awake_round(&a, AWAKE_NS, WORK_NS);
		} else {
			awake_hit(&a);
			awake_round(&a, 2 * WORK_NS, WORK_NS);
		}
		assert_true(awake_wanted(&a, NS_PER_S));
	}
}

static void test_answers_that_are_never_quick_cost_ever_fewer_looks(void **state)
{
	unsigned misses = 0;
	struct awake a;

	(void)state;
	awake_init(&a, true);
	for (unsigned i = 0; i < 100000; i++) {
		if (awake_wanted(&a, NS_PER_S)) {
			awake_miss(&a);
			misses++;
		}
		awake_round(&a, 2 * AWAKE_NS, WORK_NS);
	}
	assert_in_range(misses, 100, 400);
	/* A quick one, and it is as quick to wake as at first. */
	while (!awake_wanted(&a, NS_PER_S))
		awake_round(&a, ASLEEP_WAIT_NS, WORK_NS);
	for (unsigned i = 0; i <= SHORT_ROUNDS; i++)
		awake_hit(&a);
	assert_int_equal(a.needed, SHORT_ROUNDS);
}

static void test_long_rounds_long_waits_and_one_processor_let_it_sleep(void **state)
{
	struct awake a;

	(void)state;
	fall_into_dialogue(&a);
	awake_round(&a, WORK_NS, SHORT_ROUND_NS);
	assert_false(awake_wanted(&a, NS_PER_S));
	fall_into_dialogue(&a);
	awake_round(&a, NEAR_NS, WORK_NS);
	assert_false(awake_wanted(&a, NS_PER_S));
	awake_init(&a, false);
	for (unsigned i = 0; i < 2 * SHORT_ROUNDS; i++)
		awake_round(&a, WORK_NS, WORK_NS);
	assert_false(awake_wanted(&a, NS_PER_S));
}

/* For a while: one look after the other is late. */
static void crowd(struct awake *a, uint64_t at_ns)
{
	awake_crowded(a, at_ns - NS_PER_MS);
	awake_crowded(a, at_ns);
}

static void test_others_that_need_the_processor_have_it_ever_longer(void **state)
{
	uint64_t at_ns = NS_PER_S;
	struct awake a;

	(void)state;
	fall_into_dialogue(&a);
	for (uint64_t asleep_ns = ASLEEP_NS; asleep_ns < ASLEEP_MAX_NS; asleep_ns *= 2) {
		crowd(&a, at_ns);
		assert_false(awake_wanted(&a, at_ns + asleep_ns - 1));
		assert_true(awake_wanted(&a, at_ns + asleep_ns));
		at_ns += asleep_ns + NS_PER_MS;
	}
	for (unsigned i = 0; i < 3; i++) {
		crowd(&a, at_ns);
		assert_false(awake_wanted(&a, at_ns + ASLEEP_MAX_NS - 1));
		assert_true(awake_wanted(&a, at_ns + ASLEEP_MAX_NS));
		at_ns += ASLEEP_MAX_NS + NS_PER_MS;
	}
	/* Not for long when that is over for a while. */
	at_ns += 2 * ASLEEP_MAX_NS;
	crowd(&a, at_ns);
	assert_false(awake_wanted(&a, at_ns));
	assert_true(awake_wanted(&a, at_ns + ASLEEP_NS));
}

/* Not even soon after a crowd: else the machine's own work, a few times a second, would become one.
 */
static void test_a_processor_that_was_taken_once_is_no_crowd(void **state)
{
	uint64_t at_ns = NS_PER_S;
	struct awake a;

	(void)state;
	fall_into_dialogue(&a);
	crowd(&a, at_ns);
	at_ns += ASLEEP_NS;
	for (unsigned i = 0; i < 100; i++) {
		awake_crowded(&a, at_ns);
		assert_true(awake_wanted(&a, at_ns));
		at_ns += ALONE_NS;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_marked_round_ends_at_once_and_the_dialogue_goes_on),
		cmocka_unit_test(test_an_unmarked_round_ends_late_and_so_does_the_dialogue),
		cmocka_unit_test(test_a_mark_does_not_outlive_its_round),
		cmocka_unit_test(test_waits_that_are_long_only_for_sleeping_end_in_being_awake),
		cmocka_unit_test(test_one_late_answer_puts_nobody_to_sleep),
		cmocka_unit_test(test_answers_that_are_never_quick_cost_ever_fewer_looks),
		cmocka_unit_test(test_long_rounds_long_waits_and_one_processor_let_it_sleep),
		cmocka_unit_test(test_others_that_need_the_processor_have_it_ever_longer),
		cmocka_unit_test(test_a_processor_that_was_taken_once_is_no_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
