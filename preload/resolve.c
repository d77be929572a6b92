/*
 * getaddrinfo() and getnameinfo(): names of the mesh, and those whose
 * resolvers the daemon knows, are answered here, all others by libc untouched.
 *
 * An answer is put together by asking libc for its numeric addresses, one after
 * the other, and chaining what it gives: services, protocols, hints and errors
 * are then libc's own, and so is the memory. Only the canonical name is ours.
 *
 * Such a chain is freed node by node, since musl's freeaddrinfo() takes all nodes
 * it is given for those of one answer; that parts of an answer may be freed alone
 * is POSIX's word. glibc's frees the canonical name as malloc'd memory of its own;
 * musl's lies inside its answer, so there ours is marked and we free it.
 *
 * IPv4 comes first: every peer of a mesh has it in practice, and programs that
 * take only the first answer were written for it. A name that is known but has
 * no address of the wanted family is EAI_NODATA, an unknown name of the mesh's
 * domain is EAI_NONAME, and no server is asked: mesh names must not leak.
 */
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "preload/address.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/lookup.h"
#include "preload/shim.h"

#ifndef EAI_NODATA
#define EAI_NODATA (-5)
#endif
#ifndef AI_IDN /* unknown to musl */
#define AI_IDN      0
#define AI_CANONIDN 0
#endif

/* One name's answer being put together. */
struct answer {
	const char *service;
	struct addrinfo hints;
	int flags; /* the program's own, as glibc gives them back */
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
	for (; *a->end; a->end = &(*a->end)->ai_next) {
		(*a->end)->ai_canonname = NULL; /* musl's: the number as text, within the answer */
		if (libc_is_glibc)
			(*a->end)->ai_flags = a->flags;
	}
	return 0;
}

/* AI_ADDRCONFIG: is this family configured, as far as the mesh goes? */
static bool is_usable(const struct map *map, int flags, const struct ip_addr *ip)
{
	struct map_own own;
	uint32_t mirror;

	return !(flags & AI_ADDRCONFIG) || map_to_mirror(map, ip, &mirror) == MAP_OUTSIDE ||
	       map_own(map, !ip_is_v4(ip), &own);
}

static int collect_family(const struct lookup *l, struct answer *a, bool v4, int family, int flags)
{
	int err = 0;

	for (unsigned i = 0; !err && i < l->count; i++)
		if (ip_is_v4(&l->ip[i]) == v4 && is_usable(l->map, flags, &l->ip[i]))
			err = add_address(a, &l->ip[i], family);
	return err;
}

static int collect(const struct lookup *l, struct answer *a, int family, int flags)
{
	int err = 0;

	if (family != AF_INET6)
		err = collect_family(l, a, true, AF_INET, flags);
	if (!err && family != AF_INET)
		err = collect_family(l, a, false, AF_INET6, flags);
	if (!err && family == AF_INET6 && (flags & AI_V4MAPPED) && (!a->first || flags & AI_ALL))
		err = collect_family(l, a, true, AF_INET6, flags);
	return err ? err : a->first ? 0 : EAI_NODATA;
}

struct canonical {
	const void *mark; /* &mark_of_ours */
	char text[];
};

static const char mark_of_ours;

static char *new_canonical(size_t room)
{
	struct canonical *c;

	if (libc_is_glibc)
		return malloc(room);
	c = malloc(sizeof(*c) + room);
	if (!c)
		return NULL;
	c->mark = &mark_of_ours;
	return c->text;
}

/* In front of libc's own name are the addresses of its answer, never our mark. */
static void free_canonical(const struct addrinfo *node)
{
	char *start = node->ai_canonname;
	const void *mark;

	if (!start || libc_is_glibc)
		return;
	start -= offsetof(struct canonical, text);
	memcpy(&mark, start, sizeof(mark));
	if (mark == &mark_of_ours)
		free(start);
}

SHIM_EXPORT(void, freeaddrinfo, (struct addrinfo * list))
{
	struct addrinfo *next;

	if (!libc.freeaddrinfo)
		shim_is_on();
	for (; list; list = next) {
		next = list->ai_next;
		list->ai_next = NULL;
		free_canonical(list);
		libc.freeaddrinfo(list);
	}
}

/* The full name for AI_CANONNAME, without a trailing dot. */
static int add_canonical(const char *name, struct addrinfo *first)
{
	size_t len = strlen(name);
	char *copy = new_canonical(len + 1);

	if (!copy)
		return EAI_MEMORY;
	if (len && name[len - 1] == '.')
		len--;
	for (size_t i = 0; i < len; i++)
		copy[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] - 'A' + 'a') : name[i];
	copy[len] = '\0';
	first->ai_canonname = copy;
	return 0;
}

static int resolve(const struct lookup *l, const char *service, const struct addrinfo *hints,
		   struct addrinfo **list)
{
	int flags = hints ? hints->ai_flags : AI_V4MAPPED | AI_ADDRCONFIG;
	int family = hints ? hints->ai_family : AF_UNSPEC;
	struct answer a = { .service = service, .flags = flags };
	int err;

	if (hints)
		a.hints = *hints;
	a.hints.ai_flags = (flags & AI_NUMERICSERV) | AI_NUMERICHOST;
	a.end = &a.first;
	err = collect(l, &a, family, flags);
	if (!err && (flags & AI_CANONNAME))
		err = add_canonical(l->candidate, a.first);
	if (err)
		shim_freeaddrinfo(a.first);
	if (!err)
		*list = a.first;
	return err;
}

static unsigned wanted(const struct addrinfo *hints)
{
	if (!hints || hints->ai_family == AF_UNSPEC ||
	    (hints->ai_family == AF_INET6 && hints->ai_flags & AI_V4MAPPED))
		return IPC_LOOKUP_V4 | IPC_LOOKUP_V6;
	return hints->ai_family == AF_INET ? IPC_LOOKUP_V4 : IPC_LOOKUP_V6;
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

/* is_libcs: not NULL, set where libc is to be asked for the name as it is, and is not. */
static int look_up(const char *node, const char *service, const struct addrinfo *hints,
		   struct addrinfo **list, bool *is_libcs)
{
	int err = 0, last = EAI_NONAME;
	enum lookup_verdict verdict;
	struct lookup l;

	lookup_begin(&l, shim_map(), node, wanted(hints));
	for (;;) {
		verdict = lookup_next(&l);
		if (explain_is_on())
			lookup_explain(&l, "getaddrinfo", verdict);
		switch (verdict) {
		case LOOKUP_LIBC:
			if (is_libcs && !l.is_searched) {
				*is_libcs = true;
				return 0;
			}
			err = libc.getaddrinfo(l.is_searched ? l.candidate : node, service, hints,
					       list);
			break;
		case LOOKUP_FOUND:
			err = resolve(&l, service, hints, list);
			break;
		case LOOKUP_NO_DATA:
			err = EAI_NODATA;
			break;
		case LOOKUP_NO_NAME:
			err = EAI_NONAME;
			break;
		case LOOKUP_AGAIN:
			err = EAI_AGAIN;
			break;
		case LOOKUP_END:
			return last;
		}
		if (err != EAI_NONAME && err != EAI_NODATA)
			return err;
		/* That a candidate exists is remembered when no other gives an address. */
		if (last != EAI_NODATA)
			last = err;
	}
}

SHIM_EXPORT(int, getaddrinfo,
	    (const char *node, const char *service, const struct addrinfo *hints,
	     struct addrinfo **list))
{
	if (!shim_map() || !node || !is_plain(hints))
		return libc.getaddrinfo(node, service, hints, list);
	return look_up(node, service, hints, list, NULL);
}

#ifdef __GLIBC__
/*
 * Names that are ours are looked up at once: the map has nearly all of them. libc's
 * threads, whose resolver nobody redirects, get the rest; with nothing left
 * libc only notifies.
 */
SHIM_EXPORT(int, getaddrinfo_a, (int mode, struct gaicb **list, int count, struct sigevent *event))
{
	typedef int call_fn(int mode, struct gaicb **list, int count, struct sigevent *event);
	call_fn *call;
	struct gaicb **rest;
	int left = 0, err;

	*(void **)&call = dlsym(RTLD_NEXT, "getaddrinfo_a"); /* once in a library of its own */
	if (!call)
		return EAI_SYSTEM;
	if (!shim_map() || !list || count <= 0 || (mode != GAI_WAIT && mode != GAI_NOWAIT))
		return call(mode, list, count, event);
	rest = calloc((size_t)count, sizeof(*rest));
	if (!rest)
		return EAI_MEMORY;
	for (int i = 0; i < count; i++) {
		struct gaicb *item = list[i];
		bool is_libcs = !item || !item->ar_name || !is_plain(item->ar_request);

		err = is_libcs ? 0
			       : look_up(item->ar_name, item->ar_service, item->ar_request,
					 &item->ar_result, &is_libcs);
		if (is_libcs)
			rest[left++] = item;
		else
			item->__return = err;
	}
	err = call(mode, rest, left, event);
	free(rest);
	return err;
}
#endif

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
	const struct map *map = shim_map();
	char name[MAP_NAME_MAX];
	struct endpoint ep;
	uint32_t mirror;
	int err;

	if ((flags & NI_NUMERICHOST) || !host || host_len == 0 || !map || !is_plausible(addr) ||
	    endpoint_from_sockaddr(addr, len, &ep) < 0)
		return libc.getnameinfo(addr, len, host, host_len, service, service_len, flags);
	if (!map_name_of(map, &ep.addr, name)) {
		if (map_to_mirror(map, &ep.addr, &mirror) == MAP_OUTSIDE)
			return libc.getnameinfo(addr, len, host, host_len, service, service_len,
						flags);
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
