/*
 * Any fragments: what comes out whole must be what a plain model makes of them.
 *
 * The input is records of four bytes: datagram, offset and length in units of 8,
 * flags. The bytes of a datagram follow from its number and the offset, unless a
 * flag changes them. A whole datagram must hold just those bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/reassembly.h"

enum { LAST = 1, CHANGED = 2, PASS_TIME = 4, ODD = 8, IS_V6 = 16, OTHER_SOURCE = 32 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t byte_of(uint8_t id, uint32_t at)
{
	return (uint8_t)(id * 37u + at + (at >> 8));
}

static void check_whole(const uint8_t *whole, size_t len, bool has_changed)
{
	struct ip_packet p;
	uint8_t id;

	if (ip_packet_parse(whole, len, &p) < 0 || p.is_fragment ||
	    p.header_len + p.payload_len != len || p.payload_len == 0)
		abort();
	id = ip_payload(&p)[0];
	for (uint32_t i = 0; i < p.payload_len && !has_changed; i++) {
		if (ip_payload(&p)[i] != (uint8_t)(id + byte_of(0, i)))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct reassembly *r = reassembly_create();
	uint8_t bytes[IP_HEADER_MAX + 256 * 8];
	bool has_changed = false;
	uint64_t now_ns = 0;

	for (; r && size >= 4; data += 4, size -= 4) {
		uint8_t flags = data[3], *whole, *copy;
		bool is_v6 = flags & IS_V6;
		uint32_t at = data[1] * 256u, len = (data[2] + 1u) * 8u;
		struct ip_fragment fragment = { data[0], at, !(flags & LAST) };
		struct ip_addr src = is_v6 ? (struct ip_addr){ .byte = { 0xfd } }
					   : ip_from_v4(0x64400002),
			       dst = is_v6 ? (struct ip_addr){ .byte = { 0xfc } }
					   : ip_from_v4(0x64400001);
		struct ip_packet p;
		size_t header, whole_len;

		if (flags & ODD)
			len -= 3;
		if (flags & OTHER_SOURCE)
			src.byte[15]++;
		header = ip_header_write(bytes, &src, &dst, IP_PROTOCOL_UDP, len, &fragment);
		for (uint32_t i = 0; i < len; i++)
			bytes[header + i] = byte_of(data[0], at + i);
		if (flags & CHANGED) {
			bytes[header + len / 2] ^= 1;
			has_changed = true;
		}
		copy = malloc(header + len);
		if (!copy)
			break;
		memcpy(copy, bytes, header + len);
		if (ip_packet_parse(copy, header + len, &p) == 0 && p.is_fragment) {
			if (reassembly_add(r, NULL, &p, now_ns, &whole, &whole_len) == 0 && whole)
				check_whole(whole, whole_len, has_changed);
		}
		free(copy);
		if (flags & PASS_TIME) {
			uint64_t next = reassembly_deadline(r);

			if (next != NEVER_NS) {
				now_ns = next;
				if (reassembly_expire(r, now_ns) > REASSEMBLY_MAX)
					abort();
			}
		}
		now_ns++;
	}
	reassembly_destroy(r);
	return 0;
}
