/*
 * Tokens come in whole ones, and the time that made no whole one is kept: a bucket that
 * is asked often fills as fast as one that is asked seldom.
 */
#include "daemon/derp/bucket.h"

#include "shared/util.h"

#define RATE_MAX (UINT64_C(1) << 32) /* so that a second's worth of ns times rate fits */

void bucket_init(struct bucket *b, uint64_t per_second, uint64_t burst, uint64_t now_ns)
{
	*b = (struct bucket){ burst, MIN(per_second, RATE_MAX), burst, now_ns };
}

bool bucket_take(struct bucket *b, uint64_t amount, uint64_t now_ns)
{
	uint64_t passed_s = (now_ns - b->at_ns) / NS_PER_S;
	uint64_t rest_ns = (now_ns - b->at_ns) % NS_PER_S;
	uint64_t more;

	if (b->per_second > 0 && b->level < b->burst) {
		/* Beyond 2^31 s it is full whatever the rate. */
		more = MIN(passed_s, UINT64_C(1) << 31) * b->per_second +
		       rest_ns * b->per_second / NS_PER_S;
		if (more >= b->burst - b->level) {
			b->level = b->burst;
			b->at_ns = now_ns;
		} else if (more > 0) {
			b->level += more;
			b->at_ns += passed_s * NS_PER_S;
			more -= passed_s * b->per_second;
			b->at_ns += more * NS_PER_S / b->per_second;
		}
	} else {
		b->at_ns = now_ns;
	}
	if (b->level < amount)
		return false;
	b->level -= amount;
	return true;
}
