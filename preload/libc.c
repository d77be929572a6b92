/*
 * Binding the real functions.
 *
 * dlsym() may allocate and lock, so it is asked for everything once, at
 * start-up. The order of constructors is not ours to choose: before that
 * moment the socket calls below stand in for libc's. They are no cancellation
 * points, which nobody needs in a constructor.
 */
#include "preload/libc.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/raw.h"

static int raw_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)raw_syscall(SYS_connect, fd, addr, len);
}

static int raw_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)raw_syscall(SYS_bind, fd, addr, len);
}

static int raw_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)raw_syscall(SYS_accept4, fd, addr, len, 0);
}

static int raw_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return (int)raw_syscall(SYS_accept4, fd, addr, len, flags);
}

static int raw_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)raw_syscall(SYS_getsockname, fd, addr, len);
}

static int raw_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)raw_syscall(SYS_getpeername, fd, addr, len);
}

static int raw_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	return (int)raw_syscall(SYS_getsockopt, fd, level, name, value, len);
}

static int raw_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)raw_syscall(SYS_setsockopt, fd, level, name, value, len);
}

static ssize_t raw_sendto(int fd, const void *data, size_t n, int flags,
			  const struct sockaddr *addr, socklen_t len)
{
	return raw_syscall(SYS_sendto, fd, data, n, flags, addr, len);
}

static ssize_t raw_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return raw_syscall(SYS_sendmsg, fd, msg, flags);
}

static int raw_sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	return (int)raw_syscall(SYS_sendmmsg, fd, msgs, count, flags);
}

static ssize_t raw_recvfrom(int fd, void *data, size_t n, int flags, struct sockaddr *addr,
			    socklen_t *len)
{
	return raw_syscall(SYS_recvfrom, fd, data, n, flags, addr, len);
}

static ssize_t raw_recvmsg(int fd, struct msghdr *msg, int flags)
{
	return raw_syscall(SYS_recvmsg, fd, msg, flags);
}

static int raw_recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags,
			struct timespec *timeout)
{
	return (int)raw_syscall(SYS_recvmmsg, fd, msgs, count, flags, timeout);
}

static int raw_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return (int)raw_syscall(SYS_rt_sigprocmask, how, set, old, _NSIG / 8);
}

static int raw_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	int saved = errno, err = raw_sigprocmask(how, set, old) < 0 ? errno : 0;

	errno = saved;
	return err;
}

/* libc alone knows the way back from a handler. */
static int raw_sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
	int (*real)(int, const struct sigaction *, struct sigaction *);

	*(void **)&real = dlsym(RTLD_NEXT, "sigaction");
	return real(number, action, old);
}

static sighandler_t raw_signal(int number, sighandler_t handler)
{
	sighandler_t (*real)(int, sighandler_t);

	*(void **)&real = dlsym(RTLD_NEXT, "signal");
	return real(number, handler);
}

#define RAW_MEMBER(ret, name, args) .name = raw_##name,
struct libc_calls libc = { LIBC_SOCKET_CALLS(RAW_MEMBER) LIBC_SIGNAL_CALLS(RAW_MEMBER) };
#undef RAW_MEMBER

bool libc_is_glibc;

#define BIND_MEMBER(ret, name, args)      \
	symbol = dlsym(RTLD_NEXT, #name); \
	if (symbol)                       \
		libc.name = (ret(*) args)symbol;

void libc_bind(void)
{
	void *symbol;

	LIBC_SOCKET_CALLS(BIND_MEMBER)
	LIBC_NAME_CALLS(BIND_MEMBER)
	LIBC_EXEC_CALLS(BIND_MEMBER)
	LIBC_SIGNAL_CALLS(BIND_MEMBER)
	libc_is_glibc = dlsym(RTLD_DEFAULT, "gnu_get_libc_version") != NULL;
}
