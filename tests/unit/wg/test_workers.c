/* Workers: each piece once, and a device that shares its work does what one alone does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first. */
#include <cmocka.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/crypto/workers.h"
#include "shared/util.h"
#include "world.h"

#define TRAIN  48
#define INNER  1280
#define ROUNDS 20000
#define PIECES 40

/* ---- by themselves ---- */

struct count {
	_Atomic unsigned done[PIECES];
	_Atomic unsigned lanes_in; /* a bit each: two threads in one lane would show */
	bool is_broken;
};

static void count_piece(void *arg, unsigned lane, unsigned i)
{
	struct count *c = arg;

	if (atomic_fetch_or(&c->lanes_in, 1u << lane) & 1u << lane)
		c->is_broken = true;
	atomic_fetch_add(&c->done[i], 1);
	atomic_fetch_and(&c->lanes_in, ~(1u << lane));
}

static void check_rounds(unsigned workers, unsigned rounds)
{
	struct workers *w = workers_create(workers);
	struct count c = { 0 };

	assert_non_null(w);
	for (unsigned r = 1; r <= rounds; r++) {
		unsigned pieces = r % (PIECES + 1);

		memset(c.done, 0, sizeof(c.done));
		workers_run(w, count_piece, &c, pieces);
		for (unsigned i = 0; i < PIECES; i++)
			assert_int_equal(c.done[i], i < pieces);
		assert_false(c.is_broken);
		if (r % 5000 == 0)
			usleep(3000); /* so that the helpers fall asleep */
	}
	workers_destroy(w);
}

static void test_every_piece_is_done_once(void **state)
{
	(void)state;
	for (unsigned workers = 2; workers <= 5; workers++)
		check_rounds(workers, ROUNDS);
}

static void test_workers_end_though_never_used(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++)
		workers_destroy(workers_create(2 + i % 3));
	workers_destroy(NULL);
}

static void test_no_more_work_than_there_are_processors(void **state)
{
	(void)state;
	for (unsigned cores = 1; cores <= 2; cores++)
		for (unsigned asked = 0; asked <= WORKERS_MAX; asked++)
			assert_int_equal(workers_useful(asked, cores), 1);
	assert_int_equal(workers_useful(0, 3), 2);
	assert_int_equal(workers_useful(0, 64), 4);
	assert_int_equal(workers_useful(1, 64), 1);
	assert_int_equal(workers_useful(6, 4), 3);
	assert_int_equal(workers_useful(6, 64), 6);
	assert_int_equal(workers_useful(WORKERS_MAX, 1000), WORKERS_MAX);
}

/* ---- in a device ---- */

static struct {
	uint8_t bytes[BATCH_BYTES];
	struct wg_datagram datagram[BATCH_PACKETS];
	unsigned count;
} caught;

static void catch_train(void *owner, struct wg_peer *peer, const struct endpoint *to,
			const uint8_t *bytes, size_t len, size_t segment_len)
{
	struct node *n = owner;

	(void)peer, (void)to;
	memcpy(caught.bytes, bytes, len);
	caught.count = 0;
	for (size_t off = 0; off < len; off += segment_len)
		caught.datagram[caught.count++] =
			(struct wg_datagram){ caught.bytes + off,
					      (uint32_t)MIN(segment_len, len - off), n->at };
}

static struct {
	unsigned count;
	uint32_t number[BATCH_PACKETS];
	bool is_whole;
} seen;

static void see(void *owner, struct wg_peer *peer, struct packet *packets, unsigned count)
{
	(void)owner, (void)peer;
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *p = packets[i].data;

		memcpy(&seen.number[seen.count++], p + 20, 4);
		seen.is_whole &= packets[i].len == INNER;
		for (unsigned at = 24; at < INNER; at++)
			seen.is_whole &= p[at] == (uint8_t)(p[20] + at);
	}
}

static void send_train(struct world *w)
{
	struct node *a = &w->node[0];

	batch_reset(&a->batch);
	for (uint32_t i = 0; i < TRAIN; i++) {
		uint8_t *p = batch_reserve(&a->batch, INNER);

		memcpy(p, "\x45\0\5\0\0\0\0\0\x40\x11\0\0\x64\x40\0\1\x64\x40\0\2", 20);
		memcpy(p + 20, &i, 4);
		for (unsigned at = 24; at < INNER; at++)
			p[at] = (uint8_t)(i + at);
		batch_commit(&a->batch, INNER);
	}
	wg_device_send(a->dev, &a->batch, w->now_ns);
	assert_int_equal(caught.count, TRAIN);
}

static struct world *connected(unsigned workers)
{
	struct world *w = world_create(&(struct world_options){ .workers = workers });

	world_connect(w);
	w->node[0].dev->callbacks.transmit = catch_train;
	w->node[1].dev->callbacks.receive = see;
	return w;
}

static void receive(struct world *w)
{
	memset(&seen, 0, sizeof(seen));
	seen.is_whole = true;
	wg_device_receive(w->node[1].dev, caught.datagram, caught.count, w->now_ns);
}

static void test_shared_batches_arrive_whole_and_in_order(void **state)
{
	(void)state;
	for (unsigned workers = 1; workers <= 4; workers++) {
		struct world *w = connected(workers);

		for (unsigned round = 0; round < 200; round++) {
			send_train(w);
			receive(w);
			assert_int_equal(seen.count, TRAIN);
			assert_true(seen.is_whole);
			for (unsigned i = 0; i < TRAIN; i++)
				assert_int_equal(seen.number[i], i);
		}
		world_destroy(w);
	}
}

static void test_forged_and_replayed_packets_of_a_shared_batch_are_dropped(void **state)
{
	static uint8_t again[BATCH_BYTES];
	struct world *w = connected(4);
	struct wg_peer_stats stats;

	(void)state;
	send_train(w);
	memcpy(again, caught.bytes, sizeof(again));
	for (unsigned i = 0; i < TRAIN; i += 8)
		caught.datagram[i].data[40] ^= 1;
	receive(w);
	assert_int_equal(seen.count, TRAIN - TRAIN / 8);
	assert_true(seen.is_whole);
	for (unsigned i = 0; i < seen.count; i++)
		assert_int_equal(seen.number[i], i + i / 7 + 1);
	wg_peer_stats(w->node[1].peer, &stats);
	assert_int_equal(stats.dropped_invalid, TRAIN / 8);

	/* The forged ones have used up nothing: the true ones are taken, and only those. */
	memcpy(caught.bytes, again, sizeof(again));
	receive(w);
	assert_int_equal(seen.count, TRAIN / 8);
	for (unsigned i = 0; i < seen.count; i++)
		assert_int_equal(seen.number[i], i * 8);
	world_destroy(w);
}

static void test_packets_of_another_session_are_not_taken(void **state)
{
	struct world *w = connected(3), *other = connected(3);
	static uint8_t old[BATCH_BYTES];
	struct wg_datagram mixed[TRAIN];

	(void)state;
	send_train(w);
	memcpy(old, caught.bytes, sizeof(old));
	for (unsigned i = 0; i < TRAIN / 2; i++) {
		mixed[i] = caught.datagram[i];
		mixed[i].data = old + (caught.datagram[i].data - caught.bytes);
	}
	send_train(other);
	memcpy(mixed + TRAIN / 2, caught.datagram + TRAIN / 2, TRAIN / 2 * sizeof(mixed[0]));
	memset(&seen, 0, sizeof(seen));
	seen.is_whole = true;
	wg_device_receive(w->node[1].dev, mixed, TRAIN, w->now_ns);
	assert_int_equal(seen.count, TRAIN / 2);
	assert_true(seen.is_whole);
	world_destroy(other);
	world_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_piece_is_done_once),
		cmocka_unit_test(test_workers_end_though_never_used),
		cmocka_unit_test(test_no_more_work_than_there_are_processors),
		cmocka_unit_test(test_shared_batches_arrive_whole_and_in_order),
		cmocka_unit_test(test_forged_and_replayed_packets_of_a_shared_batch_are_dropped),
		cmocka_unit_test(test_packets_of_another_session_are_not_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
