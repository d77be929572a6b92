/*
 * Seeded applications. What is checked: each byte is the one that was sent at
 * that place; the end of the stream comes after the last byte and only when
 * the far side has finished; a failure only when the far side aborted or
 * refused, with the errno a program would see; after it, nothing more.
 */
#include "flows.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define FIRST_PORT 1000

static struct flows *flows_of(struct side *side)
{
	return side->world->app_state;
}

static void wrong(struct flow_end *end, const char *format, ...)
{
	struct flows *flows = flows_of(end->side);
	va_list args;
	int n;

	if (flows->wrong[0])
		return;
	n = snprintf(flows->wrong, sizeof(flows->wrong), "flow %u end %d: ", end->flow->id,
		     (int)(end - end->flow->end));
	va_start(args, format);
	vsnprintf(flows->wrong + n, sizeof(flows->wrong) - (size_t)n, format, args);
	va_end(args);
}

static uint64_t random_below(struct world *w, uint64_t limit)
{
	return limit ? link_random(&w->random) % limit : 0;
}

static uint8_t content(uint64_t key, uint64_t offset)
{
	uint64_t state = key + offset / 8;

	return (uint8_t)(link_random(&state) >> (offset % 8 * 8));
}

static struct flow_end *far_end(struct flow_end *end)
{
	return &end->flow->end[end == &end->flow->end[0]];
}

static void progress(struct flow_end *end)
{
	flows_of(end->side)->progress_ns = end->side->world->now_ns;
}

static uint64_t pause_until(struct flow_end *end)
{
	struct world *w = end->side->world;

	if (end->pause_ns == 0 || random_below(w, 3) == 0)
		return w->now_ns;
	return w->now_ns + random_below(w, end->pause_ns);
}

static void done(struct flow_end *end)
{
	end->conn = NULL;
	end->is_done = true;
	end->read_ns = end->write_ns = end->decide_ns = end->poll_ns = NEVER_NS;
	progress(end);
}

static void do_abort(struct flow_end *end)
{
	end->was_aborted = true;
	tcp_abort(end->conn, end->side->world->now_ns);
	done(end);
	/* From inside this one's callback, take another one along. */
	for (unsigned i = 0; i < flows_of(end->side)->count; i++)
		for (unsigned k = 0; k < 2; k++) {
			struct flow_end *other = &flows_of(end->side)->flow[i].end[k];

			if (other->conn && other->side == end->side && other->close == CLOSE_ABORT)
				do_abort(other);
		}
}

static bool abort_is_due(const struct flow_end *end)
{
	return end->close == CLOSE_ABORT && end->sent + end->received >= end->abort_after;
}

/* Both directions are over as far as this end goes. */
static void release_if_over(struct flow_end *end)
{
	if (!end->conn || !end->has_finished || !end->has_ended)
		return;
	tcp_release(end->conn, end->side->world->now_ns);
	done(end);
}

static void finish(struct flow_end *end)
{
	if (end->has_finished)
		return;
	end->has_finished = true;
	if (end->close == CLOSE_BLIND) {
		tcp_release(end->conn, end->side->world->now_ns);
		done(end);
		return;
	}
	tcp_send_finish(end->conn);
	release_if_over(end);
}

static void read_some(struct flow_end *end);

/* Like a program that reads no answers before its question is out. */
static bool is_waiting_to_write(const struct flow_end *end)
{
	struct iovec space[2];

	return end->side->strict && end->side->index == 1 && end->conn &&
	       end->sent < end->to_send && tcp_send_space(end->conn, space) == 0;
}

static void write_some(struct flow_end *end)
{
	struct world *w = end->side->world;

	end->write_ns = NEVER_NS;
	while (end->conn && end->sent < end->to_send) {
		struct iovec space[2];
		size_t room = tcp_send_space(end->conn, space);
		size_t n = 1 + random_below(w, end->write_max);

		if (room == 0)
			return; /* WRITABLE will tell */
		n = MIN(n, MIN(room, end->to_send - end->sent));
		for (size_t i = 0; i < n; i++) {
			bool is_first = i < space[0].iov_len;
			uint8_t *to = space[!is_first].iov_base;

			to[is_first ? i : i - space[0].iov_len] = content(end->key, end->sent + i);
		}
		tcp_send_commit(end->conn, n);
		end->sent += n;
		progress(end);
		if (abort_is_due(end)) {
			do_abort(end);
			return;
		}
		end->write_ns = pause_until(end);
		if (end->write_ns > w->now_ns)
			return;
	}
	end->write_ns = NEVER_NS;
	if (end->conn && end->close != CLOSE_ABORT && (end->close != CLOSE_LATE || end->has_ended))
		finish(end);
}

static void check_bytes(struct flow_end *end, const struct iovec *piece, size_t len)
{
	const uint8_t *p = piece->iov_base;

	for (size_t i = 0; i < len; i++)
		if (p[i] != content(far_end(end)->key, end->received + i)) {
			wrong(end, "byte %llu is wrong", (unsigned long long)(end->received + i));
			return;
		}
}

static void ended(struct flow_end *end)
{
	const struct flow_end *far = far_end(end);

	if (end->has_ended)
		return;
	end->has_ended = true;
	progress(end);
	if (!far->has_finished || end->received != far->to_send)
		wrong(end, "the stream ended at %llu of %llu", (unsigned long long)end->received,
		      (unsigned long long)far->to_send);
	if (end->close == CLOSE_ABORT)
		do_abort(end);
	else if (end->close == CLOSE_LATE && end->sent == end->to_send)
		finish(end);
	else
		release_if_over(end);
}

static void read_some(struct flow_end *end)
{
	struct world *w = end->side->world;

	end->read_ns = NEVER_NS;
	if (is_waiting_to_write(end))
		return;
	while (end->conn) {
		struct iovec data[3];
		unsigned count;
		size_t left = 1 + random_below(w, end->read_max), len;

		len = tcp_recv_data(end->conn, data, 1 + (unsigned)random_below(w, 3), &count);
		if (len == 0)
			break;
		left = MIN(left, len);
		for (unsigned i = 0; i < count && left > 0; i++) {
			size_t n = MIN(left, data[i].iov_len);

			check_bytes(end, &data[i], n);
			end->received += n;
			left -= n;
			tcp_recv_consume(end->conn, n);
		}
		progress(end);
		if (end->received > far_end(end)->sent)
			wrong(end, "more was received than sent");
		if (abort_is_due(end)) {
			do_abort(end);
			return;
		}
		end->read_ns = pause_until(end);
		if (end->read_ns > w->now_ns)
			return;
	}
	end->read_ns = NEVER_NS;
	if (end->conn && tcp_recv_ended(end->conn))
		ended(end);
}

static void write_and_read(struct flow_end *end)
{
	write_some(end);
	if (end->side->strict && end->conn && end->read_ns == NEVER_NS)
		read_some(end);
}

static void failed(struct flow_end *end)
{
	struct flow_end *far = far_end(end);
	int error = tcp_conn_error(end->conn);
	bool is_expected = far->was_aborted || end->flow->kind == FLOW_REFUSED;

	if (end->flow->kind == FLOW_REFUSED && error != ECONNREFUSED)
		wrong(end, "refused, but the error is %s", strerror(error));
	/* A blind close answers late bytes with a reset; a program sees that, too. */
	if (!is_expected)
		wrong(end, "failed: %s", strerror(error));
	tcp_release(end->conn, end->side->world->now_ns);
	done(end);
}

static void flow_event(struct side *side, struct tcp_conn *conn, void *user, unsigned events)
{
	struct flow_end *end = user;

	if (end->conn != conn || end->side != side) {
		wrong(end, "an event after the end");
		return;
	}
	progress(end);
	if (events & TCP_EVENT_FAILED) {
		failed(end);
		return;
	}
	if (events & TCP_EVENT_CONNECTED) {
		end->was_open = true;
		end->write_ns = side->world->now_ns;
		if (abort_is_due(end)) {
			do_abort(end);
			return;
		}
	}
	if (events & TCP_EVENT_WRITABLE && end->write_ns == NEVER_NS)
		write_and_read(end);
	if (end->conn && events & TCP_EVENT_READABLE && end->read_ns == NEVER_NS)
		read_some(end);
}

static void flow_incoming(struct side *side, struct tcp_conn *conn, const struct endpoint *local,
			  const struct endpoint *remote)
{
	struct flows *flows = flows_of(side);
	unsigned id = local->port - FIRST_PORT;
	struct flow *flow = &flows->flow[id];

	if (id >= flows->count || remote->port != local->port) {
		snprintf(flows->wrong, sizeof(flows->wrong), "a SYN for port %u", local->port);
		tcp_ignore(conn);
		return;
	}
	if (flow->kind == FLOW_SIMULTANEOUS || flow->end[1].conn || flow->end[1].is_done ||
	    flow->parked) {
		/* A late duplicate of a SYN, or one end of two that dialled. */
		if (flow->kind == FLOW_SIMULTANEOUS && !flow->end[0].is_done)
			tcp_ignore(conn);
		else
			tcp_refuse(conn, side->world->now_ns);
		return;
	}
	flow->parked = conn;
	flow->end[1].decide_ns = pause_until(&flow->end[1]);
	progress(&flow->end[1]);
}

static void decide(struct flow_end *end)
{
	struct flow *flow = end->flow;
	struct tcp_conn *conn = flow->parked;
	uint64_t now_ns = end->side->world->now_ns;

	end->decide_ns = NEVER_NS;
	flow->parked = NULL;
	progress(end);
	if (flow->kind == FLOW_REFUSED) {
		tcp_refuse(conn, now_ns);
		return;
	}
	end->conn = conn;
	tcp_accept(conn, end, now_ns);
}

static void flow_cancelled(struct side *side, struct tcp_conn *conn)
{
	struct flows *flows = flows_of(side);

	for (unsigned i = 0; i < flows->count; i++) {
		if (flows->flow[i].parked != conn)
			continue;
		flows->flow[i].parked = NULL;
		flows->flow[i].end[1].decide_ns = NEVER_NS;
		return;
	}
	snprintf(flows->wrong, sizeof(flows->wrong), "an unknown connection was cancelled");
}

static void dial(struct flow *flow, unsigned which)
{
	struct flow_end *end = &flow->end[which];
	struct side *side = end->side;
	struct endpoint local = side->address, remote = side->world->side[!side->index].address;
	int error;

	local.port = remote.port = (uint16_t)(FIRST_PORT + flow->id);
	error = tcp_connect(side->tcp, &local, &remote, end, side->world->now_ns, &end->conn);
	if (error == -EADDRINUSE) {
		/* The far side dialled first, and its SYN is parked here: leave it so. */
		done(end);
		done(far_end(end));
		return;
	}
	if (error < 0)
		wrong(end, "connect: %s", strerror(-error));
	progress(end);
}

static uint64_t end_next_ns(const struct flow_end *end)
{
	return MIN(MIN(end->decide_ns, end->poll_ns), MIN(end->read_ns, end->write_ns));
}

static uint64_t flows_next_ns(struct world *w)
{
	const struct flows *flows = w->app_state;
	uint64_t next = NEVER_NS;

	for (unsigned i = 0; i < flows->count; i++) {
		const struct flow *flow = &flows->flow[i];

		next = MIN(next, flow->dial_ns);
		next = MIN(next, MIN(end_next_ns(&flow->end[0]), end_next_ns(&flow->end[1])));
	}
	return next;
}

/* The far side has gone, so this end will never be dialled. */
static void give_up_waiting(struct flow *flow)
{
	struct flow_end *end = &flow->end[1];

	if (!flow->end[0].is_done || end->conn || end->is_done || flow->parked)
		return;
	if (flow->kind == FLOW_REFUSED || flow->end[0].was_aborted)
		done(end);
}

static void poll_space(struct flow_end *end)
{
	struct world *w = end->side->world;
	struct iovec space[2];

	end->poll_ns = end->is_done ? NEVER_NS : w->now_ns + 15 * NS_PER_MS;
	if (end->conn)
		tcp_send_space(end->conn, space);
}

static void flows_run(struct world *w)
{
	struct flows *flows = w->app_state;

	for (unsigned i = 0; i < flows->count; i++) {
		struct flow *flow = &flows->flow[i];

		if (flow->dial_ns <= w->now_ns) {
			flow->dial_ns = NEVER_NS;
			dial(flow, 0);
			if (flow->kind == FLOW_SIMULTANEOUS)
				dial(flow, 1);
		}
		for (unsigned k = 0; k < 2; k++) {
			struct flow_end *end = &flow->end[k];

			if (end->poll_ns <= w->now_ns)
				poll_space(end);
			if (end->decide_ns <= w->now_ns)
				decide(end);
			if (end->conn && end->write_ns <= w->now_ns)
				write_and_read(end);
			if (end->conn && end->read_ns <= w->now_ns)
				read_some(end);
		}
	}
}

bool flows_are_done(const struct flows *flows)
{
	for (unsigned i = 0; i < flows->count; i++)
		give_up_waiting((struct flow *)&flows->flow[i]);
	for (unsigned i = 0; i < flows->count; i++) {
		if (!flows->flow[i].end[0].is_done || !flows->flow[i].end[1].is_done)
			return false;
	}
	return true;
}

void flows_describe(const struct flows *flows)
{
	for (unsigned i = 0; i < flows->count; i++)
		for (unsigned k = 0; k < 2; k++) {
			const struct flow_end *end = &flows->flow[i].end[k];
			struct tcp_conn_info info = { .state = "-" };

			if (end->is_done)
				continue;
			if (end->conn)
				tcp_conn_info(end->conn, &info);
			fprintf(stderr,
				"  flow %u end %u kind %d close %d: %s sent %llu of %llu, received "
				"%llu, unacked %llu unsent %llu unread %llu, window %u\n",
				i, k, flows->flow[i].kind, end->close, info.state,
				(unsigned long long)end->sent, (unsigned long long)end->to_send,
				(unsigned long long)end->received, (unsigned long long)info.unacked,
				(unsigned long long)info.unsent, (unsigned long long)info.unread,
				info.peer_window);
		}
}

static uint64_t random_size(struct world *w)
{
	static const uint64_t sizes[] = { 1, 100, 3000, 20000, 150000, 600000 };

	if (random_below(w, 8) == 0)
		return 0;
	return 1 + random_below(w, sizes[random_below(w, ARRAY_LEN(sizes))]);
}

static void end_init(struct flow_end *end, struct flow *flow, struct side *side)
{
	static const uint32_t pieces[] = { 1, 50, 2000, 70000, 300000 };
	struct world *w = side->world;

	end->flow = flow;
	end->side = side;
	end->key = link_random(&w->random);
	end->to_send = random_size(w);
	end->write_max = pieces[1 + random_below(w, ARRAY_LEN(pieces) - 1)];
	end->read_max = pieces[1 + random_below(w, ARRAY_LEN(pieces) - 1)];
	if (end->write_max < 2000)
		end->to_send = MIN(end->to_send, 20000u);
	end->pause_ns = random_below(w, 3) == 0 ? random_below(w, 100 * NS_PER_MS) : 0;
	end->close = random_below(w, 10) == 0 ? CLOSE_ABORT : CLOSE_FINISH;
	end->read_ns = end->write_ns = end->decide_ns = NEVER_NS;
	end->poll_ns = random_below(w, 8) == 0 ? w->now_ns : NEVER_NS;
}

void flows_init(struct flows *flows, struct world *w)
{
	memset(flows, 0, sizeof(*flows));
	flows->count = 1 + (unsigned)random_below(w, random_below(w, 8) == 0 ? FLOWS_MAX : 6);
	flows->progress_ns = w->now_ns;
	for (unsigned i = 0; i < flows->count; i++) {
		struct flow *flow = &flows->flow[i];
		unsigned dialler = (unsigned)random_below(w, 2),
			 roll = (unsigned)random_below(w, 12);

		flow->id = i;
		flow->dial_ns = w->now_ns + random_below(w, 200 * NS_PER_MS);
		flow->kind = roll == 0   ? FLOW_REFUSED
			     : roll == 1 ? FLOW_SIMULTANEOUS
					 : FLOW_DIALLED;
		for (unsigned k = 0; k < 2; k++)
			end_init(&flow->end[k], flow, &w->side[k ^ dialler]);
		for (unsigned k = 0; k < 2; k++) {
			struct flow_end *end = &flow->end[k], *far = far_end(end);

			end->abort_after = random_below(w, end->to_send + far->to_send + 1);
			if (end->close != CLOSE_FINISH || far->close != CLOSE_FINISH)
				continue;
			if (random_below(w, 3) == 0)
				end->close = CLOSE_LATE;
			else if (far->to_send == 0 && random_below(w, 2) == 0)
				end->close = CLOSE_BLIND;
		}
	}
}

const struct world_app flows_app = { flow_incoming, flow_event, flow_cancelled, flows_next_ns,
				     flows_run };
