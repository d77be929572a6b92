/*
 * The window of RFC 6479: a ring of blocks of bits. Moving forward clears whole
 * blocks and shifts nothing, so one block of the ring is always being entered
 * and the window is one block less than the ring. It is wide because packets
 * of one flow may come by two paths (direct and relayed) at once.
 */
#include "daemon/wg/replay.h"

#include "daemon/wg/message.h"

bool wg_replay_accept(struct wg_replay *r, uint64_t counter)
{
	uint64_t at = counter / 64, bit = UINT64_C(1) << (counter % 64);
	uint64_t *block = &r->block[at % WG_REPLAY_BLOCKS];

	if (counter >= WG_REJECT_AFTER_MESSAGES)
		return false;
	if (counter > r->highest) {
		uint64_t from = r->highest / 64;
		uint64_t ahead = MIN(at - from, WG_REPLAY_BLOCKS);

		for (uint64_t i = 1; i <= ahead; i++)
			r->block[(from + i) % WG_REPLAY_BLOCKS] = 0;
		r->highest = counter;
	} else if (r->highest - counter > WG_REPLAY_WINDOW) {
		return false;
	}
	if (*block & bit)
		return false;
	*block |= bit;
	return true;
}
