/* A token bucket. Pure. */
#ifndef MESHWRAP_DAEMON_DERP_BUCKET_H
#define MESHWRAP_DAEMON_DERP_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
	uint64_t level, per_second, burst;
	uint64_t at_ns; /* when level was right */
};

/* Full. */
void bucket_init(struct bucket *b, uint64_t per_second, uint64_t burst, uint64_t now_ns);
/* False, and nothing is taken, where there is less. */
bool bucket_take(struct bucket *b, uint64_t amount, uint64_t now_ns);

#endif
