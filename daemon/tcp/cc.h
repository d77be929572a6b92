/*
 * Congestion control as a table of functions.
 *
 * The sender decides what was delivered and what was lost; an algorithm only
 * turns that into cwnd, ssthresh and a pacing rate. All sizes are bytes.
 */
#ifndef MESHWRAP_DAEMON_TCP_CC_H
#define MESHWRAP_DAEMON_TCP_CC_H

#include <stdbool.h>
#include <stdint.h>

#define TCP_INITIAL_WINDOW 10u /* segments, RFC 6928 */
#define TCP_CWND_MAX       (1u << 30)

enum tcp_cubic_lesson {
	CUBIC_NONE,     /* -> LEARNING, by the first loss */
	CUBIC_LEARNING, /* -> PROBING, NONE */
	CUBIC_PROBING,  /* -> LEARNING, NONE */
};

struct tcp_cubic {
	uint64_t epoch_ns; /* 0: a new epoch begins with the next acknowledgement */
	double w_max, k_s, w_est, w_last_max; /* segments; seconds */
	/* HyStart++ */
	uint64_t round_min_ns, last_round_min_ns, css_baseline_ns;
	uint32_t round_end; /* the round is over when this is acknowledged */
	uint8_t round_samples, css_rounds;
	bool in_css, has_round;
	/* What slow start's end teaches. */
	enum tcp_cubic_lesson lesson;
	uint32_t learned; /* bytes that the path holds */
	/* Sharing. */
	uint32_t told;       /* bytes that the path holds, others' share, too; 0: not known */
	uint32_t left_at;    /* our share when room was left to others, until the next loss */
	uint32_t probe_most; /* where PROBING ends without a loss; 0: nowhere */
	/* Idle room. */
	uint32_t borrowed; /* bytes of cwnd that CUBIC would not have */
	uint32_t part;     /* bytes of the path that were ours when it overflowed; 0: not known */
	uint64_t recent_ns[2], recent_until_ns; /* least round trip of a moment, twice */
	uint64_t queued_ns;                     /* when there was a queue last */
	bool is_crowded;                        /* others take that room, too */
	bool met_others;                        /* since the last loss */
	bool had_chance;                        /* lost without a queue since the last overflow */
	uint64_t srtt_ns, min_rtt_ns;           /* what the last acknowledgements met */
	uint64_t learn_ns, learn_bytes, learn_silent_ns;
	/* Hiccups: when anything was heard last; how long they lasted, lately and before. */
	uint64_t heard_ns, silent_ns[2], silent_until_ns;
	uint64_t calm_until_ns; /* the path is just full: what comes in clumps overflows it again */
};

enum tcp_rate_phase {
	RATE_STARTUP,   /* -> DOWN */
	RATE_DOWN,      /* -> CRUISE */
	RATE_CRUISE,    /* -> UP, SHARED, PROBE_RTT */
	RATE_UP,        /* -> DOWN */
	RATE_SHARED,    /* -> PROBE_RTT */
	RATE_PROBE_RTT, /* -> CRUISE */
};

struct tcp_rate {
	enum tcp_rate_phase phase;
	uint32_t phase_rounds;
	uint64_t phase_ns;
	uint64_t bw[2]; /* bytes a second: most in this probing cycle, and in the last */
	uint64_t min_rtt_ns, min_rtt_at_ns;
	uint64_t least_rtt_ns;                  /* ever; min_rtt_ns may grow again */
	uint64_t recent_ns[2], recent_until_ns; /* least round trip of a short while, twice */
	uint64_t round_bytes; /* the round ends when what is sent after so much is delivered */
	uint64_t round_rtt_ns;
	uint32_t round_pipe, last_pipe; /* most in flight in this round, and in the last */
	uint64_t lost_seen;
	uint64_t deaf_until; /* losses of what was sent before the last reduction do not count */
	/* Bytes of this round that met a short queue, and that met a long one. */
	uint32_t low_bytes, low_lost, high_bytes, high_lost;
	uint32_t last_bytes; /* of the round before, all of them */
	double noise;        /* share that is lost without any queue */
	uint32_t noise_seen; /* segments that this is the mean of, up to a limit */
	uint64_t plateau;
	uint64_t young_until_ns;
	uint64_t wait_ns; /* of cruising */
	uint8_t plateau_rounds, high_rounds, repair_rounds;
	bool was_long;    /* there was a queue before we asked for more */
	bool is_learning; /* STARTUP has overshot, by how much is not known yet */
	bool is_guess;    /* the bound is what trains told, no loss has confirmed it */
	bool is_sure;     /* min_rtt was looked for, not just met */
	bool timed_out;   /* what the timeout has marked lost does not count */
};

/* What trains have taught, see train.c. */
struct tcp_cc_start {
	uint32_t train; /* bytes of the next; 0: none follows */
	uint32_t held;  /* bytes that the path holds by those that agree; 0: not told */
	uint8_t agreed; /* so many have agreed with the one before */
	bool has_told;  /* one came through */
	bool is_full;   /* the last one left no room for growth */
	bool is_out;    /* one is on its way: the window waits for what it tells */
};

struct tcp_cc_train {
	uint64_t now_ns, min_rtt_ns;
	uint64_t spread_ns; /* so long its bytes took, besides the round trip */
	uint32_t bytes;
};

struct tcp_cc {
	const struct tcp_cc_ops *ops;
	uint32_t cwnd, ssthresh, mss;
	uint32_t undo_cwnd, undo_ssthresh; /* before the last reduction */
	uint64_t pacing_rate;              /* bytes a second; 0: no pacing */
	struct tcp_cubic cubic, undo_cubic;
	struct tcp_rate rate;
	struct tcp_cc_start start;
};

struct tcp_cc_ack {
	uint64_t now_ns;
	uint64_t rtt_ns; /* of this acknowledgement; 0: no sample */
	uint64_t srtt_ns;
	uint32_t acked; /* bytes newly delivered */
	uint32_t una, nxt;
	bool is_limited; /* the window, not the application, held the sender back */
	/* For rate-based algorithms only. */
	uint32_t in_flight;
	uint64_t rate;                       /* bytes a second were delivered, or 0: no sample */
	bool is_rate_limited;                /* by the application: the path may be faster */
	uint64_t delivered, prior_delivered; /* bytes: ever, and when the sample was sent */
	uint64_t lost;                       /* bytes ever found lost */
};

struct tcp_cc_ops {
	const char *name;
	/*
	 * It sets cwnd on every acknowledgement, in recovery too, and neither
	 * recovery nor idle time change it.
	 */
	bool is_rate_based;
	void (*init)(struct tcp_cc *cc);
	/* Outside of fast recovery, unless is_rate_based; may raise cwnd. */
	void (*acked)(struct tcp_cc *cc, const struct tcp_cc_ack *ack);
	/* Slow start or its like goes on. */
	bool (*is_starting)(const struct tcp_cc *cc);
	/* Amid that, a train came through. */
	void (*trained)(struct tcp_cc *cc, const struct tcp_cc_train *train);
	/* A loss was found: sets ssthresh. The sender brings cwnd there. */
	void (*lost)(struct tcp_cc *cc, uint64_t now_ns);
	/* The retransmission timer has fired: sets ssthresh and forgets the epoch. */
	void (*timed_out)(struct tcp_cc *cc, uint64_t now_ns);
};

extern const struct tcp_cc_ops tcp_cc_cubic, tcp_cc_rate;

void tcp_cc_init(struct tcp_cc *cc, const struct tcp_cc_ops *ops, uint32_t mss);
/* Nothing was sent for idle_ns: halves cwnd for each timeout, down to the initial window. */
void tcp_cc_idle(struct tcp_cc *cc, uint64_t idle_ns, uint64_t rto_ns);
/* The last reduction was not called for: the segments had only been late. */
void tcp_cc_undo(struct tcp_cc *cc);
/* Goes on from here by another algorithm. */
void tcp_cc_change(struct tcp_cc *cc, const struct tcp_cc_ops *ops);

/*
 * In fast recovery. True: slow start has overshot, and the round trip since has
 * shown by how much; ssthresh is now what the path holds.
 */
bool tcp_cc_learned(struct tcp_cc *cc, uint32_t acked, uint64_t min_rtt_ns, uint64_t now_ns);

/* What a train makes of the window. True: the path is nearly full, and slow start over. */
bool tcp_cc_trained(struct tcp_cc *cc, const struct tcp_cc_train *train, uint32_t *window);

/* CUBIC's two laws, for algorithms that lean on it: growth of cwnd, and a new ssthresh. */
void tcp_cubic_grow(struct tcp_cc *cc, const struct tcp_cc_ack *ack);
void tcp_cubic_reduce(struct tcp_cc *cc);
/* After tcp_cubic_reduce() ended PROBING, where the path held so many bytes: goes on, or is done.
 */
void tcp_cubic_probed(struct tcp_cc *cc, uint32_t held);
#define CUBIC_PROBE_DIVIDE 12u /* PROBING grows by that part in a round trip, 8 % */

#endif
