/*
 * Fuzzes the whole receive path: two devices with a live session and a
 * handshake in progress, and an attacker between them who reads, drops, copies,
 * reorders, alters and invents datagrams, knows both public keys (so that its
 * mac1 is valid), and decides when time passes and a side restarts. Also a
 * genuine peer that seals any inner bytes.
 *
 * What must hold: nothing crashes; no alteration is taken for data; and once
 * the attacker stops, the two talk to each other again.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "shared/wire.h"
#include "tests/unit/wg/world.h"

#define OPERATIONS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum operation {
	INJECT,
	INJECT_SIGNED,
	SEAL,
	DELIVER,
	DROP,
	PASS,
	SEND,
	WAKE,
	ALTER,
	COPY,
	RESTART,
	RUN,
	LOAD,
	OPERATIONS,
};

/* Each input must do the same every time: keys and indices come from a fixed stream. */
static uint64_t stream;

static uint32_t next_random(void)
{
	stream = stream * UINT64_C(6364136223846793005) + 1442695040888963407;
	return (uint32_t)(stream >> 32);
}

static void fill_random(void *buffer, size_t len)
{
	uint8_t *p = buffer;

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)next_random();
}

static const char *stream_name(void)
{
	return "fixed";
}

static struct randombytes_implementation fixed_stream = {
	.implementation_name = stream_name,
	.random = next_random,
	.buf = fill_random,
};

/* An invented handshake message that passes mac1 and names an index in use. */
static void inject_signed(struct world *w, int to, uint8_t *bytes, uint32_t len)
{
	struct node *n = &w->node[to];
	struct wg_macs macs = w->node[!to].peer->macs;

	bytes[0] = len == sizeof(struct wg_initiation) ? WG_INITIATION
		   : len == sizeof(struct wg_response) ? WG_RESPONSE
						       : WG_COOKIE_REPLY;
	memset(bytes + 1, 0, 3);
	if (bytes[0] == WG_RESPONSE)
		store_le32(bytes + offsetof(struct wg_response, receiver),
			   n->peer->handshake.local_index);
	else if (bytes[0] == WG_COOKIE_REPLY)
		store_le32(bytes + offsetof(struct wg_cookie_reply, receiver),
			   n->peer->handshake.local_index);
	if (bytes[0] != WG_COOKIE_REPLY)
		wg_macs_sign(&macs, w->node[!to].dev->engine, bytes, len, w->now_ns);
	world_inject(w, to, bytes, len, &w->node[!to].at);
}

/* Any bytes as an inner packet, sealed by the other side's own key. */
static void seal(struct world *w, int to, const uint8_t *bytes, size_t len)
{
	struct wg_keypair *k = w->node[!to].peer->keypairs.current;
	uint8_t datagram[PACKET_HEADER + 256 + PACKET_TAG] = { WG_TRANSPORT };

	if (!k || k->send_counter >= WG_REJECT_AFTER_MESSAGES)
		return;
	store_le32(datagram + 4, k->remote_index);
	store_le64(datagram + 8, k->send_counter);
	memcpy(datagram + PACKET_HEADER, bytes, len);
	aead_seal(k->sending, k->send_counter++, datagram + PACKET_HEADER, len);
	world_inject(w, to, datagram, (uint32_t)(PACKET_HEADER + len + PACKET_TAG),
		     &w->node[!to].at);
}

static void copy_from_wire(struct world *w, unsigned which, int at, uint8_t flip)
{
	struct sent *s;
	int to;

	if (!w->wire_count)
		return;
	s = &w->wire[which % w->wire_count];
	to = !s->sender;
	if (flip && (unsigned)at < s->len) {
		unsigned before = w->node[to].received;
		uint8_t *bytes = malloc(s->len);

		memcpy(bytes, s->bytes, s->len);
		bytes[at] ^= flip;
		world_inject(w, to, bytes, s->len, &s->from);
		/* The type's upper bytes are checked too; no bit of a datagram is free. */
		assert(w->node[to].received == before);
		free(bytes);
	} else {
		world_inject(w, to, s->bytes, s->len, &s->from);
	}
}

static void operate(struct world *w, struct wire_reader *r)
{
	static const struct world_options plain = { .is_roaming = true };
	static const uint8_t signed_lens[] = { 148, 92, 64 };
	uint8_t head = wire_u8(r), a = wire_u8(r), b = wire_u8(r);
	int side = head >> 7;
	uint8_t bytes[256] = { 0 };
	size_t len = MIN(a, wire_left(r));

	switch ((enum operation)((head & 0x7f) % OPERATIONS)) {
	case INJECT:
		memcpy(bytes, wire_take(r, len), len);
		world_inject(w, side, bytes, (uint32_t)len, &w->node[!side].at);
		break;
	case INJECT_SIGNED:
		memcpy(bytes, wire_take(r, len), len);
		inject_signed(w, side, bytes, signed_lens[b % 3]);
		break;
	case SEAL:
		memcpy(bytes, wire_take(r, len), len);
		seal(w, side, bytes, len);
		break;
	case DELIVER:
		world_deliver(w);
		break;
	case DROP:
		world_drop_all(w);
		break;
	case PASS:
		world_pass(w, a * NS_PER_S / 4);
		break;
	case SEND:
		world_send(w, side, b, a % 8, 24 + b);
		break;
	case WAKE:
		wg_peer_wake(w->node[side].peer, w->now_ns);
		break;
	case ALTER:
		copy_from_wire(w, a >> 3, b, (uint8_t)(1 << (a & 7)));
		break;
	case COPY:
		copy_from_wire(w, a, 0, 0);
		break;
	case RESTART:
		world_restart(w, side, &plain);
		break;
	case RUN:
		world_run(w, a * NS_PER_S);
		break;
	case LOAD:
		w->node[side].dev->load.threshold = a;
		break;
	case OPERATIONS:
		break;
	}
	if (w->wire_count > WIRE_MAX / 2)
		world_settle(w);
}

/* Data both ways, every second of a minute: at its end it arrives. */
static void assert_recovery(struct world *w)
{
	unsigned before[2];

	world_drop_all(w);
	for (int i = 0; i < 2; i++) {
		struct node *n = &w->node[i];

		n->dev->load.threshold = WG_LOAD_THRESHOLD;
		/* Nobody can forge a packet of the peer, so its address was never taken. */
		assert(n->peer->has_endpoint &&
		       endpoint_equal(&n->peer->endpoint, &w->node[!i].at));
	}
	for (int s = 0; s < 60; s++) {
		for (int i = 0; i < 2; i++) {
			before[i] = w->node[i].received;
			world_send(w, !i, (uint32_t)s, 1, 100);
		}
		world_settle(w);
		if (s < 59)
			world_run(w, NS_PER_S);
	}
	assert(w->node[0].received > before[0] && w->node[1].received > before[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct world_options plain = { .is_roaming = true };
	struct wire_reader r = wire_reader(data, size);
	static bool is_set_up;
	struct world *w;

	if (!is_set_up) {
		randombytes_set_implementation(&fixed_stream);
		is_set_up = true;
	}
	stream = 1;
	w = world_create(&plain);
	world_connect(w);
	/* And a handshake of the other side in progress. */
	world_run(w, 6 * NS_PER_S);
	w->node[1].peer->keypairs.current->send_counter = WG_REKEY_AFTER_MESSAGES;
	world_send(w, 1, 1, 1, 100);
	for (int i = 0; i < OPERATIONS_MAX && wire_left(&r) >= 3; i++)
		operate(w, &r);
	assert_recovery(w);
	world_destroy(w);
	return 0;
}
