/*
 * The kernel's CUBIC as a model for the simulator, for sharing with it under a
 * virtual clock. It gives up its own start by trains and is not paced, as a
 * socket of the kernel's without a pacing queueing discipline.
 */
#ifndef MESHWRAP_TESTS_SIM_KERNEL_CUBIC_H
#define MESHWRAP_TESTS_SIM_KERNEL_CUBIC_H

struct tcp_conn;

/* conn was just dialled: from now on it sends as the kernel does. */
void kernel_cubic_use(struct tcp_conn *conn);

#endif
