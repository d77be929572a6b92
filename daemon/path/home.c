/*
 * Choosing the home region.
 *
 * Peers learn our home through control, so every change costs a round of news and
 * a relay connection: a new region must be clearly better than the old one, which
 * is forgiven a report without an answer while its connection is alive. One that
 * nobody can connect to loses to any other that answers, and does not come back
 * just because its host still answers probes.
 */
#include "daemon/path/home.h"

#include <stddef.h>

#include "shared/util.h"

#define HISTORY_NS  (5 * 60 * NS_PER_S)
#define MIN_GAIN_NS (10 * NS_PER_MS)
#define DEAD_MIN_NS (5 * 60 * NS_PER_S)
#define DEAD_MAX_NS (80 * 60 * NS_PER_S)

void home_region_measured(struct home_region *region, uint64_t latency_ns, uint64_t now_ns)
{
	region->latency_ns = latency_ns;
	region->history[region->next].at_ns = now_ns;
	region->history[region->next].latency_ns = latency_ns;
	region->next = (region->next + 1) % HOME_HISTORY;
}

void home_region_lost(struct home_region *region, uint64_t now_ns)
{
	if (now_ns < region->dead_until_ns)
		return;
	region->dead_for_ns = region->dead_for_ns ? MIN(region->dead_for_ns * 2, DEAD_MAX_NS)
						  : DEAD_MIN_NS;
	region->dead_until_ns = now_ns + region->dead_for_ns;
}

/* The lowest latency of the last five minutes, 0: none. */
static uint64_t lowest_ns(const struct home_region *region, uint64_t now_ns)
{
	uint64_t best = 0;

	for (unsigned i = 0; i < HOME_HISTORY; i++) {
		uint64_t ns = region->history[i].latency_ns;

		if (ns && now_ns - region->history[i].at_ns <= HISTORY_NS &&
		    (best == 0 || ns < best))
			best = ns;
	}
	return best;
}

/* Scores come from the server: what is no sane factor counts as 1. */
static double scored(const struct home_region *region, uint64_t ns)
{
	double score = region->score;

	return (double)ns * (score > 0.001 && score < 1000 ? score : 1);
}

static bool may_be_home(const struct home_region *region, int current)
{
	return !region->no_measure_no_home && (!region->avoid || region->id == current);
}

static int any_region(const struct home_region *regions, unsigned count, uint32_t random)
{
	unsigned usable = 0;

	for (unsigned i = 0; i < count; i++)
		usable += may_be_home(&regions[i], 0);
	if (usable == 0)
		return 0;
	random %= usable;
	for (unsigned i = 0;; i++) {
		if (may_be_home(&regions[i], 0) && random-- == 0)
			return regions[i].id;
	}
}

/* A region whose relay is connected, when no probe told anything. 0: none. */
static int connected_region(const struct home_region *regions, unsigned count, int current)
{
	for (unsigned i = 0; i < count; i++) {
		if (regions[i].is_up && may_be_home(&regions[i], current))
			return regions[i].id;
	}
	return 0;
}

/* Nothing was measured of late: what is home stays, unless it is lost and another is not. */
static int choose_blindly(const struct home_region *regions, unsigned count,
			  const struct home_region *old, uint32_t random, uint64_t now_ns)
{
	int id = 0;

	if (old && now_ns >= old->dead_until_ns)
		return old->id;
	id = connected_region(regions, count, old ? old->id : 0);
	if (id)
		return id;
	return old ? old->id : any_region(regions, count, random);
}

int home_choose(const struct home_region *regions, unsigned count, int current, bool is_heard,
		uint32_t random, uint64_t now_ns)
{
	const struct home_region *old = NULL, *best = NULL;
	double best_ns = 0, old_ns;

	for (unsigned i = 0; i < count; i++) {
		const struct home_region *r = &regions[i];
		uint64_t ns = lowest_ns(r, now_ns);

		if (r->id == current && may_be_home(r, current))
			old = r;
		if (ns == 0 || !may_be_home(r, current) || now_ns < r->dead_until_ns)
			continue;
		if (!best || scored(r, ns) < best_ns) {
			best = r;
			best_ns = scored(r, ns);
		}
	}
	if (!best)
		return choose_blindly(regions, count, old, random, now_ns);
	if (!old || best == old || now_ns < old->dead_until_ns)
		return best->id;
	if (old->latency_ns == 0)
		return is_heard ? old->id : best->id;
	old_ns = scored(old, old->latency_ns);
	if (old_ns - best_ns < (double)MIN_GAIN_NS || best_ns > old_ns * 2 / 3)
		return old->id;
	return best->id;
}
