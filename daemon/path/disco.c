/*
 * Disco's codec.
 *
 * Parsing is as lenient as the peers' own: pings and pongs of any version with
 * anything behind them, a call-me-maybe of a wrong length is an empty one. What
 * is strict is the box: nothing of a packet is believed that does not open.
 */
#include "daemon/path/disco.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <sodium.h>

#include "shared/wire.h"

#define RELAY_ENDPOINT_LEN 124 /* keys, lamport, VNI, lifetimes of messages 07 and 09 */
#define BIND_LEN           72
#define ALLOCATE_LEN       68

static const uint8_t magic[6] = { 0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac };

static_assert(crypto_box_NONCEBYTES == DISCO_NONCE_LEN && crypto_box_MACBYTES == DISCO_TAG_LEN &&
		      crypto_box_BEFORENMBYTES == sizeof(struct disco_box_key),
	      "crypto_box");

bool disco_box_key(const uint8_t private_key[static 32], const uint8_t public_key[static 32],
		   struct disco_box_key *box)
{
	return crypto_box_beforenm(box->byte, public_key, private_key) == 0;
}

bool disco_is_packet(const uint8_t *bytes, size_t len)
{
	return len >= sizeof(magic) + DISCO_KEY_LEN && memcmp(bytes, magic, sizeof(magic)) == 0;
}

uint8_t *disco_open(const struct disco_box_key *box, uint8_t *bytes, size_t len, size_t *plain_len)
{
	const uint8_t *nonce = bytes + sizeof(magic) + DISCO_KEY_LEN;
	uint8_t *sealed = bytes + DISCO_BOX_AT, *plain = sealed + DISCO_TAG_LEN;

	if (!disco_is_packet(bytes, len) || len < DISCO_OVERHEAD)
		return NULL;
	*plain_len = len - DISCO_BOX_AT - DISCO_TAG_LEN;
	if (crypto_box_open_detached_afternm(plain, plain, sealed, *plain_len, nonce, box->byte))
		return NULL;
	return plain;
}

size_t disco_seal(const struct disco_box_key *box, const uint8_t sender[static DISCO_KEY_LEN],
		  const uint8_t nonce[static DISCO_NONCE_LEN], const uint8_t *plain, size_t len,
		  uint8_t out[static DISCO_PACKET_MAX])
{
	assert(len <= DISCO_PLAIN_MAX);
	memcpy(out, magic, sizeof(magic));
	memcpy(out + sizeof(magic), sender, DISCO_KEY_LEN);
	memcpy(out + sizeof(magic) + DISCO_KEY_LEN, nonce, DISCO_NONCE_LEN);
	crypto_box_easy_afternm(out + DISCO_BOX_AT, plain, len, nonce, box->byte);
	return DISCO_BOX_AT + DISCO_TAG_LEN + len;
}

static void get_endpoint(const uint8_t *p, struct endpoint *ep)
{
	memcpy(ep->addr.byte, p, sizeof(ep->addr.byte));
	ep->port = load_be16(p + sizeof(ep->addr.byte));
}

static void put_endpoint(uint8_t *p, const struct endpoint *ep)
{
	memcpy(p, ep->addr.byte, sizeof(ep->addr.byte));
	store_be16(p + sizeof(ep->addr.byte), ep->port);
}

void disco_endpoint(const struct disco_message *m, unsigned i, struct endpoint *ep)
{
	get_endpoint(m->endpoints + (size_t)i * DISCO_ENDPOINT_LEN, ep);
}

static int parse_ping(struct wire_reader *r, struct disco_message *m)
{
	const uint8_t *txid = wire_take(r, DISCO_TXID_LEN);

	if (!txid)
		return -EMSGSIZE;
	memcpy(m->txid, txid, DISCO_TXID_LEN);
	/* A key of zeros is padding; node_key is zero then anyway, and so says "none". */
	if (wire_left(r) >= DISCO_KEY_LEN) {
		memcpy(m->node_key, r->at, DISCO_KEY_LEN);
		if (!sodium_is_zero(m->node_key, DISCO_KEY_LEN))
			wire_take(r, DISCO_KEY_LEN);
	}
	m->padding = wire_left(r);
	return 0;
}

static int parse_pong(struct wire_reader *r, struct disco_message *m)
{
	const uint8_t *p = wire_take(r, DISCO_TXID_LEN + DISCO_ENDPOINT_LEN);

	if (!p)
		return -EMSGSIZE;
	memcpy(m->txid, p, DISCO_TXID_LEN);
	get_endpoint(p + DISCO_TXID_LEN, &m->src);
	return 0;
}

/* The rest, when it is a list of endpoints. */
static void take_endpoints(struct wire_reader *r, struct disco_message *m)
{
	if (wire_left(r) % DISCO_ENDPOINT_LEN != 0)
		return;
	m->endpoints = r->at;
	m->endpoint_count = (unsigned)(wire_left(r) / DISCO_ENDPOINT_LEN);
}

/* With a fixed part of len bytes, and then at least one endpoint when has_list. */
static int parse_relayed(struct wire_reader *r, struct disco_message *m, size_t len, bool has_list)
{
	if (!wire_take(r, len))
		return -EMSGSIZE;
	if (!has_list)
		return 0;
	take_endpoints(r, m);
	return m->endpoint_count > 0 ? 0 : -EMSGSIZE;
}

int disco_parse(const uint8_t *plain, size_t len, struct disco_message *m)
{
	struct wire_reader r = wire_reader(plain, len);
	uint8_t type = wire_u8(&r), version = wire_u8(&r);

	if (r.failed)
		return -EMSGSIZE;
	memset(m, 0, sizeof(*m));
	m->type = (enum disco_type)type;
	switch (m->type) {
	case DISCO_PING:
		return parse_ping(&r, m);
	case DISCO_PONG:
		return parse_pong(&r, m);
	case DISCO_CALL_ME_MAYBE:
		if (version == 0)
			take_endpoints(&r, m);
		return 0;
	case DISCO_BIND:
	case DISCO_BIND_CHALLENGE:
	case DISCO_BIND_ANSWER:
		return parse_relayed(&r, m, BIND_LEN, false);
	case DISCO_CALL_ME_MAYBE_VIA:
		return parse_relayed(&r, m, RELAY_ENDPOINT_LEN, true);
	case DISCO_ALLOCATE_REQUEST:
		return parse_relayed(&r, m, ALLOCATE_LEN, false);
	case DISCO_ALLOCATE_RESPONSE:
		return parse_relayed(&r, m, sizeof(uint32_t) + RELAY_ENDPOINT_LEN, true);
	}
	return -EPROTONOSUPPORT;
}

size_t disco_make_ping(const uint8_t txid[static DISCO_TXID_LEN],
		       const uint8_t node_key[static DISCO_KEY_LEN],
		       uint8_t out[static DISCO_PING_LEN])
{
	out[0] = DISCO_PING;
	out[1] = 0;
	memcpy(out + 2, txid, DISCO_TXID_LEN);
	memcpy(out + 2 + DISCO_TXID_LEN, node_key, DISCO_KEY_LEN);
	return DISCO_PING_LEN;
}

size_t disco_make_pong(const uint8_t txid[static DISCO_TXID_LEN], const struct endpoint *src,
		       uint8_t out[static DISCO_PONG_LEN])
{
	out[0] = DISCO_PONG;
	out[1] = 0;
	memcpy(out + 2, txid, DISCO_TXID_LEN);
	put_endpoint(out + 2 + DISCO_TXID_LEN, src);
	return DISCO_PONG_LEN;
}

size_t disco_make_call_me_maybe(const struct endpoint *endpoints, unsigned count,
				uint8_t out[static DISCO_PLAIN_MAX])
{
	assert(count <= DISCO_CALLME_MAX);
	out[0] = DISCO_CALL_ME_MAYBE;
	out[1] = 0;
	for (unsigned i = 0; i < count; i++)
		put_endpoint(out + 2 + (size_t)i * DISCO_ENDPOINT_LEN, &endpoints[i]);
	return 2 + (size_t)count * DISCO_ENDPOINT_LEN;
}
