/*
 * The folders that children of posix_spawn begin in: its file actions say so, and
 * libc alone knows what is in these. Where the path of a program is relative, it leads from there.
 */
#ifndef MESHWRAP_PRELOAD_FOLDERS_H
#define MESHWRAP_PRELOAD_FOLDERS_H

#include <spawn.h>

/*
 * Where these actions (NULL: none) lead: a descriptor, to be closed with folders_close(), or
 * AT_FDCWD: nowhere else, or not found.
 */
int folders_open(const posix_spawn_file_actions_t *actions);
void folders_close(int folder);

#endif
