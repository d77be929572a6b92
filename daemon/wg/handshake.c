/*
 * Noise IKpsk2 as in section 5.4 of the paper.
 *
 * Each step computes on a copy of the Noise state and commits at the end, so a
 * message that does not check out leaves a handshake under way as it was: an
 * attacker must not be able to break it by injecting. The static-static
 * exchange is done once for a peer, which leaves the receiver of an initiation
 * one scalar multiplication before it knows that the sender is genuine.
 */
#include "daemon/wg/handshake.h"

#include <assert.h>
#include <string.h>

#include "daemon/crypto/blake2s.h"
#include "shared/log.h"
#include "shared/wire.h"

static const char *const state_names[] = {
	[WG_HANDSHAKE_NONE] = "NONE",
	[WG_HANDSHAKE_INITIATION_SENT] = "INITIATION_SENT",
	[WG_HANDSHAKE_INITIATION_CONSUMED] = "INITIATION_CONSUMED",
	[WG_HANDSHAKE_RESPONSE_SENT] = "RESPONSE_SENT",
	[WG_HANDSHAKE_RESPONSE_CONSUMED] = "RESPONSE_CONSUMED",
};

static void set_state(struct wg_handshake *hs, enum wg_handshake_state state)
{
	const uint8_t *id = hs->remote_static.byte;

	switch (state) {
	case WG_HANDSHAKE_RESPONSE_SENT:
		assert(hs->state == WG_HANDSHAKE_INITIATION_CONSUMED);
		break;
	case WG_HANDSHAKE_RESPONSE_CONSUMED:
		assert(hs->state == WG_HANDSHAKE_INITIATION_SENT);
		break;
	default:
		break;
	}
	if (hs->state != state)
		log_debug("wg: peer %02x%02x%02x%02x: handshake %s -> %s", id[0], id[1], id[2],
			  id[3], state_names[hs->state], state_names[state]);
	hs->state = state;
}

static void begin(struct noise *n, struct blake2s *engine, const struct public_key *responder)
{
	noise_init(n, engine, WG_CONSTRUCTION);
	noise_mix_hash(n, engine, WG_IDENTIFIER, strlen(WG_IDENTIFIER));
	noise_mix_hash(n, engine, responder->byte, KEY_LEN);
}

static void mix_ephemeral(struct noise *n, struct blake2s *engine, const struct public_key *key)
{
	noise_mix_chain(n, engine, key->byte, KEY_LEN);
	noise_mix_hash(n, engine, key->byte, KEY_LEN);
}

bool wg_handshake_init(struct wg_handshake *hs, const struct wg_identity *id,
		       const struct public_key *peer, const struct symmetric_key *preshared)
{
	memset(hs, 0, sizeof(*hs));
	hs->identity = id;
	hs->remote_static = *peer;
	hs->preshared = *preshared;
	return !public_key_is_weak(peer);
}

/* Thousands of peers may come at once, and most of them say nothing for long. */
static const struct symmetric_key *static_shared(struct wg_handshake *hs)
{
	if (!hs->has_static_shared)
		hs->has_static_shared = key_exchange(&hs->identity->private, &hs->remote_static,
						     &hs->static_shared);
	assert(hs->has_static_shared); /* the key is not weak */
	return &hs->static_shared;
}

void wg_handshake_clear(struct wg_handshake *hs)
{
	set_state(hs, WG_HANDSHAKE_NONE);
	noise_wipe(&hs->noise);
	secret_wipe(&hs->ephemeral, sizeof(hs->ephemeral));
	memset(&hs->remote_ephemeral, 0, sizeof(hs->remote_ephemeral));
	hs->local_index = hs->remote_index = 0;
	secret_wipe(&hs->ours, sizeof(hs->ours));
}

static void set_ours_aside(struct wg_handshake *hs)
{
	hs->ours.noise = hs->noise;
	hs->ours.ephemeral = hs->ephemeral;
	hs->ours.local_index = hs->local_index;
}

/* What was set aside is under way again. */
static void end(struct wg_handshake *hs)
{
	uint32_t index = hs->ours.local_index;

	hs->noise = hs->ours.noise;
	hs->ephemeral = hs->ours.ephemeral;
	if (index == 0) {
		wg_handshake_clear(hs);
		return;
	}
	secret_wipe(&hs->ours, sizeof(hs->ours));
	memset(&hs->remote_ephemeral, 0, sizeof(hs->remote_ephemeral));
	hs->remote_index = 0;
	hs->local_index = index;
	set_state(hs, WG_HANDSHAKE_INITIATION_SENT);
}

void wg_handshake_finish(struct wg_handshake *hs)
{
	secret_wipe(hs, sizeof(*hs));
}

bool wg_handshake_create_initiation(struct wg_handshake *hs, struct blake2s *engine,
				    const struct wg_identity *id,
				    const struct private_key *ephemeral, uint32_t index,
				    const struct wg_timestamp *now, struct wg_initiation *msg)
{
	struct symmetric_key key;
	struct noise n;
	bool ok;

	memset(msg, 0, sizeof(*msg));
	store_le32(msg->type, WG_INITIATION);
	store_le32(msg->sender, index);
	private_key_public(ephemeral, &msg->ephemeral);

	begin(&n, engine, &hs->remote_static);
	mix_ephemeral(&n, engine, &msg->ephemeral);
	noise_mix_dh(&n, engine, ephemeral, &hs->remote_static, &key);
	noise_seal(&n, engine, &key, id->public.byte, KEY_LEN, msg->static_key);
	noise_mix_key(&n, engine, static_shared(hs), &key);
	noise_seal(&n, engine, &key, now->byte, WG_TIMESTAMP_LEN, msg->timestamp);

	ok = !n.failed;
	if (ok) {
		wg_handshake_clear(hs);
		hs->noise = n;
		hs->ephemeral = *ephemeral;
		hs->local_index = index;
		set_state(hs, WG_HANDSHAKE_INITIATION_SENT);
	}
	noise_wipe(&n);
	secret_wipe(&key, sizeof(key));
	return ok;
}

bool wg_initiation_open(struct wg_opened_initiation *opened, struct blake2s *engine,
			const struct wg_identity *id, const struct wg_initiation *msg)
{
	struct symmetric_key key;
	struct noise *n = &opened->noise;

	begin(n, engine, &id->public);
	mix_ephemeral(n, engine, &msg->ephemeral);
	noise_mix_dh(n, engine, &id->private, &msg->ephemeral, &key);
	noise_open(n, engine, &key, msg->static_key, sizeof(msg->static_key),
		   opened->remote_static.byte);
	secret_wipe(&key, sizeof(key));
	return !n->failed;
}

void wg_initiation_wipe(struct wg_opened_initiation *opened)
{
	secret_wipe(opened, sizeof(*opened));
}

bool wg_handshake_consume_initiation(struct wg_handshake *hs, struct blake2s *engine,
				     const struct wg_opened_initiation *opened,
				     const struct wg_initiation *msg, uint64_t now_ns)
{
	struct noise n = opened->noise;
	struct wg_timestamp timestamp;
	struct symmetric_key key;
	bool ok;

	noise_mix_key(&n, engine, static_shared(hs), &key);
	noise_open(&n, engine, &key, msg->timestamp, sizeof(msg->timestamp), timestamp.byte);
	ok = !n.failed && wg_timestamp_compare(&timestamp, &hs->received) > 0 &&
	     (!hs->received_ns || now_ns - hs->received_ns > WG_INITIATION_INTERVAL);
	if (ok) {
		if (hs->state == WG_HANDSHAKE_INITIATION_SENT)
			set_ours_aside(hs);
		hs->local_index = 0;
		hs->noise = n;
		hs->remote_ephemeral = msg->ephemeral;
		hs->remote_index = load_le32(msg->sender);
		hs->received = timestamp;
		hs->received_ns = now_ns;
		set_state(hs, WG_HANDSHAKE_INITIATION_CONSUMED);
	}
	noise_wipe(&n);
	secret_wipe(&key, sizeof(key));
	return ok;
}

bool wg_handshake_create_response(struct wg_handshake *hs, struct blake2s *engine,
				  const struct private_key *ephemeral, uint32_t index,
				  struct wg_response *msg)
{
	struct noise n = hs->noise;
	struct symmetric_key key;
	bool ok;

	assert(hs->state == WG_HANDSHAKE_INITIATION_CONSUMED);
	memset(msg, 0, sizeof(*msg));
	store_le32(msg->type, WG_RESPONSE);
	store_le32(msg->sender, index);
	store_le32(msg->receiver, hs->remote_index);
	private_key_public(ephemeral, &msg->ephemeral);

	mix_ephemeral(&n, engine, &msg->ephemeral);
	noise_mix_dh(&n, engine, ephemeral, &hs->remote_ephemeral, &key);
	noise_mix_dh(&n, engine, ephemeral, &hs->remote_static, &key);
	noise_mix_psk(&n, engine, &hs->preshared, &key);
	noise_seal(&n, engine, &key, NULL, 0, msg->empty);

	ok = !n.failed;
	if (ok) {
		hs->noise = n;
		hs->local_index = index;
		set_state(hs, WG_HANDSHAKE_RESPONSE_SENT);
	} else {
		end(hs);
	}
	noise_wipe(&n);
	secret_wipe(&key, sizeof(key));
	return ok;
}

bool wg_handshake_consume_response(struct wg_handshake *hs, struct blake2s *engine,
				   const struct wg_identity *id, const struct wg_response *msg)
{
	struct noise n = hs->noise;
	struct symmetric_key key;
	bool ok;

	if (hs->state != WG_HANDSHAKE_INITIATION_SENT)
		return false;
	mix_ephemeral(&n, engine, &msg->ephemeral);
	noise_mix_dh(&n, engine, &hs->ephemeral, &msg->ephemeral, &key);
	noise_mix_dh(&n, engine, &id->private, &msg->ephemeral, &key);
	noise_mix_psk(&n, engine, &hs->preshared, &key);
	noise_open(&n, engine, &key, msg->empty, sizeof(msg->empty), NULL);

	ok = !n.failed;
	if (ok) {
		hs->noise = n;
		hs->remote_index = load_le32(msg->sender);
		set_state(hs, WG_HANDSHAKE_RESPONSE_CONSUMED);
	}
	noise_wipe(&n);
	secret_wipe(&key, sizeof(key));
	return ok;
}

bool wg_handshake_derive(struct wg_handshake *hs, struct blake2s *engine,
			 struct symmetric_key *sending, struct symmetric_key *receiving,
			 bool *is_initiator)
{
	bool initiator = hs->state == WG_HANDSHAKE_RESPONSE_CONSUMED;
	bool ok;

	assert(initiator || hs->state == WG_HANDSHAKE_RESPONSE_SENT);
	noise_split(&hs->noise, engine, initiator ? sending : receiving,
		    initiator ? receiving : sending);
	ok = !hs->noise.failed;
	*is_initiator = initiator;
	end(hs);
	return ok;
}
