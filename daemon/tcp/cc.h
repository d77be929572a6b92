/*
 * Congestion control as a table of functions.
 *
 * The sender decides what was delivered and what was lost; an algorithm only
 * turns that into cwnd and ssthresh. All sizes are bytes.
 */
#ifndef MESHWRAP_DAEMON_TCP_CC_H
#define MESHWRAP_DAEMON_TCP_CC_H

#include <stdbool.h>
#include <stdint.h>

#define TCP_INITIAL_WINDOW 10u /* segments, RFC 6928 */
#define TCP_CWND_MAX       (1u << 30)

struct tcp_cubic {
	uint64_t epoch_ns; /* 0: a new epoch begins with the next acknowledgement */
	double w_max, k_s, w_est, w_last_max; /* segments; seconds */
	/* HyStart++ */
	uint64_t round_min_ns, last_round_min_ns, css_baseline_ns;
	uint32_t round_end; /* the round is over when this is acknowledged */
	uint8_t round_samples, css_rounds;
	bool in_css, has_round;
};

struct tcp_cc {
	const struct tcp_cc_ops *ops;
	uint32_t cwnd, ssthresh, mss;
	uint32_t undo_cwnd, undo_ssthresh; /* before the last reduction */
	union {
		struct tcp_cubic cubic;
	};
};

struct tcp_cc_ack {
	uint64_t now_ns;
	uint64_t rtt_ns; /* of this acknowledgement; 0: no sample */
	uint64_t srtt_ns;
	uint32_t acked; /* bytes newly delivered */
	uint32_t una, nxt;
	bool is_limited; /* the window, not the application, held the sender back */
};

struct tcp_cc_ops {
	const char *name;
	void (*init)(struct tcp_cc *cc);
	/* Outside of fast recovery; may raise cwnd. */
	void (*acked)(struct tcp_cc *cc, const struct tcp_cc_ack *ack);
	/* A loss was found: sets ssthresh. The sender brings cwnd there. */
	void (*lost)(struct tcp_cc *cc, uint64_t now_ns);
	/* The retransmission timer has fired: sets ssthresh and forgets the epoch. */
	void (*timed_out)(struct tcp_cc *cc, uint64_t now_ns);
};

extern const struct tcp_cc_ops tcp_cc_cubic;

void tcp_cc_init(struct tcp_cc *cc, const struct tcp_cc_ops *ops, uint32_t mss);
/* Nothing was sent for idle_ns: halves cwnd for each timeout, down to the initial window. */
void tcp_cc_idle(struct tcp_cc *cc, uint64_t idle_ns, uint64_t rto_ns);
/* The last reduction was not called for: the segments had only been late. */
void tcp_cc_undo(struct tcp_cc *cc);

#endif
