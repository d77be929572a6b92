/* Threads beside the daemon's loop. */
#ifndef MESHWRAP_SHARED_THREAD_H
#define MESHWRAP_SHARED_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* It gets no signals, which are the loop's. To be joined or detached. 0 or -errno. */
int thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *arg), void *arg);

#endif
