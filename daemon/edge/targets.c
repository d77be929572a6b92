/*
 * The order of targets.
 *
 * The own mirror comes first: there are wrapped programs bound to the mesh
 * address, and all that listen on 0.0.0.0 or on both families. Then 127.0.0.1,
 * for services started without us. Both are IPv4 on loopback whatever the
 * flow's family is on the mesh.
 *
 * So a socket that takes IPv6 only is out of their reach: for an IPv6 flow ::1
 * comes last. But a server that has two sockets on one port, one for each
 * family (nginx does), expects IPv6 at the second: then ::1 comes first. Only a
 * socket bound to just this mesh address goes before it, as everywhere.
 *
 * An IPv4 flow never tries ::1: on a real interface it would not come there.
 */
#include "daemon/edge/targets.h"

#include <netinet/in.h>
#include <string.h>

#include "daemon/edge/sock.h"
#include "daemon/edge/socktable.h"

struct endpoint target_endpoint(enum target target, uint32_t own_mirror, uint16_t port)
{
	struct endpoint ep = sock_endpoint(own_mirror, port);

	if (target == TARGET_LOOPBACK)
		ep.addr = ip_from_v4(INADDR_LOOPBACK);
	else if (target == TARGET_LOOPBACK6)
		memcpy(ep.addr.byte, &in6addr_loopback, sizeof(ep.addr.byte));
	return ep;
}

static bool v6_goes_first(int table, int type, uint32_t own_mirror, uint16_t port)
{
	struct endpoint v6 = target_endpoint(TARGET_LOOPBACK6, own_mirror, port);
	struct endpoint mirror = target_endpoint(TARGET_MIRROR, own_mirror, port);

	return socktable_taker(table, type, &v6) == TAKER_ANY6 &&
	       socktable_taker(table, type, &mirror) != TAKER_SPECIFIC;
}

void targets_find(struct targets *targets, int table, int type, const struct endpoint *local,
		  uint32_t own_mirror)
{
	if (ip_is_v4(&local->addr))
		*targets = (struct targets){ { TARGET_MIRROR, TARGET_LOOPBACK }, 2 };
	else if (v6_goes_first(table, type, own_mirror, local->port))
		*targets =
			(struct targets){ { TARGET_LOOPBACK6, TARGET_MIRROR, TARGET_LOOPBACK }, 3 };
	else
		*targets =
			(struct targets){ { TARGET_MIRROR, TARGET_LOOPBACK, TARGET_LOOPBACK6 }, 3 };
}
