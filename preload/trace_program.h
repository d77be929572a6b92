/* What a traced process has become by exec. */
#ifndef MESHWRAP_PRELOAD_TRACE_PROGRAM_H
#define MESHWRAP_PRELOAD_TRACE_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Are its calls to be left alone, because the shim is inside, it asked for
 * that (MESHWRAP_OFF), or it is a tool of ours?
 */
bool trace_program_is_passed(pid_t pid);

/* The process that a thread belongs to; the thread itself where that cannot be read. */
pid_t trace_program_of(pid_t tid);

#endif
