/*
 * Resets, passed on behind what was said before.
 *
 * A program's: the kernel makes one of a close() with bytes unread, too, as of
 * servers that answer before they have read all of a question. On a connection of
 * its own the kernel would mostly have sent by then what lies in the daemon here. So
 * that goes first, unless the far side takes nothing for FLOW_RESET_WAIT_NS.
 *
 * The far side's, or its silence: what it delivered before is acknowledged, and a
 * program may read it after a reset as before. A loopback socket that is reset drops what
 * it has not delivered, and nobody tells when a program has taken it; so that is
 * looked after every few milliseconds, as long as the program goes on taking. A stowed
 * flow has no socket to write to or to look at, so it waits until there is a descriptor for it.
 */
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "daemon/edge/flow_private.h"
#include "shared/util.h"

#define LOOK_NS       (5 * NS_PER_MS)
#define NOT_LOOKED_AT SIZE_MAX

void flow_program_reset(struct flow *flow)
{
	struct tcp_conn *conn = flow->conn;

	flow_bury(flow, true);
	flow->conn = NULL;
	tcp_finish_by_reset(conn, loop_now(flow->edge->loop));
}

size_t flow_untaken_in_socket(const struct flow *flow)
{
	int queued = 0;

	if (ioctl(flow->stream.fd, SIOCOUTQ, &queued) != 0)
		queued = 0;
	return (size_t)MAX(queued, 0);
}

static size_t untaken(const struct flow *flow)
{
	if (flow->state != FLOW_OPEN || flow->ticket || flow->stream.is_reset)
		return 0;
	return tcp_recv_unread(flow->conn) + flow_untaken_in_socket(flow);
}

void flow_deliver_rest(struct flow *flow)
{
	uint64_t now_ns = loop_now(flow->edge->loop);
	struct tcp_conn *conn = flow->conn;
	size_t rest;

	if (flow->state == FLOW_OPEN && !flow->ticket)
		stream_run(&flow->stream);
	rest = untaken(flow);
	if (rest != flow->rest)
		flow->rest_ns = now_ns;
	flow->rest = rest;
	if (rest > 0 && now_ns - flow->rest_ns < FLOW_RESET_WAIT_NS) {
		edge_timer_set(&flow->edge->timers, &flow->timer, now_ns + LOOK_NS);
		return;
	}
	flow_tell_lost(flow);
	flow_bury(flow, true);
	flow->conn = NULL;
	tcp_release(conn, now_ns);
}

void flow_far_side_failed(struct flow *flow)
{
	if (flow->ticket && (flow->is_untaken || stream_has_news(&flow->stream)) &&
	    !flow_fetch(flow)) {
		/* Its bytes wait for a descriptor; their time begins when it has one. */
		flow->rest = NOT_LOOKED_AT;
		return;
	}
	flow_deliver_rest(flow);
}
