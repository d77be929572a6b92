/* Which counters of a keypair were seen: a window of 8128 behind the highest. */
#ifndef MESHWRAP_DAEMON_WG_REPLAY_H
#define MESHWRAP_DAEMON_WG_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#define WG_REPLAY_BLOCKS 128
#define WG_REPLAY_WINDOW ((WG_REPLAY_BLOCKS - 1) * 64)

/* All zero is an empty window. */
struct wg_replay {
	uint64_t highest;
	uint64_t block[WG_REPLAY_BLOCKS];
};

/* Marks the counter of an authentic packet; false: seen before, too old, or beyond the limit. */
bool wg_replay_accept(struct wg_replay *r, uint64_t counter);

#endif
