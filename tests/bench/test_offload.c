/* Super-packets: what a wire would carry of them, and back. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "shared/util.h"
#include "shared/wire.h"
#include "tests/bench/offload.h"

#define DATAGRAM 1372u
#define COUNT    5u
#define LAST     100u
#define PAYLOAD  (DATAGRAM * (COUNT - 1) + LAST)
#define HEADERS  28u
#define ALL      (OFFLOAD_FRONT + HEADERS + PAYLOAD)

static uint16_t sum_of(const uint8_t *bytes, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i += 2)
		sum += load_be16(bytes + i);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static uint16_t pseudo_sum(const uint8_t *ip)
{
	return sum_of(ip + 12, 8, IPPROTO_UDP + load_be16(ip + 24));
}

/* As a device gives it: 192.0.2.1:1000 to 192.0.2.2:2000. */
static void make_super(uint8_t bytes[ALL])
{
	struct virtio_net_hdr front = { .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
					.gso_type = VIRTIO_NET_HDR_GSO_UDP_L4,
					.gso_size = DATAGRAM,
					.hdr_len = HEADERS,
					.csum_start = 20,
					.csum_offset = 6 };
	static const uint8_t addresses[] = { 192, 0, 2, 1, 192, 0, 2, 2 };
	uint8_t *ip = bytes + OFFLOAD_FRONT;

	memset(bytes, 0, ALL);
	memcpy(bytes, &front, sizeof(front));
	ip[0] = 0x45;
	store_be16(ip + 2, HEADERS + PAYLOAD);
	store_be16(ip + 4, 0xfffe);
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, addresses, sizeof(addresses));
	store_be16(ip + 10, (uint16_t)~sum_of(ip, 20, 0));
	store_be16(ip + 20, 1000);
	store_be16(ip + 22, 2000);
	store_be16(ip + 24, 8 + PAYLOAD);
	store_be16(ip + 26, pseudo_sum(ip));
	for (size_t i = 0; i < PAYLOAD; i++)
		ip[HEADERS + i] = (uint8_t)(i * 7 + i / 251);
}

static unsigned cut_all(const uint8_t *bytes, size_t len, uint8_t packet[][2048], size_t *lens)
{
	struct offload_cut cut;
	unsigned count = 0;

	assert_true(offload_cut_begin(&cut, bytes, len));
	while ((lens[count] = offload_cut_next(&cut, packet[count], 2048)) > 0)
		count++;
	return count;
}

static void test_wire_packets_are_whole(void **state)
{
	static uint8_t super[ALL], packet[COUNT + 1][2048];
	size_t lens[COUNT + 1];

	(void)state;
	make_super(super);
	assert_int_equal(cut_all(super, ALL, packet, lens), COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		const uint8_t *ip = packet[i] + OFFLOAD_FRONT;
		size_t len = HEADERS + (i == COUNT - 1 ? LAST : DATAGRAM);
		struct virtio_net_hdr front;

		memcpy(&front, packet[i], sizeof(front));
		assert_int_equal(front.gso_type, VIRTIO_NET_HDR_GSO_NONE);
		assert_int_equal(front.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
		assert_int_equal(lens[i], OFFLOAD_FRONT + len);
		assert_int_equal(load_be16(ip + 2), len);
		assert_int_equal(load_be16(ip + 4), (uint16_t)(0xfffe + i));
		assert_int_equal(sum_of(ip, 20, 0), 0xffff);
		assert_int_equal(load_be16(ip + 24), len - 20);
		assert_int_equal(load_be16(ip + 26), pseudo_sum(ip));
		assert_memory_equal(ip + HEADERS, super + OFFLOAD_FRONT + HEADERS + i * DATAGRAM,
				    len - HEADERS);
	}
}

static void test_joined_packets_are_the_super_packet_again(void **state)
{
	static uint8_t super[ALL], packet[COUNT + 1][2048], whole[ALL];
	struct offload_join join;
	size_t lens[COUNT + 1], len = 0;

	(void)state;
	make_super(super);
	cut_all(super, ALL, packet, lens);
	offload_join_begin(&join, packet[0], lens[0]);
	for (unsigned i = 1; i < COUNT; i++)
		assert_true(offload_join_add(&join, packet[i], lens[i]));
	/* Nothing follows a shorter one. */
	assert_false(offload_join_add(&join, packet[1], lens[1]));
	offload_join_end(&join);
	for (int i = 0; i < join.count; len += join.piece[i++].iov_len)
		memcpy(whole + len, join.piece[i].iov_base, join.piece[i].iov_len);
	assert_int_equal(len, ALL);
	assert_memory_equal(whole, super, ALL);
}

static void test_only_a_flow_of_equal_datagrams_is_joined(void **state)
{
	static uint8_t super[ALL], packet[COUNT + 1][2048];
	struct offload_join join;
	size_t lens[COUNT + 1];

	(void)state;
	make_super(super);
	cut_all(super, ALL, packet, lens);
	offload_join_begin(&join, packet[COUNT - 1], lens[COUNT - 1]);
	assert_false(offload_join_add(&join, packet[0], lens[0])); /* a longer one */
	offload_join_begin(&join, packet[0], lens[0]);
	packet[1][OFFLOAD_FRONT + 23] ^= 1; /* another port */
	assert_false(offload_join_add(&join, packet[1], lens[1]));
	packet[2][OFFLOAD_FRONT + 15] ^= 1; /* another sender */
	assert_false(offload_join_add(&join, packet[2], lens[2]));
	packet[3][0] = 0; /* its checksum is complete */
	assert_false(offload_join_add(&join, packet[3], lens[3]));
}

static void test_other_packets_stay_as_they_are(void **state)
{
	static uint8_t super[ALL], packet[2][2048];
	struct offload_cut cut;
	struct offload_join join;
	size_t lens[2];

	(void)state;
	make_super(super);
	super[1] = VIRTIO_NET_HDR_GSO_NONE;
	super[OFFLOAD_FRONT + 9] = IPPROTO_TCP;
	assert_int_equal(cut_all(super, 1000, packet, lens), 1);
	assert_int_equal(lens[0], 1000);
	assert_memory_equal(packet[0], super, 1000);
	offload_join_begin(&join, packet[0], lens[0]);
	assert_false(offload_join_add(&join, packet[0], lens[0]));
	offload_join_end(&join);
	assert_memory_equal(join.piece[0].iov_base, super, 1000);
	super[1] = VIRTIO_NET_HDR_GSO_TCPV4;
	assert_false(offload_cut_begin(&cut, super, ALL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire_packets_are_whole),
		cmocka_unit_test(test_joined_packets_are_the_super_packet_again),
		cmocka_unit_test(test_only_a_flow_of_equal_datagrams_is_joined),
		cmocka_unit_test(test_other_packets_stay_as_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
