/*
 * Two bulk flows through one virtual bottleneck, each by CUBIC, by rate, or by the model of the
 * kernel's CUBIC, and the share of the link that each gets.
 */
#ifndef MESHWRAP_TESTS_SIM_PAIR_H
#define MESHWRAP_TESTS_SIM_PAIR_H

#include <stdbool.h>
#include <stdint.h>

enum pair_kind { CUBIC, RATE, KERNEL };

extern const char *const pair_names[];

struct pair_path {
	uint64_t bits_per_s, rtt_ns, queue_ns;
	uint64_t nap_ns; /* a busy machine, see world.h */
};

struct pair_times {
	uint64_t start_ns[2], from_ns, to_ns; /* what counts is between the last two */
};

/* is_shown: prints the shares of every 5 s. */
void pair_run(const struct pair_path *path, const enum pair_kind kind[2],
	      const struct pair_times *t, double shares[2], bool is_shown);
void pair_print(const struct pair_path *path, const enum pair_kind kind[2],
		const struct pair_times *t, const double shares[2]);

#endif
