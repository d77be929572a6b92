/*
 * lwIP's side of a case, as a module of its own: its functions have the names
 * that ours have, so nobody links both. One stack, one connection at a time.
 */
#ifndef MESHWRAP_TESTS_SIM_LWIP_SIDE_H
#define MESHWRAP_TESTS_SIM_LWIP_SIDE_H

#include "cases.h"

#define LWIP_V4 "10.77.0.1"
#define LWIP_V6 "fd77::1"
#define OURS_V4 "10.77.0.2"
#define OURS_V6 "fd77::2"

/* The module's one symbol: "lwip_side". */
struct lwip_side {
	/* Once, first. output gets lwIP's TCP packets. */
	void (*start)(void (*output)(void *owner, const uint8_t *packet, size_t len), void *owner,
		      uint64_t now_ns);
	/* Listens on port, or dials it, and plays t. close_ns: when both close at once. */
	void (*play)(const struct test_case *t, bool is_v6, uint16_t port, uint64_t close_ns);
	void (*input)(const uint8_t *packet, size_t len);
	/* The time is now_ns: what is due is done. */
	void (*run)(uint64_t now_ns);
	uint64_t (*next_ns)(void);
	/* True when the application is through and no connection is left but in TIME_WAIT. */
	bool (*is_over)(void);
	const char *(*wrong)(void); /* or NULL */
	uint64_t (*received)(void);
};

#endif
