/*
 * Noise_IK_25519_ChaChaPoly_BLAKE2s as the initiator, and the record layer.
 *
 * The server's static key is known beforehand, so one round trip makes both
 * sides sure of each other. Then each direction is a run of records sealed
 * with a counter, big-endian in the nonce (unlike Noise's own), without
 * additional data. Records carry a stream: their borders mean nothing.
 *
 * A frame is collected in the one buffer of the largest size, opened in place,
 * and handed on. The first nine plain bytes either start the early payload,
 * which is skipped (nothing reads its challenge), or belong to the stream.
 */
#include "daemon/control/channel.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/crypto/blake2s.h"
#include "daemon/crypto/noise.h"
#include "shared/util.h"
#include "shared/wire.h"

#define TYPE_INITIATION 1
#define TYPE_RESPONSE   2
#define TYPE_ERROR      3
#define TYPE_RECORD     4
#define PROTOCOL        "Noise_IK_25519_ChaChaPoly_BLAKE2s"
#define EARLY_MAGIC     "\xff\xff\xffTS"
#define EARLY_HEAD_LEN  9

enum early { EARLY_HEAD, EARLY_SKIP, EARLY_DONE };

struct direction {
	struct symmetric_key key;
	uint64_t counter;
};

struct channel {
	struct channel_callbacks callbacks;
	struct blake2s *engine;
	struct noise noise;
	struct private_key machine, ephemeral;
	struct direction send, receive;
	uint8_t initiation[CHANNEL_INITIATION_LEN];
	bool is_open;
	int dead; /* the error that ended it */
	uint8_t frame[CHANNEL_FRAME_MAX];
	size_t frame_len;
	enum early early;
	uint8_t early_head[EARLY_HEAD_LEN];
	size_t early_len; /* of the head; then what is left to skip */
	char error[CHANNEL_ERROR_MAX];
};

static bool initiate(struct channel *ch, const struct public_key *server, uint16_t version)
{
	uint8_t *msg = ch->initiation;
	struct symmetric_key key;
	struct public_key public;
	char prologue[48];
	int len = snprintf(prologue, sizeof(prologue), "Tailscale Control Protocol v%u", version);

	noise_init(&ch->noise, ch->engine, PROTOCOL);
	noise_mix_hash(&ch->noise, ch->engine, prologue, (size_t)len);
	noise_mix_hash(&ch->noise, ch->engine, server->byte, KEY_LEN);
	store_be16(msg, version);
	msg[2] = TYPE_INITIATION;
	store_be16(msg + 3, CHANNEL_INITIATION_LEN - 5);
	private_key_public(&ch->ephemeral, &public);
	memcpy(msg + 5, public.byte, KEY_LEN);
	noise_mix_hash(&ch->noise, ch->engine, public.byte, KEY_LEN);
	noise_mix_dh(&ch->noise, ch->engine, &ch->ephemeral, server, &key);
	private_key_public(&ch->machine, &public);
	noise_seal(&ch->noise, ch->engine, &key, public.byte, KEY_LEN, msg + 37);
	noise_mix_dh(&ch->noise, ch->engine, &ch->machine, server, &key);
	noise_seal(&ch->noise, ch->engine, &key, NULL, 0, msg + 85);
	secret_wipe(&key, sizeof(key));
	return !ch->noise.failed;
}

struct channel *channel_create(const struct private_key *machine, const struct public_key *server,
			       uint16_t version, const struct private_key *ephemeral,
			       const struct channel_callbacks *callbacks)
{
	struct channel *ch = secret_alloc(sizeof(*ch));

	if (!ch)
		return NULL;
	ch->callbacks = *callbacks;
	ch->machine = *machine;
	if (ephemeral)
		ch->ephemeral = *ephemeral;
	else
		private_key_generate(&ch->ephemeral);
	ch->engine = blake2s_create();
	if (!ch->engine || !initiate(ch, server, version)) {
		channel_destroy(ch);
		return NULL;
	}
	return ch;
}

void channel_destroy(struct channel *ch)
{
	if (!ch)
		return;
	blake2s_destroy(ch->engine);
	secret_free(ch);
}

const uint8_t *channel_initiation(const struct channel *ch)
{
	return ch->initiation;
}

bool channel_is_open(const struct channel *ch)
{
	return ch->is_open;
}

const char *channel_error(const struct channel *ch)
{
	return ch->error;
}

static int read_response(struct channel *ch)
{
	const uint8_t *msg = ch->frame + CHANNEL_HEADER_LEN;
	struct symmetric_key key;
	struct public_key server_ephemeral;

	memcpy(server_ephemeral.byte, msg, KEY_LEN);
	noise_mix_hash(&ch->noise, ch->engine, server_ephemeral.byte, KEY_LEN);
	noise_mix_dh(&ch->noise, ch->engine, &ch->ephemeral, &server_ephemeral, &key);
	noise_mix_dh(&ch->noise, ch->engine, &ch->machine, &server_ephemeral, &key);
	noise_open(&ch->noise, ch->engine, &key, msg + KEY_LEN, CHANNEL_TAG_LEN, NULL);
	noise_split(&ch->noise, ch->engine, &ch->send.key, &ch->receive.key);
	ch->is_open = !ch->noise.failed;
	noise_wipe(&ch->noise);
	secret_wipe(&key, sizeof(key));
	secret_wipe(&ch->ephemeral, sizeof(ch->ephemeral));
	secret_wipe(&ch->machine, sizeof(ch->machine));
	return ch->is_open ? 0 : -EBADMSG;
}

static int read_error(struct channel *ch, size_t len)
{
	size_t shown = MIN(len, sizeof(ch->error) - 1);

	for (size_t i = 0; i < shown; i++) {
		uint8_t c = ch->frame[CHANNEL_HEADER_LEN + i];

		ch->error[i] = c >= ' ' && c < 0x7f ? (char)c : '?';
	}
	ch->error[shown] = '\0';
	return -ECONNREFUSED;
}

static int deliver(struct channel *ch, const uint8_t *bytes, size_t len)
{
	return len > 0 ? ch->callbacks.opened(ch->callbacks.owner, bytes, len) : 0;
}

/* Takes what belongs to the early payload. 0 or -errno. */
static int read_early(struct channel *ch, const uint8_t **bytes, size_t *len)
{
	size_t part;

	if (ch->early == EARLY_HEAD) {
		part = MIN(EARLY_HEAD_LEN - ch->early_len, *len);
		memcpy(ch->early_head + ch->early_len, *bytes, part);
		ch->early_len += part;
		*bytes += part;
		*len -= part;
		if (ch->early_len < EARLY_HEAD_LEN)
			return 0;
		if (memcmp(ch->early_head, EARLY_MAGIC, 5) != 0) {
			ch->early = EARLY_DONE;
			return deliver(ch, ch->early_head, EARLY_HEAD_LEN);
		}
		ch->early_len = load_be32(ch->early_head + 5);
		if (ch->early_len > CHANNEL_EARLY_MAX)
			return -EPROTO;
		ch->early = EARLY_SKIP;
	}
	part = MIN(ch->early_len, *len);
	ch->early_len -= part;
	*bytes += part;
	*len -= part;
	if (ch->early_len == 0)
		ch->early = EARLY_DONE;
	return 0;
}

static void next_nonce(struct direction *d,
		       uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
	memset(nonce, 0, 4);
	store_be64(nonce + 4, d->counter++);
}

static int read_record(struct channel *ch, size_t len)
{
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
	uint8_t *sealed = ch->frame + CHANNEL_HEADER_LEN;
	const uint8_t *plain = sealed;
	size_t plain_len = len - CHANNEL_TAG_LEN;
	int err = 0;

	next_nonce(&ch->receive, nonce);
	if (crypto_aead_chacha20poly1305_ietf_decrypt(sealed, NULL, NULL, sealed, len, NULL, 0,
						      nonce, ch->receive.key.byte) != 0)
		return -EBADMSG;
	if (ch->early != EARLY_DONE)
		err = read_early(ch, &plain, &plain_len);
	return err != 0 ? err : deliver(ch, plain, plain_len);
}

/* What may come now, by the header alone, so that nothing too long is waited for. */
static bool is_expected(const struct channel *ch, uint8_t type, size_t len)
{
	switch (type) {
	case TYPE_RESPONSE:
		return !ch->is_open && len == CHANNEL_RESPONSE_LEN - CHANNEL_HEADER_LEN;
	case TYPE_ERROR:
		return !ch->is_open && len <= CHANNEL_FRAME_MAX - CHANNEL_HEADER_LEN;
	case TYPE_RECORD:
		return ch->is_open && len >= CHANNEL_TAG_LEN &&
		       len <= CHANNEL_FRAME_MAX - CHANNEL_HEADER_LEN;
	default:
		return false;
	}
}

static int read_frame(struct channel *ch, uint8_t type, size_t len)
{
	if (type == TYPE_RESPONSE)
		return read_response(ch);
	if (type == TYPE_ERROR)
		return read_error(ch, len);
	return read_record(ch, len);
}

static int receive_some(struct channel *ch, const uint8_t **bytes, size_t *len)
{
	size_t want = CHANNEL_HEADER_LEN, body_len = 0, part;

	if (ch->frame_len >= CHANNEL_HEADER_LEN) {
		body_len = load_be16(ch->frame + 1);
		want = CHANNEL_HEADER_LEN + body_len;
	}
	part = MIN(want - ch->frame_len, *len);
	memcpy(ch->frame + ch->frame_len, *bytes, part);
	ch->frame_len += part;
	*bytes += part;
	*len -= part;
	if (ch->frame_len < want)
		return 0;
	if (want == CHANNEL_HEADER_LEN && body_len == 0) {
		body_len = load_be16(ch->frame + 1);
		if (!is_expected(ch, ch->frame[0], body_len))
			return -EPROTO;
		if (body_len > 0)
			return 0;
	}
	ch->frame_len = 0;
	return read_frame(ch, ch->frame[0], body_len);
}

int channel_receive(struct channel *ch, const uint8_t *bytes, size_t len)
{
	while (ch->dead == 0 && len > 0)
		ch->dead = receive_some(ch, &bytes, &len);
	return ch->dead;
}

size_t channel_sealed_len(size_t len)
{
	size_t frames = (len + CHANNEL_PLAIN_MAX - 1) / CHANNEL_PLAIN_MAX;

	return len + frames * (CHANNEL_HEADER_LEN + CHANNEL_TAG_LEN);
}

void channel_seal(struct channel *ch, const uint8_t *plain, size_t len, uint8_t *sealed)
{
	assert(ch->is_open);
	while (len > 0) {
		uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];
		size_t part = MIN(len, CHANNEL_PLAIN_MAX);

		next_nonce(&ch->send, nonce);
		sealed[0] = TYPE_RECORD;
		store_be16(sealed + 1, (uint16_t)(part + CHANNEL_TAG_LEN));
		crypto_aead_chacha20poly1305_ietf_encrypt(sealed + CHANNEL_HEADER_LEN, NULL, plain,
							  part, NULL, 0, NULL, nonce,
							  ch->send.key.byte);
		sealed += CHANNEL_HEADER_LEN + part + CHANNEL_TAG_LEN;
		plain += part;
		len -= part;
	}
}
