/* Which relay region is home: lowest latency of late, with some patience. Pure. */
#ifndef MESHWRAP_DAEMON_PATH_HOME_H
#define MESHWRAP_DAEMON_PATH_HOME_H

#include <stdbool.h>
#include <stdint.h>

#define HOME_HISTORY 16

/* One region, as far as the choice needs it. */
struct home_region {
	int id;
	bool avoid, no_measure_no_home;
	double score; /* latency is multiplied by it */
	struct {
		uint64_t at_ns, latency_ns; /* 0: none */
	} history[HOME_HISTORY];
	unsigned next;
	uint64_t latency_ns; /* in the report that just ended; 0: no answer */
	bool is_up;          /* its relay connection stands */
	/* No home until then, whatever it answers to probes: as home it let nobody connect. */
	uint64_t dead_until_ns, dead_for_ns;
};

void home_region_measured(struct home_region *region, uint64_t latency_ns, uint64_t now_ns);
/* It was home and could not be connected to. Each time it is avoided for longer. */
void home_region_lost(struct home_region *region, uint64_t now_ns);

/*
 * The region to be home from now on. current: the home till now, 0: none.
 * is_heard: its relay connection brought something of late. random: any number,
 * for when nothing is known.
 */
int home_choose(const struct home_region *regions, unsigned count, int current, bool is_heard,
		uint32_t random, uint64_t now_ns);

#endif
