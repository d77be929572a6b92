/*
 * A peer accepts an initiation only with a timestamp above the last one's, and
 * a timestamp of full resolution would tell it about our clock. So the low 24
 * bits of the nanoseconds are cleared (16.8 ms), and where the clock stands
 * still or has gone back the last timestamp is raised by one such step.
 */
#include "daemon/wg/tai64n.h"

#include <string.h>

#include "shared/wire.h"

#define TAI64_EPOCH UINT64_C(0x400000000000000a)
#define COARSE      (UINT32_C(1) << 24)

static struct wg_timestamp timestamp(uint64_t tai_s, uint32_t ns)
{
	struct wg_timestamp t;

	store_be64(t.byte, tai_s);
	store_be32(t.byte + 8, ns & ~(COARSE - 1));
	return t;
}

int wg_timestamp_compare(const struct wg_timestamp *a, const struct wg_timestamp *b)
{
	return memcmp(a->byte, b->byte, sizeof(a->byte));
}

struct wg_timestamp wg_timestamp_next(struct wg_timestamp *last, uint64_t unix_s, uint32_t ns)
{
	struct wg_timestamp now = timestamp(TAI64_EPOCH + unix_s, ns);

	if (wg_timestamp_compare(&now, last) <= 0) {
		uint64_t last_s = load_be64(last->byte);
		uint32_t next_ns = load_be32(last->byte + 8) + COARSE;

		if (next_ns >= NS_PER_S)
			now = timestamp(last_s + 1, 0);
		else
			now = timestamp(last_s, next_ns);
	}
	*last = now;
	return now;
}
