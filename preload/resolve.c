/*
 * getaddrinfo() and getnameinfo(): mesh names are answered from the map, all
 * others by libc untouched.
 *
 * A mesh name is looked up by asking libc for its numeric addresses, one after
 * the other, and chaining the answers: services, protocols, hints and errors
 * are then libc's own, and so is the memory, node by node as it frees it. Only
 * the canonical name is ours (malloc'd, as libc's is).
 *
 * IPv4 comes first: every peer of a mesh has it in practice, and programs that
 * take only the first answer were written for it. A name that is known but has
 * no address of the wanted family is EAI_NODATA, an unknown name of the mesh's
 * domain is EAI_NONAME, and no server is asked: mesh names must not leak. Names stay known when the
 * daemon is gone.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "preload/address.h"
#include "preload/libc.h"
#include "preload/shim.h"

#ifndef EAI_NODATA
#define EAI_NODATA (-5)
#endif

/* One name's answer being put together. */
struct answer {
	const char *service;
	struct addrinfo hints;
	struct addrinfo *first, **end;
};

static int add_address(struct answer *a, const struct ip_addr *ip, int family)
{
	char text[IP_TEXT_MAX + 8] = "::ffff:";
	bool mapped = ip_is_v4(ip) && family == AF_INET6;
	struct addrinfo *list;
	int err;

	ip_format(ip, mapped ? text + 7 : text);
	a->hints.ai_family = family;
	err = libc.getaddrinfo(text, a->service, &a->hints, &list);
	if (err)
		return err;
	*a->end = list;
	while (*a->end)
		a->end = &(*a->end)->ai_next;
	return 0;
}

static bool has_v4(const struct map_name *name)
{
	return !ip_is_any(&name->v4);
}

static bool has_v6(const struct map_name *name)
{
	return !ip_is_any(&name->v6);
}

/* AI_ADDRCONFIG: is this family configured, as far as the mesh goes? */
static bool is_usable(const struct map *map, int flags, bool v6)
{
	struct map_own own;

	return !(flags & AI_ADDRCONFIG) || map_own(map, v6, &own);
}

static int collect(const struct map *map, struct answer *a, const struct map_name *name, int family,
		   int flags)
{
	bool v4 = has_v4(name) && is_usable(map, flags, false);
	bool v6 = has_v6(name) && is_usable(map, flags, true);
	int err = 0;

	if (v4 && family != AF_INET6)
		err = add_address(a, &name->v4, AF_INET);
	if (!err && v6 && family != AF_INET)
		err = add_address(a, &name->v6, AF_INET6);
	if (!err && v4 && family == AF_INET6 && (flags & AI_V4MAPPED) && (!v6 || flags & AI_ALL))
		err = add_address(a, &name->v4, AF_INET6);
	return err ? err : a->first ? 0 : EAI_NODATA;
}

/* The full name of the node for AI_CANONNAME, else what was asked for. */
static int add_canonical(const struct map *map, const struct map_name *name, const char *asked,
			 struct addrinfo *first)
{
	char full[MAP_NAME_MAX];
	bool known = map_name_of(map, has_v4(name) ? &name->v4 : &name->v6, full);

	free(first->ai_canonname);
	first->ai_canonname = strdup(known ? full : asked);
	return first->ai_canonname ? 0 : EAI_MEMORY;
}

static int resolve(const struct map *map, const struct map_name *name, const char *node,
		   const struct addrinfo *hints, struct answer *a)
{
	int flags = hints ? hints->ai_flags : AI_V4MAPPED | AI_ADDRCONFIG;
	int family = hints ? hints->ai_family : AF_UNSPEC;
	int err;

	if (hints)
		a->hints = *hints;
	a->hints.ai_flags = (flags & AI_NUMERICSERV) | AI_NUMERICHOST;
	err = collect(map, a, name, family, flags);
	if (!err && (flags & AI_CANONNAME))
		err = add_canonical(map, name, node, a->first);
	if (err && a->first)
		libc.freeaddrinfo(a->first);
	return err;
}

/* Flags and families we do not know are libc's to judge. */
static bool is_plain(const struct addrinfo *hints)
{
	const int known = AI_PASSIVE | AI_CANONNAME | AI_V4MAPPED | AI_ALL | AI_ADDRCONFIG |
			  AI_NUMERICSERV | AI_IDN | AI_CANONIDN;

	return !hints || (!(hints->ai_flags & ~known) &&
			  (hints->ai_family == AF_UNSPEC || hints->ai_family == AF_INET ||
			   hints->ai_family == AF_INET6));
}

SHIM_EXPORT(int, getaddrinfo,
	    (const char *node, const char *service, const struct addrinfo *hints,
	     struct addrinfo **list))
{
	const struct map *map = shim_map();
	struct answer a = { .service = service };
	struct map_name name;
	int err;

	if (!map || !node || !is_plain(hints))
		return libc.getaddrinfo(node, service, hints, list);
	if (!map_find_name(map, node, &name))
		return is_in_domain(map, node) ? EAI_NONAME
					       : libc.getaddrinfo(node, service, hints, list);
	a.end = &a.first;
	err = resolve(map, &name, node, hints, &a);
	shim_debug("getaddrinfo", NULL, NULL, err ? ENOENT : 0);
	if (!err)
		*list = a.first;
	return err;
}

static int put_host(const char *name, char *host, socklen_t host_len)
{
	size_t len = strlen(name) + 1;

	if (len > host_len)
		return EAI_OVERFLOW;
	memcpy(host, name, len);
	return 0;
}

/* No name server is asked for a mesh address; a node without a name is a number. */
SHIM_EXPORT(int, getnameinfo,
	    (const struct sockaddr *addr, socklen_t len, char *host, socklen_t host_len,
	     char *service, socklen_t service_len, int flags))
{
	char name[MAP_NAME_MAX];
	struct route route;
	int err;

	if ((flags & NI_NUMERICHOST) || !host || host_len == 0 ||
	    route_find(addr, len, &route) == ROUTE_OUTSIDE)
		return libc.getnameinfo(addr, len, host, host_len, service, service_len, flags);
	if (!shim_map() || !map_name_of(shim_map(), &route.mesh.addr, name)) {
		if (flags & NI_NAMEREQD)
			return EAI_NONAME;
		return libc.getnameinfo(addr, len, host, host_len, service, service_len,
					flags | NI_NUMERICHOST);
	}
	err = put_host(name, host, host_len);
	if (err || !service || service_len == 0)
		return err;
	return libc.getnameinfo(addr, len, NULL, 0, service, service_len, flags & ~NI_NAMEREQD);
}
