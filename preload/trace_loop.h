/* The tracer's loop: what stopped threads want, and what the daemon answers. */
#ifndef MESHWRAP_PRELOAD_TRACE_LOOP_H
#define MESHWRAP_PRELOAD_TRACE_LOOP_H

#include <stdint.h>
#include <sys/types.h>

/* With these a thread is seized. */
#define TRACE_OPTIONS                                                         \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEEXEC | \
	 PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL)

/*
 * Serves the program that was seized, and all it starts, until the last has ended.
 * first_ended() is called once, when the program itself has ended. 0 or -errno.
 */
int trace_loop_run(pid_t program, void (*first_ended)(void));

/* Monotonic. */
uint64_t trace_loop_now(void);

#endif
