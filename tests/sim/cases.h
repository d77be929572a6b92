/*
 * What our endpoint and a foreign TCP do with one another: who dials, who sends
 * how much, who closes first and how. "Up" is from the peer to us.
 */
#ifndef MESHWRAP_TESTS_SIM_CASES_H
#define MESHWRAP_TESTS_SIM_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum closes_first {
	PEER_CLOSES,
	WE_CLOSE,
	BOTH_CLOSE /* at the time agreed on, so that the two FINs cross */
};

enum special {
	PLAIN,
	REFUSED,
	PEER_RESETS,
	WE_RESET,
	PEER_READS_LATE,
	WE_READ_LATE,
	WE_DECIDE_LATE
};

struct test_case {
	const char *name;
	enum { EITHER_DIALS, PEER_DIALS, WE_DIAL } dials;
	uint64_t up, down; /* bytes from the peer to us, and back */
	enum closes_first order;
	enum special special;
};

/* Behind the last one is one without a name. */
extern const struct test_case test_cases[];

/* Whether *t, made from the case i, is to be played: with the peer dialling or us. */
bool test_case_make(struct test_case *t, unsigned i, bool peer_dials, unsigned divide);

uint8_t content_at(uint64_t offset, bool is_up);
void content_fill(uint8_t *to, size_t len, uint64_t offset, bool is_up);
bool content_is_right(const uint8_t *data, size_t len, uint64_t offset, bool is_up);

#endif
