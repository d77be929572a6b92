/*
 * What a traced program starts inherits the tracer, and LD_PRELOAD. The shim then does the
 * work, and the tracer stands by; but where a program makes network calls of its own
 * only the tracer sees them all, and the shim, whose addresses the tracer would
 * take for the program's, keeps out.
 */
#include "preload/traced.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "preload/own_calls.h"
#include "preload/raw.h"

/* More than the lines of /proc/self/status before that of the tracer. */
#define STATUS_BYTES 512

/* The environment may have come from a traced process by way of one that is not. */
static bool has_tracer(void)
{
	static const char name[] = "\nTracerPid:\t";
	char text[STATUS_BYTES + 1];
	const char *at;
	long n = -1;
	int fd = (int)raw_syscall(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC,
				  0);

	if (fd >= 0) {
		n = raw_syscall(SYS_read, fd, text, STATUS_BYTES);
		raw_syscall(SYS_close, fd);
	}
	if (n <= 0)
		return false;
	text[n] = '\0';
	at = strstr(text, name);
	return at && at[sizeof(name) - 1] != '0';
}

bool traced_is_served(void)
{
	const char *traced = getenv("MESHWRAP_TRACED"), *dir = getenv("MESHWRAP_DIR");
	const char *wish = getenv("MESHWRAP_TRACE");
	bool yes;
	int fd;

	if (!traced || !*traced || !dir || strcmp(traced, dir) != 0 ||
	    (wish && strcmp(wish, "0") == 0) || !has_tracer())
		return false;
	fd = (int)raw_syscall(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	yes = own_calls_in(fd);
	raw_syscall(SYS_close, fd);
	return yes;
}
