/*
 * When is nothing going on? The moment to give memory back that busier times have left.
 *
 * It costs a busy loop three looks a second, and an idle one nothing: after a calm stretch no
 * deadline is set until much has happened again, or something that is known to use memory.
 */
#ifndef MESHWRAP_DAEMON_CALM_H
#define MESHWRAP_DAEMON_CALM_H

#include <stdbool.h>
#include <stdint.h>

struct calm {
	uint64_t deadline_ns; /* of the next look; NEVER_NS: it was calm */
	uint32_t rounds;      /* of the loop since the last look */
};

/* At start, and after what leaves memory behind however calm the loop is. */
void calm_expect(struct calm *calm, uint64_t now_ns);
/* A round of the loop has ended. */
void calm_round(struct calm *calm, uint64_t now_ns);
/* The deadline has passed: is it calm now? */
bool calm_expired(struct calm *calm, uint64_t now_ns);

#endif
