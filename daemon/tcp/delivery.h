/*
 * How fast the path delivers (draft-cheng-iccrg-delivery-rate-estimation).
 *
 * Each segment remembers what had been delivered when it was sent. Its
 * acknowledgement then tells how much was delivered meanwhile, and in what
 * time: the longer of the time it took to send and the time it took to arrive,
 * so that neither bursts nor compressed acknowledgements look like speed.
 */
#ifndef MESHWRAP_DAEMON_TCP_DELIVERY_H
#define MESHWRAP_DAEMON_TCP_DELIVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/tcp/scoreboard.h"

struct tcp_delivery {
	uint64_t bytes, bytes_ns; /* delivered so far, and when last */
	uint64_t first_sent_ns;   /* of the segment that was delivered last */
	uint64_t limited_until;   /* what is sent before so much is delivered tells too little */
};

/* The segment sent last among those that an acknowledgement covers. */
struct tcp_delivery_sample {
	uint64_t prior_bytes; /* delivered when it was sent */
	uint64_t prior_ns, send_ns;
	uint64_t sent_ns;
	bool is_valid, is_limited;
};

/* sent goes out now; was_empty: nothing else is in the network. */
void tcp_delivery_sent(struct tcp_delivery *d, struct tcp_sent *sent, bool was_empty,
		       uint64_t now_ns);
/* sent was acknowledged or SACKed for the first time. */
void tcp_delivery_got(struct tcp_delivery *d, const struct tcp_sent *sent,
		      struct tcp_delivery_sample *sample, uint64_t now_ns);
/* Too little to send: what is in the network now measures the application. */
void tcp_delivery_limited(struct tcp_delivery *d, uint32_t in_flight);
/* Bytes a second, or 0: no telling. */
uint64_t tcp_delivery_rate(const struct tcp_delivery *d, const struct tcp_delivery_sample *sample,
			   uint64_t min_rtt_ns);

#endif
