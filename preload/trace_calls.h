/* The calls that are trapped. */
#ifndef MESHWRAP_PRELOAD_TRACE_CALLS_H
#define MESHWRAP_PRELOAD_TRACE_CALLS_H

/* Serves the call at whose entry the struct trace_task has stopped; for trace_task_serve(). */
void trace_calls_run(void *task);
/* Shows the mesh interface in what its watched socket received; the same. */
void trace_calls_received(void *task);

#endif
