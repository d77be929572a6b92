/* What mapfile.c and mapfile_renew.c share. For them only. */
#ifndef MESHWRAP_DAEMON_EDGE_MAPFILE_PRIVATE_H
#define MESHWRAP_DAEMON_EDGE_MAPFILE_PRIVATE_H

#include <sys/types.h>

#include "daemon/edge/mapfile.h"

struct mapfile {
	struct map *map;
	int fd;
	uint32_t generation;
	bool is_locked;
	uint8_t live[MAP_FLOW_SLOTS / 8];
};

/* A file of nothing but zeros, with the room that it needs. 0, or -errno: the file may be there. */
int mapfile_make(const char *path, mode_t mode, struct map **map, int *kept);
/* From here to its end, or this thread's, the map says that the daemon lives. 0 or -errno. */
int mapfile_lock_life(struct map *map);
void mapfile_end_life(struct map *map);

#endif
