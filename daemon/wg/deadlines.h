/* Which peer is due first: a binary heap of moments embedded in their owners. */
#ifndef MESHWRAP_DAEMON_WG_DEADLINES_H
#define MESHWRAP_DAEMON_WG_DEADLINES_H

#include <stdint.h>

struct wg_deadline {
	uint64_t at_ns;
	uint32_t slot;
};

struct wg_deadlines {
	struct wg_deadline **heap;
	uint32_t count, capacity;
};

/* Everybody is a member, with NEVER_NS when idle, so that moving never allocates. 0 or -ENOMEM. */
int wg_deadlines_add(struct wg_deadlines *d, struct wg_deadline *member);
void wg_deadlines_remove(struct wg_deadlines *d, struct wg_deadline *member);
void wg_deadlines_move(struct wg_deadlines *d, struct wg_deadline *member, uint64_t at_ns);
/* NULL when empty. */
struct wg_deadline *wg_deadlines_first(const struct wg_deadlines *d);
void wg_deadlines_finish(struct wg_deadlines *d);

#endif
