/* No peer takes the whole table: what its SYNs hold is at most twice what is free. */
#include "tests/unit/tcp/script.h"

#include "shared/util.h"

#define GREEDY ((const void *)0x1000)
#define OTHER  ((const void *)0x2000)

static void begin(struct script *t, uint32_t max_conns, uint32_t max_parked)
{
	script_init(t);
	t->config.max_conns = max_conns;
	t->config.max_parked = max_parked;
	script_start(t);
}

/* A SYN from the next port; true: it was reported. */
static bool opens(struct script *t, const void *source)
{
	unsigned before = t->incoming;

	t->remote.port++;
	tcp_set_source(t->tcp, source);
	script_send(t, (struct peer){ .flags = S });
	return t->incoming > before;
}

static unsigned opens_many(struct script *t, const void *source, unsigned tries)
{
	unsigned opened = 0;

	for (unsigned i = 0; i < tries; i++)
		opened += opens(t, source);
	return opened;
}

static void test_parked_syns_of_one_peer_leave_room_for_others(void **state)
{
	struct script t;

	(void)state;
	begin(&t, 300, 30);
	assert_int_equal(opens_many(&t, GREEDY, 100), 20);
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).syns_over_share, 80);
	assert_true(opens(&t, OTHER));
	/* What others take is no longer free. */
	tcp_ignore(t.conn);
	assert_int_equal(opens_many(&t, OTHER, 100), 7);
	script_finish(&t);
}

static void test_connections_of_one_peer_leave_room_for_others(void **state)
{
	struct tcp_conn *first = NULL, *own;
	struct script t;
	unsigned opened = 0;

	(void)state;
	begin(&t, 30, 1000);
	for (unsigned i = 0; i < 100; i++) {
		if (!opens(&t, GREEDY))
			continue;
		first = first ? first : t.conn;
		tcp_accept(t.conn, &t, t.now_ns);
		script_flush(&t);
		opened++;
	}
	assert_int_equal(opened, 20);
	assert_int_equal(script_stats(&t).syns_over_share, 80);
	assert_true(opens(&t, OTHER));
	/* Our own programs' dials are nobody's share. */
	t.remote.port++;
	assert_int_equal(tcp_connect(t.tcp, &t.local, &t.remote, &t, t.now_ns, &own), 0);
	assert_false(opens(&t, GREEDY));
	for (int i = 0; i < 2; i++) {
		tcp_abort(i ? own : t.conn, t.now_ns);
		script_flush(&t);
	}
	/* One that ends gives its place back. */
	assert_false(opens(&t, GREEDY));
	tcp_abort(first, t.now_ns);
	script_flush(&t);
	assert_true(opens(&t, GREEDY));
	script_finish(&t);
}

/* A byte far ahead in each of many streams holds a chunk each, and nobody can read it. */
static void test_memory_held_by_one_peer_leaves_room_for_others(void **state)
{
	struct script t;
	size_t got = 0;

	(void)state;
	script_init(&t);
	t.config.memory_max = 16 * 65536;
	script_start(&t);
	for (unsigned i = 0; i < 30; i++) {
		assert_true(opens(&t, GREEDY));
		tcp_accept(t.conn, &t, t.now_ns);
		script_flush(&t);
		script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
		script_send(&t, (struct peer){ .flags = A, .seq = 10001, .ack = 1, .len = 1 });
		t.first = t.count = 0;
	}
	assert_true(script_stats(&t).memory <= 11 * 65536);
	assert_true(opens(&t, OTHER));
	tcp_accept(t.conn, &t, t.now_ns);
	script_flush(&t);
	script_send(&t, (struct peer){ .flags = A, .seq = 1, .ack = 1 });
	for (uint32_t seq = 1; seq < 16000; seq += 1000)
		script_queue(&t, (struct peer){ .flags = A, .seq = seq, .ack = 1, .len = 1000 });
	got = script_read(&t);
	assert_int_equal(got, 16000);
	script_finish(&t);
}

static void test_a_full_table_answers_nobody(void **state)
{
	struct script t;

	(void)state;
	begin(&t, 4, 100);
	for (uintptr_t peer = 1; peer <= 4; peer++)
		assert_true(opens(&t, (const void *)(peer << 12)));
	assert_false(opens(&t, OTHER));
	script_expect_none(&t);
	assert_int_equal(script_stats(&t).syns_unanswered, 1);
	assert_int_equal(script_stats(&t).syns_over_share, 0);
	script_finish(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parked_syns_of_one_peer_leave_room_for_others),
		cmocka_unit_test(test_connections_of_one_peer_leave_room_for_others),
		cmocka_unit_test(test_memory_held_by_one_peer_leaves_room_for_others),
		cmocka_unit_test(test_a_full_table_answers_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
