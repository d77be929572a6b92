/*
 * Connections of a test that the kernel keeps after their close. Each is known by
 * both its ends, since other tests that run now use the same addresses.
 */
#ifndef MESHWRAP_TESTS_EDGE_KEPT_H
#define MESHWRAP_TESTS_EDGE_KEPT_H

#include <stddef.h>

#include "shared/endpoint.h"

struct kept {
	struct endpoint local, peer;
};

/* The ends of a connected socket, IPv4 or mapped. */
struct kept kept_of(int fd);

/* How many of these n are in TIME_WAIT or FIN_WAIT2 now. */
unsigned kept_waiting(const struct kept *kept, size_t n);

#endif
