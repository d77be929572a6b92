/* Packet scripts: one endpoint, one far side made of packets by hand, a clock by hand. */
#include "script.h"

#include <string.h>

#include "shared/util.h"

static uint8_t *packet_reserve(void *owner, size_t len)
{
	struct script *t = owner;

	assert_true(t->count < SCRIPT_PACKETS && len <= sizeof(t->out[0].bytes));
	return t->is_blocked ? NULL : t->out[t->count].bytes;
}

static void packet_commit(void *owner, size_t len)
{
	struct script *t = owner;
	struct script_packet *p = &t->out[t->count++];

	p->len = len;
	assert_int_equal(tcp_segment_parse(p->bytes, len, true, &p->s), 0);
	if (p->s.flags & TCP_SYN)
		t->iss = p->s.seq;
}

static void incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	struct script *t = owner;

	assert_true(endpoint_equal(local, &t->local) && endpoint_equal(remote, &t->remote));
	t->conn = conn;
	t->incoming++;
}

static void event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct script *t = owner;

	assert_ptr_equal(conn, t->conn);
	assert_ptr_equal(user, t);
	t->events |= events;
}

static void cancelled(void *owner, struct tcp_conn *conn)
{
	struct script *t = owner;

	if (t->conn == conn)
		t->conn = NULL;
	t->cancelled++;
}

void script_init(struct script *t)
{
	memset(t, 0, sizeof(*t));
	tcp_config_defaults(&t->config, SCRIPT_MTU);
	t->now_ns = 5000 * NS_PER_S;
	t->isn = PEER_ISN;
	t->peer_ts = 1000;
	t->window = 1000; /* times 128 */
	t->has_sack = true;
	endpoint_parse("100.64.0.1:80", &t->local);
	endpoint_parse("100.64.0.2:5000", &t->remote);
}

void script_start(struct script *t)
{
	static const struct tcp_callbacks callbacks = { packet_reserve, packet_commit, incoming,
							event, cancelled };

	t->config.verify_checksum = true;
	t->tcp = tcp_create(&t->config, &callbacks, t);
	assert_non_null(t->tcp);
}

void script_finish(struct script *t)
{
	tcp_destroy(t->tcp);
}

void script_queue(struct script *t, struct peer p)
{
	struct tcp_flow_key key = { t->local.addr, t->remote.addr, t->local.port, t->remote.port,
				    0 };
	struct tcp_options o = { 0 };
	struct tcp_template template;
	uint8_t packet[2048];

	if (p.flags & TCP_SYN) {
		o.mss = SCRIPT_MSS;
		o.has_scale = true;
		o.scale = 7;
		o.sack_permitted = t->has_sack;
	}
	for (; o.sack_count < 2 && p.sack[2 * o.sack_count + 1]; o.sack_count++) {
		o.sack[o.sack_count].start = t->iss + p.sack[2 * o.sack_count];
		o.sack[o.sack_count].end = t->iss + p.sack[2 * o.sack_count + 1];
	}
	o.has_timestamp = t->has_timestamps && !(p.flags & TCP_RST);
	o.ts_value = p.ts ? p.ts : t->peer_ts++;
	if (t->count > 0)
		o.ts_echo = p.ts_echo ? p.ts_echo : t->out[t->count - 1].s.ts_value;
	tcp_template_init(&template, &key, &o);
	tcp_template_set(&template, p.flags & TCP_ACK ? t->iss + p.ack : 0,
			 p.no_window         ? 0
			 : p.flags & TCP_SYN ? UINT16_MAX
					     : t->window);
	for (uint32_t i = 0; i < p.len; i++)
		packet[template.header_len + i] = (uint8_t)(p.seq + i);
	tcp_template_write(&template, packet, t->isn + p.seq, p.flags, p.len);
	tcp_input(t->tcp, packet, template.header_len + p.len, t->now_ns);
}

void script_flush(struct script *t)
{
	tcp_flush(t->tcp, t->now_ns);
}

void script_send(struct script *t, struct peer p)
{
	script_queue(t, p);
	script_flush(t);
}

void script_wait_ms(struct script *t, uint64_t ms)
{
	uint64_t end_ns = t->now_ns + ms * NS_PER_MS;

	while (tcp_deadline(t->tcp) <= end_ns) {
		t->now_ns = MAX(t->now_ns, tcp_deadline(t->tcp));
		tcp_expire(t->tcp, t->now_ns);
	}
	t->now_ns = end_ns;
}

unsigned script_events(struct script *t)
{
	unsigned events = t->events;

	t->events = 0;
	return events;
}

const struct tcp_segment *script_expect(struct script *t, uint8_t flags, uint32_t seq, uint32_t ack,
					uint32_t len)
{
	const struct tcp_segment *s = &t->out[t->first].s;

	assert_true(t->first < t->count);
	t->first++;
	assert_int_equal(s->flags & ~TCP_PSH, flags);
	if (!(flags & TCP_RST) || !(flags & TCP_ACK))
		assert_int_equal(s->seq - t->iss, seq);
	if (flags & TCP_ACK)
		assert_int_equal(s->ack - t->isn, ack);
	assert_int_equal(s->len, len);
	return s;
}

void script_expect_none(struct script *t)
{
	assert_int_equal(t->first, t->count);
	t->first = t->count = 0;
}

void script_expect_train(struct script *t, uint32_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		script_expect(t, A, first + i * SCRIPT_MSS, 1, SCRIPT_MSS);
	script_expect_none(t);
}

void script_dial(struct script *t)
{
	assert_int_equal(tcp_connect(t->tcp, &t->local, &t->remote, t, t->now_ns, &t->conn), 0);
	script_flush(t);
	script_expect(t, S, 0, 0, 0);
}

void script_connect(struct script *t)
{
	script_dial(t);
	script_wait_ms(t, 10);
	script_send(t, (struct peer){ .flags = S | A, .ack = 1 });
	script_expect(t, A, 1, 1, 0);
	script_expect_none(t);
	assert_true(script_events(t) & TCP_EVENT_CONNECTED);
}

void script_begin(struct script *t)
{
	script_init(t);
	script_start(t);
	script_connect(t);
}

void script_accepted(struct script *t)
{
	script_send(t, (struct peer){ .flags = S });
	script_expect_none(t);
	assert_int_equal(t->incoming, 1);
	tcp_accept(t->conn, t, t->now_ns);
	script_flush(t);
	script_expect(t, S | A, 0, 1, 0);
	script_wait_ms(t, 10);
	script_send(t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	script_expect_none(t);
	assert_true(script_events(t) & TCP_EVENT_CONNECTED);
}

void script_write(struct script *t, size_t len)
{
	while (len > 0) {
		struct iovec space[2];
		size_t n;

		assert_true(tcp_send_space(t->conn, space) > 0);
		n = MIN(len, space[0].iov_len);
		memset(space[0].iov_base, 'x', n);
		tcp_send_commit(t->conn, n);
		len -= n;
	}
}

void script_write_segments(struct script *t, unsigned count)
{
	script_write(t, (size_t)count * SCRIPT_MSS);
	script_flush(t);
}

size_t script_read(struct script *t)
{
	struct iovec data[4];
	unsigned count;
	size_t sum = 0, n;

	while ((n = tcp_recv_data(t->conn, data, 4, &count)) > 0) {
		tcp_recv_consume(t->conn, n);
		sum += n;
	}
	return sum;
}

struct tcp_stats script_stats(const struct script *t)
{
	struct tcp_stats stats;

	tcp_get_stats(t->tcp, &stats);
	return stats;
}
