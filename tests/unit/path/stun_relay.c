/*
 * A relay's part of STUN (RFC 5389), written beside the node's own: requests need
 * SOFTWARE "tailnode" and a right FINGERPRINT as the last attribute, and answers have
 * one XOR-MAPPED-ADDRESS.
 */
#include "tests/unit/path/stun_relay.h"

#include <errno.h>
#include <string.h>

#include "shared/wire.h"

#define HEADER_LEN       20
#define COOKIE           0x2112a442u
#define ATTR_XOR_MAPPED  0x0020
#define ATTR_SOFTWARE    0x8022
#define ATTR_FINGERPRINT 0x8028
#define FINGERPRINT_LEN  8 /* with its attribute header */

static uint32_t fingerprint(const uint8_t *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t bit = 0; bit < 8 * len; bit++) {
		if (bit % 8 == 0)
			crc ^= bytes[bit / 8];
		crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc ^ 0x5354554eu;
}

int stun_parse_request(const uint8_t *bytes, size_t len, uint8_t txid[static STUN_TXID_LEN])
{
	bool is_ours = false, has_fingerprint = false;
	size_t at = HEADER_LEN, value_len;

	if (!stun_is_packet(bytes, len) || load_be16(bytes) != 1 ||
	    load_be16(bytes + 2) != len - HEADER_LEN)
		return -EBADMSG;
	for (; len - at >= 4; at += 4 + value_len) {
		unsigned type = load_be16(bytes + at);

		value_len = load_be16(bytes + at + 2);
		if (value_len > len - at - 4)
			break;
		if (type == ATTR_SOFTWARE)
			is_ours = value_len == 8 && memcmp(bytes + at + 4, "tailnode", 8) == 0;
		has_fingerprint = type == ATTR_FINGERPRINT && value_len == 4 &&
				  at + FINGERPRINT_LEN == len;
		/* Padding; some leave it out at the end. */
		if (value_len % 4 != 0 && len - at - 4 - value_len >= 4 - value_len % 4)
			value_len += 4 - value_len % 4;
	}
	if (!is_ours || !has_fingerprint ||
	    load_be32(bytes + len - 4) != fingerprint(bytes, len - FINGERPRINT_LEN))
		return -EBADMSG;
	memcpy(txid, bytes + 8, STUN_TXID_LEN);
	return 0;
}

size_t stun_make_response(const uint8_t txid[static STUN_TXID_LEN], const struct endpoint *mapped,
			  uint8_t out[static STUN_RESPONSE_MAX])
{
	bool is_v4 = ip_is_v4(&mapped->addr);
	size_t addr_len = is_v4 ? 4 : 16;
	uint8_t *p = out + HEADER_LEN;

	store_be16(out, 0x0101);
	store_be16(out + 2, (uint16_t)(8 + addr_len));
	store_be32(out + 4, COOKIE);
	memcpy(out + 8, txid, STUN_TXID_LEN);
	store_be16(p, ATTR_XOR_MAPPED);
	store_be16(p + 2, (uint16_t)(4 + addr_len));
	p[4] = 0;
	p[5] = is_v4 ? 1 : 2;
	store_be16(p + 6, mapped->port ^ (COOKIE >> 16));
	for (size_t i = 0; i < addr_len; i++)
		p[8 + i] = mapped->addr.byte[16 - addr_len + i] ^ out[4 + i];
	return HEADER_LEN + 8 + addr_len;
}
