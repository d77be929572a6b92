/*
 * Streams whose bytes from the mesh wait for more.
 *
 * Each write to a program's socket wakes the program, and where processors are busy
 * a wake-up costs more than the copying: it stops whatever runs there. So the bytes
 * of a bulk stream wait while looks at the sockets bring it more, up to a bound.
 */
#ifndef MESHWRAP_DAEMON_EDGE_GATHER_H
#define MESHWRAP_DAEMON_EDGE_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

#define GATHER_LEAST (32u << 10)  /* bytes; fewer are no bulk stream, and go at once */
#define GATHER_MOST  (256u << 10) /* bytes that wait for no more */
#define GATHER_LOOKS 8u           /* nor do any after so many */

struct gather_item {
	TAILQ_ENTRY(gather_item) link;
	bool is_waiting;
	bool has_grown; /* since the last look began */
	unsigned looks; /* that began while it waited */
};

struct gather {
	TAILQ_HEAD(, gather_item) items;
};

void gather_init(struct gather *gather);
/* More has come for the item, which has so many bytes now. False: they are to go at once. */
bool gather_waits(struct gather *gather, struct gather_item *item, size_t bytes);
/* Its bytes go now, or it dies. It need not be waiting. */
void gather_leave(struct gather *gather, struct gather_item *item);
/*
 * A look at the sockets begins: delivers what the one before brought nothing for. deliver may
 * call gather_leave() and gather_waits() for the item it is given.
 */
void gather_look(struct gather *gather, void (*deliver)(struct gather_item *item));
bool gather_is_empty(const struct gather *gather);

#endif
