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
#include "preload/libc.h"
#include "preload/shim.h"

#define STATIC_BUFFER 1024

static struct hostent static_host;
static char static_buffer[STATIC_BUFFER];

/* What a hostent holds here: one name, one address, no aliases. */
struct layout {
	char *aliases[1];
	char *addresses[2];
	uint8_t address[16];
	char name[];
};

static int fill(struct hostent *host, char *buf, size_t buf_len, const char *name,
		const struct ip_addr *ip, int family)
{
	size_t skip = (size_t)(-(uintptr_t)buf % _Alignof(struct layout));
	size_t need = skip + sizeof(struct layout) + strlen(name) + 1;
	size_t length = family == AF_INET ? 4 : 16;
	struct layout *l;

	if (buf_len < need)
		return ERANGE;
	l = (struct layout *)(buf + skip);
	l->aliases[0] = NULL;
	l->addresses[0] = (char *)l->address;
	l->addresses[1] = NULL;
	memcpy(l->address, ip->byte + 16 - length, length);
	memcpy(l->name, name, strlen(name) + 1);
	*host = (struct hostent){ .h_name = l->name,
				  .h_aliases = l->aliases,
				  .h_addrtype = family,
				  .h_length = (int)length,
				  .h_addr_list = l->addresses };
	return 0;
}

/* An answer, or 0 with h_errno: found nothing; ERANGE: the buffer is too small. */
static int finish(int err, struct hostent *host, struct hostent **result, int h_error, int *error)
{
	*result = err || h_error ? NULL : host;
	*error = err == ERANGE ? NETDB_INTERNAL : h_error;
	if (err)
		errno = err;
	return err;
}

static int by_name(const struct map *map, const struct map_name *entry, const char *asked,
		   int family, struct hostent *ret, char *buf, size_t buf_len,
		   struct hostent **result, int *error)
{
	const struct ip_addr *ip = family == AF_INET ? &entry->v4 : &entry->v6;
	char name[MAP_NAME_MAX];

	if (ip_is_any(ip))
		return finish(0, ret, result,
			      ip_is_any(&entry->v4) && ip_is_any(&entry->v6) ? HOST_NOT_FOUND
									     : NO_DATA,
			      error);
	if (!map_name_of(map, ip, name))
		strncpy(name, asked, sizeof(name) - 1)[sizeof(name) - 1] = '\0';
	return finish(fill(ret, buf, buf_len, name, ip, family), ret, result, 0, error);
}

/* Ours to answer; an unknown name of the mesh's domain is an entry without addresses. */
static bool is_mesh_name(const struct map *map, const char *name, int family,
			 struct map_name *entry)
{
	if (!map || !name || (family != AF_INET && family != AF_INET6))
		return false;
	if (map_find_name(map, name, entry))
		return true;
	memset(entry, 0, sizeof(*entry));
	return is_in_domain(map, name);
}

/* The address is one of the mesh's, in the family's own length. */
static bool is_mesh_address(const struct map *map, const void *addr, socklen_t len, int family,
			    struct ip_addr *ip)
{
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
	return map_to_mirror(map, ip, &mirror) != MAP_OUTSIDE;
}

SHIM_EXPORT(int, gethostbyname2_r,
	    (const char *name, int family, struct hostent *ret, char *buf, size_t buf_len,
	     struct hostent **result, int *error))
{
	const struct map *map = shim_map();
	struct map_name entry;

	if (!is_mesh_name(map, name, family, &entry))
		return libc.gethostbyname2_r(name, family, ret, buf, buf_len, result, error);
	return by_name(map, &entry, name, family, ret, buf, buf_len, result, error);
}

SHIM_EXPORT(int, gethostbyname_r,
	    (const char *name, struct hostent *ret, char *buf, size_t buf_len,
	     struct hostent **result, int *error))
{
	const struct map *map = shim_map();
	struct map_name entry;

	if (!is_mesh_name(map, name, AF_INET, &entry))
		return libc.gethostbyname_r(name, ret, buf, buf_len, result, error);
	return by_name(map, &entry, name, AF_INET, ret, buf, buf_len, result, error);
}

SHIM_EXPORT(struct hostent *, gethostbyname2, (const char *name, int family))
{
	const struct map *map = shim_map();
	struct hostent *result;
	struct map_name entry;

	if (!is_mesh_name(map, name, family, &entry))
		return libc.gethostbyname2(name, family);
	by_name(map, &entry, name, family, &static_host, static_buffer, sizeof(static_buffer),
		&result, &h_errno);
	return result;
}

SHIM_EXPORT(struct hostent *, gethostbyname, (const char *name))
{
	const struct map *map = shim_map();
	struct hostent *result;
	struct map_name entry;

	if (!is_mesh_name(map, name, AF_INET, &entry))
		return libc.gethostbyname(name);
	by_name(map, &entry, name, AF_INET, &static_host, static_buffer, sizeof(static_buffer),
		&result, &h_errno);
	return result;
}

static int by_address(const struct map *map, const struct ip_addr *ip, int family,
		      struct hostent *ret, char *buf, size_t buf_len, struct hostent **result,
		      int *error)
{
	char name[MAP_NAME_MAX];

	if (!map_name_of(map, ip, name))
		return finish(0, ret, result, HOST_NOT_FOUND, error);
	return finish(fill(ret, buf, buf_len, name, ip, family), ret, result, 0, error);
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
