/*
 * Name servers that are in the mesh themselves: a peer is asked through the tunnel, a program of
 * this node on loopback. A mesh address that nobody has, as of a node that is gone from the map,
 * is no reason to ask whoever has it on the real network.
 */
#include <errno.h>
#include <sys/socket.h>

#include "daemon/dns/dns.h"
#include "daemon/edge/dial.h"
#include "daemon/loop.h"
#include "daemon/mesh_private.h"

static enum dns_place place_of(void *owner, const struct ip_addr *ip)
{
	struct mesh *mesh = owner;

	if (mesh->wg && wg_device_route(mesh->wg, ip))
		return DNS_TUNNEL;
	switch (dial_way_to(mesh->edge, ip)) {
	case DIAL_OWN:
		return DNS_OWN;
	case DIAL_MESH:
		return DNS_NOBODY;
	case DIAL_DIRECT:
		break;
	}
	return DNS_OUTSIDE;
}

static bool find_own(void *owner, const struct endpoint *to, struct endpoint *at)
{
	return dial_own_taker(((struct mesh *)owner)->edge, to, SOCK_DGRAM, at);
}

static int send_dns(void *owner, uint16_t local_port, const struct endpoint *to,
		    const uint8_t *data, size_t len)
{
	struct mesh *mesh = owner;
	const struct ip_addr *own = mesh_own_address(mesh, !ip_is_v4(&to->addr));
	struct endpoint local = { .port = local_port };

	if (!own)
		return -ENETUNREACH;
	local.addr = *own;
	return netstack_send_udp(mesh->netstack, &local, to, data, len, loop_now(mesh->loop));
}

void mesh_dns_install(struct mesh *mesh)
{
	dns_set_tunnel(mesh->dns, &(struct dns_tunnel){ place_of, find_own, send_dns, mesh });
}
