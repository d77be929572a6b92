/*
 * WireGuard's messages and constants, each written once, named as in the paper
 * (sections 5.4 and 6). Integers are little-endian on the wire.
 */
#ifndef MESHWRAP_DAEMON_WG_MESSAGE_H
#define MESHWRAP_DAEMON_WG_MESSAGE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/aead.h"
#include "daemon/crypto/keys.h"
#include "daemon/packet.h"
#include "shared/util.h"

#define WG_CONSTRUCTION "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
#define WG_IDENTIFIER   "WireGuard v1 zx2c4 Jason@zx2c4.com"
#define WG_LABEL_MAC1   "mac1----"
#define WG_LABEL_COOKIE "cookie--"
#define WG_LABEL_LEN    8

#define WG_REKEY_AFTER_MESSAGES  (UINT64_C(1) << 60)
#define WG_REJECT_AFTER_MESSAGES (UINT64_MAX - (UINT64_C(1) << 13))
#define WG_REKEY_AFTER_TIME      (120 * NS_PER_S)
#define WG_REJECT_AFTER_TIME     (180 * NS_PER_S)
#define WG_REKEY_TIMEOUT         (5 * NS_PER_S)
#define WG_REKEY_JITTER          (334 * NS_PER_MS) /* added to a timeout: less than this */
#define WG_KEEPALIVE_TIMEOUT     (10 * NS_PER_S)
#define WG_COOKIE_LIFETIME       (120 * NS_PER_S)
#define WG_INITIATION_INTERVAL   (20 * NS_PER_MS) /* a peer's, at least */
#define WG_ZERO_KEYS_TIME        (3 * WG_REJECT_AFTER_TIME)
/* REKEY_ATTEMPT_TIME (90 s) in retries: one more than this and the peer is given up. */
#define WG_RETRIES_MAX 18
/* When an initiator that only receives asks for new keys, so that it has them in time. */
#define WG_REKEY_RECEIVING_TIME (WG_REJECT_AFTER_TIME - WG_KEEPALIVE_TIMEOUT - WG_REKEY_TIMEOUT)

#define WG_MAC_LEN       16
#define WG_TIMESTAMP_LEN 12

/* Our own bounds. */
#define WG_PEERS_MAX          65536u
#define WG_PREFIXES_MAX       (1u << 20)
#define WG_STAGED_BYTES       (512u << 10) /* of one peer */
#define WG_STAGED_BYTES_TOTAL (32u << 20)  /* of all */
#define WG_RECEIVE_RUN        256          /* packets in one receive callback */

enum wg_message_type {
	WG_INITIATION = 1,
	WG_RESPONSE = 2,
	WG_COOKIE_REPLY = 3,
	WG_TRANSPORT = 4,
};

/* type is one byte and three of zeros, read as one integer. */
struct wg_initiation {
	uint8_t type[4];
	uint8_t sender[4];
	struct public_key ephemeral;
	uint8_t static_key[KEY_LEN + AEAD_TAG_LEN];
	uint8_t timestamp[WG_TIMESTAMP_LEN + AEAD_TAG_LEN];
	uint8_t mac1[WG_MAC_LEN];
	uint8_t mac2[WG_MAC_LEN];
};
static_assert(sizeof(struct wg_initiation) == 148, "initiation");

struct wg_response {
	uint8_t type[4];
	uint8_t sender[4];
	uint8_t receiver[4];
	struct public_key ephemeral;
	uint8_t empty[AEAD_TAG_LEN];
	uint8_t mac1[WG_MAC_LEN];
	uint8_t mac2[WG_MAC_LEN];
};
static_assert(sizeof(struct wg_response) == 92, "response");

struct wg_cookie_reply {
	uint8_t type[4];
	uint8_t receiver[4];
	uint8_t nonce[XAEAD_NONCE_LEN];
	uint8_t cookie[WG_MAC_LEN + AEAD_TAG_LEN];
};
static_assert(sizeof(struct wg_cookie_reply) == 64, "cookie reply");

struct wg_transport {
	uint8_t type[4];
	uint8_t receiver[4];
	uint8_t counter[8];
	/* then the sealed packet and its tag */
};
static_assert(sizeof(struct wg_transport) == PACKET_HEADER, "transport header");
static_assert(AEAD_TAG_LEN == PACKET_TAG, "transport tag");

#define WG_TRANSPORT_MIN (sizeof(struct wg_transport) + AEAD_TAG_LEN)
/* mac1 and mac2 end the messages that have them. */
#define WG_MAC1_OFFSET(len) ((len)-2 * WG_MAC_LEN)
#define WG_MAC2_OFFSET(len) ((len)-WG_MAC_LEN)

#endif
