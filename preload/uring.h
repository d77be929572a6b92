/*
 * io_uring by libc's syscall(): what a ring says it can do.
 */
#ifndef MESHWRAP_PRELOAD_URING_H
#define MESHWRAP_PRELOAD_URING_H

/* io_uring_register(), as libc's syscall() gives its answer. Async-signal-safe. */
long uring_register(int fd, unsigned opcode, void *arg, unsigned arg_len);

#endif
