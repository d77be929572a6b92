/*
 * Preloaded into a daemon: time that passes at once. LEAP names a file of one number, the ns by
 * which CLOCK_BOOTTIME is ahead, as after a suspend; with LEAP_AWAKE CLOCK_MONOTONIC is ahead, too,
 * as on a machine that was awake. The daemon's one timer goes by the same time: as the kernel's
 * would after a suspend, it is due as soon as the daemon looks at its clock.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000

static const volatile int64_t *leap;
static bool is_awake;
static clockid_t timer_clock; /* of the daemon's one timer */
static int timer_fd = -1;
static struct timespec timer_due; /* zero: it is not armed, or not by a moment */
static int64_t armed_leap;        /* when it was armed */

static __attribute__((constructor)) void start(void)
{
	int fd = open(getenv("LEAP"), O_RDONLY | O_CLOEXEC);

	leap = mmap(NULL, sizeof(*leap), PROT_READ, MAP_SHARED, fd, 0);
	is_awake = getenv("LEAP_AWAKE") != NULL;
	close(fd);
}

static struct timespec moved(struct timespec t, int64_t by_ns)
{
	int64_t ns = (int64_t)t.tv_sec * NS_PER_S + t.tv_nsec + by_ns;

	return (struct timespec){ .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };
}

static int64_t leap_of(clockid_t clock)
{
	return clock == CLOCK_BOOTTIME || (is_awake && clock == CLOCK_MONOTONIC) ? *leap : 0;
}

static int arm(int fd, int flags, const struct itimerspec *to, struct itimerspec *old)
{
	return (int)syscall(SYS_timerfd_settime, fd, flags, to, old);
}

/* Never zero, which would disarm it. */
static struct timespec real_moment(struct timespec t)
{
	struct timespec real = moved(t, -armed_leap);

	if (real.tv_sec < 0 || (real.tv_sec == 0 && real.tv_nsec <= 0))
		real = (struct timespec){ .tv_nsec = 1 };
	return real;
}

static void let_the_timer_leap(void)
{
	struct itimerspec real = { 0 };

	if (armed_leap == leap_of(timer_clock))
		return;
	armed_leap = leap_of(timer_clock);
	if (timer_due.tv_sec == 0 && timer_due.tv_nsec == 0)
		return;
	real.it_value = real_moment(timer_due);
	arm(timer_fd, TFD_TIMER_ABSTIME, &real, NULL);
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int err = (int)syscall(SYS_clock_gettime, clock, t);

	if (err == 0 && leap) {
		*t = moved(*t, leap_of(clock));
		if (timer_fd >= 0)
			let_the_timer_leap();
	}
	return err;
}

int timerfd_create(clockid_t clock, int flags)
{
	timer_clock = clock;
	timer_fd = (int)syscall(SYS_timerfd_create, clock, flags);
	armed_leap = leap ? leap_of(clock) : 0;
	return timer_fd;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *to, struct itimerspec *old)
{
	struct itimerspec real = *to;

	timer_due = (struct timespec){ 0 };
	if (flags & TFD_TIMER_ABSTIME) {
		armed_leap = leap_of(timer_clock);
		timer_due = to->it_value;
		real.it_value = real_moment(timer_due);
	}
	return arm(fd, flags, &real, old);
}
