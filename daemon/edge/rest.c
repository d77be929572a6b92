/*
 * Ports that rest.
 *
 * That a dial has failed is told by a reset, with which the kernel forgets the port that
 * it had chosen for the program: whoever connects next may get it. But the program that
 * was reset looks up by that port why, a moment later, and if that was the same address would
 * find another's dial there. So a socket of ours keeps the port meanwhile.
 *
 * A program that chose the port itself still has it, and there is nothing to keep: it is taken only
 * if it is nobody's. Then it is shared with whoever asks to share it by name; the kernel's choice
 * for others falls on no port that anybody has.
 */
#include "daemon/edge/rest.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/private.h"
#include "shared/util.h"

#define PART_OF_DESCRIPTORS 16

bool rests_give_back(struct rests *r)
{
	if (r->count == 0)
		return false;
	close(r->at[r->first].fd);
	r->first = (r->first + 1) % RESTS_MAX;
	r->count--;
	return true;
}

static void timer_fired(struct edge_timer *timer, uint64_t now_ns)
{
	struct rests *r = CONTAINER_OF(timer, struct rests, timer);

	while (r->count > 0 && r->at[r->first].until_ns <= now_ns)
		rests_give_back(r);
	if (r->count > 0)
		edge_timer_set(&r->edge->timers, timer, r->at[r->first].until_ns);
}

void rests_init(struct rests *r, struct edge *edge)
{
	struct rlimit limit;

	*r = (struct rests){ .edge = edge, .max = RESTS_MAX, .timer.fired = timer_fired };
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		r->max = (unsigned)MIN(limit.rlim_cur / PART_OF_DESCRIPTORS, (rlim_t)RESTS_MAX);
}

void rests_finish(struct rests *r)
{
	while (rests_give_back(r))
		;
	if (r->edge)
		edge_timer_cancel(&r->edge->timers, &r->timer);
}

void rest_port(struct rests *r, const struct endpoint *port)
{
	uint64_t until_ns = loop_now(r->edge->loop) + REST_MS * NS_PER_MS;
	int fd = r->max > 0 ? sock_open(port, SOCK_STREAM) : -1;

	if (fd < 0)
		return;
	if (sock_bind(fd, port) != 0 || sock_share_port(fd) != 0) {
		close(fd);
		return;
	}
	if (r->count >= r->max)
		rests_give_back(r);
	r->at[(r->first + r->count++) % RESTS_MAX] = (struct rest){ fd, until_ns };
	if (r->count == 1)
		edge_timer_set(&r->edge->timers, &r->timer, until_ns);
}
