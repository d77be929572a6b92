/*
 * ioctl(): the old way to ask for interfaces and their addresses.
 *
 * The kernel is asked first. What it calls no such device is answered here if
 * it is the mesh interface, with what a TUN device would say; a list of addresses
 * gets one more where there is room. A real interface of the same name is the
 * kernel's to tell about, and so is everything that is no question.
 */
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "preload/address.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/raw.h"
#include "preload/shim.h"

#define QUEUE_LENGTH 500 /* of a TUN device */

static int fail(int error)
{
	errno = error;
	return -1;
}

static int real_ioctl(int fd, unsigned long request, void *arg)
{
	return libc.ioctl ? libc.ioctl(fd, request, arg)
			  : (int)raw_syscall(SYS_ioctl, fd, request, arg);
}

static void put_v4(struct sockaddr *to, uint32_t v4)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(v4) };

	memcpy(to, &in, sizeof(in));
}

/* What the mesh interface answers, in r behind the name. */
static int answer(const struct map *map, unsigned long request, struct ifreq *r)
{
	struct map_own own;
	bool has_v4 = map_own(map, false, &own);
	uint32_t mask = has_v4 && own.prefix_len ? UINT32_MAX << (32 - own.prefix_len) : 0;

	switch (request) {
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
	case SIOCGIFNETMASK:
		if (!has_v4)
			return fail(EADDRNOTAVAIL);
		put_v4(&r->ifr_addr, request == SIOCGIFNETMASK ? mask : ip_v4(&own.addr));
		return 0;
	case SIOCGIFBRDADDR:
		if (!has_v4)
			return fail(EADDRNOTAVAIL);
		put_v4(&r->ifr_addr, 0);
		return 0;
	case SIOCGIFFLAGS:
		r->ifr_flags = (short)MESHIF_FLAGS;
		return 0;
	case SIOCGIFMTU:
		r->ifr_mtu = (int)map_dir(map)->mtu;
		return 0;
	case SIOCGIFINDEX:
		r->ifr_ifindex = (int)MESHIF_INDEX;
		return 0;
	case SIOCGIFHWADDR:
		memset(&r->ifr_hwaddr, 0, sizeof(r->ifr_hwaddr));
		r->ifr_hwaddr.sa_family = ARPHRD_NONE;
		return 0;
	case SIOCGIFMETRIC:
		r->ifr_metric = 0;
		return 0;
	case SIOCGIFTXQLEN:
		r->ifr_qlen = QUEUE_LENGTH;
		return 0;
	case SIOCGIFMAP:
		memset(&r->ifr_map, 0, sizeof(r->ifr_map));
		return 0;
	default:
		return fail(EOPNOTSUPP); /* SIOCETHTOOL: nothing to tell, as of any tunnel */
	}
}

static void explain_answer(int fd, const char *name)
{
	struct explain e;

	if (!explain_is_on())
		return;
	explain_begin(&e, "ioctl", fd);
	explain_text(&e, ": answered for the mesh interface ");
	explain_text(&e, name);
	explain_end(&e);
}

static int about_interface(int fd, unsigned long request, struct ifreq *r)
{
	const struct map *map;
	char name[MAP_IFNAME_MAX];
	int saved = errno, result = real_ioctl(fd, request, r);

	if (result == 0 || errno != ENODEV || !meshif_name(map = shim_map(), name))
		return result;
	if (request == SIOCGIFNAME) {
		if (r->ifr_ifindex != (int)MESHIF_INDEX)
			return result;
		memcpy(r->ifr_name, name, sizeof(r->ifr_name));
		result = 0;
	} else {
		if (strncmp(r->ifr_name, name, sizeof(r->ifr_name)) != 0)
			return result;
		result = answer(map, request, r);
	}
	if (result == 0)
		errno = saved;
	explain_answer(fd, name);
	return result;
}

static bool is_in_list(const struct ifconf *list, uint32_t v4)
{
	const struct sockaddr_in *in;

	for (size_t i = 0; i < (size_t)list->ifc_len / sizeof(struct ifreq); i++) {
		in = (const struct sockaddr_in *)&list->ifc_req[i].ifr_addr;
		if (in->sin_family == AF_INET && in->sin_addr.s_addr == htonl(v4))
			return true;
	}
	return false;
}

/* Without a buffer the kernel tells how long it must be. */
static int list_interfaces(int fd, struct ifconf *list)
{
	int room = is_plausible(list) ? list->ifc_len : 0;
	int result = real_ioctl(fd, SIOCGIFCONF, list);
	struct ifreq entry = { .ifr_name = "" };
	const struct map *map = shim_map();
	struct map_own own;

	if (result < 0 || !meshif_name(map, entry.ifr_name) || !map_own(map, false, &own))
		return result;
	if (list->ifc_buf && is_in_list(list, ip_v4(&own.addr)))
		return result;
	if (list->ifc_buf && room - list->ifc_len < (int)sizeof(entry))
		return result;
	put_v4(&entry.ifr_addr, ip_v4(&own.addr));
	if (list->ifc_buf)
		memcpy(list->ifc_buf + list->ifc_len, &entry, sizeof(entry));
	list->ifc_len += (int)sizeof(entry);
	explain_answer(fd, entry.ifr_name);
	return result;
}

SHIM_EXPORT(int, ioctl, (int fd, unsigned long request, void *arg))
{
	unsigned question = (unsigned)request; /* all the kernel looks at; musl sets no more */

	/* Terminals, files and graphics cards go by here, too. */
	if (__builtin_expect(question < SIOCGIFNAME || question > SIOCGIFMAP, 1))
		return real_ioctl(fd, request, arg);
	if (question == SIOCGIFCONF)
		return list_interfaces(fd, arg);
	if (meshif_is_question(question))
		return about_interface(fd, question, arg);
	return real_ioctl(fd, request, arg);
}
