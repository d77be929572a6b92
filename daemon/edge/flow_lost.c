/*
 * Flows whose far side fell silent.
 *
 * The kernel would tell the program ETIMEDOUT, but of a connection to us it knows a reset only.
 * So before that the map says why, and the shim corrects the error where it is asked (recv and
 * its family, SO_ERROR). An outbound flow has an entry, found by its local end. An inbound one
 * gets an entry now, found by the peer's end as the program's kernel has it: its local end is
 * shared with its listener. It is taken back when another flow comes from there.
 */
#include <errno.h>

#include "daemon/edge/flow_private.h"

/* Our own end on loopback: what the program's kernel has as its peer. */
static void inbound_end(const struct flow *flow, uint32_t *addr, uint16_t *port)
{
	*addr = flow->pair ? (uint32_t)(flow->pair >> 16) : flow->peer_mirror;
	*port = flow->pair ? (uint16_t)flow->pair : flow->remote.port;
}

void flow_tell_lost(struct flow *flow)
{
	struct mapfile *mapfile = flow->edge->mapfile;
	uint32_t addr;
	uint16_t port;

	if (flow->state != FLOW_OPEN || tcp_conn_error(flow->conn) != ETIMEDOUT)
		return;
	if (flow->is_inbound) {
		inbound_end(flow, &addr, &port);
		/* Where all slots are taken the program hears of the reset. */
		if (mapfile_flow_begin(mapfile, addr, port, &flow->local, &flow->entry) != 0)
			return;
		flow->edge->flows.has_lost = true;
	}
	mapfile_flow_set(mapfile, &flow->entry, MAP_FLOW_LOST, ETIMEDOUT);
}

void flow_forget_lost(struct flow *flow)
{
	uint32_t addr;
	uint16_t port;

	if (!flow->edge->flows.has_lost)
		return;
	inbound_end(flow, &addr, &port);
	mapfile_flow_not_lost(flow->edge->mapfile, addr, port);
}
