/*
 * Programs the shim cannot be loaded into: their socket calls are rewritten from
 * outside, by a process that traces them.
 */
#ifndef MESHWRAP_PRELOAD_TRACE_H
#define MESHWRAP_PRELOAD_TRACE_H

/*
 * Has this process traced, and becomes file (an absolute or relative path) with
 * these words and the environment. Returns only on failure, having
 * complained: the exit status.
 */
int trace_exec(const char *file, char **argv);

#endif
