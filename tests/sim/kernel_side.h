/*
 * The kernel's side of a case of kernel_tcp.c: a child process with an
 * ordinary socket.
 */
#ifndef MESHWRAP_TESTS_SIM_KERNEL_SIDE_H
#define MESHWRAP_TESTS_SIM_KERNEL_SIDE_H

#include <sys/socket.h>

#include "cases.h"

/*
 * Plays the case and exits: 0 when all was as it should be. close_ns, of the
 * monotonic clock: when both close at once.
 */
_Noreturn void kernel_side_run(const struct test_case *t, uint64_t close_ns, int listener,
			       const struct sockaddr *to, socklen_t to_len);

#endif
