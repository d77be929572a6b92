/* The mesh interface that programs are shown; the kernel has none, mesh traffic runs over lo. */
#ifndef MESHWRAP_PRELOAD_MESHIF_H
#define MESHWRAP_PRELOAD_MESHIF_H

#include <net/if.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

#include "shared/map.h"

#define MESHIF_INDEX 28023u /* far above what the kernel hands out */
#define MESHIF_FLAGS (IFF_UP | IFF_RUNNING | IFF_POINTOPOINT | IFF_NOARP | IFF_MULTICAST)

/* Where mesh traffic really runs: the first interface of every network namespace. */
#define MESHIF_LO       "lo"
#define MESHIF_LO_INDEX 1u

/* Is this ioctl a question about one interface, in a struct ifreq? (SIOCGIFCONF asks for all.) */
static inline bool meshif_is_question(unsigned request)
{
	switch (request) {
	case SIOCGIFNAME:
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
	case SIOCGIFNETMASK:
	case SIOCGIFBRDADDR:
	case SIOCGIFFLAGS:
	case SIOCGIFMTU:
	case SIOCGIFINDEX:
	case SIOCGIFHWADDR:
	case SIOCGIFMETRIC:
	case SIOCGIFTXQLEN:
	case SIOCGIFMAP:
	case SIOCETHTOOL:
		return true;
	default:
		return false;
	}
}

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
