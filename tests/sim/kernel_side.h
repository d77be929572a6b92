/*
 * The kernel's side of a case of kernel_tcp.c: a child process with an
 * ordinary socket, and the content that both sides check.
 */
#ifndef MESHWRAP_TESTS_SIM_KERNEL_SIDE_H
#define MESHWRAP_TESTS_SIM_KERNEL_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum closes_first { KERNEL_CLOSES, WE_CLOSE, BOTH_CLOSE };
enum special {
	PLAIN,
	REFUSED,
	KERNEL_RESETS,
	WE_RESET,
	KERNEL_READS_LATE,
	WE_READ_LATE,
	WE_DECIDE_LATE
};

struct test_case {
	const char *name;
	bool kernel_dials;
	uint64_t up, down; /* bytes from the kernel to us, and back */
	enum closes_first order;
	enum special special;
};

uint8_t kernel_content(uint64_t offset, bool is_up);
bool kernel_content_is_right(const uint8_t *data, size_t len, uint64_t offset, bool is_up);
/* Plays the case and exits: 0 when all was as it should be. */
_Noreturn void kernel_side_run(const struct test_case *t, int listener, const struct sockaddr *to,
			       socklen_t to_len);

#endif
