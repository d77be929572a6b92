/* The timestamp of an initiation: TAI64N, coarsened, and never twice the same. */
#ifndef MESHWRAP_DAEMON_WG_TAI64N_H
#define MESHWRAP_DAEMON_WG_TAI64N_H

#include <stdint.h>

#include "daemon/wg/message.h"

struct wg_timestamp {
	uint8_t byte[WG_TIMESTAMP_LEN]; /* compares as bytes */
};

/* Later of the wall clock (coarsened) and the first moment after *last; *last follows. */
struct wg_timestamp wg_timestamp_next(struct wg_timestamp *last, uint64_t unix_s, uint32_t ns);
int wg_timestamp_compare(const struct wg_timestamp *a, const struct wg_timestamp *b);

#endif
