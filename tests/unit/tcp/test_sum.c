/* The Internet checksum: against one added up word by word, on both kinds of processor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/tcp/sum.c"

/* RFC 1071, 4.1, in network byte order. */
static uint16_t by_the_book(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (; len > 1; len -= 2, p += 2)
		sum += (uint32_t)(p[0] << 8 | p[1]);
	if (len > 0)
		sum += (uint32_t)(p[0] << 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static uint16_t network_order(uint64_t sum)
{
	uint16_t folded = tcp_sum_fold(sum);
	uint8_t bytes[2];

	memcpy(bytes, &folded, 2);
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static uint8_t *noise(size_t len)
{
	uint8_t *bytes = malloc(len);

	assert_non_null(bytes);
	srand(7);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)rand();
	return bytes;
}

static void test_the_example_of_the_rfc(void **state)
{
	static const uint8_t bytes[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

	(void)state;
	assert_int_equal(network_order(tcp_sum(bytes, sizeof(bytes))), 0xddf2);
}

static void test_every_length_and_alignment(void **state)
{
	uint8_t *bytes = noise(2048);

	(void)state;
	for (size_t len = 0; len < 1600; len++)
		for (size_t at = 0; at < 9; at++)
			assert_int_equal(network_order(tcp_sum(bytes + at, len)),
					 by_the_book(bytes + at, len));
	free(bytes);
}

static void test_no_carry_is_lost(void **state)
{
	uint8_t *bytes = malloc(65536);

	(void)state;
	assert_non_null(bytes);
	memset(bytes, 0xff, 65536);
	for (size_t len = 65536 - 70; len <= 65536; len++)
		assert_int_equal(network_order(tcp_sum(bytes, len)), by_the_book(bytes, len));
	free(bytes);
}

static void test_the_parts_add_up_to_the_whole(void **state)
{
	uint8_t *bytes = noise(1500);

	(void)state;
	for (size_t cut = 0; cut <= 1500; cut += 2)
		assert_int_equal(
			network_order(tcp_sum(bytes, cut) + tcp_sum(bytes + cut, 1500 - cut)),
			by_the_book(bytes, 1500));
	free(bytes);
}

static void test_the_long_way_and_the_short_one_agree(void **state)
{
	uint8_t *bytes = noise(65536);

	(void)state;
	for (size_t blocks = 0; blocks <= 1024; blocks += 31)
		assert_true(sum_blocks(bytes, blocks) == sum_blocks_best(bytes, blocks));
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_example_of_the_rfc),
		cmocka_unit_test(test_every_length_and_alignment),
		cmocka_unit_test(test_no_carry_is_lost),
		cmocka_unit_test(test_the_parts_add_up_to_the_whole),
		cmocka_unit_test(test_the_long_way_and_the_short_one_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
