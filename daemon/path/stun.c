/*
 * STUN (RFC 5389), the little of it that relays speak. They answer only requests
 * with SOFTWARE "tailnode" and a right FINGERPRINT as the last attribute.
 *
 * In answers XOR-MAPPED-ADDRESS counts for more than its old number 0x8020 and
 * that for more than MAPPED-ADDRESS; the transaction id is the only proof that
 * an answer is one, so callers match it against what they have sent.
 */
#include "daemon/path/stun.h"

#include <errno.h>
#include <string.h>

#include "shared/wire.h"

#define HEADER_LEN 20
#define COOKIE     0x2112a442u
#define REQUEST    0x0001
#define RESPONSE   0x0101

#define ATTR_MAPPED      0x0001
#define ATTR_XOR_MAPPED  0x0020
#define ATTR_XOR_OLD     0x8020
#define ATTR_SOFTWARE    0x8022
#define ATTR_FINGERPRINT 0x8028

#define FINGERPRINT_XOR 0x5354554eu
#define FAMILY_IPV4     1
#define FAMILY_IPV6     2

static const char software[8] = { 't', 'a', 'i', 'l', 'n', 'o', 'd', 'e' };

bool stun_is_packet(const uint8_t *bytes, size_t len)
{
	return len >= HEADER_LEN && (bytes[0] & 0xc0) == 0 && load_be32(bytes + 4) == COOKIE &&
	       bytes[1] == 1;
}

static uint32_t crc32_ieee(const uint8_t *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

void stun_make_request(const uint8_t txid[static STUN_TXID_LEN],
		       uint8_t out[static STUN_REQUEST_LEN])
{
	uint8_t *p = out + HEADER_LEN;

	store_be16(out, REQUEST);
	store_be16(out + 2, STUN_REQUEST_LEN - HEADER_LEN);
	store_be32(out + 4, COOKIE);
	memcpy(out + 8, txid, STUN_TXID_LEN);
	store_be16(p, ATTR_SOFTWARE);
	store_be16(p + 2, sizeof(software));
	memcpy(p + 4, software, sizeof(software));
	p += 4 + sizeof(software);
	store_be16(p, ATTR_FINGERPRINT);
	store_be16(p + 2, 4);
	store_be32(p + 4, crc32_ieee(out, (size_t)(p - out)) ^ FINGERPRINT_XOR);
}

/* The next attribute's value, or NULL at the end and at what does not fit. */
static const uint8_t *next_attribute(struct wire_reader *r, uint16_t *type, uint16_t *len)
{
	const uint8_t *value;

	*type = wire_be16(r);
	*len = wire_be16(r);
	value = wire_take(r, *len);
	/* Padding; some servers leave it out at the end. */
	if (value && *len % 4 != 0 && wire_left(r) >= 4u - *len % 4u)
		wire_take(r, 4u - *len % 4u);
	return value;
}

/* Bytes 4 to 19 of a header: what an address is XORed with. */
static void xor_bytes(uint8_t *dst, const uint8_t *src, const uint8_t *key, size_t len)
{
	for (size_t i = 0; i < len; i++)
		dst[i] = src[i] ^ key[i];
}

/* key: what to XOR with, NULL for none. */
static bool get_address(const uint8_t *value, size_t len, const uint8_t *key, struct endpoint *ep)
{
	static const uint8_t zeros[16];
	const uint8_t *k = key ? key : zeros;
	uint8_t v4[4];

	if (len < 4)
		return false;
	ep->port = load_be16(value + 2) ^ load_be16(k);
	if (value[1] == FAMILY_IPV4 && len == 8) {
		xor_bytes(v4, value + 4, k, 4);
		ep->addr = ip_from_v4(load_be32(v4));
		return true;
	}
	if (value[1] == FAMILY_IPV6 && len == 20) {
		xor_bytes(ep->addr.byte, value + 4, k, 16);
		return true;
	}
	return false;
}

int stun_parse_response(const uint8_t *bytes, size_t len, uint8_t txid[static STUN_TXID_LEN],
			struct endpoint *mapped)
{
	struct wire_reader r = wire_reader(bytes, len);
	struct endpoint found[3]; /* by worth: old, 0x8020, XOR */
	bool has[3] = { false, false, false };
	const uint8_t *value;
	uint16_t type, value_len;

	if (!stun_is_packet(bytes, len) || load_be16(bytes) != RESPONSE ||
	    load_be16(bytes + 2) > len - HEADER_LEN)
		return -EBADMSG;
	r = wire_reader(bytes + HEADER_LEN, load_be16(bytes + 2));
	while ((value = next_attribute(&r, &type, &value_len))) {
		if (type == ATTR_XOR_MAPPED)
			has[2] = get_address(value, value_len, bytes + 4, &found[2]) || has[2];
		else if (type == ATTR_XOR_OLD)
			has[1] = get_address(value, value_len, bytes + 4, &found[1]) || has[1];
		else if (type == ATTR_MAPPED)
			has[0] = get_address(value, value_len, NULL, &found[0]) || has[0];
	}
	for (int i = 2; i >= 0; i--) {
		if (has[i]) {
			memcpy(txid, bytes + 8, STUN_TXID_LEN);
			*mapped = found[i];
			return 0;
		}
	}
	return -EBADMSG;
}
