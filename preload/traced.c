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
#include "preload/trace_filter.h"

bool traced_is_served(void)
{
	const char *traced = getenv("MESHWRAP_TRACED"), *dir = getenv("MESHWRAP_DIR");
	const char *wish = getenv("MESHWRAP_TRACE");
	bool yes;
	int fd;

	if (!traced || !*traced || !dir || strcmp(traced, dir) != 0 ||
	    (wish && strcmp(wish, "0") == 0) || !trace_filter_is_here())
		return false;
	fd = (int)raw_syscall(SYS_openat, AT_FDCWD, "/proc/self/exe", O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	yes = own_calls_in(fd);
	raw_syscall(SYS_close, fd);
	return yes;
}
