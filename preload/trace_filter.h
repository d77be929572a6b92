/* Which system calls of a traced program stop. */
#ifndef MESHWRAP_PRELOAD_TRACE_FILTER_H
#define MESHWRAP_PRELOAD_TRACE_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/filter.h>

/* For this thread and all it will start. 0 or -errno. Sets no_new_privs where that is demanded. */
int trace_filter_install(void);
/*
 * Is this process under it? Its environment may say so because it has come from a traced one
 * by way of one that is not; and another tracer than ours is a debugger's.
 */
bool trace_filter_is_here(void);
/* Does the filter stop this call with the arguments the tracer itself makes it with? */
bool trace_filter_stops(long nr);

#define TRACE_FILTER_MAX 256 /* instructions */

/*
 * Another filter: calls that this one stops or refuses have this verdict if their instruction
 * is within from and to, of which the upper halves are the same, and all others pass. So have
 * those that start a program.
 * Setting a handler of SIGSYS from there does nothing, and says it has. How many
 * instructions it has.
 */
size_t trace_filter_for_code(struct sock_filter words[static TRACE_FILTER_MAX], uintptr_t from,
			     uintptr_t to, uint32_t verdict);

#endif
