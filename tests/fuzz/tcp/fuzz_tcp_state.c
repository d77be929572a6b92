/*
 * The whole endpoint, fed with a sequence of segments, steps of the clock and
 * application calls drawn from the input; invariants are checked after each.
 *
 * Segments carry numbers near those that are expected, so that sequences get
 * deep into the states. One flow is enough to meet them all.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"
#include "tests/sim/invariants.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct tcp *tcp;
	struct tcp_conn *conn; /* held or parked */
	bool is_parked, is_blocked;
	uint64_t now_ns;
	uint32_t iss, last_ack; /* as seen in what we sent */
	uint32_t peer_isn;
	struct endpoint local, remote;
	const uint8_t *at, *end;
	uint8_t packet[2048];
	size_t last_len;
};

static uint8_t next_u8(struct fuzz *f)
{
	return f->at < f->end ? *f->at++ : 0;
}

static uint8_t *packet_reserve(void *owner, size_t len)
{
	struct fuzz *f = owner;

	assert(len <= sizeof(f->packet));
	return f->is_blocked ? NULL : f->packet;
}

static void packet_commit(void *owner, size_t len)
{
	struct fuzz *f = owner;
	struct tcp_segment s;

	assert(tcp_segment_parse(f->packet, len, true, &s) == 0);
	f->last_len = len;
	if (s.flags & TCP_SYN)
		f->iss = s.seq;
	if (s.flags & TCP_ACK)
		f->last_ack = s.ack;
}

static void incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	struct fuzz *f = owner;

	(void)local;
	(void)remote;
	if (f->conn) {
		tcp_ignore(conn);
		return;
	}
	f->conn = conn;
	f->is_parked = true;
}

static void event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct fuzz *f = owner;

	(void)user;
	assert(conn == f->conn && !f->is_parked);
	if (events & TCP_EVENT_FAILED) {
		assert(tcp_conn_error(conn) != 0);
		tcp_release(conn, f->now_ns);
		f->conn = NULL;
	}
}

static void cancelled(void *owner, struct tcp_conn *conn)
{
	struct fuzz *f = owner;

	assert(conn == f->conn && f->is_parked);
	f->conn = NULL;
	f->is_parked = false;
}

static void segment(struct fuzz *f)
{
	struct tcp_flow_key key = { f->local.addr, f->remote.addr, f->local.port, f->remote.port,
				    0 };
	struct tcp_options o = { 0 };
	struct tcp_template t;
	uint8_t shape = next_u8(f), packet[2048] = { 0 };
	uint8_t flags = next_u8(f) & 0x1f;
	uint32_t seq = f->last_ack + (uint32_t)(int8_t)next_u8(f) * (shape & 1 ? 97 : 1);
	uint32_t ack = f->iss + next_u8(f) * (shape & 2 ? 1228u : 1u);
	uint32_t len = shape & 4 ? next_u8(f) * 5u : 0;

	if (flags & TCP_SYN && shape & 8)
		seq = f->peer_isn;
	if (flags & TCP_SYN) {
		o.mss = (uint16_t)(next_u8(f) * 6);
		o.has_scale = shape & 16;
		o.scale = next_u8(f) & 15;
		o.sack_permitted = shape & 32;
	} else if (shape & 32) {
		o.sack_count = 2;
		for (unsigned i = 0; i < 2; i++) {
			o.sack[i].start = f->iss + next_u8(f) * (shape & 2 ? 1228u : 1u);
			o.sack[i].end = o.sack[i].start + next_u8(f) * (shape & 2 ? 1228u : 1u);
		}
	}
	o.has_timestamp = shape & 64;
	o.ts_value = (uint32_t)(f->now_ns / NS_PER_MS) - (shape & 128 ? next_u8(f) : 0);
	tcp_template_init(&t, &key, &o);
	tcp_template_set(&t, ack, (uint16_t)(next_u8(f) * 257));
	tcp_template_write(&t, packet, seq, flags, len);
	tcp_input(f->tcp, packet, t.header_len + len, f->now_ns);
}

static void held_call(struct fuzz *f, uint8_t what)
{
	struct iovec pieces[2];
	unsigned count;
	size_t n, wanted = next_u8(f) * 50u;

	switch (what % 6) {
	case 0:
		n = tcp_send_space(f->conn, pieces);
		tcp_send_commit(f->conn, MIN(n, wanted));
		break;
	case 1:
		n = tcp_recv_data(f->conn, pieces, 2, &count);
		tcp_recv_consume(f->conn, MIN(n, wanted));
		break;
	case 2:
		tcp_send_finish(f->conn);
		break;
	case 3:
		tcp_release(f->conn, f->now_ns);
		f->conn = NULL;
		break;
	case 4:
		tcp_abort(f->conn, f->now_ns);
		f->conn = NULL;
		break;
	case 5:
		tcp_icmp_error(f->tcp, f->packet, f->last_len,
			       next_u8(f) & 1 ? EMSGSIZE : EHOSTUNREACH, next_u8(f) * 8u,
			       f->now_ns);
		break;
	}
}

static void call(struct fuzz *f)
{
	uint8_t what = next_u8(f);

	if (f->conn && !f->is_parked) {
		held_call(f, what);
	} else if (f->is_parked) {
		f->is_parked = false;
		if (what % 3 == 0) {
			tcp_accept(f->conn, NULL, f->now_ns);
			return;
		}
		if (what % 3 == 1)
			tcp_refuse(f->conn, f->now_ns);
		else
			tcp_ignore(f->conn);
		f->conn = NULL;
	} else if (tcp_connect(f->tcp, &f->local, &f->remote, NULL, f->now_ns, &f->conn) < 0) {
		f->conn = NULL;
	}
}

static void step(struct fuzz *f)
{
	uint8_t op = next_u8(f);

	switch (op % 8) {
	case 0:
		call(f);
		break;
	case 1:
		f->now_ns += (uint64_t)next_u8(f) * NS_PER_MS;
		tcp_expire(f->tcp, f->now_ns);
		break;
	case 2:
		if (tcp_deadline(f->tcp) != NEVER_NS)
			f->now_ns = MAX(f->now_ns, tcp_deadline(f->tcp));
		tcp_expire(f->tcp, f->now_ns);
		break;
	case 3:
		f->is_blocked = op & 8;
		break;
	default:
		segment(f);
		break;
	}
	if (op & 16)
		return; /* more in this batch */
	tcp_flush(f->tcp, f->now_ns);
	const char *wrong = invariants_check(f->tcp);

	if (wrong) {
		fprintf(stderr, "invariant: %s\n", wrong);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct tcp_callbacks callbacks = { packet_reserve, packet_commit, incoming,
							event, cancelled };
	struct fuzz f = { .now_ns = 100 * NS_PER_S, .at = data, .end = data + size };
	struct tcp_config config;

	if (size > 4096)
		return 0;
	tcp_config_defaults(&config, 1280);
	config.keepalive_ns = 10 * NS_PER_S;
	config.memory_max = next_u8(&f) & 1 ? (size_t)1 << 20 : 100000;
	config.buffer_max = 300000;
	f.tcp = tcp_create(&config, &callbacks, &f);
	endpoint_parse("100.64.0.1:80", &f.local);
	endpoint_parse("100.64.0.2:5000", &f.remote);
	f.peer_isn = f.last_ack = 0xfffffff0u;
	while (f.at < f.end)
		step(&f);
	tcp_destroy(f.tcp);
	return 0;
}
