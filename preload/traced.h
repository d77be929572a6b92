/* Is it not the shim but a tracer that serves this process? */
#ifndef MESHWRAP_PRELOAD_TRACED_H
#define MESHWRAP_PRELOAD_TRACED_H

#include <stdbool.h>

/*
 * Asked once, at start-up. The tracer answers the same question about us by the same
 * facts (trace_program.c): our environment and our file.
 */
bool traced_is_served(void);

#endif
