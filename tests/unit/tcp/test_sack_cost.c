/* What a hostile acknowledgement costs, held against an ordinary one in the same run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "daemon/tcp/conn.h"

#define MSS     256u
#define RECORDS 27000u
#define ACKS    300u
#define PEER    5000u /* the far side's next number */

static struct tcp *tcp;
static struct tcp_conn *conn;
static uint8_t packet[2048];
static uint64_t now_ns;

static uint8_t *reserve(void *owner, size_t len)
{
	(void)owner;
	(void)len;
	return packet;
}

static void commit(void *owner, size_t len)
{
	(void)owner;
	(void)len;
}

static void incoming(void *owner, struct tcp_conn *c, const struct endpoint *local,
		     const struct endpoint *remote)
{
	(void)owner;
	(void)local;
	(void)remote;
	conn = c;
}

static void event(void *owner, struct tcp_conn *c, void *user, unsigned events)
{
	(void)owner;
	(void)c;
	(void)user;
	(void)events;
}

static void cancelled(void *owner, struct tcp_conn *c)
{
	(void)owner;
	(void)c;
}

static void far_side(uint8_t flags, uint32_t ack, const struct tcp_options *options)
{
	struct tcp_flow_key key = { ip_from_v4(0x64400001), ip_from_v4(0x64400002), 80, 5000, 0 };
	struct tcp_template t;
	uint8_t out[128];

	tcp_template_init(&t, &key, options);
	tcp_template_set(&t, ack, UINT16_MAX);
	tcp_template_write(&t, out, flags & TCP_SYN ? PEER - 1 : PEER, flags, 0);
	tcp_input(tcp, out, t.header_len, now_ns);
}

/* A connection with that many segments in flight. */
static int setup(void **state)
{
	static const struct tcp_callbacks callbacks = { reserve, commit, incoming, event,
							cancelled };
	struct tcp_options syn = {
		.mss = MSS, .has_scale = true, .scale = 8, .sack_permitted = true
	};
	struct tcp_config config;
	struct iovec piece[2];
	size_t left = (size_t)RECORDS * MSS;

	(void)state;
	now_ns = 5000 * NS_PER_S;
	tcp_config_defaults(&config, 1280);
	tcp = tcp_create(&config, &callbacks, NULL);
	assert_non_null(tcp);
	far_side(TCP_SYN, 0, &syn);
	tcp_flush(tcp, now_ns);
	tcp_accept(conn, NULL, now_ns);
	tcp_flush(tcp, now_ns);
	far_side(TCP_ACK, conn->iss + 1, &(struct tcp_options){ 0 });
	tcp_flush(tcp, now_ns);
	conn->cc.cwnd = 16u << 20;
	conn->train.state = TCP_TRAIN_NONE;
	conn->rack.min_rtt_ns = NS_PER_S; /* a long path: large buffers */
	while (left > 0) {
		size_t n;

		assert_true(tcp_send_space(conn, piece) > 0);
		n = MIN(piece[0].iov_len, left);
		memset(piece[0].iov_base, 'x', n);
		tcp_send_commit(conn, n);
		left -= n;
	}
	tcp_flush(tcp, now_ns);
	assert_int_equal(tcp_board_count(&conn->board), RECORDS);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tcp_destroy(tcp);
	return 0;
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static struct tcp_sack_block block(uint32_t start, uint32_t end)
{
	return (struct tcp_sack_block){ conn->iss + 1 + start, conn->iss + 1 + end };
}

/* CPU of an acknowledgement; is_hostile: its blocks shrink, so none has what was seen before. */
static uint64_t cost_ns(bool is_hostile)
{
	uint64_t start_ns = cpu_ns();

	for (uint32_t i = 0; i < ACKS; i++) {
		struct tcp_options o = { .sack_count = 4 };

		for (uint32_t k = 0; k < 4; k++)
			o.sack[k] = block(MSS + (is_hostile ? 4 * i + k : k),
					  (RECORDS - 1000) * MSS - k);
		/* An ordinary one grows. */
		if (!is_hostile)
			o.sack[0].end += i * MSS;
		far_side(TCP_ACK, conn->iss + 1, &o);
		tcp_flush(tcp, now_ns);
	}
	return (cpu_ns() - start_ns) / ACKS;
}

static void test_blocks_that_change_cost_little_more_than_blocks_that_grow(void **state)
{
	uint64_t hostile_ns, ordinary_ns;

	(void)state;
	cost_ns(false); /* all of it SACKed once */
	ordinary_ns = cost_ns(false);
	hostile_ns = cost_ns(true);
	print_message("ordinary %lu ns, hostile %lu ns\n", ordinary_ns, hostile_ns);
	assert_true(hostile_ns < 20 * ordinary_ns + 2000);
}

static uint32_t slowly_unsacked(const struct tcp_scoreboard *b, uint32_t index)
{
	while (index != b->tail && tcp_board_at(b, index)->flags & TCP_SENT_SACKED)
		index++;
	return index;
}

/* However records come, go and change. */
static void test_runs_of_sacked_records_are_passed_to_their_end(void **state)
{
	struct tcp_scoreboard b;
	uint32_t seed = 1, at;

	(void)state;
	tcp_board_init(&b);
	b.head = b.tail = UINT32_MAX - 500; /* indices wrap soon */
	for (uint32_t step = 0; step < 20000; step++) {
		seed = seed * 1103515245 + 12345;
		assert_true(tcp_board_reserve(&b, 1));
		if (tcp_board_count(&b) < 200 && seed >> 30 > 0)
			tcp_board_add(&b, step * 10, 10, 0, step);
		if (tcp_board_count(&b) == 0)
			continue;
		at = b.head + (seed >> 8) % tcp_board_count(&b);
		if (!(tcp_board_at(&b, at)->flags & TCP_SENT_SACKED))
			tcp_board_mark_sacked(&b, at);
		if (seed >> 29 == 0)
			tcp_board_pop(&b);
		if (step % 4000 == 0)
			tcp_board_forget_sacks(&b);
		if (tcp_board_count(&b) == 0)
			continue;
		at = b.head + (seed >> 16) % tcp_board_count(&b);
		assert_int_equal(tcp_board_unsacked(&b, at), slowly_unsacked(&b, at));
		assert_true(tcp_board_next_lost(&b) == TCP_NO_RECORD || b.lost_count > 0);
	}
	tcp_board_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_blocks_that_change_cost_little_more_than_blocks_that_grow, setup,
			teardown),
		cmocka_unit_test(test_runs_of_sacked_records_are_passed_to_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
