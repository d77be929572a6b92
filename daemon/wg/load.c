/*
 * The reference implementations call themselves loaded when the queue to their
 * handshake workers fills. We have one thread and no queue: what would have
 * been queued is what arrives faster than we want to spend time on it. So the
 * rate itself is the measure, over two half seconds; and, as theirs, the
 * verdict is kept for a second, to not flap.
 *
 * Only messages with a valid mac1 are counted: the others cost less than the
 * reply that would ask for a cookie.
 */
#include "daemon/wg/load.h"

#include "shared/util.h"

#define HALF (NS_PER_S / 2)

void wg_load_init(struct wg_load *l, uint32_t threshold)
{
	*l = (struct wg_load){ .threshold = threshold };
}

bool wg_load_message(struct wg_load *l, uint64_t now_ns)
{
	uint64_t half = now_ns / HALF;

	if (half != l->half) {
		l->before = half == l->half + 1 ? l->current : 0;
		l->current = 0;
		l->half = half;
	}
	l->current++;
	if (l->current + l->before > l->threshold)
		l->until_ns = now_ns + NS_PER_S;
	return now_ns < l->until_ns;
}
