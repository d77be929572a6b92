/*
 * mac1 proves that the sender knows whom it talks to; mac2, asked for only
 * under load, that it receives at the address it sends from.
 *
 * The cookie is a MAC of the sender's address and port under a secret that
 * changes every two minutes, so that the responder remembers nothing about
 * anybody. A cookie made under the secret before is refused: then the sender
 * is told a new one.
 */
#include "daemon/wg/cookie.h"

#include <string.h>

#include <sodium.h>

#include "daemon/crypto/blake2s.h"
#include "shared/wire.h"

static bool label_key(struct blake2s *engine, const char *label, const struct public_key *key,
		      struct symmetric_key *out)
{
	return blake2s_hash(engine, label, WG_LABEL_LEN, key->byte, KEY_LEN, out->byte);
}

static bool is_fresh(uint64_t since_ns, uint64_t now_ns)
{
	return now_ns - since_ns < WG_COOKIE_LIFETIME;
}

bool wg_macs_init(struct wg_macs *m, struct blake2s *engine, const struct public_key *peer)
{
	memset(m, 0, sizeof(*m));
	return label_key(engine, WG_LABEL_MAC1, peer, &m->mac1_key) &&
	       label_key(engine, WG_LABEL_COOKIE, peer, &m->cookie_key);
}

void wg_macs_finish(struct wg_macs *m)
{
	secret_wipe(m, sizeof(*m));
}

void wg_macs_sign(struct wg_macs *m, struct blake2s *engine, void *message, size_t len,
		  uint64_t now_ns)
{
	uint8_t *mac1 = (uint8_t *)message + WG_MAC1_OFFSET(len);
	uint8_t *mac2 = (uint8_t *)message + WG_MAC2_OFFSET(len);

	blake2s_mac(engine, m->mac1_key.byte, KEY_LEN, message, WG_MAC1_OFFSET(len), mac1);
	memcpy(m->last_mac1, mac1, WG_MAC_LEN);
	m->has_last_mac1 = true;
	if (m->has_cookie && is_fresh(m->cookie_ns, now_ns))
		blake2s_mac(engine, m->cookie, WG_MAC_LEN, message, WG_MAC2_OFFSET(len), mac2);
	else
		memset(mac2, 0, WG_MAC_LEN);
}

bool wg_macs_take_cookie(struct wg_macs *m, const struct wg_cookie_reply *reply, uint64_t now_ns)
{
	uint8_t cookie[WG_MAC_LEN];

	if (!m->has_last_mac1 || !xaead_open(&m->cookie_key, reply->nonce, m->last_mac1, WG_MAC_LEN,
					     reply->cookie, sizeof(reply->cookie), cookie))
		return false;
	memcpy(m->cookie, cookie, WG_MAC_LEN);
	m->cookie_ns = now_ns;
	m->has_cookie = true;
	m->has_last_mac1 = false; /* one cookie for one message */
	secret_wipe(cookie, sizeof(cookie));
	return true;
}

bool wg_checker_init(struct wg_checker *c, struct blake2s *engine, const struct public_key *own)
{
	memset(c, 0, sizeof(*c));
	return label_key(engine, WG_LABEL_MAC1, own, &c->mac1_key) &&
	       label_key(engine, WG_LABEL_COOKIE, own, &c->cookie_key);
}

void wg_checker_finish(struct wg_checker *c)
{
	secret_wipe(c, sizeof(*c));
}

static void make_cookie(const struct wg_checker *c, struct blake2s *engine,
			const struct endpoint *from, uint8_t cookie[static WG_MAC_LEN])
{
	uint8_t source[sizeof(from->addr.byte) + 2];

	memcpy(source, from->addr.byte, sizeof(from->addr.byte));
	store_le16(source + sizeof(from->addr.byte), from->port);
	blake2s_mac(engine, c->secret.byte, KEY_LEN, source, sizeof(source), cookie);
}

bool wg_checker_mac1_is_valid(const struct wg_checker *c, struct blake2s *engine,
			      const void *message, size_t len)
{
	uint8_t mac[WG_MAC_LEN];

	blake2s_mac(engine, c->mac1_key.byte, KEY_LEN, message, WG_MAC1_OFFSET(len), mac);
	return bytes_equal(mac, (const uint8_t *)message + WG_MAC1_OFFSET(len), WG_MAC_LEN);
}

bool wg_checker_mac2_is_valid(const struct wg_checker *c, struct blake2s *engine,
			      const void *message, size_t len, const struct endpoint *from,
			      uint64_t now_ns)
{
	uint8_t cookie[WG_MAC_LEN], mac[WG_MAC_LEN];

	if (!c->has_secret || !is_fresh(c->secret_ns, now_ns))
		return false;
	make_cookie(c, engine, from, cookie);
	blake2s_mac(engine, cookie, WG_MAC_LEN, message, WG_MAC2_OFFSET(len), mac);
	return bytes_equal(mac, (const uint8_t *)message + WG_MAC2_OFFSET(len), WG_MAC_LEN);
}

void wg_checker_reply(struct wg_checker *c, struct blake2s *engine, const void *message, size_t len,
		      const struct endpoint *from, uint64_t now_ns, struct wg_cookie_reply *reply)
{
	const uint8_t *bytes = message;
	uint8_t cookie[WG_MAC_LEN];

	if (!c->has_secret || !is_fresh(c->secret_ns, now_ns)) {
		randombytes_buf(c->secret.byte, KEY_LEN);
		c->secret_ns = now_ns;
		c->has_secret = true;
	}
	make_cookie(c, engine, from, cookie);
	store_le32(reply->type, WG_COOKIE_REPLY);
	/* The offender's sender index stands at the same place in both kinds of message. */
	static_assert(offsetof(struct wg_initiation, sender) ==
			      offsetof(struct wg_response, sender),
		      "sender index");
	memcpy(reply->receiver, bytes + offsetof(struct wg_initiation, sender),
	       sizeof(reply->receiver));
	randombytes_buf(reply->nonce, sizeof(reply->nonce));
	xaead_seal(&c->cookie_key, reply->nonce, bytes + WG_MAC1_OFFSET(len), WG_MAC_LEN, cookie,
		   sizeof(cookie), reply->cookie);
}
