/*
 * The Internet checksum.
 *
 * Words of 64 bits are taken apart into halves of 32 that are added to sums of 64
 * bits: no carry is ever lost, so none is looked after, and four words are added at
 * once. Where the processor has AVX2, that is one instruction.
 */
#include "daemon/tcp/sum.h"

#include <string.h>

#define BLOCK 64

/* The compiler splits them where registers are shorter. */
typedef uint64_t quad __attribute__((vector_size(32)));

static inline __attribute__((always_inline)) uint64_t sum_blocks(const uint8_t *p, size_t blocks)
{
	quad low = { 0 }, high = { 0 };

	for (; blocks > 0; blocks--, p += BLOCK) {
		quad a, b;

		memcpy(&a, p, sizeof(a));
		memcpy(&b, p + sizeof(a), sizeof(b));
		low += (a & 0xffffffff) + (b & 0xffffffff);
		high += (a >> 32) + (b >> 32);
	}
	low += high;
	return low[0] + low[1] + low[2] + low[3];
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static uint64_t sum_blocks_avx2(const uint8_t *p, size_t blocks)
{
	return sum_blocks(p, blocks);
}

static uint64_t sum_blocks_best(const uint8_t *p, size_t blocks)
{
	return __builtin_cpu_supports("avx2") ? sum_blocks_avx2(p, blocks) : sum_blocks(p, blocks);
}
#else
static uint64_t sum_blocks_best(const uint8_t *p, size_t blocks)
{
	return sum_blocks(p, blocks);
}
#endif

uint64_t tcp_sum(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint64_t sum = 0;

	if (len >= BLOCK) {
		sum = sum_blocks_best(p, len / BLOCK);
		p += len / BLOCK * BLOCK;
		len %= BLOCK;
	}
	for (; len >= 8; len -= 8, p += 8) {
		uint64_t word;

		memcpy(&word, p, sizeof(word));
		sum += (word & 0xffffffff) + (word >> 32);
	}
	if (len >= 4) {
		uint32_t word;

		memcpy(&word, p, sizeof(word));
		sum += word;
		len -= 4;
		p += 4;
	}
	if (len > 0) {
		uint32_t word = 0;

		memcpy(&word, p, len);
		sum += word;
	}
	return sum;
}

uint16_t tcp_sum_fold(uint64_t sum)
{
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 32) + (sum & 0xffffffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)sum;
}
