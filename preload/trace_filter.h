/* Which system calls of a traced program stop. */
#ifndef MESHWRAP_PRELOAD_TRACE_FILTER_H
#define MESHWRAP_PRELOAD_TRACE_FILTER_H

#include <stdbool.h>

/* For this thread and all it will start. 0 or -errno. Sets no_new_privs where that is demanded. */
int trace_filter_install(void);
/* Does the filter stop this call with the arguments the tracer itself makes it with? */
bool trace_filter_stops(long nr);

#endif
