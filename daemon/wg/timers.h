/*
 * The timer rules of one peer (section 6 of the paper). Pure: events and the
 * time go in, what is due comes out. Named after what happened.
 *
 * jitter_ns is random, below WG_REKEY_JITTER, and the caller's.
 */
#ifndef MESHWRAP_DAEMON_WG_TIMERS_H
#define MESHWRAP_DAEMON_WG_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct wg_timers {
	/* NEVER_NS when not armed. */
	uint64_t retransmit_ns;          /* the initiation was not answered */
	uint64_t keepalive_ns;           /* data came and nothing was sent back */
	uint64_t silent_ns;              /* data was sent and nothing came back */
	uint64_t zero_keys_ns;           /* no new keys for long */
	uint64_t persistent_ns;          /* nothing passed either way */
	uint64_t persistent_interval_ns; /* 0: off */
	uint64_t handshake_sent_ns;      /* the last initiation or response */
	bool has_sent_handshake;
	bool needs_another_keepalive;
	bool asked_before_expiry; /* the one request of a receiving initiator is made */
	uint32_t retries;
};

/* What is due, as flags. */
enum wg_due {
	WG_DUE_RETRY = 1 << 0,           /* send another initiation of this try */
	WG_DUE_GIVE_UP = 1 << 1,         /* drop what is staged */
	WG_DUE_INITIATE = 1 << 2,        /* start a handshake */
	WG_DUE_KEEPALIVE = 1 << 3,       /* send an empty packet */
	WG_DUE_ZERO_KEYS = 1 << 4,       /* forget all keys */
	WG_DUE_KEEPALIVE_AGAIN = 1 << 5, /* wg_timers_keepalive_again(), after sending this one */
};

void wg_timers_init(struct wg_timers *t, uint16_t keepalive_s);
/* Persistent keepalive, 0: off. It starts with wg_timers_endpoint_set(). */
void wg_timers_set_persistent(struct wg_timers *t, uint16_t keepalive_s);
/* Persistent keepalive starts now, wherever it stood. */
void wg_timers_endpoint_set(struct wg_timers *t);

/*
 * May an initiation be sent now: not while a retry is armed anyway, and not
 * within 5 s of the last handshake message. If not, a retry is armed. Fresh
 * demand (not a retry) counts the retries from zero.
 */
bool wg_timers_may_initiate(struct wg_timers *t, bool is_retry, uint64_t now_ns,
			    uint64_t jitter_ns);

/*
 * What was sent last was probably lost: may_initiate() allows the next now. False: it was sent
 * only just, so that an answer may come; a retry is armed for when none has.
 */
bool wg_timers_handshake_lost(struct wg_timers *t, uint64_t now_ns);
void wg_timers_initiation_sent(struct wg_timers *t, uint64_t now_ns, uint64_t jitter_ns);
void wg_timers_response_sent(struct wg_timers *t, uint64_t now_ns);
void wg_timers_keys_derived(struct wg_timers *t, uint64_t now_ns);
void wg_timers_handshake_complete(struct wg_timers *t);
/* Any authenticated message, either way. */
void wg_timers_authentic_sent(struct wg_timers *t, uint64_t now_ns);
void wg_timers_authentic_received(struct wg_timers *t, uint64_t now_ns);
/* Of these, transport packets that are not empty. */
void wg_timers_data_sent(struct wg_timers *t, uint64_t now_ns, uint64_t jitter_ns);
void wg_timers_data_received(struct wg_timers *t, uint64_t now_ns);
void wg_timers_keepalive_again(struct wg_timers *t, uint64_t now_ns);

uint64_t wg_timers_deadline(const struct wg_timers *t);
/* What is due by now; fired timers are disarmed or armed anew. */
unsigned wg_timers_expire(struct wg_timers *t, uint64_t now_ns);

#endif
