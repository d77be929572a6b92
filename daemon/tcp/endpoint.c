/*
 * The endpoint's front: its life, its batches, and the application's calls.
 *
 * Two lists carry all the work: connections with events for their owner, and
 * connections that may have something to send. tcp_input() and the
 * application's calls only change state and put connections on the lists;
 * tcp_flush() first delivers events (so that what the owner consumes and
 * writes goes out with the same acknowledgement), then lets each connection
 * send, a limited number of segments a turn, until the link takes no more.
 * What is left on the lists then is taken up by the next flush.
 *
 * An owner may abort any connection from inside any callback. So nothing is
 * freed there: a connection that is gone leaves table, lists and timers at
 * once, and its memory at the end of the flush.
 */
#include "daemon/tcp/endpoint.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"

#define LATE_NS (500 * NS_PER_MS) /* for the end of TIME_WAIT: one wake-up for many */

void tcp_config_defaults(struct tcp_config *config, uint32_t mtu)
{
	memset(config, 0, sizeof(*config));
	config->mtu = mtu;
	config->max_conns = 49152;
	config->max_parked = 4096;
	config->max_time_wait = 16384;
	config->buffer_max = 32u << 20;
	config->memory_max = (size_t)256 << 20;
}

struct tcp *tcp_create(const struct tcp_config *config, const struct tcp_callbacks *callbacks,
		       void *owner)
{
	struct tcp *tcp = calloc(1, sizeof(*tcp));

	if (!tcp)
		return NULL;
	tcp->config = *config;
	tcp->config.mtu = MAX(MIN(config->mtu, 65535u), TCP_MTU_MIN);
	/* The largest window that scaling can express; the least that makes sense. */
	tcp->config.buffer_max = MAX(MIN(config->buffer_max, (size_t)64 << 20), (size_t)TCP_CHUNK);
	tcp->callbacks = *callbacks;
	tcp->owner = owner;
	tcp->memory.max = config->memory_max;
	TAILQ_INIT(&tcp->all);
	TAILQ_INIT(&tcp->events);
	TAILQ_INIT(&tcp->output);
	TAILQ_INIT(&tcp->dead);
	TAILQ_INIT(&tcp->time_wait);
	if (tcp_table_init(&tcp->table, config->secret) < 0) {
		free(tcp);
		return NULL;
	}
	return tcp;
}

static void conn_free(struct tcp_conn *conn)
{
	tcp_buffer_clear(&conn->snd_buffer, &conn->tcp->memory);
	tcp_buffer_clear(&conn->rcv_buffer, &conn->tcp->memory);
	tcp_reassembly_clear(&conn->ranges);
	tcp_board_finish(&conn->board);
	free(conn);
}

static void free_dead(struct tcp *tcp)
{
	struct tcp_conn *conn;

	while ((conn = TAILQ_FIRST(&tcp->dead))) {
		TAILQ_REMOVE(&tcp->dead, conn, all_link);
		conn_free(conn);
	}
}

void tcp_destroy(struct tcp *tcp)
{
	struct tcp_conn *conn;

	if (!tcp)
		return;
	/* First what is taken out of the table's chains; connections are just freed. */
	while (!TAILQ_EMPTY(&tcp->time_wait))
		tcp_time_wait_remove(tcp, TAILQ_FIRST(&tcp->time_wait));
	while ((conn = TAILQ_FIRST(&tcp->all))) {
		TAILQ_REMOVE(&tcp->all, conn, all_link);
		conn_free(conn);
	}
	free_dead(tcp);
	tcp_memory_trim(&tcp->memory);
	tcp_timers_finish(&tcp->timers);
	tcp_table_finish(&tcp->table);
	free(tcp->replies);
	sodium_memzero(&tcp->config, sizeof(tcp->config));
	free(tcp);
}

struct tcp_conn *tcp_conn_create(struct tcp *tcp, const struct tcp_flow_key *key, uint64_t hash)
{
	struct tcp_conn *conn;

	if (tcp_timers_reserve(&tcp->timers, tcp->timers.count + tcp->conns + 1) < 0)
		return NULL;
	conn = calloc(1, sizeof(*conn));
	if (!conn)
		return NULL;
	conn->tcp = tcp;
	conn->flow.key = *key;
	conn->flow.hash = hash;
	conn->rtx_ns = conn->delack_ns = conn->life_ns = conn->pace_ns = NEVER_NS;
	conn->rto_ns = TCP_RTO_INITIAL_NS;
	conn->path_mtu = tcp->config.mtu;
	tcp_timer_init(&conn->timer);
	tcp_buffer_init(&conn->snd_buffer);
	tcp_buffer_init(&conn->rcv_buffer);
	tcp_board_init(&conn->board);
	tcp_rack_init(&conn->rack);
	conn->in_table = true;
	tcp_table_add(&tcp->table, &conn->flow);
	TAILQ_INSERT_TAIL(&tcp->all, conn, all_link);
	tcp->conns++;
	return conn;
}

uint32_t tcp_timestamp(const struct tcp_conn *conn, uint64_t now_ns)
{
	return (uint32_t)(now_ns / NS_PER_MS) + conn->ts_offset;
}

uint32_t tcp_buffer_max(const struct tcp_conn *conn)
{
	uint64_t rtt_ns = conn->rack.min_rtt_ns != NEVER_NS ? conn->rack.min_rtt_ns : 0;
	uint64_t wanted = rtt_ns / NS_PER_MS * TCP_BUFFER_PER_MS;

	return (uint32_t)MIN(MAX(wanted, TCP_BUFFER_SHORT), conn->tcp->config.buffer_max);
}

void tcp_conn_set_state(struct tcp_conn *conn, enum tcp_state state)
{
	assert(state > conn->state || state == TCP_CLOSED);
	if (conn->state == TCP_PARKED) {
		conn->tcp->parked--;
		conn->share->parked--;
	}
	if (state == TCP_PARKED) {
		conn->tcp->parked++;
		conn->share->parked++;
	}
	conn->state = state;
}

void tcp_conn_event(struct tcp_conn *conn, unsigned events)
{
	if (!conn->is_held && !(events & (TCP_EVENT_INCOMING | TCP_EVENT_CANCELLED)))
		return;
	conn->events |= events;
	if (conn->in_events)
		return;
	conn->in_events = true;
	TAILQ_INSERT_TAIL(&conn->tcp->events, conn, event_link);
}

static void forget_events(struct tcp_conn *conn)
{
	conn->events = 0;
	if (!conn->in_events)
		return;
	conn->in_events = false;
	TAILQ_REMOVE(&conn->tcp->events, conn, event_link);
}

void tcp_conn_want_output(struct tcp_conn *conn)
{
	if (conn->in_output)
		return;
	conn->in_output = true;
	TAILQ_INSERT_TAIL(&conn->tcp->output, conn, output_link);
}

static void forget_output(struct tcp_conn *conn)
{
	if (!conn->in_output)
		return;
	conn->in_output = false;
	TAILQ_REMOVE(&conn->tcp->output, conn, output_link);
}

void tcp_conn_arm(struct tcp_conn *conn)
{
	uint64_t at = MIN(MIN(conn->rtx_ns, conn->pace_ns), MIN(conn->delack_ns, conn->life_ns));

	if (conn->in_table)
		tcp_timer_arm(&conn->tcp->timers, &conn->timer, at);
}

/* The owner has let go, and the protocol has too. */
static void bury(struct tcp_conn *conn)
{
	assert(!conn->in_table);
	forget_events(conn);
	TAILQ_REMOVE(&conn->tcp->all, conn, all_link);
	TAILQ_INSERT_TAIL(&conn->tcp->dead, conn, all_link);
}

void tcp_conn_close(struct tcp_conn *conn, enum tcp_state state)
{
	struct tcp *tcp = conn->tcp;

	if (!conn->in_table)
		return;
	tcp_conn_set_state(conn, state);
	conn->in_table = false;
	tcp->conns--;
	tcp_share_leave(conn);
	tcp_table_remove(&tcp->table, &conn->flow);
	tcp_timer_remove(&tcp->timers, &conn->timer);
	forget_output(conn);
	tcp_buffer_clear(&conn->snd_buffer, &tcp->memory);
	tcp_board_finish(&conn->board);
	tcp_reassembly_clear(&conn->ranges);
	tcp_recv_count(conn);
	if (!conn->is_held && !(conn->events & TCP_EVENT_CANCELLED))
		bury(conn);
}

void tcp_conn_fail(struct tcp_conn *conn, int error)
{
	struct tcp *tcp = conn->tcp;
	bool was_parked = conn->state == TCP_PARKED;

	conn->error = error;
	if (was_parked) {
		/* An owner that has not heard of it need not hear of its end. */
		if (conn->events & TCP_EVENT_INCOMING)
			forget_events(conn);
		else
			tcp_conn_event(conn, TCP_EVENT_CANCELLED);
	} else {
		tcp->stats.failed++;
		tcp_conn_event(conn, TCP_EVENT_FAILED);
	}
	tcp_conn_close(conn, TCP_CLOSED);
}

static void deliver_events(struct tcp *tcp)
{
	struct tcp_conn *conn;

	while ((conn = TAILQ_FIRST(&tcp->events))) {
		const struct tcp_flow_key *key = &conn->flow.key;
		unsigned events = conn->events;

		forget_events(conn);
		if (events & TCP_EVENT_INCOMING) {
			struct endpoint local = { key->local, key->local_port };
			struct endpoint remote = { key->remote, key->remote_port };

			tcp->callbacks.incoming(tcp->owner, conn, &local, &remote);
		} else if (events & TCP_EVENT_CANCELLED) {
			bury(conn);
			tcp->callbacks.cancelled(tcp->owner, conn);
		} else {
			tcp->callbacks.event(tcp->owner, conn, conn->user, events);
		}
	}
}

void tcp_flush(struct tcp *tcp, uint64_t now_ns)
{
	struct tcp_conn *conn;

	if (tcp->in_flush)
		return;
	tcp->in_flush = true;
	tcp->now_ns = now_ns;
	deliver_events(tcp);
	tcp->is_blocked = !tcp_reply_flush(tcp);
	while (!tcp->is_blocked && (conn = TAILQ_FIRST(&tcp->output))) {
		forget_output(conn);
		/* Puts itself at the end of the list again when its turn was too short. */
		tcp->is_blocked = !tcp_conn_output(conn, now_ns);
		if (tcp->is_blocked)
			tcp_conn_want_output(conn);
		tcp_conn_arm(conn);
	}
	free_dead(tcp);
	tcp->in_flush = false;
}

void tcp_set_source(struct tcp *tcp, const void *source)
{
	tcp->source = source;
}

void tcp_input(struct tcp *tcp, const uint8_t *packet, size_t len, uint64_t now_ns)
{
	struct tcp_segment s;
	struct tcp_flow *flow;
	uint64_t hash;

	tcp->now_ns = now_ns;
	if (tcp_segment_parse(packet, len, tcp->config.verify_checksum, &s) < 0) {
		tcp->stats.bad_segments++;
		return;
	}
	tcp->stats.segments_in++;
	flow = tcp_table_find(&tcp->table, &s.key, &hash);
	if (!flow) {
		tcp_listen_input(tcp, &s, hash, 0, now_ns);
	} else if (flow->is_time_wait) {
		tcp_time_wait_input(tcp, (struct tcp_time_wait *)flow, &s, now_ns);
	} else {
		tcp_conn_input((struct tcp_conn *)flow, &s, now_ns);
		tcp_conn_arm((struct tcp_conn *)flow);
	}
}

void tcp_trim(struct tcp *tcp)
{
	tcp_memory_trim(&tcp->memory);
}

uint64_t tcp_deadline(const struct tcp *tcp)
{
	const struct tcp_time_wait *tw = TAILQ_FIRST(&tcp->time_wait);
	uint64_t next = tcp_timers_next(&tcp->timers);

	return tw ? MIN(tw->expires_ns + LATE_NS, next) : next;
}

void tcp_expire(struct tcp *tcp, uint64_t now_ns)
{
	struct tcp_timer *timer;

	tcp->now_ns = now_ns;
	while ((timer = tcp_timers_pop(&tcp->timers, now_ns))) {
		struct tcp_conn *conn = CONTAINER_OF(timer, struct tcp_conn, timer);

		tcp_conn_expire(conn, now_ns);
		if (conn->in_table)
			tcp_conn_arm(conn);
	}
	tcp_time_wait_expire(tcp, now_ns);
	tcp_flush(tcp, now_ns);
}

static void reset(struct tcp_conn *conn)
{
	tcp_reply_abort(conn);
	tcp_conn_close(conn, TCP_CLOSED);
}

int tcp_connect(struct tcp *tcp, const struct endpoint *local, const struct endpoint *remote,
		void *user, uint64_t now_ns, struct tcp_conn **out)
{
	struct tcp_flow_key key = tcp_flow_key(local, remote);
	struct tcp_flow *flow;
	struct tcp_conn *conn;
	uint32_t floor = 0;
	uint64_t hash;

	tcp->now_ns = now_ns;
	*out = NULL;
	if (ip_is_v4(&local->addr) != ip_is_v4(&remote->addr))
		return -EAFNOSUPPORT;
	flow = tcp_table_find(&tcp->table, &key, &hash);
	if (flow && !flow->is_time_wait) {
		conn = (struct tcp_conn *)flow;
		if (!conn->ends_by_reset)
			return -EADDRINUSE;
		/* A program that resets its connection may use the port again at once. */
		floor = conn->snd_nxt + 65536;
		reset(conn);
		flow = NULL;
	}
	if (tcp->conns >= tcp->config.max_conns)
		return -ENOBUFS;
	if (flow) {
		floor = ((struct tcp_time_wait *)flow)->snd_nxt + 65536;
		tcp_time_wait_remove(tcp, (struct tcp_time_wait *)flow);
	}
	conn = tcp_conn_create(tcp, &key, hash);
	if (!conn)
		return -ENOBUFS;
	conn->user = user;
	conn->is_held = true;
	conn->iss = tcp_initial_seq(tcp, &key, now_ns);
	if (floor && seq_lt(conn->iss, floor))
		conn->iss = floor;
	conn->ts_offset = (uint32_t)(hash >> 32);
	conn->rcv_scale = tcp_recv_choose_scale(tcp);
	tcp_conn_set_state(conn, TCP_SYN_SENT);
	tcp_send_start(conn, NULL, now_ns);
	tcp->stats.opened++;
	*out = conn;
	return 0;
}

void tcp_accept(struct tcp_conn *conn, void *user, uint64_t now_ns)
{
	struct tcp *tcp = conn->tcp;

	tcp->now_ns = now_ns;
	conn->user = user;
	conn->is_held = true;
	tcp->stats.accepted++;
	if (conn->state != TCP_PARKED) {
		/* Gone meanwhile, and the owner not yet told: now it hears it this way. */
		forget_events(conn);
		tcp_conn_event(conn, TCP_EVENT_FAILED);
		return;
	}
	conn->life_ns = NEVER_NS;
	tcp_conn_set_state(conn, TCP_SYN_RCVD);
	conn->syn_due = true;
	conn->progress_ns = now_ns;
	tcp_conn_want_output(conn);
}

/* A parked connection goes, whatever has become of it meanwhile. */
static void drop_parked(struct tcp_conn *conn)
{
	forget_events(conn);
	if (conn->in_table)
		tcp_conn_close(conn, TCP_CLOSED);
	else
		bury(conn);
}

void tcp_refuse(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp_reply reply = { .key = conn->flow.key, .flags = TCP_RST | TCP_ACK };

	conn->tcp->now_ns = now_ns;
	conn->tcp->stats.refused++;
	reply.ack = conn->rcv_nxt;
	if (conn->in_table)
		tcp_reply_segment(conn->tcp, &reply);
	drop_parked(conn);
}

void tcp_ignore(struct tcp_conn *conn)
{
	drop_parked(conn);
}

static bool calls_for_reset(const struct tcp_conn *conn)
{
	return conn->state == TCP_SYN_RCVD ||
	       (conn->state >= TCP_ESTABLISHED && conn->state <= TCP_CLOSE_WAIT);
}

void tcp_cut_off(struct tcp_conn *conn, int error, uint64_t now_ns)
{
	conn->tcp->now_ns = now_ns;
	if (conn->in_table)
		tcp_conn_fail(conn, error);
}

void tcp_break_off(struct tcp_conn *conn, int error, uint64_t now_ns)
{
	conn->tcp->now_ns = now_ns;
	if (conn->in_table && calls_for_reset(conn))
		tcp_reply_abort(conn);
	tcp_cut_off(conn, error, now_ns);
}

void tcp_abort(struct tcp_conn *conn, uint64_t now_ns)
{
	conn->tcp->now_ns = now_ns;
	conn->is_held = false;
	forget_events(conn);
	if (!conn->in_table) {
		bury(conn);
		return;
	}
	if (calls_for_reset(conn))
		tcp_reply_abort(conn);
	tcp_conn_close(conn, TCP_CLOSED);
}

void tcp_reset_when_done(struct tcp_conn *conn)
{
	if (conn->snd_una == conn->snd_end || conn->snd_wnd == 0)
		reset(conn);
}

void tcp_finish_by_reset(struct tcp_conn *conn, uint64_t now_ns)
{
	bool is_open = conn->state == TCP_ESTABLISHED || conn->state == TCP_CLOSE_WAIT;

	if (!conn->in_table || !is_open || conn->fin_queued) {
		tcp_abort(conn, now_ns);
		return;
	}
	conn->tcp->now_ns = now_ns;
	conn->is_held = false;
	conn->ends_by_reset = true;
	forget_events(conn);
	tcp_reset_when_done(conn);
	if (!conn->in_table)
		return;
	conn->life_ns = now_ns + TCP_RESET_WAIT_NS;
	tcp_conn_arm(conn);
	tcp_conn_want_output(conn);
}

void tcp_release(struct tcp_conn *conn, uint64_t now_ns)
{
	struct tcp *tcp = conn->tcp;

	tcp->now_ns = now_ns;
	if (!conn->in_table || conn->state == TCP_SYN_SENT || tcp_recv_unread(conn) > 0 ||
	    conn->ranges.count > 0) {
		tcp_abort(conn, now_ns);
		return;
	}
	tcp_send_finish(conn);
	conn->is_held = false;
	forget_events(conn);
	tcp_life_heard(conn, now_ns);
	tcp_conn_want_output(conn);
}

struct tcp_conn *tcp_find(struct tcp *tcp, const struct endpoint *local,
			  const struct endpoint *remote)
{
	struct tcp_flow_key key = tcp_flow_key(local, remote);
	uint64_t hash;
	struct tcp_flow *flow = tcp_table_find(&tcp->table, &key, &hash);
	struct tcp_conn *conn = (struct tcp_conn *)flow;

	if (!flow || flow->is_time_wait || (!conn->is_held && conn->state != TCP_PARKED))
		return NULL;
	return conn;
}

void *tcp_conn_user(const struct tcp_conn *conn)
{
	return conn->user;
}

int tcp_conn_error(const struct tcp_conn *conn)
{
	return conn->error;
}

bool tcp_conn_fell_silent(const struct tcp_conn *conn)
{
	return conn->fell_silent;
}

void tcp_get_stats(const struct tcp *tcp, struct tcp_stats *stats)
{
	*stats = tcp->stats;
	stats->conns = tcp->conns;
	stats->parked = tcp->parked;
	stats->time_wait = tcp->time_waits;
	stats->memory = tcp->memory.used;
}
