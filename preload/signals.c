/*
 * Calls that are trapped come as SIGSYS (trap.c). The kernel ends a program whose thread has
 * blocked it, and with another handler in place of ours the call would be lost. Programs do both
 * without meaning it: threads of servers block all signals there are, and scripts and children
 * that begin anew handle all of them. So SIGSYS stays out of what is
 * blocked, also before there is any trap, since threads live on; and once our handler is
 * there, the program's stands behind it, which has the signals that are not ours.
 *
 * What libc blocks inside its own functions it opens again before they return. Masks that are
 * in force during a wait or a handler (ppoll(), sa_mask) are left alone: no library makes
 * network calls there.
 *
 * Nothing here starts the shim: an allocator may ask inside its own start.
 */
#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "preload/libc.h"
#include "preload/trap.h"

#define MASK_BYTES (_NSIG / 8) /* of a set that the kernel reads; a caller's may have no more */

/* The set, or a copy of it without SIGSYS. */
static const sigset_t *leave_open(int how, const sigset_t *set, sigset_t *copy)
{
	if (!trap_is_possible() || !set || how == SIG_UNBLOCK || sigismember(set, SIGSYS) != 1)
		return set;
	sigemptyset(copy);
	memcpy(copy, set, MASK_BYTES);
	sigdelset(copy, SIGSYS);
	return copy;
}

SHIM_EXPORT(int, sigprocmask, (int how, const sigset_t *set, sigset_t *old))
{
	sigset_t copy;

	return libc.sigprocmask(how, leave_open(how, set, &copy), old);
}

SHIM_EXPORT(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *old))
{
	sigset_t copy;

	return libc.pthread_sigmask(how, leave_open(how, set, &copy), old);
}

SHIM_EXPORT(int, sigaction, (int number, const struct sigaction *action, struct sigaction *old))
{
	if (number != SIGSYS || !trap_has_handler())
		return libc.sigaction(number, action, old);
	trap_put_behind(action, old);
	return 0;
}

SHIM_EXPORT(sighandler_t, signal, (int number, sighandler_t handler))
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART }, old;

	if (number != SIGSYS || !trap_has_handler() || handler == SIG_ERR)
		return libc.signal(number, handler);
	trap_put_behind(&action, &old);
	return old.sa_handler;
}
