/*
 * Where things lie: the runtime folder and the files in it.
 *
 * The folder is $MESHWRAP_DIR; else $XDG_RUNTIME_DIR/meshwrap; else
 * /run/meshwrap for root; else /tmp/meshwrap-UID. Where nobody has named one and
 * no daemon runs in one's own, the shim and the tools also look into /run/meshwrap,
 * where the daemon of the whole container may be.
 */
#ifndef MESHWRAP_SHARED_PATHS_H
#define MESHWRAP_SHARED_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PATHS_MAX 100 /* a folder's length, so that a socket in it fits sun_path */

#define PATHS_COMMON_DIR "/run/meshwrap" /* only root can make it */

#define PATHS_CONTROL "control" /* SOCK_SEQPACKET: ipc.h */
#define PATHS_POSTS   "posts"   /* SOCK_DGRAM: struct ipc_post */
#define PATHS_API     "api"     /* SOCK_STREAM: HTTP, for meshctl */
#define PATHS_MAP     "map"     /* shared/map.h */
#define PATHS_LOCK    "lock"    /* flock: one daemon a folder */

/*
 * The folder a daemon of this user would use; values may be NULL when the
 * variable is unset. 0, or -ENAMETOOLONG.
 */
int paths_runtime_dir(const char *meshwrap_dir, const char *xdg_runtime_dir, uid_t uid,
		      char dir[static PATHS_MAX]);
/* dir + "/" + file, 0 or -ENAMETOOLONG. */
int paths_join(const char *dir, const char *file, char *out, size_t out_len);
/* As it is called from any folder: 0, -ENAMETOOLONG, or why nobody can tell where we are. */
int paths_absolute(const char *path, char *out, size_t out_len);

#endif
