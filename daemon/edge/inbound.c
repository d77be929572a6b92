/*
 * A peer's connect to this node.
 *
 * The peer's SYN stays parked until a local listener has taken the connection,
 * so a closed port is a reset on the mesh, not a connection that dies. Where
 * the listener is looked for: targets.c.
 *
 * The local socket is bound to the peer's mirror and port, so a listener sees
 * who calls, wrapped or not. Where that port is taken one from the daemon's
 * own range is used, and always for ::1; the map then tells the shim who it is. Our sockets share
 * their ports, so the map alone keeps two of them from having the same one. Where the kernel still
 * ends an old connection between the same ends (TIME_WAIT), another port is taken.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "daemon/edge/flow_private.h"
#include "shared/log.h"
#include "shared/util.h"

#define FIRST_POLL_NS (1 * NS_PER_MS)
#define LAST_POLL_NS  (50 * NS_PER_MS)
#define PATIENCE_NS   (20 * NS_PER_S) /* for a listener whose queue is full */
#define PORT_TRIES    256             /* at random: enough unless nearly all are taken */
#define WAIT_TRIES    16              /* that many in TIME_WAIT */

static void try_target(struct flow *flow);

void inbound_unpark(struct flow *flow)
{
	if (flow->is_parked)
		HASH_DELETE(by_conn, flow->edge->flows.tables->by_conn, flow);
	flow->is_parked = false;
}

static void drop_pair(struct flow *flow)
{
	if (flow->pair)
		mapfile_pair_remove(flow->edge->mapfile, MAP_TCP_IN, flow->pair);
	flow->pair = 0;
}

/* The map has it as somebody's. */
static bool is_anothers(const struct flow *flow, const struct endpoint *at)
{
	uint32_t addr = ip_is_v4(&at->addr) ? ip_v4(&at->addr) : 0, mirror;
	uint16_t port;

	return map_find_pair(mapfile_map(flow->edge->mapfile), MAP_TCP_IN, addr, at->port, &mirror,
			     &port);
}

/* Binds to a port of ours at the address and publishes whom it stands for. */
static int bind_with_pair(struct flow *flow, int fd, struct endpoint at)
{
	struct edge *edge = flow->edge;
	bool v6 = !ip_is_v4(&at.addr);
	int err = -EADDRINUSE;

	for (int i = 0; i < PORT_TRIES && err == -EADDRINUSE; i++) {
		at.port = port_range_at(&edge->ports, randombytes_random());
		/* On ::1 our socket's own port would answer itself. */
		if (at.port != flow->local.port && !is_anothers(flow, &at))
			err = sock_bind(fd, &at);
	}
	if (err)
		return err;
	flow->pair = map_pack(v6 ? 0 : ip_v4(&at.addr), at.port);
	err = mapfile_pair_set(edge->mapfile, MAP_TCP_IN, flow->pair,
			       map_pack(flow->peer_mirror, flow->remote.port));
	if (err)
		flow->pair = 0;
	return err;
}

static int bind_source(struct flow *flow, int fd, bool own_port)
{
	struct endpoint at = sock_endpoint(flow->peer_mirror, flow->remote.port);
	int err;

	if (!ip_is_v4(&flow->program.addr))
		return bind_with_pair(flow, fd, flow->program);
	err = own_port || is_anothers(flow, &at) ? -EADDRINUSE : sock_bind(fd, &at);
	if (err == -EADDRINUSE || err == -EADDRNOTAVAIL || err == -EACCES)
		err = bind_with_pair(flow, fd, at);
	return err;
}

static int call(struct flow *flow, bool own_port)
{
	int err, one = 1, fd = sock_open(&flow->program, SOCK_STREAM);

	if (fd == -EMFILE && flows_free_descriptors(&flow->edge->flows))
		fd = sock_open(&flow->program, SOCK_STREAM);
	if (fd < 0)
		return fd;
	flow->stream.fd = fd;
	sock_reset_on_close(fd);
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
		return -errno;
	/* Not in the way of a program's own bind() at this port. */
	err = sock_share_port(fd);
	if (err == 0)
		err = bind_source(flow, fd, own_port);
	return err ? err : sock_connect(fd, &flow->program);
}

static void hang_up(struct flow *flow)
{
	if (flow->stream.fd >= 0)
		close(flow->stream.fd);
	flow->stream.fd = -1;
	drop_pair(flow);
}

static void taken(struct flow *flow)
{
	struct edge *edge = flow->edge;
	int fd = flow->stream.fd;

	edge->stats.inbound++;
	inbound_unpark(flow);
	flow->stream.fd = -1;
	flow_forget_lost(flow);
	tcp_accept(flow->conn, flow, loop_now(edge->loop));
	flow_open(flow, fd);
}

static void refuse(struct flow *flow)
{
	flow->edge->stats.inbound_refused++;
	flow_kill(flow, true); /* still parked: a reset answers the SYN */
}

/* The peer asks again by itself, perhaps when there are descriptors. */
void inbound_ignore(struct flow *flow)
{
	struct tcp_conn *conn = flow->conn;

	flow->conn = NULL;
	flow_kill(flow, true);
	tcp_ignore(conn);
}

static void call_went(struct flow *flow, int err)
{
	uint64_t now_ns = loop_now(flow->edge->loop);
	uint64_t delay = FIRST_POLL_NS << MIN(flow->tries, 16u);

	if (err == 0) {
		taken(flow);
	} else if (err == -EINPROGRESS) {
		flow->tries++;
		edge_timer_set(&flow->edge->timers, &flow->timer,
			       now_ns + MIN(delay, LAST_POLL_NS));
	} else if (err == -EMFILE || err == -ENFILE || err == -ENOBUFS || err == -ENOMEM) {
		if (err == -EMFILE || err == -ENFILE)
			flow_lacks_descriptor(flow);
		hang_up(flow);
		inbound_ignore(flow);
	} else {
		hang_up(flow);
		if (++flow->target == flow->targets.count)
			refuse(flow);
		else
			try_target(flow);
	}
}

static void try_target(struct flow *flow)
{
	struct edge *edge = flow->edge;
	uint32_t own_mirror;
	int err;

	/* The mesh may have changed since the SYN. */
	if (map_to_mirror(mapfile_map(edge->mapfile), &flow->local.addr, &own_mirror) != MAP_OWN) {
		refuse(flow);
		return;
	}
	flow->program =
		target_endpoint(flow->targets.target[flow->target], own_mirror, flow->local.port);
	err = call(flow, false);
	for (int i = 0; i < WAIT_TRIES && err == -EADDRNOTAVAIL; i++) {
		hang_up(flow);
		err = call(flow, true);
	}
	call_went(flow, err);
}

void inbound_timer(struct flow *flow, uint64_t now_ns)
{
	int err = sock_connect(flow->stream.fd, &flow->program);

	if (err == -EINPROGRESS && now_ns >= flow->give_up_ns)
		inbound_ignore(flow);
	else
		call_went(flow, err);
}

void flow_incoming(struct edge *edge, struct tcp_conn *conn, const struct endpoint *local,
		   const struct endpoint *remote)
{
	uint64_t now_ns = loop_now(edge->loop);
	const struct map *map = mapfile_map(edge->mapfile);
	uint32_t own_mirror, peer_mirror;
	struct flow *flow;

	/* These ports are on every address of lo, but they are not a program's. */
	if (map_to_mirror(map, &local->addr, &own_mirror) != MAP_OWN ||
	    map_to_mirror(map, &remote->addr, &peer_mirror) != MAP_PEER ||
	    map_is_dial_port(map, local->port)) {
		edge->stats.inbound_refused++;
		tcp_refuse(conn, now_ns);
		return;
	}
	flow = flow_create(edge, local, remote, FLOW_CALLING);
	if (!flow) {
		tcp_ignore(conn);
		return;
	}
	flow->conn = conn;
	flow->peer_mirror = peer_mirror;
	flow->give_up_ns = now_ns + PATIENCE_NS;
	HASH_ADD(by_conn, edge->flows.tables->by_conn, conn, sizeof(flow->conn), flow);
	flow->is_parked = flow->by_conn.tbl != NULL;
	if (!flow->is_parked) {
		inbound_ignore(flow);
		return;
	}
	targets_find(&flow->targets, edge->socket_table, SOCK_STREAM, local, own_mirror);
	try_target(flow);
}

void flow_cancelled(struct edge *edge, struct tcp_conn *conn)
{
	struct flow *flow;

	HASH_FIND(by_conn, edge->flows.tables->by_conn, &conn, sizeof(conn), flow);
	if (!flow)
		return;
	flow->conn = NULL;
	flow_kill(flow, true);
}
