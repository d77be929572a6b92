/* The mesh interface that programs are shown; the kernel has none, mesh traffic runs over lo. */
#ifndef MESHWRAP_PRELOAD_MESHIF_H
#define MESHWRAP_PRELOAD_MESHIF_H

#include <net/if.h>
#include <stdbool.h>

#include "shared/map.h"

#define MESHIF_INDEX 28023u /* far above what the kernel hands out */
#define MESHIF_FLAGS (IFF_UP | IFF_RUNNING | IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST)

/* Where mesh traffic really runs: the first interface of every network namespace. */
#define MESHIF_LO       "lo"
#define MESHIF_LO_INDEX 1u

/* Its name; false: none is shown. */
static inline bool meshif_name(const struct map *map, char name[static MAP_IFNAME_MAX])
{
	if (!map)
		return false;
	__builtin_memcpy(name, map_dir(map)->ifname, MAP_IFNAME_MAX);
	name[MAP_IFNAME_MAX - 1] = '\0';
	return *name != '\0';
}

#endif
