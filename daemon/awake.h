/*
 * When the loop stays awake: between the packets of a dialogue.
 *
 * To sleep and to be woken takes longer, and more of the processor, than to look
 * again for what comes within microseconds. So after some short rounds with short
 * waits the loop looks on for AWAKE_NS before it sleeps. When that is in vain some
 * times in a row, the answers are not that quick: the next try needs twice as many
 * short rounds. It sleeps, too, when rounds become long (a bulk transfer is better
 * off with few large ones), and for a while when somebody else keeps the processor,
 * more than once: the machine's own work takes it now and then, and to sleep for that
 * would be most of a dialogue's slow answers.
 *
 * A wait counts as short by what it takes asleep, which is more than it would take
 * awake: else a dialogue that fell asleep once would find itself too slow for ever.
 *
 * Decisions only, by times that the loop tells (ns).
 */
#ifndef MESHWRAP_DAEMON_AWAKE_H
#define MESHWRAP_DAEMON_AWAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/util.h"

#define AWAKE_NS (100 * NS_PER_US) /* so long it looks before it sleeps */
#define AWAKE_CROWDED_NS \
	(400 * NS_PER_US) /* from one look to the next: others need the processor */

struct awake {
	bool may;              /* there is more than one processor */
	unsigned short_rounds; /* in a row */
	unsigned needed;       /* of them */
	unsigned hits, misses; /* in a row: something came while awake, or nothing did */
	uint64_t crowded_ns;   /* the last time */
	uint64_t asleep_till_ns;
	uint64_t asleep_ns; /* how long that was; twice as long the next time, if that is soon */
};

void awake_init(struct awake *a, bool may);
/* A round is over: it waited so long, then worked so long. */
void awake_round(struct awake *a, uint64_t waited_ns, uint64_t worked_ns);
bool awake_wanted(const struct awake *a, uint64_t now_ns);
/* What staying awake was good for. */
void awake_hit(struct awake *a);
void awake_miss(struct awake *a);
void awake_crowded(struct awake *a, uint64_t now_ns);

#endif
