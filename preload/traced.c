/*
 * What a traced program starts inherits the tracer, and LD_PRELOAD. The shim then does the
 * work, and the tracer stands by; but where a program makes network calls of its own
 * only the tracer sees them all, and the shim, whose addresses the tracer would
 * take for the program's, keeps out. So it does in a program that has no dynamic linker, as far as
 * its file tells, and yet has loaded us: the linker itself, named as the program, and valgrind.
 */
#include "preload/traced.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "preload/binfmt.h"
#include "preload/own_calls.h"
#include "preload/raw.h"
#include "preload/trace_filter.h"

/* Not by way of /proc/self: valgrind shows there the file of the program that it runs. */
static int open_program(void)
{
	int fd = (int)raw_syscall(SYS_openat, AT_FDCWD, "/proc/thread-self/exe",
				  O_RDONLY | O_CLOEXEC, 0);

	return fd >= 0 ? fd
		       : (int)raw_syscall(SYS_openat, AT_FDCWD, "/proc/self/exe",
					  O_RDONLY | O_CLOEXEC, 0);
}

/* Is this mesh's tracer asked for all that the program calls? */
static bool is_wanted(const char *traced)
{
	const char *dir = getenv("MESHWRAP_DIR"), *wish = getenv("MESHWRAP_TRACE");

	return dir && strcmp(traced, dir) == 0 && !(wish && strcmp(wish, "0") == 0);
}

bool traced_is_served(void)
{
	const char *traced = getenv("MESHWRAP_TRACED");
	char linker[ELF_INTERPRETER_MAX];
	bool yes;
	int fd;

	if (!traced || !*traced || !trace_filter_is_here())
		return false;
	fd = open_program();
	if (fd < 0)
		return false;
	yes = binfmt_elf_in(fd, linker) != ELF_DYNAMIC || (is_wanted(traced) && own_calls_in(fd));
	raw_syscall(SYS_close, fd);
	return yes;
}
