/* The loop: rounds, the deadline timer, deferred work. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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

#define PUSHED_BACK_NS (500 * NS_PER_MS) /* so late that a busy machine pushes back before */

static void push_back(evutil_socket_t fd, short events, void *arg)
{
	struct fixture *f = arg;

	(void)fd;
	(void)events;
	f->deadline_ns = f->start_ns + PUSHED_BACK_NS;
}

static void test_a_deadline_that_moves_away_and_near_is_met(void **state)
{
	struct fixture f = { 0 };
	const struct timeval soon = { 0, 1000 };
	struct event *ev;

	(void)state;
	open_loop(&f);
	f.deadline_ns = f.start_ns + PUSHED_BACK_NS - 20 * NS_PER_MS;
	ev = event_new(loop_base(f.loop), -1, 0, push_back, &f);
	assert_int_equal(event_add(ev, &soon), 0);
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(f.fired_ns >= f.start_ns + PUSHED_BACK_NS);
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

/* ---- a dialogue with another thread, a byte each way ---- */

#define QUESTIONS 2000

struct dialogue {
	struct fixture f;
	int fd[2];
	unsigned answered;
	uint64_t used_ns; /* of the processor, up to the last answer */
};

static void *ask(void *arg)
{
	struct dialogue *d = arg;
	char byte = 'q';

	for (unsigned i = 0; i < QUESTIONS; i++)
		if (write(d->fd[1], &byte, 1) != 1 || read(d->fd[1], &byte, 1) != 1)
			return NULL;
	return d;
}

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void answer(evutil_socket_t fd, short events, void *arg)
{
	struct dialogue *d = arg;
	char byte;

	(void)events;
	assert_int_equal(read(fd, &byte, 1), 1);
	loop_now(d->f.loop);
	assert_int_equal(write(fd, &byte, 1), 1);
	/* Some time after the last one, in which nothing happens, it ends. */
	if (++d->answered == QUESTIONS) {
		d->f.deadline_ns = loop_now(d->f.loop) + 300 * NS_PER_MS;
		d->used_ns = cpu_ns();
	}
}

static void test_after_a_dialogue_it_sleeps(void **state)
{
	struct dialogue d = { .f.deadline_ns = NEVER_NS };
	struct event *readable;
	pthread_t asker;
	void *whole;

	(void)state;
	open_loop(&d.f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, d.fd), 0);
	readable = event_new(loop_base(d.f.loop), d.fd[0], EV_READ | EV_PERSIST, answer, &d);
	assert_int_equal(event_add(readable, NULL), 0);
	assert_int_equal(pthread_create(&asker, NULL, ask, &d), 0);
	assert_int_equal(loop_run(d.f.loop), 0);
	assert_int_equal(pthread_join(asker, &whole), 0);
	assert_ptr_equal(whole, &d);
	assert_int_equal(d.answered, QUESTIONS);
	assert_true(d.f.fired_ns >= d.f.deadline_ns);
	assert_true(cpu_ns() - d.used_ns < 30 * NS_PER_MS);
	event_free(readable);
	close(d.fd[0]);
	close(d.fd[1]);
	loop_destroy(d.f.loop);
}

static void test_it_stays_awake_only_within_a_dialogue(void **state)
{
	struct fixture f = { 0 };
	uint64_t used_ns;

	(void)state;
	open_loop(&f);
	f.deadline_ns = f.start_ns + 200 * NS_PER_MS;
	used_ns = cpu_ns();
	assert_int_equal(loop_run(f.loop), 0);
	assert_true(cpu_ns() - used_ns < 20 * NS_PER_MS);
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
		cmocka_unit_test(test_after_a_dialogue_it_sleeps),
		cmocka_unit_test(test_it_stays_awake_only_within_a_dialogue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
