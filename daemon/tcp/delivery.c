/*
 * Delivery rate samples.
 *
 * A record keeps 32 bits of each value: bytes modulo 2^32, and ticks of 64 ns,
 * which wrap after 274 s. Older records give no sample.
 */
#include "daemon/tcp/delivery.h"

#include "shared/util.h"

#define TICK_SHIFT 6
#define OLDEST_NS  (100 * NS_PER_S)

static uint32_t tick_of(uint64_t ns)
{
	return (uint32_t)(ns >> TICK_SHIFT);
}

void tcp_delivery_sent(struct tcp_delivery *d, struct tcp_sent *sent, bool was_empty,
		       uint64_t now_ns)
{
	if (was_empty || d->bytes_ns == 0)
		d->first_sent_ns = d->bytes_ns = now_ns;
	sent->prior_bytes = (uint32_t)d->bytes;
	sent->prior_tick = tick_of(d->bytes_ns);
	sent->first_tick = tick_of(d->first_sent_ns);
	sent->flags &= (uint8_t)~TCP_SENT_LIMITED;
	sent->flags |= TCP_SENT_RATED | (d->limited_until > d->bytes ? TCP_SENT_LIMITED : 0);
}

void tcp_delivery_got(struct tcp_delivery *d, const struct tcp_sent *sent,
		      struct tcp_delivery_sample *sample, uint64_t now_ns)
{
	d->bytes += sent->len;
	d->bytes_ns = now_ns;
	if (!(sent->flags & TCP_SENT_RATED) || now_ns - sent->sent_ns > OLDEST_NS ||
	    (sample->is_valid && sent->sent_ns < sample->sent_ns))
		return;
	sample->is_valid = true;
	sample->is_limited = sent->flags & TCP_SENT_LIMITED;
	sample->prior_bytes = d->bytes - (uint32_t)((uint32_t)d->bytes - sent->prior_bytes);
	sample->prior_ns = (uint64_t)(tick_of(now_ns) - sent->prior_tick) << TICK_SHIFT;
	sample->send_ns = (uint64_t)(tick_of(sent->sent_ns) - sent->first_tick) << TICK_SHIFT;
	sample->sent_ns = sent->sent_ns;
	d->first_sent_ns = sent->sent_ns;
}

void tcp_delivery_limited(struct tcp_delivery *d, uint32_t in_flight)
{
	d->limited_until = d->bytes + MAX(in_flight, 1u);
}

uint64_t tcp_delivery_rate(const struct tcp_delivery *d, const struct tcp_delivery_sample *sample,
			   uint64_t min_rtt_ns)
{
	uint64_t interval_ns = MAX(sample->prior_ns, sample->send_ns);

	/* Faster than the path can answer: acknowledgements of something else. */
	if (!sample->is_valid || interval_ns == 0 || interval_ns < min_rtt_ns)
		return 0;
	return (d->bytes - sample->prior_bytes) * NS_PER_S / interval_ns;
}
