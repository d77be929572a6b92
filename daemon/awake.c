/* When the loop stays awake: see the header. */
#include "daemon/awake.h"

#define NEAR_NS        (250 * NS_PER_US) /* a short wait, asleep */
#define SHORT_ROUND_NS (60 * NS_PER_US)
#define SHORT_ROUNDS   16 /* in a row: a dialogue */
#define NEEDED_MAX     1024
#define MISSES         3
#define ASLEEP_MAX_NS  (10 * NS_PER_S)
#define ASLEEP_NS      (50 * NS_PER_MS) /* so long others have the processor */
#define ALONE_NS       (50 * NS_PER_MS) /* without another time: once is no crowd */

void awake_init(struct awake *a, bool may)
{
	*a = (struct awake){ .may = may, .needed = SHORT_ROUNDS };
}

void awake_round(struct awake *a, uint64_t waited_ns, uint64_t worked_ns)
{
	if (waited_ns >= NEAR_NS || worked_ns >= SHORT_ROUND_NS)
		a->short_rounds = 0;
	else if (a->short_rounds < NEEDED_MAX)
		a->short_rounds++;
}

bool awake_wanted(const struct awake *a, uint64_t now_ns)
{
	return a->may && a->short_rounds >= a->needed && now_ns >= a->asleep_till_ns;
}

void awake_hit(struct awake *a)
{
	a->misses = 0;
	if (a->hits < SHORT_ROUNDS)
		a->hits++;
	else
		a->needed = SHORT_ROUNDS;
}

void awake_miss(struct awake *a)
{
	a->hits = 0;
	if (++a->misses < MISSES)
		return;
	a->misses = 0;
	a->short_rounds = 0;
	a->needed = MIN(2 * a->needed, NEEDED_MAX);
}

void awake_crowded(struct awake *a, uint64_t now_ns)
{
	bool is_again = now_ns < a->asleep_till_ns + a->asleep_ns;
	bool is_alone = now_ns - a->crowded_ns >= ALONE_NS;

	a->crowded_ns = now_ns;
	if (is_alone)
		return;
	a->asleep_ns = is_again ? MIN(2 * a->asleep_ns, ASLEEP_MAX_NS) : ASLEEP_NS;
	a->asleep_till_ns = now_ns + a->asleep_ns;
}
