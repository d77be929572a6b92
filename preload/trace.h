/*
 * Programs the shim cannot be loaded into: their socket calls are rewritten from
 * outside, by a process that traces them.
 */
#ifndef MESHWRAP_PRELOAD_TRACE_H
#define MESHWRAP_PRELOAD_TRACE_H

/*
 * Has this process traced from its next exec on. 0, or a positive errno and in step what
 * this system refused.
 */
int trace_begin(const char **step);

#endif
