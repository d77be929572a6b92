/* Reassembly: any order, no overlap, bounded. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/stack/reassembly.h"

#define TOTAL 60000u

static uint8_t content[TOTAL];
static uint8_t bytes[IP_PACKET_MAX];

struct fixture {
	struct reassembly *r;
	bool is_v6;
	uint64_t now_ns;
	const void *peer; /* of all addresses; NULL: each has its own */
	uint8_t *whole;
	size_t len;
};

static struct ip_addr address(bool is_v6, uint8_t last)
{
	struct ip_addr a = { .byte = { 0xfd, [15] = last } };

	return is_v6 ? a : ip_from_v4(0x64400000u + last);
}

/* Adds content[from..to) as a fragment of datagram id from node src. */
static int add(struct fixture *f, uint8_t src, uint32_t id, uint32_t from, uint32_t to)
{
	struct ip_addr source = address(f->is_v6, src), dst = address(f->is_v6, 1);
	const struct ip_fragment fragment = { id, from, to < TOTAL };
	struct ip_packet p;
	size_t header;

	header = ip_header_write(bytes, &source, &dst, IP_PROTOCOL_UDP, to - from, &fragment);
	memcpy(bytes + header, content + from, to - from);
	assert_int_equal(ip_packet_parse(bytes, header + to - from, &p), 0);
	assert_true(p.is_fragment);
	return reassembly_add(f->r, f->peer ? f->peer : content + src, &p, 1000 + f->now_ns,
			      &f->whole, &f->len);
}

static void assert_whole(const struct fixture *f)
{
	struct ip_packet p;

	assert_non_null(f->whole);
	assert_int_equal(ip_packet_parse(f->whole, f->len, &p), 0);
	assert_false(p.is_fragment);
	assert_int_equal(p.protocol, IP_PROTOCOL_UDP);
	assert_int_equal(p.payload_len, TOTAL);
	assert_memory_equal(ip_payload(&p), content, TOTAL);
}

static void open_reassembly(struct fixture *f, bool is_v6)
{
	memset(f, 0, sizeof(*f));
	f->is_v6 = is_v6;
	f->r = reassembly_create();
	assert_non_null(f->r);
	for (unsigned i = 0; i < TOTAL; i++)
		content[i] = (uint8_t)(i * 31 + (i >> 8));
}

static void test_fragments_in_order_make_the_datagram(void **state)
{
	struct fixture f;

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		open_reassembly(&f, v6);
		for (uint32_t at = 0; at < TOTAL; at += 1400) {
			assert_null(f.whole);
			assert_int_equal(add(&f, 2, 7, at, MIN(at + 1400, TOTAL)), 0);
		}
		assert_whole(&f);
		assert_true(reassembly_deadline(f.r) == NEVER_NS);
		reassembly_destroy(f.r);
	}
}

static void test_any_order_makes_the_datagram(void **state)
{
	uint32_t order[43];
	struct fixture f;

	(void)state;
	srand(1);
	for (int round = 0; round < 200; round++) {
		unsigned n = 43, spans = 0;

		open_reassembly(&f, round & 1);
		for (unsigned i = 0; i < n; i++)
			order[i] = i;
		for (unsigned i = n - 1; i > 0; i--) {
			unsigned k = (unsigned)rand() % (i + 1);
			uint32_t swap = order[i];

			order[i] = order[k];
			order[k] = swap;
		}
		for (unsigned i = 0; i < n; i++) {
			uint32_t at = order[i] * 1400;

			spans += f.whole != NULL;
			assert_int_equal(add(&f, 2, 7, at, MIN(at + 1400, TOTAL)), 0);
		}
		assert_int_equal(spans, 0);
		assert_whole(&f);
		reassembly_destroy(f.r);
	}
}

static void test_exact_duplicates_are_ignored(void **state)
{
	struct fixture f;

	(void)state;
	open_reassembly(&f, false);
	assert_int_equal(add(&f, 2, 7, 0, 40000), 0);
	assert_int_equal(add(&f, 2, 7, 0, 40000), 0);
	assert_int_equal(add(&f, 2, 7, 8000, 16000), 0);
	assert_int_equal(add(&f, 2, 7, 40000, TOTAL), 0);
	assert_whole(&f);
	reassembly_destroy(f.r);
}

static void test_overlaps_spoil_the_datagram(void **state)
{
	static const struct {
		uint32_t from, to;
		bool differs;
	} overlap[] = { { 8, 80, true },
			{ 792, 880, false },
			{ 0, 1600, false },
			{ 1592, 1608, false },
			{ 792, 1608, false } };
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(overlap); i++) {
		open_reassembly(&f, i & 1);
		assert_int_equal(add(&f, 2, 7, 0, 800), 0);
		assert_int_equal(add(&f, 2, 7, 1600, 2400), 0);
		if (overlap[i].differs)
			content[overlap[i].from] ^= 1;
		assert_int_equal(add(&f, 2, 7, overlap[i].from, overlap[i].to), -EBADMSG);
		/* What comes later belongs to the same spoilt datagram and is counted once. */
		assert_int_equal(add(&f, 2, 7, 0, 40000), 0);
		assert_int_equal(add(&f, 2, 7, 40000, TOTAL), 0);
		assert_null(f.whole);
		assert_int_equal(reassembly_expire(f.r, 1000 + REASSEMBLY_TIMEOUT_NS), 0);
		assert_int_equal(add(&f, 2, 7, 0, 40000), 0);
		assert_int_equal(add(&f, 2, 7, 40000, TOTAL), 0);
		assert_non_null(f.whole);
		reassembly_destroy(f.r);
	}
}

static void test_a_fragment_beyond_the_end_spoils_the_datagram(void **state)
{
	struct fixture f;

	(void)state;
	open_reassembly(&f, false);
	assert_int_equal(add(&f, 2, 7, 40000, TOTAL), 0);
	/* The last one again, but shorter; then one behind it. */
	assert_int_equal(add(&f, 2, 7, 0, 1400), 0);
	content[0] ^= 1;
	assert_int_equal(add(&f, 2, 7, 0, 1400), -EBADMSG);
	reassembly_destroy(f.r);
}

static void test_impossible_lengths_are_refused(void **state)
{
	struct ip_addr src = ip_from_v4(0x64400002u), dst = ip_from_v4(0x64400001u);
	struct ip_fragment fragment = { 3, 65528, false };
	struct ip_packet p;
	struct fixture f;

	(void)state;
	open_reassembly(&f, false);
	assert_int_equal(add(&f, 2, 1, 0, 1401), -EBADMSG); /* not a multiple of 8 */
	assert_int_equal(add(&f, 2, 2, 8, 8), -EBADMSG);    /* empty */
	ip_header_write(bytes, &src, &dst, IP_PROTOCOL_UDP, 100, &fragment);
	assert_int_equal(ip_packet_parse(bytes, 120, &p), 0);
	assert_int_equal(reassembly_add(f.r, NULL, &p, 0, &f.whole, &f.len), -EBADMSG);
	reassembly_destroy(f.r);
}

static void test_too_many_holes_are_refused(void **state)
{
	struct fixture f;

	(void)state;
	open_reassembly(&f, true);
	for (uint32_t i = 0; i < REASSEMBLY_MAX_SPANS; i++)
		assert_int_equal(add(&f, 2, 1, 16 * i, 16 * i + 8), 0);
	assert_int_equal(add(&f, 2, 1, 16 * REASSEMBLY_MAX_SPANS, 16 * REASSEMBLY_MAX_SPANS + 8),
			 -EBADMSG);
	reassembly_destroy(f.r);
}

static void test_unfinished_datagrams_expire(void **state)
{
	struct fixture f;

	(void)state;
	open_reassembly(&f, false);
	assert_int_equal(add(&f, 2, 1, 0, 1400), 0);
	assert_int_equal(add(&f, 2, 2, 0, 1400), 0);
	assert_true(reassembly_deadline(f.r) == 1000 + REASSEMBLY_TIMEOUT_NS);
	assert_int_equal(reassembly_expire(f.r, 999 + REASSEMBLY_TIMEOUT_NS), 0);
	assert_int_equal(reassembly_expire(f.r, 1000 + REASSEMBLY_TIMEOUT_NS), 2);
	assert_true(reassembly_deadline(f.r) == NEVER_NS);
	reassembly_destroy(f.r);
}

static void test_one_source_cannot_push_out_another(void **state)
{
	struct fixture f;

	(void)state;
	open_reassembly(&f, false);
	assert_int_equal(add(&f, 3, 1, 0, 40000), 0);
	for (uint32_t id = 0; id < 1000; id++)
		assert_int_equal(add(&f, 2, id, 0, 1400), 0);
	assert_int_equal(reassembly_evicted(f.r), 1000 - REASSEMBLY_MAX_SOURCE);
	assert_int_equal(add(&f, 3, 1, 40000, TOTAL), 0);
	assert_whole(&f);
	reassembly_destroy(f.r);
}

/* It may have a whole prefix, or a network behind it. */
static void test_one_peer_with_many_addresses_cannot_push_out_another(void **state)
{
	struct fixture f;

	(void)state;
	open_reassembly(&f, true);
	assert_int_equal(add(&f, 200, 7, 0, 8), 0);
	f.peer = bytes;
	f.now_ns = 1;
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(add(&f, (uint8_t)(2 + i % 150), i, 0, 8), 0);
	f.peer = NULL;
	assert_int_equal(add(&f, 200, 7, 8, TOTAL), 0);
	assert_whole(&f);
	assert_true(reassembly_evicted(f.r) >= 1000 - REASSEMBLY_MAX * 2 / 3);
	reassembly_destroy(f.r);
}

static void test_many_sources_push_out_the_oldest(void **state)
{
	struct fixture f;

	(void)state;
	open_reassembly(&f, false);
	for (uint32_t i = 0; i < REASSEMBLY_MAX + 5; i++)
		assert_int_equal(add(&f, (uint8_t)(2 + i), 1, 0, 1400), 0);
	assert_int_equal(reassembly_evicted(f.r), 5);
	reassembly_destroy(f.r);
	reassembly_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fragments_in_order_make_the_datagram),
		cmocka_unit_test(test_any_order_makes_the_datagram),
		cmocka_unit_test(test_exact_duplicates_are_ignored),
		cmocka_unit_test(test_overlaps_spoil_the_datagram),
		cmocka_unit_test(test_a_fragment_beyond_the_end_spoils_the_datagram),
		cmocka_unit_test(test_impossible_lengths_are_refused),
		cmocka_unit_test(test_too_many_holes_are_refused),
		cmocka_unit_test(test_unfinished_datagrams_expire),
		cmocka_unit_test(test_one_source_cannot_push_out_another),
		cmocka_unit_test(test_one_peer_with_many_addresses_cannot_push_out_another),
		cmocka_unit_test(test_many_sources_push_out_the_oldest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
