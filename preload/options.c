/*
 * setsockopt(): options that name the mesh interface or its address.
 *
 * Mesh traffic runs over lo. A socket tied to the mesh interface is tied
 * to lo, and so hears and reaches the mesh and this machine and nothing else,
 * just as on a tunnel. SO_DONTROUTE, which changes nothing there, is the note
 * by which getsockopt() knows which name or index to show. Multicast through the mesh
 * interface reaches nobody, as through any tunnel of this kind.
 *
 * A name or an address is tried as it stands first: a real interface has it.
 *
 * Keepalive and TCP_USER_TIMEOUT are the kernel's, and then the daemon's, too: patience.c.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/address.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/options.h"
#include "preload/patience.h"
#include "preload/shim.h"

#define LOOPBACK_V4 0x7f000001u

/* Where a value names an interface: at these offsets, or -1. */
struct place {
	int index, address;
	bool is_network_order; /* the index */
};

/* Those of both families, of a group or of one sender of it (struct group_source_req). */
static bool is_of_groups(int name)
{
	return name >= MCAST_JOIN_GROUP && name <= MCAST_LEAVE_SOURCE_GROUP;
}

static bool find_place(int level, int name, socklen_t len, struct place *place)
{
	*place = (struct place){ -1, -1, false };
	if ((level == IPPROTO_IP || level == IPPROTO_IPV6) && is_of_groups(name)) {
		place->index = 0;
	} else if (level == SOL_SOCKET && name == SO_BINDTOIFINDEX) {
		place->index = 0;
	} else if (level == IPPROTO_IP) {
		switch (name) {
		case IP_UNICAST_IF:
			*place = (struct place){ 0, -1, true };
			break;
		case IP_MULTICAST_IF: /* an address, or one of the structures below */
			if (len < sizeof(struct ip_mreq)) {
				place->address = 0;
				break;
			}
			__attribute__((fallthrough));
		case IP_ADD_MEMBERSHIP:
		case IP_DROP_MEMBERSHIP:
			place->address = offsetof(struct ip_mreqn, imr_address);
			if (len >= sizeof(struct ip_mreqn))
				place->index = offsetof(struct ip_mreqn, imr_ifindex);
			break;
		case IP_ADD_SOURCE_MEMBERSHIP:
		case IP_DROP_SOURCE_MEMBERSHIP:
		case IP_BLOCK_SOURCE:
		case IP_UNBLOCK_SOURCE:
			place->address = offsetof(struct ip_mreq_source, imr_interface);
			break;
		}
	} else if (level == IPPROTO_IPV6) {
		switch (name) {
		case IPV6_UNICAST_IF:
			*place = (struct place){ 0, -1, true };
			break;
		case IPV6_MULTICAST_IF:
			place->index = 0;
			break;
		case IPV6_JOIN_GROUP:
		case IPV6_LEAVE_GROUP:
			place->index = offsetof(struct ipv6_mreq, ipv6mr_interface);
			break;
		}
	}
	return place->index >= 0 || place->address >= 0;
}

/* value with lo in the place of the mesh interface; false: it is not named there. */
static bool put_lo(const struct place *place, char *value, socklen_t len)
{
	const struct map *map = shim_map();
	uint32_t index, address, mirror;
	bool changed = false;
	struct ip_addr ip;

	if (place->index >= 0 && (socklen_t)place->index + sizeof(index) <= len) {
		memcpy(&index, value + place->index, sizeof(index));
		if (index == (place->is_network_order ? htonl(MESHIF_INDEX) : MESHIF_INDEX)) {
			index = place->is_network_order ? htonl(MESHIF_LO_INDEX) : MESHIF_LO_INDEX;
			memcpy(value + place->index, &index, sizeof(index));
			changed = true;
		}
	}
	if (map && place->address >= 0 && (socklen_t)place->address + sizeof(address) <= len) {
		memcpy(&address, value + place->address, sizeof(address));
		ip = ip_from_v4(ntohl(address));
		if (map_to_mirror(map, &ip, &mirror) == MAP_OWN) {
			address = htonl(LOOPBACK_V4);
			memcpy(value + place->address, &address, sizeof(address));
			changed = true;
		}
	}
	return changed;
}

static void explain_lo(int fd, int result)
{
	struct explain e;

	if (!explain_is_on())
		return;
	explain_begin(&e, "setsockopt", fd);
	explain_text(&e, " mesh interface -> lo");
	explain_result(&e, result < 0 ? errno : 0);
	explain_end(&e);
}

static bool is_mesh_name(const char *name, socklen_t len)
{
	char mesh[MAP_IFNAME_MAX];

	return meshif_name(shim_map(), mesh) && len >= strlen(mesh) &&
	       strncmp(name, mesh, len < sizeof(mesh) ? len : sizeof(mesh)) == 0;
}

static bool is_tied_to_mesh(int fd)
{
	int on = 0, saved = errno;
	socklen_t len = sizeof(on);
	bool noted = libc.getsockopt(fd, SOL_SOCKET, SO_DONTROUTE, &on, &len) == 0 && on;

	errno = saved;
	return noted;
}

static void note_tied(int fd, int on)
{
	int saved = errno;

	libc.setsockopt(fd, SOL_SOCKET, SO_DONTROUTE, &on, sizeof(on));
	errno = saved;
}

/* Another interface, or none, was named in place of the mesh's. */
static void untie(int fd)
{
	if (is_tied_to_mesh(fd))
		note_tied(fd, 0);
}

static int tie_to_device(int fd, const void *value, socklen_t len)
{
	int saved = errno;
	int result = libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, value, len);

	if (result == 0)
		untie(fd);
	if (result == 0 || errno != ENODEV || !is_mesh_name(value, len))
		return result;
	errno = saved;
	result = libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, MESHIF_LO, sizeof(MESHIF_LO));
	if (result == 0)
		note_tied(fd, 1);
	explain_lo(fd, result);
	return result;
}

/* Is this one of the few that find_place() knows? */
static inline bool may_name_interface(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_BINDTODEVICE || name == SO_BINDTOIFINDEX;
	if (level == IPPROTO_IP)
		return name == IP_UNICAST_IF ||
		       (name >= IP_MULTICAST_IF && name <= MCAST_LEAVE_SOURCE_GROUP);
	return level == IPPROTO_IPV6 && name >= IPV6_MULTICAST_IF;
}

static int tie_to_index(int fd, const void *value, socklen_t len, bool is_mesh)
{
	int result = libc.setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, value, len);

	if (result == 0 && is_mesh)
		note_tied(fd, 1);
	else if (result == 0)
		untie(fd);
	return result;
}

static int set_interface(int fd, int level, int name, const void *value, socklen_t len)
{
	struct place place;
	char copy[sizeof(struct group_source_req)]; /* the longest */
	bool is_index = level == SOL_SOCKET && name == SO_BINDTOIFINDEX;
	int saved = errno, result;

	if (!is_plausible(value) || len > sizeof(copy))
		return libc.setsockopt(fd, level, name, value, len);
	if (level == SOL_SOCKET && name == SO_BINDTODEVICE)
		return tie_to_device(fd, value, len);
	if (!find_place(level, name, len, &place))
		return libc.setsockopt(fd, level, name, value, len);
	memcpy(copy, value, len);
	if (!put_lo(&place, copy, len))
		return is_index ? tie_to_index(fd, value, len, false)
				: libc.setsockopt(fd, level, name, value, len);
	if (place.address >= 0 && libc.setsockopt(fd, level, name, value, len) == 0)
		return 0;
	errno = saved;
	result = is_index ? tie_to_index(fd, copy, len, true)
			  : libc.setsockopt(fd, level, name, copy, len);
	if (result < 0 && errno == EADDRINUSE) { /* joined by way of lo already, as itself */
		errno = saved;
		result = 0;
	}
	explain_lo(fd, result);
	return result;
}

SHIM_EXPORT(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len))
{
	int result;

	if (patience_is_option(level, name)) {
		result = libc.setsockopt(fd, level, name, value, len);
		if (result == 0)
			patience_changed(fd, level, name);
		return result;
	}
	if (__builtin_expect(!may_name_interface(level, name), 1))
		return libc.setsockopt(fd, level, name, value, len);
	return set_interface(fd, level, name, value, len);
}

void options_show_device(int fd, void *value, socklen_t room, socklen_t *len)
{
	char mesh[MAP_IFNAME_MAX];

	/* As the kernel does it: no answer into a shorter buffer than any name needs. */
	if (room < IFNAMSIZ || *len != sizeof(MESHIF_LO) || strcmp(value, MESHIF_LO) != 0 ||
	    !meshif_name(shim_map(), mesh) || !is_tied_to_mesh(fd))
		return;
	memcpy(value, mesh, sizeof(mesh));
	*len = (socklen_t)strlen(mesh) + 1;
}

void options_show_index(int fd, int *index)
{
	if (*index == (int)MESHIF_LO_INDEX && is_tied_to_mesh(fd))
		*index = (int)MESHIF_INDEX;
}
