/*
 * Fork and join, for stretches of ten microseconds and more.
 *
 * One word says which round it is, of how many pieces, and which is next. To
 * take a piece is to move the word on; since a round only ends when all its
 * pieces are done, whoever took one finds the round's other values standing still, and
 * a helper that comes late finds nothing to take and has touched nothing. So the caller
 * never waits for a helper that has not begun: one that gets no processor costs
 * no time.
 *
 * A helper looks for the next round for a while before it sleeps: in a bulk
 * transfer rounds follow each other closely, and waking a thread costs as much
 * as a round. When there is nothing to do they all sleep.
 */
#include "daemon/crypto/workers.h"

#include <assert.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shared/thread.h"
#include "shared/util.h"

#define LOOKS       2000 /* before a helper sleeps: some 50 us */
#define STACK_BYTES (256 * 1024)
#define DEFAULT_MAX 4

struct helper {
	struct workers *workers;
	unsigned lane;
	pthread_t thread;
};

struct workers {
	unsigned count; /* the caller among them */
	void (*piece)(void *arg, unsigned lane, unsigned i);
	void *arg;
	_Atomic uint64_t turn; /* round << 32 | pieces << 16 | next */
	_Atomic uint32_t done;
	_Atomic uint32_t bell; /* a futex: rung for each round */
	_Atomic uint32_t asleep;
	_Atomic bool is_ending;
	struct helper helper[];
};

static void look_away(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static bool has_piece(uint64_t turn)
{
	return (turn & 0xffff) < (turn >> 16 & 0xffff);
}

/* Does pieces of the present round until none is left. */
static void take_part(struct workers *w, unsigned lane)
{
	uint64_t turn = atomic_load(&w->turn);

	while (has_piece(turn)) {
		if (!atomic_compare_exchange_weak(&w->turn, &turn, turn + 1))
			continue;
		w->piece(w->arg, lane, (unsigned)(turn & 0xffff));
		atomic_fetch_add(&w->done, 1);
		turn = atomic_load(&w->turn);
	}
}

static void sleep_until_rung(struct workers *w, uint32_t heard)
{
	/* Who rings after this sees us; who rang before changed the word, and we do not sleep. */
	atomic_fetch_add(&w->asleep, 1);
	syscall(SYS_futex, &w->bell, FUTEX_WAIT_PRIVATE, heard, NULL, NULL, 0);
	atomic_fetch_sub(&w->asleep, 1);
}

static void ring(struct workers *w)
{
	atomic_fetch_add(&w->bell, 1);
	if (atomic_load(&w->asleep) > 0)
		syscall(SYS_futex, &w->bell, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void *help(void *arg)
{
	struct helper *h = arg;
	struct workers *w = h->workers;

	while (!atomic_load(&w->is_ending)) {
		uint32_t heard = atomic_load(&w->bell);

		take_part(w, h->lane);
		for (unsigned i = 0; i < LOOKS && atomic_load(&w->bell) == heard; i++)
			look_away();
		if (atomic_load(&w->bell) == heard && !atomic_load(&w->is_ending))
			sleep_until_rung(w, heard);
	}
	return NULL;
}

unsigned workers_useful(unsigned asked, unsigned cores)
{
	/* One is left for the program that makes the traffic, and of two one for its peer's part.
	 */
	unsigned spare = cores <= 2 ? 1 : MIN(cores - 1, WORKERS_MAX);

	return MIN(spare, asked ? asked : DEFAULT_MAX);
}

static int start_helper(struct workers *w, unsigned lane)
{
	struct helper *h = &w->helper[lane - 1];

	h->workers = w;
	h->lane = lane;
	return thread_start(&h->thread, STACK_BYTES, help, h);
}

struct workers *workers_create(unsigned count)
{
	struct workers *w;

	assert(count >= 2 && count <= WORKERS_MAX);
	w = calloc(1, sizeof(*w) + (count - 1) * sizeof(w->helper[0]));
	if (!w)
		return NULL;
	for (w->count = 1; w->count < count; w->count++) {
		if (start_helper(w, w->count) == 0)
			continue;
		workers_destroy(w);
		return NULL;
	}
	return w;
}

void workers_destroy(struct workers *w)
{
	if (!w)
		return;
	atomic_store(&w->is_ending, true);
	ring(w);
	for (unsigned lane = 1; lane < w->count; lane++)
		pthread_join(w->helper[lane - 1].thread, NULL);
	free(w);
}

void workers_run(struct workers *w, void (*piece)(void *arg, unsigned lane, unsigned i), void *arg,
		 unsigned pieces)
{
	uint64_t round = (atomic_load(&w->turn) >> 32) + 1;

	assert(pieces <= 0xffff);
	w->piece = piece;
	w->arg = arg;
	atomic_store(&w->done, 0);
	atomic_store(&w->turn, round << 32 | (uint64_t)pieces << 16);
	if (pieces > 1)
		ring(w);
	take_part(w, 0);
	for (unsigned i = 0; atomic_load(&w->done) < pieces; i++) {
		if (i % 1000 == 999)
			sched_yield(); /* a helper has lost its processor within a piece */
		else
			look_away();
	}
}
