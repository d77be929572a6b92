/*
 * A dial is a flow without a program: there is no connect() to hold and no entry in
 * the map. Once the far side has answered, the caller joins a socket to it, and from
 * there it is a flow like any other.
 *
 * Datagrams take the way of a program with the shim: from a socket bound to the own
 * mirror to the endpoint's socket, so answers find back by themselves.
 */
#include "daemon/edge/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "daemon/edge/dgram.h"
#include "daemon/edge/flow_private.h"
#include "shared/util.h"

#define PORT_TRIES 16

/* The usual prefixes: never for the real network, whatever the map knows. */
static bool is_usual_mesh(const struct ip_addr *addr)
{
	static const uint8_t v6[] = { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0 };

	if (ip_is_v4(addr))
		return (ip_v4(addr) & 0xffc00000u) == 0x64400000u;
	return memcmp(addr->byte, v6, sizeof(v6)) == 0;
}

enum dial_way dial_way_to(const struct edge *edge, const struct ip_addr *addr)
{
	uint32_t mirror;

	switch (map_to_mirror(mapfile_map(edge->mapfile), addr, &mirror)) {
	case MAP_OWN:
		return DIAL_OWN;
	case MAP_PEER:
	case MAP_NO_MIRROR:
		return DIAL_MESH;
	case MAP_OUTSIDE:
		break;
	}
	return is_usual_mesh(addr) ? DIAL_MESH : DIAL_DIRECT;
}

unsigned dial_find_name(const struct edge *edge, const char *name, struct ip_addr *addr,
			unsigned max)
{
	static const struct ip_addr none;
	struct map_name found;
	unsigned count = 0;

	if (!map_find_name(mapfile_map(edge->mapfile), name, &found))
		return 0;
	if (count < max && !ip_equal(&found.v4, &none))
		addr[count++] = found.v4;
	if (count < max && !ip_equal(&found.v6, &none))
		addr[count++] = found.v6;
	return count;
}

/* The netstack's port of a dial is ours alone, from the range that programs do not use. */
static int connect_mesh(struct flow *flow)
{
	struct edge *edge = flow->edge;
	int err = -EADDRINUSE;

	for (int i = 0; i < PORT_TRIES && err == -EADDRINUSE; i++) {
		flow->local.port = port_range_at(&edge->ports, (uint32_t)edge->random++);
		err = tcp_connect(netstack_tcp(edge->ns), &flow->local, &flow->remote, flow,
				  loop_now(edge->loop), &flow->conn);
	}
	if (err)
		flow->conn = NULL;
	return -err;
}

int dial_start(struct edge *edge, const struct endpoint *remote, dial_done *done, void *arg,
	       struct flow **dial)
{
	struct endpoint local = { .port = 0 };
	struct map_own own;
	struct flow *flow;
	uint32_t mirror;
	int err = edge_check_peer(edge, &remote->addr, &mirror);

	if (err)
		return err;
	if (!edge->ns || !edge_own_address(edge, 0, !ip_is_v4(&remote->addr), &own))
		return ENETUNREACH;
	local.addr = own.addr;
	flow = flow_create(edge, &local, remote, FLOW_DIALLING);
	if (!flow)
		return ENOBUFS;
	flow->peer_mirror = mirror;
	flow->dialled = done;
	flow->dial_arg = arg;
	err = connect_mesh(flow);
	if (err) {
		edge->stats.dial_failed++;
		flow_kill(flow, false);
		return err;
	}
	edge->stats.dialled++;
	*dial = flow;
	return 0;
}

void dial_tcp_event(struct flow *flow, unsigned events)
{
	dial_done *done = flow->dialled;
	void *arg = flow->dial_arg;
	int error;

	if (events & TCP_EVENT_FAILED) {
		error = tcp_conn_error(flow->conn);
		tcp_release(flow->conn, loop_now(flow->edge->loop));
		flow->conn = NULL;
		flow->edge->stats.dial_failed++;
		flow_kill(flow, false);
		done(arg, error ? error : ECONNRESET);
	} else if ((events & TCP_EVENT_CONNECTED) && flow->state == FLOW_DIALLING) {
		flow_set_state(flow, FLOW_MEETING);
		done(arg, 0);
	}
}

void dial_join(struct flow *flow, int fd)
{
	int one = 1;

	/* As far as it is a loopback connection, the kernel's table tells when its program is gone.
	 */
	if (sock_peer(fd, &flow->program) != 0)
		flow->program = (struct endpoint){ .port = 0 };
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	sock_reset_on_close(fd);
	flow_open(flow, fd);
}

void dial_cancel(struct flow *flow)
{
	flow_kill(flow, true);
}

unsigned dial_own(const struct edge *edge, const struct endpoint *own, int type,
		  struct endpoint at[static TARGETS_MAX])
{
	struct targets targets;
	uint32_t mirror;

	if (map_to_mirror(mapfile_map(edge->mapfile), &own->addr, &mirror) != MAP_OWN)
		return 0;
	targets_find(&targets, edge->socket_table, type, own, mirror);
	for (unsigned i = 0; i < targets.count; i++)
		at[i] = target_endpoint(targets.target[i], mirror, own->port);
	return targets.count;
}

bool dial_own_taker(const struct edge *edge, const struct endpoint *own, int type,
		    struct endpoint *at)
{
	struct endpoint found[TARGETS_MAX];
	unsigned count = dial_own(edge, own, type, found);

	for (unsigned i = 0; i < count; i++) {
		*at = found[i];
		if (socktable_taker(edge->socket_table, type, at) != TAKER_NONE)
			return true;
	}
	if (count > 0)
		*at = found[0];
	return count > 0;
}

int dial_udp_open(const struct edge *edge, bool v6)
{
	struct endpoint at;
	struct map_own own;
	int fd, err;

	if (!map_own(mapfile_map(edge->mapfile), v6, &own))
		return -ENETUNREACH;
	at = sock_endpoint(own.mirror, 0);
	fd = sock_open(&at, SOCK_DGRAM);
	err = fd < 0 ? fd : sock_bind(fd, &at);
	if (err >= 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return err;
}

int dial_udp_way(struct edge *edge, const struct endpoint *remote, struct endpoint *way)
{
	return -dgram_open(edge->dgrams, remote, false, way);
}

bool dial_udp_from(const struct edge *edge, const struct endpoint *way, struct endpoint *remote)
{
	const struct map *map = mapfile_map(edge->mapfile);
	uint32_t mirror;
	uint16_t port;

	if (!ip_is_v4(&way->addr) ||
	    !map_find_pair(map, MAP_UDP_IN, ip_v4(&way->addr), way->port, &mirror, &port))
		return false;
	remote->port = port;
	return map_from_mirror(map, mirror, &remote->addr);
}
