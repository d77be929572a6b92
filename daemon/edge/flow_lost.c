/*
 * Flows whose far side fell silent.
 *
 * The kernel would tell the program ETIMEDOUT, or what a router had said by ICMP, but of a
 * connection to us it knows a reset only. So before that the map says why, and the shim corrects
 * the error where it is asked (recv and its family, SO_ERROR). An outbound flow has an entry, an
 * inbound one gets it now. It is taken back when another flow has the same ends on loopback.
 */
#include "daemon/edge/flow_private.h"

static struct map_ends inbound_ends(const struct flow *flow)
{
	const struct endpoint *program = &flow->program;
	uint32_t local = ip_is_v4(&program->addr) ? ip_v4(&program->addr) : 0;

	if (flow->pair)
		return (struct map_ends){ local, (uint32_t)(flow->pair >> 16), program->port,
					  (uint16_t)flow->pair };
	return (struct map_ends){ local, flow->peer_mirror, program->port, flow->remote.port };
}

void flow_tell_lost(struct flow *flow)
{
	struct mapfile *mapfile = flow->edge->mapfile;
	struct map_ends ends;

	if (flow->state != FLOW_OPEN || !tcp_conn_fell_silent(flow->conn))
		return;
	if (flow->is_inbound) {
		ends = inbound_ends(flow);
		/* Where all slots are taken the program hears of the reset. */
		if (mapfile_flow_begin(mapfile, &ends, &flow->local, &flow->entry) != 0)
			return;
		flow->edge->flows.has_lost = true;
	}
	mapfile_flow_set(mapfile, &flow->entry, MAP_FLOW_LOST, tcp_conn_error(flow->conn));
}

void flow_forget_lost(struct flow *flow)
{
	struct map_ends ends;

	if (!flow->edge->flows.has_lost)
		return;
	ends = inbound_ends(flow);
	mapfile_flow_not_lost(flow->edge->mapfile, &ends);
}
