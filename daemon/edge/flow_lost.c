/*
 * Flows whose far side fell silent.
 *
 * The kernel would tell the program ETIMEDOUT, or what a router had said by ICMP, but of a
 * connection to us it knows a reset only. So before that the map says why, and the shim corrects
 * the error where it is asked (recv and its family, SO_ERROR). An outbound flow has an entry, an
 * inbound one gets it now. It is taken back when another flow has the same ends on loopback.
 */
#include "daemon/edge/flow_private.h"

/* In the map 0 stands for ::1. */
static uint32_t loopback(const struct endpoint *end)
{
	return ip_is_v4(&end->addr) ? ip_v4(&end->addr) : 0;
}

static struct map_ends inbound_ends(const struct flow *flow)
{
	struct endpoint ours = flow_our_end(flow);

	return (struct map_ends){ loopback(&flow->program), loopback(&ours), flow->program.port,
				  ours.port };
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
