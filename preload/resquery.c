/*
 * The res_* family: programs that ask for other records than addresses (mail
 * servers, PHP, Kerberos, LDAP clients) do it so, and libc's own sockets, which
 * nobody can redirect, carry the question.
 *
 * What is the mesh's to know (its names, zones, routes and addresses; with
 * resolvers for everything, any name) is asked of the daemon at its resolver's
 * address, over a socket that is dialled as a program's would be. All else is
 * libc's, with whatever the caller set up in its state. While the daemon is
 * gone, such questions fail for now and go nowhere.
 *
 * libc's functions are found when first wanted: they may be in a library
 * that the program loads later.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "preload/dial.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/shim.h"

#ifndef NETDB_SUCCESS
#define NETDB_SUCCESS 0
#endif

#define RESOLVER_V4  0x64646464u /* 100.100.100.100 */
#define HEADER_LEN   12
#define QUESTION_MAX 512
#define WAIT_MS      6000 /* the daemon's own limit is shorter */
#define FLAG_QR      0x80 /* in the third byte */
#define FLAG_TC      0x02

static const uint8_t resolver_v6[16] = { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, [15] = 0x53 };

/* ---- libc's own ---- */

static void *find_libc(const char *name)
{
	char old[32] = "__";
	void *found = dlsym(RTLD_NEXT, name);

	if (found)
		return found;
	snprintf(old + 2, sizeof(old) - 2, "%s", name);
	return dlsym(RTLD_NEXT, old);
}

#define LIBC_FIND(type, name)                                    \
	static type *real;                                       \
	type *call = __atomic_load_n(&real, __ATOMIC_RELAXED);   \
	if (!call) {                                             \
		*(void **)&call = find_libc(#name);              \
		__atomic_store_n(&real, call, __ATOMIC_RELAXED); \
	}                                                        \
	if (!call) {                                             \
		h_errno = NO_RECOVERY;                           \
		return -1;                                       \
	}

typedef int query_fn(const char *name, int class, int type, unsigned char *answer, int room);
typedef int query_domain_fn(const char *name, const char *domain, int class, int type,
			    unsigned char *answer, int room);
typedef int make_fn(int op, const char *name, int class, int type, const unsigned char *data,
		    int data_len, const unsigned char *record, unsigned char *query, int room);
typedef int send_fn(const unsigned char *query, int len, unsigned char *answer, int room);

static int libc_query(const char *name, int class, int type, unsigned char *answer, int room)
{
	LIBC_FIND(query_fn, res_query)
	return call(name, class, type, answer, room);
}

static int libc_search(const char *name, int class, int type, unsigned char *answer, int room)
{
	LIBC_FIND(query_fn, res_search)
	return call(name, class, type, answer, room);
}

static int libc_send(const unsigned char *query, int len, unsigned char *answer, int room)
{
	LIBC_FIND(send_fn, res_send)
	return call(query, len, answer, room);
}

static int libc_make(const char *name, int class, int type, unsigned char *query, int room)
{
	LIBC_FIND(make_fn, res_mkquery)
	return call(0, name, class, type, NULL, 0, NULL, query, room);
}

/* ---- whose is it? ---- */

static bool is_below(const char *name, size_t len, const char *suffix)
{
	size_t suffix_len = strlen(suffix);

	return len > suffix_len && strncasecmp(name + len - suffix_len, suffix, suffix_len) == 0;
}

/*
 * Not sscanf(): from glibc 2.38 on it is another symbol in what is built there, which neither
 * older ones nor musl have, and their programs would not start with this library.
 */
static bool reverse_v4(const char *name, struct ip_addr *ip)
{
	uint32_t addr = 0;

	for (unsigned i = 0; i < 4; i++, name++) {
		unsigned byte = 0, digits = 0;

		for (; *name >= '0' && *name <= '9' && digits < 3; name++, digits++)
			byte = 10 * byte + (unsigned)(*name - '0');
		if (digits == 0 || byte > 255 || *name != '.')
			return false;
		addr |= byte << 8 * i;
	}
	*ip = ip_from_v4(addr);
	return strncasecmp(name, "in-addr.arpa", 12) == 0;
}

static bool reverse_v6(const char *name, struct ip_addr *ip)
{
	*ip = (struct ip_addr){ 0 };
	for (int i = 31; i >= 0; i--, name += 2) {
		const char *digits = "0123456789abcdef";
		const char *digit = *name ? strchr(digits, *name | 0x20) : NULL;

		if (!digit || name[1] != '.')
			return false;
		ip->byte[i / 2] |= (uint8_t)((digit - digits) << (i % 2 ? 0 : 4));
	}
	return strncasecmp(name, "ip6.arpa", 8) == 0;
}

static bool is_mesh_address(const struct map *map, const char *name)
{
	char text[MAP_NAME_MAX];
	struct ip_addr ip;
	uint32_t mirror;

	return (reverse_v4(name, &ip) || reverse_v6(name, &ip)) &&
	       (map_to_mirror(map, &ip, &mirror) != MAP_OUTSIDE || map_name_of(map, &ip, text));
}

/* Nobody but the daemon is to be asked. */
static bool is_ours(const char *name)
{
	const struct map *map = shim_map();
	struct map_name found;
	size_t len;

	if (!map || !name)
		return false;
	len = strlen(name);
	len -= len && name[len - 1] == '.';
	if (is_below(name, len, ".arpa") && is_mesh_address(map, name))
		return true;
	if (map_find_name(map, name, &found))
		return true;
	switch (map_suffix_of(map, name)) {
	case MAP_SUFFIX_ZONE:
	case MAP_SUFFIX_ROUTE:
		return true;
	case MAP_SUFFIX_DEFAULT:
		return map_is_alive(map);
	case MAP_SUFFIX_NONE:
		break;
	}
	return false;
}

/* The name a message asks for. */
static bool question_name(const unsigned char *query, int len, char name[static MAP_NAME_MAX])
{
	size_t at = HEADER_LEN, out = 0;

	if (!query || len <= HEADER_LEN)
		return false;
	while (at < (size_t)len && query[at]) {
		size_t label = query[at];

		if (label > 63 || at + 1 + label >= (size_t)len || out + label + 2 > MAP_NAME_MAX)
			return false;
		memcpy(name + out, query + at + 1, label);
		name[out + label] = '.';
		out += label + 1;
		at += 1 + label;
	}
	name[out ? out - 1 : 0] = '\0';
	return at < (size_t)len;
}

/* ---- asking the daemon ---- */

static int dial_resolver(int type)
{
	const struct ip_addr at[] = { ip_from_v4(RESOLVER_V4), *(struct ip_addr *)resolver_v6 };
	int fd, saved = ENETUNREACH;

	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++) {
		struct endpoint ep = { at[i], MAP_DNS_PORT };
		int family = ip_is_v4(&ep.addr) ? AF_INET : AF_INET6;
		struct sockaddr_storage addr;
		socklen_t len = endpoint_to_sockaddr(&ep, family, &addr);
		struct route route;

		fd = socket(family, type | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		if (route_find((struct sockaddr *)&addr, len, &route) == ROUTE_PEER &&
		    dial(fd, (struct sockaddr *)&addr, len, &route) == 0)
			return fd;
		saved = errno;
		close(fd);
	}
	errno = saved;
	return -1;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* False: nothing came in time. */
static bool wait_for(int fd, int64_t end_ms)
{
	struct pollfd p = { fd, POLLIN, 0 };
	int64_t left;

	while ((left = end_ms - now_ms()) > 0) {
		int n = poll(&p, 1, (int)left);

		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return false;
	}
	errno = ETIMEDOUT;
	return false;
}

static int ask_by_datagram(const unsigned char *query, int len, unsigned char *answer, int room)
{
	int64_t end_ms = now_ms() + WAIT_MS;
	int fd = dial_resolver(SOCK_DGRAM);
	ssize_t n = -1;

	if (fd < 0)
		return -1;
	if (libc.sendto(fd, query, (size_t)len, MSG_NOSIGNAL, NULL, 0) == len) {
		while (wait_for(fd, end_ms)) {
			n = libc.recvfrom(fd, answer, (size_t)room, MSG_TRUNC, NULL, NULL);
			if (n < 0 || (n >= HEADER_LEN && memcmp(answer, query, 2) == 0 &&
				      (answer[2] & FLAG_QR)))
				break;
			n = -1;
		}
	}
	close(fd);
	if (n > room) {
		answer[2] |= FLAG_TC;
		n = room;
	}
	return (int)n;
}

static bool read_all(int fd, void *to, size_t len, int64_t end_ms)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = -1;

		if (wait_for(fd, end_ms))
			n = libc.recvfrom(fd, (char *)to + got, len - got, MSG_DONTWAIT, NULL,
					  NULL);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		got += n > 0 ? (size_t)n : 0;
	}
	return true;
}

static int ask_by_stream(const unsigned char *query, int len, unsigned char *answer, int room)
{
	unsigned char head[2 + QUESTION_MAX] = { (unsigned char)(len >> 8), (unsigned char)len };
	int64_t end_ms = now_ms() + WAIT_MS;
	int fd, total = -1;

	if (len > QUESTION_MAX)
		return -1;
	fd = dial_resolver(SOCK_STREAM);
	if (fd < 0)
		return -1;
	memcpy(head + 2, query, (size_t)len);
	if (libc.sendto(fd, head, (size_t)len + 2, MSG_NOSIGNAL, NULL, 0) == len + 2 &&
	    read_all(fd, head, 2, end_ms)) {
		int whole = head[0] << 8 | head[1];

		total = whole < room ? whole : room;
		if (total < HEADER_LEN || !read_all(fd, answer, (size_t)total, end_ms))
			total = -1;
		else if (whole > room)
			answer[2] |= FLAG_TC;
	}
	close(fd);
	return total;
}

/* The answer's length; -1 with errno. */
static int ask_daemon(const unsigned char *query, int len, unsigned char *answer, int room)
{
	int n, whole;

	if (room < HEADER_LEN) {
		errno = EMSGSIZE;
		return -1;
	}
	n = ask_by_datagram(query, len, answer, room);
	if (n < 0 || !(answer[2] & FLAG_TC) || n == room)
		return n;
	whole = ask_by_stream(query, len, answer, room);
	return whole < 0 ? n : whole;
}

/* As libc's res_query() tells what came. */
static int judge(const unsigned char *answer, int n)
{
	if (n < 0) {
		h_errno = TRY_AGAIN;
		return -1;
	}
	switch (answer[3] & 15) {
	case 0:
		h_errno = answer[6] || answer[7] ? NETDB_SUCCESS : NO_DATA;
		break;
	case 3:
		h_errno = HOST_NOT_FOUND;
		break;
	case 2:
		h_errno = TRY_AGAIN;
		break;
	default:
		h_errno = NO_RECOVERY;
		break;
	}
	return h_errno == NETDB_SUCCESS ? n : -1;
}

static void explain(const char *call, const char *name, int error)
{
	struct explain e;

	explain_begin(&e, call, -1);
	explain_text(&e, " ");
	explain_text(&e, name);
	explain_text(&e, ", a name that the daemon answers for");
	explain_result(&e, error);
	explain_end(&e);
}

static int query_daemon(const char *name, int class, int type, unsigned char *answer, int room)
{
	unsigned char query[QUESTION_MAX];
	int len = libc_make(name, class, type, query, sizeof(query)), n;

	if (len < 0) {
		h_errno = NO_RECOVERY;
		return -1;
	}
	n = ask_daemon(query, len, answer, room);
	if (explain_is_on())
		explain("res_query", name, n < 0 ? errno : 0);
	return judge(answer, n);
}

/* ---- the calls; plain functions, since each has up to four names ---- */

static int query_name(const char *name, int class, int type, unsigned char *answer, int room)
{
	if (is_ours(name))
		return query_daemon(name, class, type, answer, room);
	return libc_query(name, class, type, answer, room);
}

/* 0: libc is to search. 1: *result is the end of it. */
static bool search_ours(const char *name, int class, int type, unsigned char *answer, int room,
			int *result)
{
	const struct map *map = shim_map();
	char candidate[2 * MAP_NAME_MAX], domain[MAP_NAME_MAX];

	if (!map || !name)
		return false;
	for (uint32_t i = 0;
	     !strchr(name, '.') && strlen(name) < MAP_NAME_MAX && map_search_domain(map, i, domain);
	     i++) {
		if (!*domain)
			continue;
		snprintf(candidate, sizeof(candidate), "%s.%s", name, domain);
		*result = query_name(candidate, class, type, answer, room);
		if (*result >= 0 || (h_errno != HOST_NOT_FOUND && h_errno != NO_DATA))
			return true;
	}
	/* libc would go on with its own search domains behind a name of the mesh. */
	if (!is_ours(name))
		return false;
	*result = query_daemon(name, class, type, answer, room);
	return true;
}

static int send_query(const unsigned char *query, int len, unsigned char *answer, int room)
{
	char name[MAP_NAME_MAX];
	int n;

	if (!question_name(query, len, name) || !is_ours(name))
		return libc_send(query, len, answer, room);
	n = ask_daemon(query, len, answer, room);
	if (explain_is_on())
		explain("res_send", name, n < 0 ? errno : 0);
	return n;
}

static bool join(char *out, size_t room, const char *name, const char *domain)
{
	size_t len = strlen(name);

	if (!domain || !*domain)
		return (size_t)snprintf(out, room, "%s", name) < room;
	len -= len && name[len - 1] == '.';
	return (size_t)snprintf(out, room, "%.*s.%s", (int)len, name, domain) < room;
}

#define QUERY_ARGS (const char *name, int class, int type, unsigned char *answer, int room)
#define DOMAIN_ARGS \
	(const char *name, const char *domain, int class, int type, unsigned char *answer, int room)
#define SEND_ARGS (const unsigned char *query, int len, unsigned char *answer, int room)

SHIM_EXPORT(int, res_query, QUERY_ARGS)
{
	return query_name(name, class, type, answer, room);
}

SHIM_EXPORT(int, res_search, QUERY_ARGS)
{
	int result;

	if (search_ours(name, class, type, answer, room, &result))
		return result;
	return libc_search(name, class, type, answer, room);
}

SHIM_EXPORT(int, res_querydomain, DOMAIN_ARGS)
{
	char whole[2 * MAP_NAME_MAX];
	LIBC_FIND(query_domain_fn, res_querydomain)

	if (name && join(whole, sizeof(whole), name, domain) && is_ours(whole))
		return query_daemon(whole, class, type, answer, room);
	return call(name, domain, class, type, answer, room);
}

SHIM_EXPORT(int, res_send, SEND_ARGS)
{
	return send_query(query, len, answer, room);
}

#ifdef __GLIBC__
/* The same with a state of the caller's; what he set up in it concerns libc's part alone. */
typedef int nquery_fn(res_state state, const char *name, int class, int type, unsigned char *answer,
		      int room);
typedef int nquery_domain_fn(res_state state, const char *name, const char *domain, int class,
			     int type, unsigned char *answer, int room);
typedef int nsend_fn(res_state state, const unsigned char *query, int len, unsigned char *answer,
		     int room);

#define NQUERY_ARGS \
	(res_state state, const char *name, int class, int type, unsigned char *answer, int room)
#define NDOMAIN_ARGS                                                                 \
	(res_state state, const char *name, const char *domain, int class, int type, \
	 unsigned char *answer, int room)
#define NSEND_ARGS \
	(res_state state, const unsigned char *query, int len, unsigned char *answer, int room)

static int told(res_state state, int result)
{
	state->res_h_errno = result < 0 ? h_errno : NETDB_SUCCESS;
	return result;
}

SHIM_EXPORT(int, res_nquery, NQUERY_ARGS)
{
	LIBC_FIND(nquery_fn, res_nquery)

	if (is_ours(name))
		return told(state, query_daemon(name, class, type, answer, room));
	return call(state, name, class, type, answer, room);
}

SHIM_EXPORT(int, res_nsearch, NQUERY_ARGS)
{
	int result;
	LIBC_FIND(nquery_fn, res_nsearch)

	if (search_ours(name, class, type, answer, room, &result))
		return told(state, result);
	return call(state, name, class, type, answer, room);
}

SHIM_EXPORT(int, res_nquerydomain, NDOMAIN_ARGS)
{
	char whole[2 * MAP_NAME_MAX];
	LIBC_FIND(nquery_domain_fn, res_nquerydomain)

	if (name && join(whole, sizeof(whole), name, domain) && is_ours(whole))
		return told(state, query_daemon(whole, class, type, answer, room));
	return call(state, name, domain, class, type, answer, room);
}

SHIM_EXPORT(int, res_nsend, NSEND_ARGS)
{
	char name[MAP_NAME_MAX];
	LIBC_FIND(nsend_fn, res_nsend)

	if (question_name(query, len, name) && is_ours(name))
		return send_query(query, len, answer, room);
	return call(state, query, len, answer, room);
}

/* What programs that were built with an older glibc call. */
SHIM_EXPORT(int, __res_query, QUERY_ARGS)
{
	return shim_res_query(name, class, type, answer, room);
}

SHIM_EXPORT(int, __res_search, QUERY_ARGS)
{
	return shim_res_search(name, class, type, answer, room);
}

SHIM_EXPORT(int, __res_querydomain, DOMAIN_ARGS)
{
	return shim_res_querydomain(name, domain, class, type, answer, room);
}

SHIM_EXPORT(int, __res_send, SEND_ARGS)
{
	return send_query(query, len, answer, room);
}

SHIM_EXPORT(int, __res_nquery, NQUERY_ARGS)
{
	return shim_res_nquery(state, name, class, type, answer, room);
}

SHIM_EXPORT(int, __res_nsearch, NQUERY_ARGS)
{
	return shim_res_nsearch(state, name, class, type, answer, room);
}

SHIM_EXPORT(int, __res_nquerydomain, NDOMAIN_ARGS)
{
	return shim_res_nquerydomain(state, name, domain, class, type, answer, room);
}

SHIM_EXPORT(int, __res_nsend, NSEND_ARGS)
{
	return shim_res_nsend(state, query, len, answer, room);
}
#endif
