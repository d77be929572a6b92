/*
 * Two bulk flows through one virtual bottleneck, by CUBIC and by rate: what
 * share of the link each gets. The later flow starts two seconds after the
 * first; what counts is the time after the first ten seconds. Then one of ours
 * beside the model of the kernel's CUBIC, whoever comes first.
 *
 *     sharing [FROM [TO] | kernel [all]]    cases of the table, or those with the kernel's
 *     sharing MBIT_S RTT_MS QUEUE_MS A B A_AT_S B_AT_S FROM_S TO_S    one that is only shown
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pair.h"
#include "shared/util.h"

#define LATER_NS  (2 * NS_PER_S)
#define SETTLE_NS (10 * NS_PER_S)

static void run(const struct pair_path *path, const enum pair_kind kind[2],
		const struct pair_times *t, double shares[2], bool is_shown)
{
	pair_run(path, kind, t, shares, is_shown);
	pair_print(path, kind, t, shares);
}

static bool is_fair(const double shares[2], double least)
{
	if (MIN(shares[0], shares[1]) >= least)
		return true;
	fprintf(stderr, "sharing: one has less than %.0f %%\n", least * 100);
	return false;
}

struct scenario {
	struct pair_path path;
	uint64_t for_ns;
	double least, least_rate; /* share that both must get: two by CUBIC, else; 0: only shown */
};

static const struct scenario scenarios[] = {
	{ { 50000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 50000000, 20 * NS_PER_MS, 80 * NS_PER_MS, 0 }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 200000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 200000000, 66 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 200000000, 200 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 60 * NS_PER_S, 0.33, 0 },
	{ { 1000000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 40 * NS_PER_S, 0.33, 0.3 },
	{ { 1000000000, 66 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 40 * NS_PER_S, 0.33, 0.25 },
};

static bool run_ours(size_t from, size_t to)
{
	static const enum pair_kind pairs[][2] = {
		{ CUBIC, CUBIC }, { CUBIC, RATE }, { RATE, CUBIC }, { RATE, RATE }
	};
	bool is_good = true;

	for (size_t i = from; i < MIN(to, ARRAY_LEN(scenarios)); i++) {
		const struct scenario *s = &scenarios[i];
		const struct pair_times t = { { 0, LATER_NS }, SETTLE_NS, SETTLE_NS + s->for_ns };

		for (size_t p = 0; p < ARRAY_LEN(pairs); p++) {
			double shares[2];

			run(&s->path, pairs[p], &t, shares, false);
			is_good &= is_fair(shares, p == 0 ? s->least : s->least_rate);
		}
	}
	return is_good;
}

/*
 * Our CUBIC beside the kernel's, whoever comes first. A start that others have cut needs up to 20 s
 * on the longest path, as it does beside the kernel's own; what counts is the minute after these.
 */
static bool run_kernel(bool is_all)
{
	static const struct {
		struct pair_path path;
		double least; /* of the worst of the starts */
	} beside[] = {
		{ { 50000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.33 },
		{ { 50000000, 66 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.33 },
		{ { 50000000, 200 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.33 },
		{ { 200000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.33 },
		{ { 200000000, 66 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.32 },
		{ { 200000000, 200 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.33 },
		{ { 1000000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.27 },
		{ { 1000000000, 66 * NS_PER_MS, 20 * NS_PER_MS, 0 }, 0.33 },
	};
	static const uint64_t starts_s[][2] = { { 0, 0 }, { 0, 2 }, { 0, 5 }, { 2, 0 }, { 5, 0 } };
	static const enum pair_kind kind[2] = { CUBIC, KERNEL };
	size_t count = is_all ? ARRAY_LEN(beside) : 6;
	bool is_good = true;

	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < ARRAY_LEN(starts_s); k++) {
			uint64_t ours_ns = starts_s[k][0] * NS_PER_S;
			uint64_t other_ns = starts_s[k][1] * NS_PER_S;
			uint64_t from_ns = MAX(ours_ns, other_ns) + 20 * NS_PER_S;
			double shares[2];

			run(&beside[i].path, kind,
			    &(struct pair_times){
				    { ours_ns, other_ns }, from_ns, from_ns + 60 * NS_PER_S },
			    shares, false);
			is_good &= is_fair(shares, beside[i].least);
		}
	return is_good;
}

static enum pair_kind kind_of(const char *name)
{
	for (enum pair_kind k = CUBIC; k <= KERNEL; k++)
		if (strcmp(pair_names[k], name) == 0)
			return k;
	fprintf(stderr, "sharing: %s is none of cubic, rate and kernel\n", name);
	exit(2);
}

static void show(char **argv)
{
	const struct pair_path path = { strtoull(argv[1], NULL, 10) * 1000000,
					strtoull(argv[2], NULL, 10) * NS_PER_MS,
					strtoull(argv[3], NULL, 10) * NS_PER_MS, 0 };
	const enum pair_kind kind[2] = { kind_of(argv[4]), kind_of(argv[5]) };
	uint64_t at[4];
	double shares[2];

	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint64_t)(strtod(argv[6 + i], NULL) * 1e9);
	run(&path, kind, &(struct pair_times){ { at[0], at[1] }, at[2], at[3] }, shares, true);
}

int main(int argc, char **argv)
{
	if (argc == 10) {
		show(argv);
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "kernel") == 0)
		return run_kernel(argc > 2) ? 0 : 1;
	return run_ours(argc > 1 ? strtoul(argv[1], NULL, 10) : 0,
			argc > 2 ? strtoul(argv[2], NULL, 10) : SIZE_MAX)
		       ? 0
		       : 1;
}
