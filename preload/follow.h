/*
 * Keeping the mesh across exec: what a program is started with in place of what
 * its parent asked for. Async-signal-safe; allocates nothing.
 */
#ifndef MESHWRAP_PRELOAD_FOLLOW_H
#define MESHWRAP_PRELOAD_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>

#define FOLLOW_ROOM_MAX 49152 /* what needs more is left alone: an environment of thousands */

enum follow_kind {
	FOLLOW_OTHER,
	FOLLOW_SHIM,       /* linked with our libc */
	FOLLOW_OTHER_SHIM, /* with the other, which we have a shim for */
	FOLLOW_FOREIGN,    /* with the other, which we have none for */
	FOLLOW_TRACE,      /* not dynamic */
	FOLLOW_OWN_CALLS,  /* dynamic, with network calls past any libc */
	FOLLOW_SET_UID
};

/* What exec is called with. */
struct follow {
	int folder; /* where a relative path leads from: a descriptor, or AT_FDCWD */
	const char *path;
	char *const *argv;
	char *const *envp;
	bool has_other_path; /* path and argv are not the caller's */
	enum follow_kind kind;
	size_t variable_count, word_count; /* of the caller's */
	size_t room; /* bytes that follow_change() needs; 0: nothing is to be changed */
};

/*
 * f has the first four, what the caller asked for; all else is nought. It gets how much room the
 * changes need, without which the child would lose the mesh. needs_path: the child must be started
 * by its path.
 */
void follow_look(struct follow *f, bool needs_path);
/*
 * Makes the changes. They lie in room (aligned for pointers), which is of the caller's
 * stack: a child of vfork() has no other memory that goes away with it.
 */
void follow_change(struct follow *f, void *room);

/* Both, in the frame of whoever says it. */
#define FOLLOW(f, needs_path)                                  \
	do {                                                   \
		follow_look(f, needs_path);                    \
		follow_change(f, __builtin_alloca((f)->room)); \
	} while (0)

/* The longest path that follow_find() may look at, with its zero; 0: it need not look. */
size_t follow_find_room(const char *name);
/* Where execvp() would find name, in this folder; false: nowhere, or too long for the room. */
bool follow_find(int folder, const char *name, char *path, size_t room);

/* At start-up: where the shim itself lies, and what the environment says. */
void follow_start(void);

#endif
