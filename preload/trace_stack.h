/* Stacks of their own for calls that wait: several are under way, one runs at a time. */
#ifndef MESHWRAP_PRELOAD_TRACE_STACK_H
#define MESHWRAP_PRELOAD_TRACE_STACK_H

#include <stdbool.h>

struct trace_stack;

/* NULL when there is no memory. run(arg) begins at the first trace_stack_enter(). */
struct trace_stack *trace_stack_create(void (*run)(void *arg), void *arg);
/* From outside: runs it until it leaves or ends. True: it has ended. */
bool trace_stack_enter(struct trace_stack *stack);
/* From inside: back to whoever entered; returns at the next enter. errno is kept. */
void trace_stack_leave(void);
/* From outside; what was under way on it is forgotten, and must own nothing. NULL is fine. */
void trace_stack_destroy(struct trace_stack *stack);

#endif
