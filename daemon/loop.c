/*
 * The one loop.
 *
 * A round is one event_base_loop(EVLOOP_ONCE): wait, run the callbacks of what
 * is ready; then the deferred list and the round-end hook. The hook may defer
 * more (a connection that ended while packets were flushed), so both are
 * repeated until nothing is left to do. Deferred functions free things; one
 * that defers itself again would never let the round end.
 *
 * The clock is read when it is first asked for after a wait, so a round costs
 * one reading, and every callback of it sees the same time. It counts the time that
 * the machine is suspended, as peers do, who forget keys and close doors meanwhile;
 * what fell due asleep is due once, when it wakes.
 *
 * The deadline is a timerfd of our own rather than a libevent timer: libevent
 * waits in whole milliseconds, or (with its precise timers) makes a system call
 * in each round. Here one is made only when the deadline comes nearer. When it
 * moves away the armed time stays, and the wake-up that comes too early arms it
 * anew: a retransmission timer that is pushed back by every ACK costs nothing.
 *
 * Within a dialogue the loop stays awake (daemon/awake.h), letting others run between
 * two looks.
 */
#include "daemon/loop.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/awake.h"
#include "daemon/cores.h"
#include "shared/util.h"

#define DEFERRED_FIRST 64

struct deferred {
	void (*fn)(void *arg);
	void *arg;
};

/* Apart from struct loop, since asking for the time through a const loop may read it. */
struct loop_clock {
	uint64_t now_ns;
	bool is_stale;
};

struct loop {
	struct loop_hooks hooks;
	struct event_base *base;
	struct event *timer_event;
	struct loop_clock *clock;
	int timer_fd;
	uint64_t armed_ns; /* NEVER_NS: the timer is not running */
	struct deferred *deferred;
	size_t deferred_count, deferred_room;
	bool is_stopping;
	bool is_marked;    /* by a callback of this look */
	bool is_tired;     /* it stayed awake, and nothing came */
	uint64_t ended_ns; /* the last round */
	struct awake awake;
};

static uint64_t read_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct loop *loop = arg;
	uint64_t expirations;

	(void)events;
	/* EAGAIN: it was armed anew after it had fired, and will fire again. */
	if (read(fd, &expirations, sizeof(expirations)) == (ssize_t)sizeof(expirations))
		loop->armed_ns = NEVER_NS;
}

static int arm_timer(struct loop *loop, uint64_t deadline_ns)
{
	struct itimerspec spec = { 0 };

	if (deadline_ns >= loop->armed_ns)
		return 0;
	if (deadline_ns == 0)
		deadline_ns = 1; /* zero would disarm it */
	spec.it_value.tv_sec = (time_t)(deadline_ns / NS_PER_S);
	spec.it_value.tv_nsec = (long)(deadline_ns % NS_PER_S);
	if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) != 0)
		return -errno;
	loop->armed_ns = deadline_ns;
	return 0;
}

static void run_deferred(struct loop *loop)
{
	/* By index: a deferred function may defer, which moves the array. */
	for (size_t i = 0; i < loop->deferred_count; i++) {
		struct deferred d = loop->deferred[i];

		d.fn(d.arg);
	}
	loop->deferred_count = 0;
}

static int end_round(struct loop *loop)
{
	uint64_t deadline_ns = NEVER_NS;

	do {
		run_deferred(loop);
		if (loop->hooks.round_end)
			deadline_ns = loop->hooks.round_end(loop->hooks.owner, loop_now(loop));
	} while (loop->deferred_count > 0);
	loop->clock->is_stale = true;
	return arm_timer(loop, deadline_ns);
}

struct loop *loop_create(const struct loop_hooks *hooks)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->timer_fd = -1;
	loop->armed_ns = NEVER_NS;
	if (hooks)
		loop->hooks = *hooks;
	loop->clock = calloc(1, sizeof(*loop->clock));
	loop->base = event_base_new();
	loop->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (!loop->clock || !loop->base || loop->timer_fd < 0)
		goto fail;
	loop->clock->is_stale = true;
	loop->timer_event =
		event_new(loop->base, loop->timer_fd, EV_READ | EV_PERSIST, timer_fired, loop);
	if (!loop->timer_event || event_add(loop->timer_event, NULL) != 0)
		goto fail;
	return loop;
fail:
	loop_destroy(loop);
	return NULL;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	run_deferred(loop);
	if (loop->timer_event)
		event_free(loop->timer_event);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	if (loop->base)
		event_base_free(loop->base);
	free(loop->deferred);
	free(loop->clock);
	free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

uint64_t loop_now(const struct loop *loop)
{
	if (loop->clock->is_stale) {
		loop->clock->now_ns = read_clock();
		loop->clock->is_stale = false;
	}
	return loop->clock->now_ns;
}

int loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg)
{
	if (loop->deferred_count == loop->deferred_room) {
		size_t room = loop->deferred_room ? loop->deferred_room * 2 : DEFERRED_FIRST;
		struct deferred *grown = realloc(loop->deferred, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		loop->deferred = grown;
		loop->deferred_room = room;
	}
	loop->deferred[loop->deferred_count++] = (struct deferred){ fn, arg };
	return 0;
}

void loop_mark(struct loop *loop)
{
	loop->is_marked = true;
}

/* Most of what matters asks for the time; the rest marks. */
static bool has_run(const struct loop *loop)
{
	return loop->is_marked || !loop->clock->is_stale;
}

static int sleep_once(struct loop *loop)
{
	return event_base_loop(loop->base, EVLOOP_ONCE) < 0 ? -EIO : 0;
}

/* Looks again and again for a short while. 0 or -EIO. */
static int stay_awake(struct loop *loop)
{
	uint64_t now_ns = loop->ended_ns;

	while (now_ns - loop->ended_ns < AWAKE_NS) {
		uint64_t last_ns = now_ns;

		loop->is_marked = false;
		if (event_base_loop(loop->base, EVLOOP_NONBLOCK) < 0)
			return -EIO;
		if (has_run(loop) || loop->is_stopping) {
			awake_hit(&loop->awake);
			return 0;
		}
		sched_yield();
		now_ns = read_clock();
		if (now_ns - last_ns > AWAKE_CROWDED_NS)
			awake_crowded(&loop->awake, now_ns);
	}
	/* What it has run that neither marks nor asks for the time may want the round to end. */
	awake_miss(&loop->awake);
	loop->is_tired = true;
	return 0;
}

/* Until something has happened, mostly. 0 or -EIO. */
static int wait_for_work(struct loop *loop)
{
	if (!loop->is_tired && awake_wanted(&loop->awake, loop->ended_ns))
		return stay_awake(loop);
	loop->is_tired = false;
	return sleep_once(loop);
}

static void count_round(struct loop *loop, uint64_t begun_ns)
{
	uint64_t now_ns = read_clock();

	awake_round(&loop->awake, begun_ns - loop->ended_ns, now_ns - begun_ns);
	loop->ended_ns = now_ns;
}

int loop_run(struct loop *loop)
{
	int err = end_round(loop); /* what start-up has queued, and the first deadline */

	awake_init(&loop->awake, cores_usable() > 1);
	while (err == 0 && !loop->is_stopping) {
		uint64_t begun_ns;

		err = wait_for_work(loop);
		begun_ns = loop_now(loop);
		if (err == 0)
			err = end_round(loop);
		count_round(loop, begun_ns);
	}
	loop->is_stopping = false;
	return err;
}

void loop_stop(struct loop *loop)
{
	loop->is_stopping = true;
}
