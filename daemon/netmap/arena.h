/*
 * Memory that is given back all at once: what is derived from one piece of the
 * map lives in one arena. An arena that once failed stays failed, gives NULL,
 * and is asked once at the end.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_ARENA_H
#define MESHWRAP_DAEMON_NETMAP_ARENA_H

#include <stdbool.h>
#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *chunk;
	size_t first_size; /* of the first chunk; 0: a small one */
	bool failed;
};

/* Zeroed and aligned for anything; at least one byte. NULL when out of memory. */
void *arena_alloc(struct arena *a, size_t count, size_t size);
/* A copy with terminator. */
char *arena_text(struct arena *a, const char *text, size_t len);
void arena_finish(struct arena *a);

#endif
