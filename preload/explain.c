/*
 * A line is put together on the stack of the call and written at its end.
 *
 * No descriptor is kept: a file is opened for each line. Standard error may
 * have become something else (a daemon closes it, and its next socket gets
 * the number), so it is only written to while it is the file it was at start-up.
 */
#include "preload/explain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/address.h"
#include "preload/raw.h"
#include "preload/shim.h"
#include "shared/util.h"
#ifdef MESHWRAP_TRACER
#include "preload/trace_task.h"
#endif

#define SHOWN_MS_FROM_NS (NS_PER_MS / 10) /* shorter calls show no time */

bool explain_wanted;
static char file[PATH_MAX];
static dev_t stderr_dev;
static ino_t stderr_ino;
static bool has_stderr;

static const struct {
	int number;
	const char *name;
} errors[] = {
	{ EACCES, "EACCES" },
	{ EADDRINUSE, "EADDRINUSE" },
	{ EADDRNOTAVAIL, "EADDRNOTAVAIL" },
	{ EAFNOSUPPORT, "EAFNOSUPPORT" },
	{ EAGAIN, "EAGAIN" },
	{ EALREADY, "EALREADY" },
	{ EBADF, "EBADF" },
	{ ECONNABORTED, "ECONNABORTED" },
	{ ECONNREFUSED, "ECONNREFUSED" },
	{ ECONNRESET, "ECONNRESET" },
	{ EDESTADDRREQ, "EDESTADDRREQ" },
	{ EFAULT, "EFAULT" },
	{ EHOSTUNREACH, "EHOSTUNREACH" },
	{ EINPROGRESS, "EINPROGRESS" },
	{ EINTR, "EINTR" },
	{ EINVAL, "EINVAL" },
	{ EISCONN, "EISCONN" },
	{ EMFILE, "EMFILE" },
	{ EMSGSIZE, "EMSGSIZE" },
	{ ENETDOWN, "ENETDOWN" },
	{ ENETUNREACH, "ENETUNREACH" },
	{ ENOBUFS, "ENOBUFS" },
	{ ENODEV, "ENODEV" },
	{ ENOENT, "ENOENT" },
	{ ENOMEM, "ENOMEM" },
	{ ENOTCONN, "ENOTCONN" },
	{ ENOTSOCK, "ENOTSOCK" },
	{ EOPNOTSUPP, "EOPNOTSUPP" },
	{ EPERM, "EPERM" },
	{ EPIPE, "EPIPE" },
	{ EPROTONOSUPPORT, "EPROTONOSUPPORT" },
	{ ETIMEDOUT, "ETIMEDOUT" },
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void explain_start(const char *where)
{
	struct stat st;

	has_stderr = fstat(STDERR_FILENO, &st) == 0;
	stderr_dev = st.st_dev;
	stderr_ino = st.st_ino;
	if (!where || !*where || strcmp(where, "0") == 0)
		return;
	if (*where == '/' && strlen(where) < sizeof(file))
		memcpy(file, where, strlen(where) + 1);
	explain_wanted = true;
}

void explain_text(struct explain *e, const char *text)
{
	size_t n = MIN(strlen(text), sizeof(e->text) - 1 - e->len); /* room for the newline */

	memcpy(e->text + e->len, text, n);
	e->len += n;
}

void explain_number(struct explain *e, long number)
{
	char digits[24];
	size_t i = sizeof(digits) - 1;
	unsigned long n = number < 0 ? 0ul - (unsigned long)number : (unsigned long)number;

	digits[i] = '\0';
	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	if (number < 0)
		digits[--i] = '-';
	explain_text(e, digits + i);
}

#ifdef MESHWRAP_TRACER
static void who(struct explain *e)
{
	const struct trace_task *task = trace_current();

	if (!task) { /* not yet a tracer: meshrun, on its way to become the program */
		explain_number(e, getpid());
		return;
	}
	explain_number(e, task->tgid ? task->tgid : task->tid);
	if (task->tgid && task->tgid != task->tid) {
		explain_text(e, "/");
		explain_number(e, task->tid);
	}
}
#else
static void who(struct explain *e)
{
	long pid = raw_syscall(SYS_getpid), tid = raw_syscall(SYS_gettid);

	explain_number(e, pid);
	if (tid != pid) {
		explain_text(e, "/");
		explain_number(e, tid);
	}
}
#endif

void explain_begin(struct explain *e, const char *call, int fd)
{
	e->len = 0;
	e->begun_ns = now_ns();
	explain_text(e, "meshwrap[");
	who(e);
	explain_text(e, "]: ");
	explain_text(e, call);
	if (fd >= 0) {
		explain_text(e, " fd ");
		explain_number(e, fd);
	}
}

void explain_endpoint(struct explain *e, const struct endpoint *ep)
{
	const struct map *map = shim_map();
	char text[ENDPOINT_TEXT_MAX], name[MAP_NAME_MAX];

	explain_text(e, " ");
	explain_text(e, endpoint_format(ep, text));
	if (map && map_name_of(map, &ep->addr, name)) {
		explain_text(e, " (");
		explain_text(e, name);
		explain_text(e, ")");
	}
}

void explain_mirror(struct explain *e, const struct endpoint *kernel)
{
	char text[ENDPOINT_TEXT_MAX];

	explain_text(e, " -> mirror ");
	explain_text(e, endpoint_format(kernel, text));
}

void explain_address(struct explain *e, const struct sockaddr *addr, socklen_t len)
{
	struct endpoint ep;

	if (is_plausible(addr) && endpoint_from_sockaddr(addr, len, &ep) == 0)
		explain_endpoint(e, &ep);
}

void explain_left_alone(struct explain *e, const struct sockaddr *addr, socklen_t len)
{
	struct endpoint ep;
	const char *why = "not an Internet address";

	if (!is_plausible(addr) || len < sizeof(addr->sa_family))
		why = "no address";
	else if (endpoint_from_sockaddr(addr, len, &ep) == 0)
		why = ip_is_any(&ep.addr)                              ? "any address"
		      : ip_is_loopback(&ep.addr)                       ? "this machine"
		      : !shim_map() || !map_dir(shim_map())->own_count ? "no mesh is known"
								       : "not a mesh address";
	else if (addr->sa_family == AF_UNIX)
		why = "unix socket";
	else if (addr->sa_family == AF_NETLINK)
		why = "netlink";
	else if (addr->sa_family == AF_UNSPEC)
		why = "no address";
	explain_text(e, ": left alone (");
	explain_text(e, why);
	explain_text(e, ")");
}

static void explain_time(struct explain *e)
{
	uint64_t took = now_ns() - e->begun_ns;

	if (took < SHOWN_MS_FROM_NS)
		return;
	explain_text(e, " in ");
	explain_number(e, (long)(took / NS_PER_MS));
	explain_text(e, ".");
	explain_number(e, (long)(took / (NS_PER_MS / 10) % 10));
	explain_text(e, " ms");
}

void explain_result(struct explain *e, int error)
{
	explain_text(e, ": ");
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		if (error && errors[i].number == error) {
			explain_text(e, errors[i].name);
			explain_time(e);
			return;
		}
	explain_text(e, error ? "errno " : "ok");
	if (error)
		explain_number(e, error);
	explain_time(e);
}

static int open_target(void)
{
	struct stat st;

	if (*file)
		return (int)raw_syscall(SYS_openat, AT_FDCWD, file,
					O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0644);
	return has_stderr && fstat(STDERR_FILENO, &st) == 0 && st.st_dev == stderr_dev &&
			       st.st_ino == stderr_ino
		       ? STDERR_FILENO
		       : -1;
}

void explain_end(struct explain *e)
{
	int saved = errno, fd = open_target();

	e->text[e->len++] = '\n';
	if (fd >= 0)
		raw_syscall(SYS_write, fd, e->text, e->len);
	if (fd >= 0 && fd != STDERR_FILENO)
		raw_syscall(SYS_close, fd);
	errno = saved;
}

int explain_unanswered(const char *step, int error)
{
	struct explain e;

	if (!explain_is_on())
		return -ENETUNREACH;
	explain_begin(&e, "the daemon cannot be asked: ", -1);
	explain_text(&e, step);
	if (error)
		explain_result(&e, error);
	explain_end(&e);
	return -ENETUNREACH;
}
