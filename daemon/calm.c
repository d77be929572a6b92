/* Looks a few times a second until a stretch had hardly a round: see the header. */
#include "daemon/calm.h"

#include "shared/util.h"

#define CALM_NS     (300 * NS_PER_MS)
#define CALM_ROUNDS 5    /* at most so many in a calm stretch */
#define MUCH_ROUNDS 1000 /* so many leave memory behind */

void calm_expect(struct calm *calm, uint64_t now_ns)
{
	calm->deadline_ns = now_ns + CALM_NS;
	calm->rounds = 0;
}

void calm_round(struct calm *calm, uint64_t now_ns)
{
	if (++calm->rounds >= MUCH_ROUNDS && calm->deadline_ns == NEVER_NS)
		calm_expect(calm, now_ns);
}

bool calm_expired(struct calm *calm, uint64_t now_ns)
{
	bool is_calm = calm->rounds <= CALM_ROUNDS;

	calm_expect(calm, now_ns);
	if (is_calm)
		calm->deadline_ns = NEVER_NS;
	return is_calm;
}
