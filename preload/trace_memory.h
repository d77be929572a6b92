/* The memory of the program that is being served. Only inside a call. */
#ifndef MESHWRAP_PRELOAD_TRACE_MEMORY_H
#define MESHWRAP_PRELOAD_TRACE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* All of it or false, which the program sees as EFAULT. */
bool trace_read(unsigned long from, void *to, size_t len);
bool trace_write(unsigned long to, const void *from, size_t len);
/* Into memory the program itself cannot write. */
bool trace_write_sealed(unsigned long to, const void *from, size_t len);

#endif
