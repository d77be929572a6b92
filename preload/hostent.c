/*
 * The gethostby* family, for mesh names and mesh addresses.
 *
 * The _r forms lay everything into the caller's buffer; the others use one
 * static buffer of ours, as libc does. Answers for all other names come from
 * libc untouched.
 */
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/address.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/lookup.h"
#include "preload/shim.h"

#ifndef NETDB_INTERNAL
#define NETDB_INTERNAL (-1)
#endif
#define STATIC_BUFFER 8192 /* answers of libc's, too */

static struct hostent static_host;
static char static_buffer[STATIC_BUFFER];

/*
 * One name, some addresses, no aliases. In the buffer: pointers (none for the
 * aliases, then those to the addresses), the addresses, the name.
 */
static int fill(struct hostent *host, char *buf, size_t buf_len, const char *name,
		const struct ip_addr *ip, unsigned count, int family)
{
	size_t skip = (size_t)(-(uintptr_t)buf % _Alignof(char *));
	size_t name_len = strlen(name), length = family == AF_INET ? 4 : 16;
	char **pointers = (char **)(buf + skip), *at = (char *)(pointers + count + 2);

	if (name_len && name[name_len - 1] == '.')
		name_len--;
	if (buf_len < skip + (count + 2) * sizeof(*pointers) + count * length + name_len + 1)
		return ERANGE;
	pointers[0] = pointers[count + 1] = NULL;
	for (unsigned i = 0; i < count; i++, at += length) {
		pointers[i + 1] = at;
		memcpy(at, ip[i].byte + 16 - length, length);
	}
	memcpy(at, name, name_len);
	at[name_len] = '\0';
	*host = (struct hostent){ .h_name = at,
				  .h_aliases = pointers,
				  .h_addrtype = family,
				  .h_length = (int)length,
				  .h_addr_list = pointers + 1 };
	return 0;
}

/* Where a caller of the _r forms wants his answer. */
struct place {
	struct hostent *host;
	char *buf;
	size_t len;
	struct hostent **result;
	int *error;
	bool is_static; /* not a caller's: libc has a buffer that grows */
};

/* An answer, or 0 with h_errno: found nothing; ERANGE: the buffer is too small. */
static int finish(int err, struct hostent *host, struct hostent **result, int h_error, int *error)
{
	*result = err || h_error ? NULL : host;
	*error = err == ERANGE ? NETDB_INTERNAL : h_error;
	if (err)
		errno = err;
	return err;
}

/* Is this candidate the end of the search? If so *err is what the caller gets. */
static bool is_settled(enum lookup_verdict verdict, const struct lookup *l, int family,
		       struct place *p, int *err)
{
	switch (verdict) {
	case LOOKUP_FOUND:
		*err = finish(fill(p->host, p->buf, p->len, l->candidate, l->ip, l->count, family),
			      p->host, p->result, 0, p->error);
		return true;
	case LOOKUP_LIBC:
		if (p->is_static && !l->is_searched) {
			*p->result = libc.gethostbyname2(l->name, family);
			return true;
		}
		*err = libc.gethostbyname2_r(l->is_searched ? l->candidate : l->name, family,
					     p->host, p->buf, p->len, p->result, p->error);
		return !l->is_searched || *err || *p->result ||
		       (*p->error != HOST_NOT_FOUND && *p->error != NO_DATA);
	case LOOKUP_AGAIN:
		*err = finish(0, p->host, p->result, TRY_AGAIN, p->error);
		return true;
	default:
		return false;
	}
}

static int by_name(const char *name, int family, struct place *p)
{
	enum lookup_verdict verdict;
	int err = 0, none = HOST_NOT_FOUND;
	struct lookup l;

	lookup_begin(&l, shim_map(), name, family == AF_INET ? IPC_LOOKUP_V4 : IPC_LOOKUP_V6);
	while ((verdict = lookup_next(&l)) != LOOKUP_END) {
		if (explain_is_on())
			lookup_explain(&l, "gethostbyname", verdict);
		if (is_settled(verdict, &l, family, p, &err))
			return err;
		if (verdict == LOOKUP_NO_DATA || (verdict == LOOKUP_LIBC && *p->error == NO_DATA))
			none = NO_DATA;
	}
	return finish(0, p->host, p->result, none, p->error);
}

/* Nothing here is for libc alone to know: families, or names when there is no mesh. */
static bool is_ours_to_try(const char *name, int family)
{
	return shim_map() && name && (family == AF_INET || family == AF_INET6);
}

/* The address is one of the mesh's, or has a name there, in the family's own length. */
static bool is_mesh_address(const struct map *map, const void *addr, socklen_t len, int family,
			    struct ip_addr *ip)
{
	char name[MAP_NAME_MAX];
	uint32_t mirror, v4;

	if (!map || !addr)
		return false;
	if (family == AF_INET && len == 4) {
		memcpy(&v4, addr, sizeof(v4));
		*ip = ip_from_v4(__builtin_bswap32(v4));
	} else if (family == AF_INET6 && len == 16) {
		memcpy(ip->byte, addr, sizeof(ip->byte));
	} else {
		return false;
	}
	return map_to_mirror(map, ip, &mirror) != MAP_OUTSIDE || map_name_of(map, ip, name);
}

SHIM_EXPORT(int, gethostbyname2_r,
	    (const char *name, int family, struct hostent *ret, char *buf, size_t buf_len,
	     struct hostent **result, int *error))
{
	struct place place = { ret, buf, buf_len, result, error, false };

	if (!is_ours_to_try(name, family))
		return libc.gethostbyname2_r(name, family, ret, buf, buf_len, result, error);
	return by_name(name, family, &place);
}

SHIM_EXPORT(int, gethostbyname_r,
	    (const char *name, struct hostent *ret, char *buf, size_t buf_len,
	     struct hostent **result, int *error))
{
	struct place place = { ret, buf, buf_len, result, error, false };

	if (!is_ours_to_try(name, AF_INET))
		return libc.gethostbyname_r(name, ret, buf, buf_len, result, error);
	return by_name(name, AF_INET, &place);
}

static struct hostent *by_name_static(const char *name, int family)
{
	struct hostent *result = NULL;
	struct place place = { &static_host, static_buffer, sizeof(static_buffer),
			       &result,      &h_errno,      true };

	by_name(name, family, &place);
	return result;
}

SHIM_EXPORT(struct hostent *, gethostbyname2, (const char *name, int family))
{
	if (!is_ours_to_try(name, family))
		return libc.gethostbyname2(name, family);
	return by_name_static(name, family);
}

SHIM_EXPORT(struct hostent *, gethostbyname, (const char *name))
{
	if (!is_ours_to_try(name, AF_INET))
		return libc.gethostbyname(name);
	return by_name_static(name, AF_INET);
}

static int by_address(const struct map *map, const struct ip_addr *ip, int family,
		      struct hostent *ret, char *buf, size_t buf_len, struct hostent **result,
		      int *error)
{
	char name[MAP_NAME_MAX];

	if (!map_name_of(map, ip, name))
		return finish(0, ret, result, HOST_NOT_FOUND, error);
	return finish(fill(ret, buf, buf_len, name, ip, 1, family), ret, result, 0, error);
}

SHIM_EXPORT(int, gethostbyaddr_r,
	    (const void *addr, socklen_t len, int family, struct hostent *ret, char *buf,
	     size_t buf_len, struct hostent **result, int *error))
{
	const struct map *map = shim_map();
	struct ip_addr ip;

	if (!is_mesh_address(map, addr, len, family, &ip))
		return libc.gethostbyaddr_r(addr, len, family, ret, buf, buf_len, result, error);
	return by_address(map, &ip, family, ret, buf, buf_len, result, error);
}

SHIM_EXPORT(struct hostent *, gethostbyaddr, (const void *addr, socklen_t len, int family))
{
	const struct map *map = shim_map();
	struct hostent *result;
	struct ip_addr ip;

	if (!is_mesh_address(map, addr, len, family, &ip))
		return libc.gethostbyaddr(addr, len, family);
	by_address(map, &ip, family, &static_host, static_buffer, sizeof(static_buffer), &result,
		   &h_errno);
	return result;
}
