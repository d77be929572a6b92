/*
 * Preloaded into a daemon: time that passes at once. LEAP names a file of one number, the ns by
 * which CLOCK_BOOTTIME is ahead, as after a suspend; with LEAP_AWAKE CLOCK_MONOTONIC is ahead, too,
 * as on a machine that was awake. Timers that the kernel keeps go by the same time.
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

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int err = (int)syscall(SYS_clock_gettime, clock, t);

	if (err == 0 && leap)
		*t = moved(*t, leap_of(clock));
	return err;
}

int timerfd_create(clockid_t clock, int flags)
{
	timer_clock = clock;
	return (int)syscall(SYS_timerfd_create, clock, flags);
}

/* One that is armed lets the time pass until it is armed anew, which is what the tests cause. */
int timerfd_settime(int fd, int flags, const struct itimerspec *to, struct itimerspec *old)
{
	struct itimerspec real = *to;

	if (flags & TFD_TIMER_ABSTIME)
		real.it_value = moved(to->it_value, -leap_of(timer_clock));
	if (real.it_value.tv_sec < 0 || (real.it_value.tv_sec == 0 && real.it_value.tv_nsec <= 0))
		real.it_value = (struct timespec){ .tv_nsec = 1 };
	return (int)syscall(SYS_timerfd_settime, fd, flags, &real, old);
}
