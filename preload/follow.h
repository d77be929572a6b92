/*
 * Keeping the mesh across exec: what a program is started with in place of what
 * its parent asked for. Async-signal-safe; allocates nothing.
 */
#ifndef MESHWRAP_PRELOAD_FOLLOW_H
#define MESHWRAP_PRELOAD_FOLLOW_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define FOLLOW_WORDS 1500 /* of argv or of the environment; longer ones are left alone */
#define FOLLOW_TEXT  4096

/* What exec is called with; points into itself and into what was given, so it must not move. */
struct follow {
	const char *path;
	char *const *argv;
	char *const *envp;
	char *words[FOLLOW_WORDS + 2], *variables[FOLLOW_WORDS + 8];
	char preload[FOLLOW_TEXT], dir[FOLLOW_TEXT], traced[FOLLOW_TEXT], file[FOLLOW_TEXT];
	char asan[FOLLOW_TEXT];
};

/*
 * Fills f with path (as exec takes it), argv and envp, changed where the child
 * would lose the mesh. changed_path says that path and argv are not the caller's;
 * with NULL they stay.
 */
void follow_prepare(struct follow *f, const char *path, char *const argv[], char *const envp[],
		    bool *changed_path);

/* Where execvp() would find name; false: nowhere, or too long. */
bool follow_find(const char *name, char path[static PATH_MAX]);

/* At start-up: where the shim itself lies, and what the environment says. */
void follow_start(void);

#endif
