/*
 * "meshrun --explain": one line for each network call, which says what was
 * translated, to what and with which result, or why the call was left alone.
 *
 * For people who ask why their program does not reach something. Lines go to
 * standard error or are appended to a file; nothing is printed unless asked
 * for. Async-signal-safe, errno untouched; a line is one write().
 */
#ifndef MESHWRAP_PRELOAD_EXPLAIN_H
#define MESHWRAP_PRELOAD_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shared/endpoint.h"

#define EXPLAIN_LINE_MAX 480

extern bool explain_wanted;

static inline bool explain_is_on(void)
{
	return __builtin_expect(explain_wanted, 0);
}

/* At start-up: where is "1" (standard error) or a file's name; NULL, "" and "0": not at all. */
void explain_start(const char *where);

struct explain {
	uint64_t begun_ns;
	size_t len;
	char text[EXPLAIN_LINE_MAX];
};

/* "connect fd 5"; without a descriptor fd is -1. The time counts from here. */
void explain_begin(struct explain *e, const char *call, int fd);
void explain_text(struct explain *e, const char *text);
void explain_number(struct explain *e, long number);
/* " 1.2.3.4:5", with the node's name behind it where it has one. */
void explain_endpoint(struct explain *e, const struct endpoint *ep);
/* " -> mirror 127.64.0.3:5" */
void explain_mirror(struct explain *e, const struct endpoint *kernel);
/* An address of the program's of any family, and why it is left alone. */
void explain_address(struct explain *e, const struct sockaddr *addr, socklen_t len);
void explain_left_alone(struct explain *e, const struct sockaddr *addr, socklen_t len);
/* ": ok in 0.8 ms", ": ECONNREFUSED"; error is a positive errno or 0. */
void explain_result(struct explain *e, int error);
/* Writes the line. */
void explain_end(struct explain *e);

/*
 * The daemon could not be asked: says which step failed and how (0: an answer that is none).
 * -ENETUNREACH, which is what the program sees. Says nothing unless explanations are wanted.
 */
int explain_unanswered(const char *step, int error);

#endif
