/*
 * The simulator: for each seed a random link, random applications and a
 * virtual clock. Every byte is checked, every end, every invariant of the
 * endpoints; nothing may stand still. The same seed gives the same run.
 *
 *   sim --seed N      one run, with a summary
 *   sim --trace N     one run, with a line for each packet
 *   sim --seeds A-B   many; the first that fails is named with its command
 *
 * With --strict before these both sides drop what a kernel drops (strict.h) and are short of
 * memory, and the programs of one read nothing while they wait to write.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flows.h"
#include "invariants.h"
#include "shared/util.h"

#define STALL_NS    (400 * NS_PER_S) /* no application has seen anything new */
#define DRAIN_NS    (2000 * NS_PER_S)
#define STEPS_MAX   20000000u
#define CHECK_EVERY 16u

static uint64_t below(uint64_t *random, uint64_t limit)
{
	return link_random(random) % limit;
}

static uint64_t pick(uint64_t *random, const uint64_t *values, size_t count)
{
	return values[below(random, count)];
}

static struct link_config random_link(uint64_t *random)
{
	static const uint64_t rates[] = { 1000000, 10000000, 50000000, 200000000, 1000000000 };
	static const uint64_t delays[] = {
		0, 25 * NS_PER_US, NS_PER_MS, 10 * NS_PER_MS, 50 * NS_PER_MS, 150 * NS_PER_MS
	};
	static const uint64_t losses[] = { 0, 0, 1000, 10000, 30000, 100000 };
	static const uint64_t others[] = { 0, 0, 1000, 20000, 100000 };
	struct link_config c = { 0 };

	c.bits_per_s = pick(random, rates, ARRAY_LEN(rates));
	c.delay_ns = pick(random, delays, ARRAY_LEN(delays));
	c.queue_bytes = 5000 + c.bits_per_s / 8 * below(random, 100) / 1000;
	c.loss = (uint32_t)pick(random, losses, ARRAY_LEN(losses));
	c.duplicate = (uint32_t)pick(random, others, ARRAY_LEN(others));
	c.reorder = (uint32_t)pick(random, others, ARRAY_LEN(others));
	c.corrupt = (uint32_t)pick(random, others, ARRAY_LEN(others)) / 4;
	c.reorder_ns = NS_PER_MS + 2 * c.delay_ns;
	return c;
}

static struct tcp_config random_config(uint64_t *random)
{
	static const uint64_t mtus[] = { 1280, 1280, 1280, 1420, 576, 1000 };
	static const uint64_t buffers[] = { 4u << 20, 4u << 20, 65536, 300000 };
	static const uint64_t memories[] = { 256u << 20, 256u << 20, 1u << 20, 200000 };
	struct tcp_config c;

	tcp_config_defaults(&c, (uint32_t)pick(random, mtus, ARRAY_LEN(mtus)));
	c.buffer_max = pick(random, buffers, ARRAY_LEN(buffers));
	c.memory_max = pick(random, memories, ARRAY_LEN(memories));
	c.verify_checksum = true;
	c.keepalive_ns = 30 * NS_PER_S; /* finds out about resets that were lost */
	for (size_t i = 0; i < sizeof(c.secret); i++)
		c.secret[i] = (uint8_t)link_random(random);
	return c;
}

static const char *check_both(struct world *w)
{
	const char *wrong = invariants_check(w->side[0].tcp);

	return wrong ? wrong : invariants_check(w->side[1].tcp);
}

static const char *check_empty(struct world *w)
{
	for (unsigned i = 0; i < 2; i++) {
		struct tcp_stats stats;

		tcp_get_stats(w->side[i].tcp, &stats);
		if (stats.conns || stats.parked || stats.time_wait)
			return "a connection is left at the end";
		if (stats.memory)
			return "memory is left at the end";
		if (tcp_deadline(w->side[i].tcp) != NEVER_NS)
			return "a deadline is left at the end";
	}
	return NULL;
}

/* NULL, or what went wrong. */
static const char *run_world(struct world *w, struct flows *flows)
{
	const char *wrong;

	while (!flows_are_done(flows)) {
		if (!world_step(w))
			return "nothing will ever happen again";
		if (flows->wrong[0])
			return flows->wrong;
		if (w->now_ns - flows->progress_ns > STALL_NS)
			return "stalled";
		if (w->steps > STEPS_MAX)
			return "too many steps";
		if (w->steps % CHECK_EVERY == 0 && (wrong = check_both(w)))
			return wrong;
	}
	for (uint64_t end_ns = w->now_ns + DRAIN_NS; w->now_ns < end_ns && world_step(w);)
		if (flows->wrong[0])
			return flows->wrong;
	wrong = check_both(w);
	return wrong ? wrong : check_empty(w);
}

static void summarise(struct world *w)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct link_stats *l = &w->side[i].link.stats;
		struct tcp_stats s;

		tcp_get_stats(w->side[i].tcp, &s);
		printf("side %u: %llu packets, %llu lost, %llu dropped, %llu late, %llu doubled, "
		       "%llu corrupted; %llu bytes in, %llu resent, %llu timeouts, %llu challenges\n",
		       i, (unsigned long long)l->packets, (unsigned long long)l->losses,
		       (unsigned long long)l->queue_drops, (unsigned long long)l->reordered,
		       (unsigned long long)l->duplicates, (unsigned long long)l->corrupted,
		       (unsigned long long)s.bytes_in, (unsigned long long)s.retransmitted,
		       (unsigned long long)s.timeouts, (unsigned long long)s.challenge_acks);
	}
}

static volatile unsigned long long current_seed;
static unsigned long long strict_drops;
static const char *mode = "";

/* An assertion failed: say where before dying of it. */
static void aborted(int signal)
{
	(void)signal;
	fprintf(stderr, "repeat: sim %s--seed %llu\n", mode, current_seed);
}

static bool run_seed(uint64_t seed, bool is_verbose, bool is_traced, bool is_strict)
{
	static const uint64_t scarce[] = { 1u << 20, 300000, 200000, 140000 };
	static struct strict strict[2];
	static struct flows flows;
	uint64_t random = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
	struct link_config links[2];
	struct tcp_config config = random_config(&random);
	const char *wrong;
	struct world w;

	current_seed = seed;
	config.congestion = seed % 2 ? TCP_RATE : TCP_CUBIC;
	if (is_strict)
		config.memory_max = pick(&random, scarce, ARRAY_LEN(scarce));
	links[0] = random_link(&random);
	links[1] = below(&random, 2) ? random_link(&random) : links[0];
	world_init(&w, &config, links, below(&random, 2), link_random(&random));
	for (unsigned i = 0; i < 2; i++)
		w.side[i].batch_max = below(&random, 3) == 0 ? 1 + (unsigned)below(&random, 64) : 0;
	memset(strict, 0, sizeof(strict));
	for (unsigned i = 0; i < 2 && is_strict; i++)
		w.side[i].strict = &strict[i];
	w.is_traced = is_traced;
	w.app = &flows_app;
	w.app_state = &flows;
	flows_init(&flows, &w);
	wrong = run_world(&w, &flows);
	if (is_verbose)
		summarise(&w);
	strict_drops += strict[0].drops + strict[1].drops;
	if (wrong) {
		fprintf(stderr, "sim: seed %llu: %s, at %.3f s\nrepeat: sim %s--seed %llu\n",
			(unsigned long long)seed, wrong, (double)w.now_ns / 1e9 - 1000, mode,
			(unsigned long long)seed);
		flows_describe(&flows);
	}
	world_finish(&w);
	return !wrong;
}

int main(int argc, char **argv)
{
	bool is_strict = argc > 1 && strcmp(argv[1], "--strict") == 0;
	unsigned long long from, to;

	mode = is_strict ? "--strict " : "";
	argv += is_strict;
	argc -= is_strict;
	signal(SIGABRT, aborted);
	if (argc == 3 && (strcmp(argv[1], "--seed") == 0 || strcmp(argv[1], "--trace") == 0))
		return run_seed(strtoull(argv[2], NULL, 10), true, argv[1][2] == 't', is_strict)
			       ? 0
			       : 1;
	if (argc == 3 && strcmp(argv[1], "--seeds") == 0 &&
	    sscanf(argv[2], "%llu-%llu", &from, &to) == 2 && from <= to) {
		for (unsigned long long seed = from; seed <= to; seed++)
			if (!run_seed(seed, false, false, is_strict))
				return 1;
		printf("sim: %llu seeds, every byte right, no stall", to - from + 1);
		if (is_strict)
			printf(", %llu segments dropped beyond a window", strict_drops);
		printf("\n");
		return 0;
	}
	fprintf(stderr, "usage: sim [--strict] --seed N | --trace N | --seeds A-B\n");
	return 2;
}
