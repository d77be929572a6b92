/* Streams whose bytes from the mesh wait for more: see gather.h. */
#include "daemon/edge/gather.h"

void gather_init(struct gather *gather)
{
	TAILQ_INIT(&gather->items);
}

bool gather_waits(struct gather *gather, struct gather_item *item, size_t bytes)
{
	if (bytes < GATHER_LEAST || bytes >= GATHER_MOST)
		return false;
	if (!item->is_waiting) {
		TAILQ_INSERT_TAIL(&gather->items, item, link);
		item->is_waiting = true;
		item->looks = 0;
	}
	item->has_grown = true;
	return true;
}

void gather_leave(struct gather *gather, struct gather_item *item)
{
	if (item->is_waiting)
		TAILQ_REMOVE(&gather->items, item, link);
	item->is_waiting = false;
}

void gather_look(struct gather *gather, void (*deliver)(struct gather_item *item))
{
	struct gather_item *item = TAILQ_FIRST(&gather->items), *next;

	for (; item; item = next) {
		next = TAILQ_NEXT(item, link);
		if (item->has_grown && item->looks++ < GATHER_LOOKS) {
			item->has_grown = false;
			continue;
		}
		gather_leave(gather, item);
		deliver(item);
	}
}

bool gather_is_empty(const struct gather *gather)
{
	return TAILQ_EMPTY(&gather->items);
}
