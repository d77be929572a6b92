/*
 * Own addresses, asked from the kernel each time: the list is short, and a cache
 * would be one more thing to be wrong after a change.
 *
 * The mesh's own ranges are left out (another node of this host may have them on
 * a TUN device): disco must never travel inside a tunnel. A CGNAT provider's
 * addresses in 100.64.0.0/10 go with them; STUN shows what the world sees of those.
 */
#include "daemon/path/endpoints.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

static bool is_mesh(const struct ip_addr *ip)
{
	static const uint8_t ula[6] = { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0 };

	if (ip_is_v4(ip))
		return ip_v4(ip) >> 22 == (100u << 24 | 64u << 16) >> 22;
	for (unsigned i = 0; i < sizeof(ula); i++) {
		if (ip->byte[i] != ula[i])
			return false;
	}
	return true;
}

static bool is_link_local(const struct ip_addr *ip)
{
	if (ip_is_v4(ip))
		return ip_v4(ip) >> 16 == 0xa9fe;
	return ip->byte[0] == 0xfe && (ip->byte[1] & 0xc0) == 0x80;
}

static bool get_address(const struct ifaddrs *i, struct ip_addr *ip)
{
	struct endpoint ep;
	socklen_t len;

	if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
		return false;
	len = i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
						: sizeof(struct sockaddr_in6);
	if (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6)
		return false;
	if (endpoint_from_sockaddr(i->ifa_addr, len, &ep) < 0 || is_mesh(&ep.addr) ||
	    is_link_local(&ep.addr))
		return false;
	*ip = ep.addr;
	return true;
}

static int collect(const struct ifaddrs *list, bool is_loopback,
		   struct ip_addr out[static LOCAL_ADDRESSES_MAX])
{
	int count = 0;

	for (const struct ifaddrs *i = list; i && count < LOCAL_ADDRESSES_MAX; i = i->ifa_next) {
		bool is_known = false;
		struct ip_addr ip;

		if (!get_address(i, &ip) || ip_is_loopback(&ip) != is_loopback)
			continue;
		for (int k = 0; k < count; k++)
			is_known |= ip_equal(&out[k], &ip);
		if (!is_known)
			out[count++] = ip;
	}
	return count;
}

int local_addresses(struct ip_addr out[static LOCAL_ADDRESSES_MAX])
{
	struct ifaddrs *list;
	int count;

	if (getifaddrs(&list) < 0)
		return -errno;
	count = collect(list, false, out);
	if (count == 0)
		count = collect(list, true, out);
	freeifaddrs(list);
	return count;
}
