/*
 * Five timers and three small memories, as every WireGuard has them:
 *
 *   retransmit  5 s (+ jitter) after an initiation, until keys are derived;
 *               20 attempts in all. Then what is staged is dropped.
 *   keepalive   10 s after data came, unless something was sent meanwhile. If
 *               more data came during the wait, once more after that.
 *   silent      15 s (+ jitter) after data was sent, unless something came: the
 *               peer may have forgotten us, a handshake tells.
 *   zero keys   540 s after the last keys were derived.
 *   persistent  after so long without any traffic, if configured.
 *
 * Wanting a handshake too early is not forgotten but put off, always with
 * jitter, and demand does not overtake an armed retry. Otherwise two peers with
 * steady data both ways, whose initiations crossed once, would start again at
 * the same moment every 5 s, and each undo the other's handshake for ever.
 *
 * "Armed once" timers (keepalive, silent) are not pushed on by later events:
 * so a batch of packets costs one comparison.
 */
#include "daemon/wg/timers.h"

#include "daemon/wg/message.h"

/*
 * How long an answer may be on its way. A second initiation would make it worthless, and one
 * within 20 ms is dropped by others as a flood.
 */
#define ANSWER_NS (250 * NS_PER_MS)

void wg_timers_init(struct wg_timers *t, uint16_t keepalive_s)
{
	*t = (struct wg_timers){
		.retransmit_ns = NEVER_NS,
		.keepalive_ns = NEVER_NS,
		.silent_ns = NEVER_NS,
		.zero_keys_ns = NEVER_NS,
		.persistent_ns = NEVER_NS,
		.persistent_interval_ns = keepalive_s * NS_PER_S,
	};
}

void wg_timers_set_persistent(struct wg_timers *t, uint16_t keepalive_s)
{
	t->persistent_interval_ns = keepalive_s * NS_PER_S;
	t->persistent_ns = NEVER_NS;
}

void wg_timers_endpoint_set(struct wg_timers *t)
{
	if (t->persistent_interval_ns)
		t->persistent_ns = 0;
}

bool wg_timers_may_initiate(struct wg_timers *t, bool is_retry, uint64_t now_ns, uint64_t jitter_ns)
{
	if (!is_retry) {
		t->retries = 0;
		if (t->retransmit_ns != NEVER_NS)
			return false;
	}
	if (!t->has_sent_handshake || now_ns - t->handshake_sent_ns >= WG_REKEY_TIMEOUT)
		return true;
	t->retransmit_ns = t->handshake_sent_ns + WG_REKEY_TIMEOUT + jitter_ns;
	return false;
}

bool wg_timers_handshake_lost(struct wg_timers *t, uint64_t now_ns)
{
	uint64_t at_ns = t->handshake_sent_ns + ANSWER_NS;
	bool may_be_answered = t->handshake_sent_ns != 0 && now_ns < at_ns;

	t->has_sent_handshake = false;
	t->retransmit_ns = may_be_answered ? at_ns : NEVER_NS;
	return !may_be_answered;
}

static void handshake_sent(struct wg_timers *t, uint64_t now_ns)
{
	t->handshake_sent_ns = now_ns;
	t->has_sent_handshake = true;
	wg_timers_authentic_sent(t, now_ns);
}

void wg_timers_initiation_sent(struct wg_timers *t, uint64_t now_ns, uint64_t jitter_ns)
{
	handshake_sent(t, now_ns);
	t->retransmit_ns = now_ns + WG_REKEY_TIMEOUT + jitter_ns;
}

void wg_timers_response_sent(struct wg_timers *t, uint64_t now_ns)
{
	handshake_sent(t, now_ns);
}

void wg_timers_keys_derived(struct wg_timers *t, uint64_t now_ns)
{
	t->zero_keys_ns = now_ns + WG_ZERO_KEYS_TIME;
}

void wg_timers_handshake_complete(struct wg_timers *t)
{
	t->retransmit_ns = NEVER_NS;
	t->retries = 0;
	t->asked_before_expiry = false;
}

static void traversed(struct wg_timers *t, uint64_t now_ns)
{
	if (t->persistent_interval_ns)
		t->persistent_ns = now_ns + t->persistent_interval_ns;
}

void wg_timers_authentic_sent(struct wg_timers *t, uint64_t now_ns)
{
	t->keepalive_ns = NEVER_NS;
	traversed(t, now_ns);
}

void wg_timers_authentic_received(struct wg_timers *t, uint64_t now_ns)
{
	t->silent_ns = NEVER_NS;
	traversed(t, now_ns);
}

void wg_timers_data_sent(struct wg_timers *t, uint64_t now_ns, uint64_t jitter_ns)
{
	if (t->silent_ns == NEVER_NS)
		t->silent_ns = now_ns + WG_KEEPALIVE_TIMEOUT + WG_REKEY_TIMEOUT + jitter_ns;
}

void wg_timers_data_received(struct wg_timers *t, uint64_t now_ns)
{
	if (t->keepalive_ns == NEVER_NS)
		t->keepalive_ns = now_ns + WG_KEEPALIVE_TIMEOUT;
	else
		t->needs_another_keepalive = true;
}

void wg_timers_keepalive_again(struct wg_timers *t, uint64_t now_ns)
{
	t->keepalive_ns = now_ns + WG_KEEPALIVE_TIMEOUT;
}

uint64_t wg_timers_deadline(const struct wg_timers *t)
{
	uint64_t at_ns = MIN(t->retransmit_ns, t->keepalive_ns);

	at_ns = MIN(at_ns, t->silent_ns);
	at_ns = MIN(at_ns, t->zero_keys_ns);
	return MIN(at_ns, t->persistent_ns);
}

static bool fired(uint64_t *timer_ns, uint64_t now_ns)
{
	if (*timer_ns > now_ns)
		return false;
	*timer_ns = NEVER_NS;
	return true;
}

unsigned wg_timers_expire(struct wg_timers *t, uint64_t now_ns)
{
	unsigned due = 0;

	if (fired(&t->retransmit_ns, now_ns)) {
		if (t->retries > WG_RETRIES_MAX) {
			due |= WG_DUE_GIVE_UP;
			t->keepalive_ns = NEVER_NS;
			if (t->zero_keys_ns == NEVER_NS)
				t->zero_keys_ns = now_ns + WG_ZERO_KEYS_TIME;
		} else {
			t->retries++;
			due |= WG_DUE_RETRY;
		}
	}
	if (fired(&t->keepalive_ns, now_ns)) {
		due |= WG_DUE_KEEPALIVE;
		if (t->needs_another_keepalive)
			due |= WG_DUE_KEEPALIVE_AGAIN;
		t->needs_another_keepalive = false;
	}
	if (fired(&t->silent_ns, now_ns))
		due |= WG_DUE_INITIATE;
	if (fired(&t->zero_keys_ns, now_ns))
		due |= WG_DUE_ZERO_KEYS;
	if (fired(&t->persistent_ns, now_ns))
		due |= WG_DUE_KEEPALIVE;
	return due;
}
