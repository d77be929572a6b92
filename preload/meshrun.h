/* meshrun's parts: the program's file, the daemon, being PID 1. Each says what is wrong itself. */
#ifndef MESHWRAP_PRELOAD_MESHRUN_H
#define MESHWRAP_PRELOAD_MESHRUN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "shared/paths.h"

#define EXIT_USAGE     2
#define EXIT_NOT_OURS  126 /* found, but cannot be run or entered */
#define EXIT_NOT_FOUND 127
#define EXIT_NO_MESH   1

/* "meshrun: ..." on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Folder of this executable, without a trailing slash. 0 or -errno. */
int own_folder(char folder[static PATH_MAX]);

/* Will the shim be loaded into this program? 0, or the exit status after having complained. */
int program_check(const char *program);

struct daemon_options {
	const char *config; /* NULL: do not start one */
	bool dir_is_chosen; /* dir was named by the user: look nowhere else */
	unsigned timeout_s;
};
/*
 * Waits until the daemon of dir is usable, having started one if need be; dir
 * may become the folder of the whole container. 0, or the exit status after having complained.
 */
int daemon_wait(char dir[static PATHS_MAX], const struct daemon_options *options);

/* As PID 1: runs the program as a child, reaps all, forwards signals; the exit status. */
int init_run(char **argv);

/* exec, and what it means that it came back. */
int program_exec(char **argv);

#endif
