/*
 * A node of another kind, as the protocol's description has it: an own, plain
 * model of path choice that shares nothing with ours but the packet codec.
 */
#ifndef MESHWRAP_TESTS_SIM_PATHS_PARTNER_H
#define MESHWRAP_TESTS_SIM_PATHS_PARTNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

enum {
	PARTNER_ANSWERS = 1, /* pings */
	PARTNER_PINGS = 2,
	PARTNER_CALLS = 4,
	PARTNER_NORMAL = 7
};

struct node;
struct partner;
struct world;

struct partner *partner_create(struct world *w, struct node *self, unsigned behaviour);
void partner_destroy(struct partner *p);
/* from NULL: by relay. */
void partner_received(struct partner *p, const struct endpoint *from, int region,
		      const uint8_t src[32], uint8_t *bytes, size_t len);
void partner_send(struct partner *p, unsigned to, const uint8_t *bytes, size_t len);
bool partner_is_direct(const struct partner *p, unsigned to);
uint64_t partner_deadline(const struct partner *p);
void partner_expire(struct partner *p);

#endif
