/*
 * The mesh address as this machine's own.
 *
 * A UDP socket connected to a public address stays the kernel's: what is sent
 * on it leaves by the real network, and only its own name is shown as the mesh
 * address. A private destination counts too (people connect to
 * 10.255.255.255 for this), unless it is on a network this machine is part of:
 * there the local address is what was asked for. No route stays no route, since
 * programs also learn in this way which families work. The kernel's route to such
 * a place (rtnetlink) is shown with the same source.
 *
 * A program that has bound the socket to an address of its choice gets that
 * address; IP_BIND_ADDRESS_NO_PORT, which means nothing once a socket is bound,
 * is the note of it and stays with the socket.
 *
 * getsockname() must cost nothing for all other sockets, so the descriptors in
 * question are remembered, a bit for each. A bit that stays set when the number
 * is used anew only costs a second look.
 */
#include "preload/primary.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/libc.h"
#include "preload/raw.h"
#include "preload/shim.h"

#define HOSTS_FILE "/etc/hosts"
#define NAME_ROOM  256
#define MAX_FDS    65536u /* of higher ones the kernel's answer is shown */

bool primary_wanted;
static _Atomic uint32_t asked[MAX_FDS / 32];

bool primary_is_asked(int fd)
{
	return (unsigned)fd < MAX_FDS &&
	       atomic_load_explicit(&asked[fd / 32], memory_order_relaxed) >> fd % 32 & 1;
}

static void remember(int fd)
{
	if ((unsigned)fd < MAX_FDS && !primary_is_asked(fd))
		atomic_fetch_or_explicit(&asked[fd / 32], UINT32_C(1) << fd % 32,
					 memory_order_relaxed);
}

enum reach { REACH_NEAR, REACH_PRIVATE, REACH_PUBLIC };

static enum reach reach_v4(uint32_t v4)
{
	uint32_t a = v4 >> 24;

	if (a == 0 || a == 127 || a >= 224 || v4 >> 16 == 0xa9fe)
		return REACH_NEAR;
	/* RFC 1918, shared address space, and what documentation and laboratories use. */
	if (a == 10 || v4 >> 20 == 0xac1 || v4 >> 16 == 0xc0a8 || v4 >> 22 == 0x191 ||
	    v4 >> 17 == 0x6309 || v4 >> 8 == 0xc00002 || v4 >> 8 == 0xc63364 || v4 >> 8 == 0xcb0071)
		return REACH_PRIVATE;
	return REACH_PUBLIC;
}

static enum reach reach(const struct ip_addr *ip)
{
	if (ip_is_v4(ip))
		return reach_v4(ip_v4(ip));
	if ((ip->byte[0] & 0xfe) == 0xfc)
		return REACH_PRIVATE;
	return (ip->byte[0] & 0xe0) == 0x20 ? REACH_PUBLIC : REACH_NEAR;
}

/* On a network of this machine: a socket that may use no router can be connected to it. */
static bool is_on_link(const struct endpoint *to)
{
	int family = ip_is_v4(&to->addr) ? AF_INET : AF_INET6, saved = errno, on = 1;
	struct endpoint any_port = { to->addr, 9 };
	struct sockaddr_storage addr;
	socklen_t len = endpoint_to_sockaddr(&any_port, family, &addr);
	int fd = (int)raw_syscall(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool reached = true;

	/* A socket of our own, not the program's: libc's table is not for it. */
	if (fd >= 0) {
		raw_syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_DONTROUTE, &on, sizeof(on));
		reached = raw_syscall(SYS_connect, fd, &addr, len) == 0;
		raw_syscall(SYS_close, fd);
	}
	errno = saved;
	return reached;
}

static bool is_datagram(int fd)
{
	return socket_type(fd) == SOCK_DGRAM;
}

void primary_connected(int fd, const struct sockaddr *addr, const struct endpoint *to)
{
	if ((addr->sa_family == AF_INET || addr->sa_family == AF_INET6) &&
	    reach(&to->addr) != REACH_NEAR)
		remember(fd);
}

void primary_bound(int fd, const struct sockaddr *addr, const struct endpoint *at)
{
	int on = 1, saved = errno;

	if ((addr->sa_family != AF_INET && addr->sa_family != AF_INET6) || ip_is_any(&at->addr) ||
	    ip_is_loopback(&at->addr) || !is_datagram(fd))
		return;
	libc.setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	errno = saved;
}

static bool was_chosen(int fd)
{
	int value = 0, saved = errno;
	socklen_t len = sizeof(value);
	bool set = libc.getsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &value, &len) == 0 &&
		   value;

	errno = saved;
	return set;
}

/* What is sent to a place beyond this machine's networks has, to the program, the mesh address. */
static bool is_shown_towards(const struct endpoint *to)
{
	enum reach far = reach(&to->addr);

	return far == REACH_PUBLIC || (far == REACH_PRIVATE && !is_on_link(to));
}

bool primary_local(const struct map *map, int fd, const struct endpoint *local,
		   struct endpoint *mesh)
{
	struct socket_end peer;
	struct map_own own;

	if (!primary_is_on() || !primary_is_asked(fd) || ip_is_any(&local->addr) ||
	    !is_datagram(fd) || was_chosen(fd) || socket_peer(fd, &peer) < 0 ||
	    !is_shown_towards(&peer.ep) || !map_own(map, !ip_is_v4(&local->addr), &own))
		return false;
	*mesh = (struct endpoint){ own.addr, local->port };
	return true;
}

bool primary_source(const struct map *map, const struct ip_addr *to, struct ip_addr *mesh)
{
	struct endpoint far = { *to, 0 };
	struct map_own own;

	if (!primary_is_on() || !is_shown_towards(&far) || !map_own(map, !ip_is_v4(to), &own))
		return false;
	*mesh = own.addr;
	return true;
}

/* Does a line of the hosts file name both? */
static bool line_names_both(char *line, const char *a, const char *b)
{
	bool has_a = false, has_b = false;
	char *rest = line, *word;
	unsigned at = 0;

	line[strcspn(line, "#\n")] = '\0';
	while ((word = strsep(&rest, " \t\r"))) {
		if (!*word || at++ == 0)
			continue;
		has_a |= strcasecmp(word, a) == 0;
		has_b |= strcasecmp(word, b) == 0;
	}
	return has_a && has_b;
}

static bool are_one_host(const char *a, const char *b)
{
	FILE *f = fopen(HOSTS_FILE, "re");
	char *line = NULL;
	size_t room = 0;
	bool found = false;

	if (!f)
		return false;
	while (!found && getline(&line, &room, f) >= 0)
		found = line_names_both(line, a, b);
	free(line);
	fclose(f);
	return found;
}

/* Without the dot at its end; false: no name we could have. */
static bool take_name(const char *name, char out[static NAME_ROOM])
{
	size_t len = strlen(name);

	if (len && name[len - 1] == '.')
		len--;
	if (len == 0 || len >= NAME_ROOM)
		return false;
	memcpy(out, name, len);
	out[len] = '\0';
	return true;
}

bool primary_is_own_name(const char *name)
{
	char host[NAME_ROOM], asked[NAME_ROOM];
	size_t label;
	int saved = errno;
	bool own;

	if (!primary_is_on() || !take_name(name, asked) || gethostname(host, sizeof(host)) < 0)
		return false;
	host[sizeof(host) - 1] = '\0';
	own = strcasecmp(asked, host) == 0;
	label = strcspn(host, ".");
	if (!own && strcspn(asked, ".") == label && strncasecmp(asked, host, label) == 0)
		own = are_one_host(asked, host);
	errno = saved;
	return own;
}
