/*
 * Far sides that fall silent, as the program's kernel sees it.
 *
 * Keepalive is the kernel's on the program's own socket: it asks over loopback, where we would
 * always answer. So before it asks we ask the far side, and while that is silent we are deaf: our
 * socket drops what loopback brings, whose TTL is too low for it (IP_MINTTL). The kernel then finds
 * nobody there, counts by the options of just this socket, whoever has set them and how, and ends
 * it as over a wire: ETIMEDOUT by every call. What the program writes into the silence stays
 * unacknowledged at its own socket, where TCP_USER_TIMEOUT acts, too. As soon as the far side says
 * something we hear again.
 *
 * When the kernel will ask next is in its table of sockets (socktable.h). Not everybody tells us
 * that he sets keepalive (patience.h), so the table is asked a second after the flow has opened,
 * and then more and more rarely. A flow that has bytes under way on the mesh is not deafened:
 * keepalive would not ask either, and what is acknowledged on loopback cannot be taken back. Nor is
 * one that has bytes for the program which it has not taken. Where the kernel or the sandbox lacks
 * the table or the option, or where what the program sends has the highest TTL itself, the endpoint
 * asks instead, as far as programs have told.
 *
 * A deaf socket hears no end of the program either, so the table is asked for that.
 */
#include <netinet/in.h>
#include <sys/socket.h>

#include "daemon/edge/flow_private.h"
#include "shared/util.h"

#define FIRST_LOOK_NS   (1 * NS_PER_S)
#define PAUSE_FACTOR    8
#define LAST_PAUSE_NS   (600 * NS_PER_S)
#define TOGETHER_NS     (250 * NS_PER_MS)
#define ANSWER_LEAST_NS (250 * NS_PER_MS) /* what the far side is given to answer */
#define ANSWER_MOST_NS  (2 * NS_PER_S)
#define AFTER_NS        (20 * NS_PER_MS) /* once the kernel has asked */
#define ASK_MOST_NS     (8 * NS_PER_S)   /* apart, while it is silent */

#ifndef IPV6_MINHOPCOUNT
#define IPV6_MINHOPCOUNT 73
#endif
#define TTL_OF_NOBODY 255

static bool set_deaf(struct flow *flow, bool is_deaf)
{
	int fd = flow->stream.fd, least = is_deaf ? TTL_OF_NOBODY : 0;
	bool v4 = ip_is_v4(&flow->program.addr);

	return setsockopt(fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MINTTL : IPV6_MINHOPCOUNT,
			  &least, sizeof(least)) == 0;
}

static void look_again(struct flow *flow, uint64_t at_ns)
{
	edge_timer_set(&flow->edge->timers, &flow->look_timer, at_ns);
}

/* Without haste: many are looked at in one round. */
static void look_some_time(struct flow *flow, uint64_t now_ns)
{
	uint64_t at_ns = now_ns + flow->look_pause_ns + TOGETHER_NS;

	look_again(flow, at_ns - at_ns % TOGETHER_NS);
}

static uint64_t time_to_answer(const struct flow *flow)
{
	struct tcp_conn_info info;

	tcp_conn_info(flow->conn, &info);
	return MIN(MAX(2 * info.rto_us * NS_PER_US, 2 * ANSWER_LEAST_NS), ANSWER_MOST_NS);
}

static bool ask(struct flow *flow, uint64_t now_ns)
{
	flow->asked_ns = now_ns;
	return tcp_ask(flow->conn);
}

static bool has_answered(const struct flow *flow)
{
	return tcp_heard_ns(flow->conn) >= flow->asked_ns;
}

static enum sock_life look_at_kernel(const struct flow *flow, struct sock_wait *wait)
{
	struct endpoint ours = flow_our_end(flow);

	return socktable_wait(flow->edge->socket_table, &flow->program, &ours, wait);
}

/* It waited for something, and does not: it may just be acting, and about to wait again. */
static bool has_perhaps_fired(struct flow *flow, const struct sock_wait *wait)
{
	bool was_waiting = flow->kernel_waits;

	flow->kernel_waits = wait->for_what != SOCK_WAITS_FOR_NOTHING;
	return was_waiting && !flow->kernel_waits;
}

/* Its timers fire late, by so much of their time. */
static uint64_t after_it_has_asked(const struct flow *flow, uint64_t now_ns)
{
	return MAX((now_ns - tcp_heard_ns(flow->conn)) / 128, AFTER_NS);
}

/* When will the program's kernel ask? So long before that we do. */
static void look(struct flow *flow, uint64_t now_ns)
{
	uint64_t answer_ns = time_to_answer(flow);
	struct sock_wait wait;

	flow->hearing = HEARS;
	flow->look_pause_ns = MIN(PAUSE_FACTOR * flow->look_pause_ns, LAST_PAUSE_NS);
	look_at_kernel(flow, &wait);
	if (has_perhaps_fired(flow, &wait)) {
		look_again(flow, now_ns + AFTER_NS);
	} else if (wait.for_what != SOCK_WAITS_TO_ASK ||
		   wait.left_ns > flow->look_pause_ns + 2 * answer_ns) {
		look_some_time(flow, now_ns);
	} else if (wait.left_ns > 2 * answer_ns) {
		look_again(flow, now_ns + wait.left_ns - 2 * answer_ns);
	} else if (wait.left_ns < 2 * ANSWER_LEAST_NS ||
		   now_ns - tcp_heard_ns(flow->conn) < answer_ns || !ask(flow, now_ns)) {
		look_again(flow, now_ns + wait.left_ns + after_it_has_asked(flow, now_ns));
	} else {
		flow->hearing = HEARS_AND_HAS_ASKED;
		flow->kernel_asks_ns = now_ns + wait.left_ns;
		look_again(flow, now_ns + MIN(answer_ns, wait.left_ns / 2));
	}
}

static bool has_something_for_program(const struct flow *flow)
{
	return tcp_recv_unread(flow->conn) > 0 || flow_untaken_in_socket(flow) > 0;
}

static void go_deaf(struct flow *flow, uint64_t now_ns)
{
	flow->hearing = HEARS;
	if ((flow->ticket && !flow_fetch(flow)) || has_something_for_program(flow) ||
	    !ask(flow, now_ns)) {
		if (flow->state == FLOW_OPEN)
			look_again(flow, now_ns + ANSWER_MOST_NS);
		return;
	}
	if (!set_deaf(flow, true))
		return; /* nor will it be later */
	flow->hearing = IS_DEAF;
	flow->kernel_counts_anew = false;
	flow->look_pause_ns = ANSWER_LEAST_NS;
	tcp_owner_waits(flow->conn, true);
	look_again(flow, now_ns + flow->look_pause_ns);
}

void flow_hear_again(struct flow *flow)
{
	flow->hearing = HEARS;
	flow->look_pause_ns = FIRST_LOOK_NS;
	tcp_owner_waits(flow->conn, false);
	set_deaf(flow, false);
	look_again(flow, loop_now(flow->edge->loop) + AFTER_NS);
}

/*
 * It counts anew, so it was answered: what the program sends has the highest TTL. Once it may do so
 * for what it had heard before.
 */
static bool hears_us_still(struct flow *flow, const struct sock_wait *wait, uint64_t now_ns)
{
	if (wait->for_what != SOCK_WAITS_TO_ASK || wait->asked > 0 || wait->left_ns == 0 ||
	    now_ns <= flow->kernel_asks_ns + AFTER_NS)
		return false;
	if (flow->kernel_counts_anew)
		return true;
	flow->kernel_counts_anew = true;
	flow->kernel_asks_ns = now_ns + wait->left_ns;
	return false;
}

/* It is silent still: it would have been an event. */
static void ask_again(struct flow *flow, uint64_t now_ns)
{
	struct sock_wait wait;
	enum sock_life life = look_at_kernel(flow, &wait);

	if (life == SOCK_NONE) { /* the silence was too long, or the program has reset it */
		flow_kill(flow, true);
		return;
	}
	if (has_perhaps_fired(flow, &wait) && life == SOCK_HELD) {
		look_again(flow, now_ns + AFTER_NS);
		return;
	}
	/* The program is gone, or has changed its mind. */
	if (wait.for_what == SOCK_WAITS_FOR_NOTHING) {
		flow_hear_again(flow);
		return;
	}
	if (hears_us_still(flow, &wait, now_ns)) { /* then we are of no use */
		flow_hear_again(flow);
		edge_timer_cancel(&flow->edge->timers, &flow->look_timer);
		return;
	}
	flow->look_pause_ns = MIN(2 * flow->look_pause_ns, ASK_MOST_NS);
	ask(flow, now_ns);
	look_again(flow, now_ns + flow->look_pause_ns);
}

static void look_fired(struct edge_timer *timer, uint64_t now_ns)
{
	struct flow *flow = CONTAINER_OF(timer, struct flow, look_timer);

	if (flow->hearing == IS_DEAF)
		ask_again(flow, now_ns);
	else if (flow->hearing == HEARS || has_answered(flow))
		look(flow, now_ns);
	else
		go_deaf(flow, now_ns);
}

void flow_watch_silence(struct flow *flow)
{
	if (flow->edge->socket_table < 0 || flow->dialled || flow->is_service)
		return;
	flow->look_timer.fired = look_fired;
	flow->look_pause_ns = FIRST_LOOK_NS;
	look_some_time(flow, loop_now(flow->edge->loop));
}

void flow_keepalive_changed(struct flow *flow)
{
	if (flow->state == FLOW_OPEN && flow->look_timer.prev && flow->hearing == HEARS)
		look_again(flow, loop_now(flow->edge->loop) + AFTER_NS);
}
