/*
 * The daemon's one loop: libevent's base, the cached clock, deferred work.
 *
 * A round is: wait for descriptors or the deadline, run their callbacks, then
 * run the deferred list and the round-end hook. The hook is where one batch of
 * everything that the callbacks caused goes out, and where modules are told
 * of passed deadlines.
 */
#ifndef MESHWRAP_DAEMON_LOOP_H
#define MESHWRAP_DAEMON_LOOP_H

#include <stdint.h>

struct event_base;
struct loop;

struct loop_hooks {
	/* The end of a round: flush, expire, and return the next deadline (of loop_now(),
	 * NEVER_NS). */
	uint64_t (*round_end)(void *owner, uint64_t now_ns);
	void *owner;
};

struct loop *loop_create(const struct loop_hooks *hooks);
void loop_destroy(struct loop *loop);
struct event_base *loop_base(struct loop *loop);
/* CLOCK_BOOTTIME in ns: never back, and it counts suspend, so it may leap ahead. Read once a round
 * (and after each wake-up). */
uint64_t loop_now(const struct loop *loop);
/* From a callback that does not ask for the time: the end of this round has something to do, now.
 */
void loop_mark(struct loop *loop);
/* Runs fn(arg) after the callbacks of this round: the place for frees. 0 or -ENOMEM. */
int loop_defer(struct loop *loop, void (*fn)(void *arg), void *arg);
/* Until loop_stop(). 0 or -errno. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

#endif
