/*
 * Each call is tried once where it can do nothing: on no descriptor, where a kernel that
 * knows it says EBADF. Docker's rules answer EPERM, podman's ENOSYS; gVisor and old
 * kernels say what they like. Those that make a descriptor do make one.
 *
 * accept4() and getsockopt() are how programs come to be served, the two with "mmsg" how
 * datagrams come and go, and the rest is in the loop.
 */
#include "daemon/calls.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"

static int try_accept4(void)
{
	return accept4(-1, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int try_eventfd2(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static int try_getsockopt(void)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(-1, SOL_SOCKET, SO_PEERCRED, &who, &len);
}

static int try_recvmmsg(void)
{
	struct mmsghdr none = { 0 };

	return recvmmsg(-1, &none, 1, MSG_DONTWAIT, NULL);
}

static int try_sendmmsg(void)
{
	struct mmsghdr none = { 0 };

	return sendmmsg(-1, &none, 1, MSG_DONTWAIT);
}

static int try_timerfd_create(void)
{
	return timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
}

static int try_timerfd_settime(void)
{
	const struct itimerspec none = { 0 };

	return timerfd_settime(-1, TFD_TIMER_ABSTIME, &none, NULL);
}

/* EBADF: it is there. What is merely short is for who needs it to tell. */
static bool is_refusal(int err)
{
	return err != EBADF && err != EMFILE && err != ENFILE && err != ENOMEM;
}

int calls_check(char error[static 256])
{
	static const struct {
		const char *name;
		int (*try)(void);
	} calls[] = {
		{ "accept4", try_accept4 },
		{ "eventfd2", try_eventfd2 },
		{ "getsockopt", try_getsockopt },
		{ "recvmmsg", try_recvmmsg },
		{ "sendmmsg", try_sendmmsg },
		{ "timerfd_create", try_timerfd_create },
		{ "timerfd_settime", try_timerfd_settime },
	};

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		int fd = calls[i].try(), err = errno;

		if (fd >= 0) {
			close(fd);
		} else if (is_refusal(err)) {
			snprintf(error, 256,
				 "the system call %s is refused here (%s), and nothing works "
				 "without it; let the sandbox's rules allow it",
				 calls[i].name, strerror(err));
			return -err;
		}
	}
	return 0;
}
