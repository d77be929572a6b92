/*
 * Which flows have a descriptor when there are more flows than descriptors.
 *
 * Each open flow has one until few are left; then idle ones are stowed, a group at
 * a time, and get it back with their next byte. The kernel hands out the lowest free
 * descriptor, so a new one says by itself how many are in use: nothing is counted, and
 * without pressure nothing is done.
 *
 * Who is stowed: the list of those that have one is a clock. A flow that ran since
 * it was asked last goes to its end once more, and one that did not, and is idle, is
 * taken. A few steps a round are enough, for pressure begins long before the end;
 * when there is none left the whole list is asked, and not again for a while if
 * that was in vain: thousands may want a descriptor at once.
 *
 * A stowed flow wakes by an event of its socket, by bytes or an end from the mesh, and to
 * be closed. If there is no descriptor to wake with, its timer tries again.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sys/resource.h>

#include "daemon/edge/flow_private.h"
#include "daemon/edge/stow.h"
#include "shared/log.h"
#include "shared/util.h"

#define LIMIT_LEAST 256 /* with less the descriptors that stowing needs are too many */
#define SPARE_LEAST 64
#define STEPS       1024 /* of the clock in a round */
#define WAKES       64   /* in a round */
#define RETRY_NS    (20 * NS_PER_MS)

static void let_go(struct flow *flow)
{
	if (flow->is_held)
		TAILQ_REMOVE(&flow->edge->flows.held, flow, by_held);
	flow->is_held = false;
}

static void hold(struct flow *flow)
{
	TAILQ_INSERT_TAIL(&flow->edge->flows.held, flow, by_held);
	flow->is_held = true;
	if (flow->stream.fd >= flow->edge->flows.pressure_fd)
		flow->edge->flows.pressed++;
}

void flow_hold_descriptor(struct flow *flow)
{
	hold(flow);
}

/* ---- waking ---- */

static bool give_back(struct flow *flow, int fd)
{
	flow->ticket = 0;
	edge_timer_cancel(&flow->edge->timers, &flow->timer);
	if (stream_return(&flow->stream, fd) != 0) {
		flow_kill(flow, true);
		return false;
	}
	hold(flow);
	return true;
}

static void came_back(void *owner, int fd)
{
	give_back(owner, fd);
}

bool flow_fetch(struct flow *flow)
{
	struct flows *flows = &flow->edge->flows;
	int fd = stow_take(flows->stow, flow->ticket, STOW_USE);

	if (fd < 0 && flows_free_descriptors(flows)) {
		if (!flow->ticket)
			return flow->state == FLOW_OPEN; /* it came back by that */
		fd = stow_take(flows->stow, flow->ticket, STOW_USE);
	}
	if (fd < 0) {
		edge_timer_set(&flow->edge->timers, &flow->timer,
			       loop_now(flow->edge->loop) + RETRY_NS);
		return false;
	}
	return give_back(flow, fd);
}

void flow_leave_stow(struct flow *flow)
{
	struct flows *flows = &flow->edge->flows;

	let_go(flow);
	if (!flow->ticket)
		return;
	if (flows->stow) {
		flow->stream.fd = stow_take(flows->stow, flow->ticket, STOW_CLOSE);
		if (flow->stream.fd < 0)
			stow_forget(flows->stow, flow->ticket);
	}
	flow->ticket = 0;
}

static void on_stow_event(evutil_socket_t fd, short what, void *arg)
{
	struct flows *flows = arg;
	struct flow *flow;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < WAKES && (flow = stow_ready(flows->stow)); i++)
		flow_wake(flow);
}

/* ---- stowing ---- */

static int start(struct flows *flows)
{
	struct stow *stow;

	if (flows->stow)
		return 0;
	stow = stow_create(came_back);
	if (!stow)
		return -ENOMEM;
	if (event_assign(&flows->stow_event, loop_base(flows->edge->loop), stow_event_fd(stow),
			 EV_READ | EV_PERSIST, on_stow_event, flows) != 0 ||
	    event_add(&flows->stow_event, NULL) != 0) {
		stow_destroy(stow);
		return -ENOMEM;
	}
	flows->stow = stow;
	return 0;
}

static unsigned choose(struct flows *flows, unsigned steps, struct flow *chosen[static STOW_GROUP])
{
	unsigned count = 0;
	struct flow *flow;

	while (steps-- > 0 && count < STOW_GROUP && (flow = TAILQ_FIRST(&flows->held))) {
		let_go(flow);
		if (!flow->is_warm && !flow->is_busy && flow->hearing != IS_DEAF &&
		    stream_is_idle(&flow->stream)) {
			chosen[count++] = flow;
			continue;
		}
		flow->is_warm = false;
		TAILQ_INSERT_TAIL(&flows->held, flow, by_held);
		flow->is_held = true;
	}
	return count;
}

static void tell(struct flows *flows)
{
	if (!flows->has_told_pressure)
		log_info(
			"edge: %u flows, and few descriptors are left: from now on flows that are idle "
			"do without",
			flows->count);
	flows->has_told_pressure = true;
}

/* How many descriptors it has freed. */
static unsigned stow_some(struct flows *flows, unsigned steps)
{
	struct flow *chosen[STOW_GROUP];
	struct stow_item items[STOW_GROUP];
	unsigned count, done;

	if (start(flows) != 0)
		return 0;
	count = choose(flows, steps, chosen);
	for (unsigned i = 0; i < count; i++)
		items[i] = (struct stow_item){ .fd = chosen[i]->stream.fd, .owner = chosen[i] };
	done = stow_put(flows->stow, items, count);
	for (unsigned i = 0; i < done; i++) {
		chosen[i]->ticket = items[i].ticket;
		chosen[i]->is_untaken = flow_untaken_in_socket(chosen[i]) > 0;
		stream_leave(&chosen[i]->stream);
	}
	while (count > done) {
		struct flow *flow = chosen[--count];

		TAILQ_INSERT_HEAD(&flows->held, flow, by_held);
		flow->is_held = true;
	}
	stow_refill(flows->stow);
	if (done > 0)
		tell(flows);
	return done;
}

bool flows_free_descriptors(struct flows *flows)
{
	uint64_t now_ns = loop_now(flows->edge->loop);

	if (rests_give_back(&flows->edge->rests))
		return true;
	if (flows->pressure_fd == INT_MAX || now_ns < flows->search_again_ns)
		return false;
	/* Twice around, and every flow was cold at some time. */
	if (stow_some(flows, 2 * flows->count) > 0)
		return true;
	flows->search_again_ns = now_ns + RETRY_NS;
	return false;
}

bool flows_free_for_question(struct flows *flows)
{
	return flows_free_descriptors(flows) || (flows->stow && stow_lend(flows->stow));
}

void flows_stow_round_ended(struct flows *flows)
{
	while (flows->pressed > 0) {
		unsigned freed = stow_some(flows, STEPS);

		flows->pressed -= MIN(freed, flows->pressed);
		if (freed == 0)
			flows->pressed = 0;
	}
}

unsigned flows_stowed(const struct flows *flows)
{
	return flows->stow ? stow_count(flows->stow) : 0;
}

void flows_stow_init(struct flows *flows)
{
	struct rlimit limit;

	TAILQ_INIT(&flows->held);
	flows->pressure_fd = INT_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= LIMIT_LEAST &&
	    limit.rlim_cur <= INT_MAX)
		flows->pressure_fd =
			(int)(limit.rlim_cur - MAX(limit.rlim_cur / 8, (rlim_t)SPARE_LEAST));
}

void flows_stow_finish(struct flows *flows)
{
	if (flows->stow)
		event_del(&flows->stow_event);
	stow_destroy(flows->stow);
	flows->stow = NULL;
}
