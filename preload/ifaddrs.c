/*
 * The mesh interface, in the lists programs read to find their addresses.
 *
 * It is appended to libc's own list: one allocation of ours, chained behind
 * libc's last entry, so freeifaddrs() must be ours too. It knows our entries by
 * their ifa_data, which points at something only we have (and which is zeros,
 * should a program read counters there). An address that a real interface
 * already has is not listed twice, and a real interface of the same name keeps
 * its index.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "preload/address.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/shim.h"

/* Counters of a link, all zero; its address marks our entries. */
static const char marker[256];

struct entry {
	struct ifaddrs ifa;
	struct sockaddr_storage addr, netmask, peer;
};

struct block {
	struct entry entry[MAP_MAX_OWN];
	char name[MAP_IFNAME_MAX];
};

static bool is_listed(const struct ifaddrs *list, const struct ip_addr *ip)
{
	struct endpoint ep;

	for (; list; list = list->ifa_next)
		if (list->ifa_addr &&
		    endpoint_from_sockaddr(list->ifa_addr, INET_ADDR_MAX, &ep) == 0 &&
		    ip_equal(&ep.addr, ip))
			return true;
	return false;
}

static void netmask(unsigned prefix_len, int family, struct sockaddr_storage *out)
{
	unsigned char *byte;
	unsigned bytes;

	memset(out, 0, sizeof(*out));
	out->ss_family = (sa_family_t)family;
	byte = family == AF_INET ? (unsigned char *)&((struct sockaddr_in *)out)->sin_addr
				 : (unsigned char *)&((struct sockaddr_in6 *)out)->sin6_addr;
	bytes = family == AF_INET ? 4 : 16;
	for (unsigned i = 0; i < bytes && prefix_len; i++) {
		unsigned bits = prefix_len < 8 ? prefix_len : 8;

		byte[i] = (unsigned char)(0xff << (8 - bits));
		prefix_len -= bits;
	}
}

static void fill_entry(struct entry *e, const struct map_own *own, char *name)
{
	struct endpoint ep = { own->addr, 0 };
	int family = ip_is_v4(&own->addr) ? AF_INET : AF_INET6;

	endpoint_to_sockaddr(&ep, family, &e->addr);
	endpoint_to_sockaddr(&ep, family, &e->peer);
	netmask(own->prefix_len, family, &e->netmask);
	e->ifa = (struct ifaddrs){ .ifa_name = name,
				   .ifa_flags = MESHIF_FLAGS,
				   .ifa_addr = (struct sockaddr *)&e->addr,
				   .ifa_netmask = (struct sockaddr *)&e->netmask,
				   .ifa_dstaddr = (struct sockaddr *)&e->peer,
				   .ifa_data = (void *)marker };
}

/* Chains our addresses behind list; false: no memory. */
static bool append_mesh(const struct map *map, struct ifaddrs **list)
{
	struct ifaddrs **end = list;
	struct block *b = calloc(1, sizeof(*b));
	struct map_own own;
	unsigned n = 0;

	if (!b)
		return false;
	meshif_name(map, b->name);
	while (*end)
		end = &(*end)->ifa_next;
	for (unsigned i = 0; i < MAP_MAX_OWN && map_own_at(map, i, &own); i++) {
		if (is_listed(*list, &own.addr))
			continue;
		fill_entry(&b->entry[n], &own, b->name);
		*end = &b->entry[n].ifa;
		end = &b->entry[n++].ifa.ifa_next;
	}
	if (n == 0)
		free(b);
	return true;
}

static void explain_shown(const char *call, const char *name)
{
	struct explain e;

	if (!explain_is_on())
		return;
	explain_begin(&e, call, -1);
	explain_text(&e, ": with the mesh interface ");
	explain_text(&e, name);
	explain_end(&e);
}

SHIM_EXPORT(int, getifaddrs, (struct ifaddrs * *list))
{
	const struct map *map = shim_map();
	int result = libc.getifaddrs(list);
	char name[MAP_IFNAME_MAX];

	if (result < 0 || !meshif_name(map, name))
		return result;
	if (append_mesh(map, list)) {
		explain_shown("getifaddrs", name);
		return 0;
	}
	libc.freeifaddrs(*list);
	errno = ENOMEM;
	return -1;
}

SHIM_EXPORT(void, freeifaddrs, (struct ifaddrs * list))
{
	struct ifaddrs **at = &list, *ours;

	while (*at && (*at)->ifa_data != marker)
		at = &(*at)->ifa_next;
	ours = *at;
	*at = NULL;
	free(ours); /* the first entry is where our block starts */
	if (list)
		libc.freeifaddrs(list);
}

SHIM_EXPORT(unsigned, if_nametoindex, (const char *name))
{
	const struct map *map = shim_map(); /* first: it binds libc's functions if nobody has yet */
	char mesh[MAP_IFNAME_MAX];
	int saved = errno;
	unsigned index = libc.if_nametoindex(name);

	if (index || !meshif_name(map, mesh) || strcmp(name, mesh) != 0)
		return index;
	errno = saved;
	explain_shown("if_nametoindex", mesh);
	return MESHIF_INDEX;
}

SHIM_EXPORT(char *, if_indextoname, (unsigned index, char *name))
{
	const struct map *map = shim_map();
	char mesh[MAP_IFNAME_MAX];

	if (index != MESHIF_INDEX || !meshif_name(map, mesh))
		return libc.if_indextoname(index, name);
	memcpy(name, mesh, sizeof(mesh));
	return name;
}

/* libc frees each name and the array, so both are allocated as it does. */
SHIM_EXPORT(struct if_nameindex *, if_nameindex, (void))
{
	const struct map *map = shim_map();
	struct if_nameindex *list = libc.if_nameindex(), *longer;
	char mesh[MAP_IFNAME_MAX];
	size_t n = 0;

	if (!list || !meshif_name(map, mesh))
		return list;
	for (; list[n].if_index || list[n].if_name; n++)
		if (list[n].if_name && strcmp(list[n].if_name, mesh) == 0)
			return list;
	longer = realloc(list, (n + 2) * sizeof(*list));
	if (!longer)
		return list;
	longer[n] = (struct if_nameindex){ MESHIF_INDEX, strdup(mesh) };
	longer[n + 1] = (struct if_nameindex){ 0, NULL };
	if (!longer[n].if_name)
		longer[n].if_index = 0;
	return longer;
}
