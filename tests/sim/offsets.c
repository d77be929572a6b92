/*
 * Fairness over many start offsets. What two flows get of a drop-tail bottleneck depends on which
 * of them each overflow hits, so a single pair says little: some milliseconds more before the later
 * one starts change its share by ten per cent. So each case is a number of pairs whose later flow
 * starts somewhere between 1 and 5 s after the first, and what counts is the minute that begins
 * 20 s after it. Held against bounds are the mean share of the lesser, the worst, and how many have
 * under a third.
 *
 *     offsets                            few pairs of some cases
 *     offsets all [MBIT_S]               many pairs of all
 *     offsets seed SEED [MBIT_S [RTT_MS]]    the same by other offsets: only shown
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "link.h"
#include "pair.h"
#include "shared/util.h"

#define EARLIEST_NS (1 * NS_PER_S)
#define LATEST_NS   (5 * NS_PER_S)
#define SETTLE_NS   (20 * NS_PER_S)
#define COUNTED_NS  (60 * NS_PER_S)
#define QUEUE_NS    (20 * NS_PER_MS)
#define THIRD       0.33

#define SEED      1 /* of the offsets that are held against bounds */
#define FEW       7u
#define MANY      16u
#define MANY_GBIT 8u /* five times the work */

struct bounds {
	double lesser, worst; /* at least */
	unsigned below;       /* at most so many have under a third */
};

struct fair_case {
	uint64_t mbit_per_s, rtt_ms;
	enum pair_kind kind[2]; /* the first, and the later */
	struct bounds many, few;
	bool has_few;
};

static const struct fair_case cases[] = {
	{ 50, 20, { CUBIC, CUBIC }, { 0.43, 0.39, 1 }, { 0, 0, 0 }, false },
	{ 50, 20, { CUBIC, KERNEL }, { 0.43, 0.36, 1 }, { 0, 0, 0 }, false },
	{ 50, 20, { KERNEL, CUBIC }, { 0.44, 0.38, 1 }, { 0, 0, 0 }, false },
	{ 50, 66, { CUBIC, CUBIC }, { 0.41, 0.30, 1 }, { 0, 0, 0 }, false },
	{ 50, 66, { CUBIC, KERNEL }, { 0.41, 0.27, 3 }, { 0, 0, 0 }, false },
	{ 50, 66, { KERNEL, CUBIC }, { 0.39, 0.25, 3 }, { 0, 0, 0 }, false },
	{ 50, 200, { CUBIC, CUBIC }, { 0.41, 0.25, 5 }, { 0, 0, 0 }, false },
	{ 50, 200, { CUBIC, KERNEL }, { 0.42, 0.36, 1 }, { 0, 0, 0 }, false },
	{ 50, 200, { KERNEL, CUBIC }, { 0.41, 0.34, 1 }, { 0, 0, 0 }, false },
	{ 200, 20, { CUBIC, CUBIC }, { 0.40, 0.34, 1 }, { 0, 0, 0 }, false },
	{ 200, 20, { CUBIC, KERNEL }, { 0.41, 0.33, 1 }, { 0, 0, 0 }, false },
	{ 200, 20, { KERNEL, CUBIC }, { 0.40, 0.29, 1 }, { 0, 0, 0 }, false },
	{ 200, 66, { CUBIC, CUBIC }, { 0.39, 0.21, 4 }, { 0.39, 0.27, 3 }, true },
	{ 200, 66, { CUBIC, KERNEL }, { 0.40, 0.30, 1 }, { 0, 0, 0 }, false },
	{ 200, 66, { KERNEL, CUBIC }, { 0.37, 0.20, 5 }, { 0, 0, 0 }, false },
	{ 200, 200, { CUBIC, CUBIC }, { 0.40, 0.37, 1 }, { 0.40, 0.37, 1 }, true },
	{ 200, 200, { CUBIC, KERNEL }, { 0.39, 0.27, 4 }, { 0, 0, 0 }, false },
	{ 200, 200, { KERNEL, CUBIC }, { 0.35, 0.30, 1 }, { 0.35, 0.30, 1 }, true },
	{ 1000, 20, { CUBIC, CUBIC }, { 0.33, 0.19, 5 }, { 0, 0, 0 }, false },
	{ 1000, 20, { CUBIC, KERNEL }, { 0.41, 0.35, 2 }, { 0, 0, 0 }, false },
	{ 1000, 20, { KERNEL, CUBIC }, { 0.34, 0.17, 5 }, { 0, 0, 0 }, false },
	{ 1000, 66, { CUBIC, CUBIC }, { 0.38, 0.26, 3 }, { 0, 0, 0 }, false },
	{ 1000, 66, { CUBIC, KERNEL }, { 0.41, 0.34, 2 }, { 0, 0, 0 }, false },
	{ 1000, 66, { KERNEL, CUBIC }, { 0.38, 0.27, 2 }, { 0, 0, 0 }, false },
	{ 1000, 200, { CUBIC, CUBIC }, { 0.33, 0.23, 4 }, { 0, 0, 0 }, false },
	{ 1000, 200, { CUBIC, KERNEL }, { 0.30, 0.18, 5 }, { 0, 0, 0 }, false },
	{ 1000, 200, { KERNEL, CUBIC }, { 0.33, 0.20, 4 }, { 0, 0, 0 }, false },
};

static unsigned many(const struct fair_case *c)
{
	return c->mbit_per_s >= 1000 ? MANY_GBIT : MANY;
}

/* One somewhere in each of count parts of the time. */
static uint64_t offset_ns(unsigned which, unsigned count, uint64_t *random)
{
	uint64_t part_ns = (LATEST_NS - EARLIEST_NS) / count;

	return EARLIEST_NS + which * part_ns + link_random(random) % part_ns;
}

static bool is_fair(const struct fair_case *c, unsigned count, uint64_t seed,
		    const struct bounds *bounds)
{
	const struct pair_path path = { c->mbit_per_s * 1000000, c->rtt_ms * NS_PER_MS, QUEUE_NS,
					0 };
	double first = 0, later = 0, lesser = 0, worst = 1;
	unsigned below = 0;

	for (unsigned i = 0; i < count; i++) {
		uint64_t at_ns = offset_ns(i, count, &seed), from_ns = at_ns + SETTLE_NS;
		double shares[2];

		pair_run(&path, c->kind,
			 &(struct pair_times){ { 0, at_ns }, from_ns, from_ns + COUNTED_NS },
			 shares, false);
		first += shares[0] / count;
		later += shares[1] / count;
		lesser += MIN(shares[0], shares[1]) / count;
		worst = MIN(worst, MIN(shares[0], shares[1]));
		below += MIN(shares[0], shares[1]) < THIRD;
	}
	printf("%4u Mbit/s, %3u ms: %-6s %4.1f %%, later %-6s %4.1f %%; the lesser %4.1f %%, worst %4.1f %%, "
	       "%u of %u under a third\n",
	       (unsigned)c->mbit_per_s, (unsigned)c->rtt_ms, pair_names[c->kind[0]], first * 100,
	       pair_names[c->kind[1]], later * 100, lesser * 100, worst * 100, below, count);
	fflush(stdout);
	if (!bounds ||
	    (lesser >= bounds->lesser && worst >= bounds->worst && below <= bounds->below))
		return true;
	fprintf(stderr,
		"offsets: the lesser must have %.0f %% and the worst %.0f %%, and %u at most may have under a third\n",
		bounds->lesser * 100, bounds->worst * 100, bounds->below);
	return false;
}

static bool run_few(void)
{
	bool is_good = true;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
		if (cases[i].has_few)
			is_good &= is_fair(&cases[i], FEW, SEED, &cases[i].few);
	return is_good;
}

static bool run_many(uint64_t mbit_per_s)
{
	bool is_good = true;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
		if (mbit_per_s == 0 || cases[i].mbit_per_s == mbit_per_s)
			is_good &= is_fair(&cases[i], many(&cases[i]), SEED, &cases[i].many);
	return is_good;
}

static void show(uint64_t seed, uint64_t mbit_per_s, uint64_t rtt_ms)
{
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
		if ((mbit_per_s == 0 || cases[i].mbit_per_s == mbit_per_s) &&
		    (rtt_ms == 0 || cases[i].rtt_ms == rtt_ms))
			is_fair(&cases[i], many(&cases[i]), seed, NULL);
}

int main(int argc, char **argv)
{
	uint64_t number[3] = { 0 };

	for (int i = 2; i < MIN(argc, 5); i++)
		number[i - 2] = strtoull(argv[i], NULL, 10);
	if (argc == 1)
		return run_few() ? 0 : 1;
	if (strcmp(argv[1], "all") == 0)
		return run_many(number[0]) ? 0 : 1;
	if (argc > 2 && strcmp(argv[1], "seed") == 0) {
		show(number[0], number[1], number[2]);
		return 0;
	}
	fprintf(stderr, "usage: offsets [all [MBIT_S] | seed SEED [MBIT_S [RTT_MS]]]\n");
	return 2;
}
