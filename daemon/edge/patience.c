/*
 * What a program sets on its socket acts on the loopback connection, where the daemon always
 * answers, but for keepalive of an idle flow (flow_silence.c). So the shim tells it here, and our
 * endpoint asks the far side in the kernel's place.
 *
 * A flow that the program dialled is found by its end on loopback, one that it accepted by the
 * ends on the mesh. That may come before the daemon has noticed that its call was taken: then
 * the connection is parked, and keeps its patience.
 *
 * Patience ends flows. The daemon's own user and root may end what they like by other ways, too;
 * anybody else decides on a flow only if the kernel says that its socket is theirs.
 */
#include "daemon/edge/patience.h"

#include <sys/socket.h>

#include "daemon/edge/flow_private.h"
#include "daemon/edge/folder.h"
#include "shared/util.h"

struct tcp_patience patience_of(const struct ipc_patience *asked)
{
	return (struct tcp_patience){ .idle_ns = asked->idle_s * NS_PER_S,
				      .interval_ns = asked->interval_s * NS_PER_S,
				      .count = asked->count,
				      .user_timeout_ns = asked->user_timeout_ms * NS_PER_MS };
}

static struct flow *find_dialled(struct edge *edge, const struct ipc_request *r)
{
	struct endpoint program = { r->local, r->local_port },
			remote = { r->remote, r->remote_port };
	struct flow *flow;
	uint32_t mirror;

	if (!ip_is_v4(&r->local) ||
	    map_to_mirror(mapfile_map(edge->mapfile), &r->remote, &mirror) != MAP_PEER)
		return NULL;
	flow = flow_find_dialled(edge, &program, mirror, &edge->hold);
	if (!flow)
		flow = flow_find_dialled(edge, &program, mirror, &edge->first);
	return flow && endpoint_equal(&flow->remote, &remote) ? flow : NULL;
}

/* To whichever of our addresses the peer has come. */
static struct flow *find_accepted(struct edge *edge, const struct ipc_request *r)
{
	const struct map *map = mapfile_map(edge->mapfile);
	struct endpoint remote = { r->remote, r->remote_port };
	struct tcp_conn *conn = NULL;
	struct flow *flow;
	struct map_own own;

	for (uint32_t i = 0; !conn && map_own_at(map, i, &own); i++) {
		struct endpoint local = { own.addr, r->local_port };

		if (ip_is_v4(&own.addr) == ip_is_v4(&r->remote))
			conn = tcp_find(netstack_tcp(edge->ns), &local, &remote);
	}
	if (!conn)
		return NULL;
	flow = tcp_conn_user(conn);
	if (!flow)
		HASH_FIND(by_conn, edge->flows.tables->by_conn, &conn, sizeof(conn), flow);
	return flow && flow->is_inbound ? flow : NULL;
}

static bool is_askers(struct flow *flow, int asker)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(asker, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
	       flow_is_of(flow, &who);
}

bool flow_is_of(struct flow *flow, const struct ucred *who)
{
	struct endpoint ours;
	uid_t uid;

	if (folder_may_tell(who, false))
		return true;
	if (!flow->is_inbound)
		ours = sock_endpoint(flow->peer_mirror, flow->hold->port);
	else if ((flow->ticket && !flow_fetch(flow)) || flow->stream.fd < 0 ||
		 sock_local(flow->stream.fd, &ours) != 0)
		return false;
	return socktable_owner(flow->edge->socket_table, SOCK_STREAM, &flow->program, &ours,
			       &uid) == 0 &&
	       uid == who->uid;
}

void patience_set(struct edge *edge, int asker, const struct ipc_patience *asked)
{
	struct tcp_patience patience = patience_of(asked);
	struct flow *flow = NULL;

	if (edge->ns)
		flow = asked->request.flags & IPC_ACCEPTED ? find_accepted(edge, &asked->request)
							   : find_dialled(edge, &asked->request);
	if (!flow || !flow->conn || flow->dialled || !is_askers(flow, asker))
		return;
	tcp_set_patience(flow->conn, &patience, loop_now(edge->loop));
	flow_keepalive_changed(flow);
}
