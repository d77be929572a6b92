/*
 * Stream bytes in chunks.
 *
 * Rejected: a ring that doubles. It copies as it grows, holds a large mapping
 * for every stream that was fast once, and walks through all of it even when
 * the reader keeps up, so its pages are never in cache.
 *
 * Invariants: a chunk covers an aligned 64 KiB of sequence space, so slots
 * need no order; the span from the oldest byte needed to the newest written
 * never exceeds the slots (slots grow first). The small block exists beside
 * chunks while a stream grows out of it; it is looked at first.
 *
 * The small block is never refused, so every connection can always move a few
 * bytes even when memory_max is reached; max_conns bounds their sum.
 */
#include "daemon/tcp/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

static uint32_t chunk_of(uint32_t seq)
{
	return seq >> 16;
}

void tcp_memory_trim(struct tcp_memory *m)
{
	while (m->kept_count > 0)
		free(m->kept[--m->kept_count]);
}

size_t tcp_memory_used(const struct tcp_memory *m, const struct tcp_buffer *b)
{
	return m->used + (b->held ? *b->held / 2 : 0);
}

static void count_taken(struct tcp_buffer *b, struct tcp_memory *m, size_t len)
{
	m->used += len;
	if (b->held)
		*b->held += len;
}

static void count_given(struct tcp_buffer *b, struct tcp_memory *m, size_t len)
{
	m->used -= len;
	if (b->held)
		*b->held -= len;
}

void tcp_buffer_count(struct tcp_buffer *b, struct tcp_memory *m, size_t beside)
{
	count_given(b, m, b->beside);
	count_taken(b, m, beside);
	b->beside = beside;
}

static uint8_t *chunk_take(struct tcp_buffer *b, struct tcp_memory *m)
{
	uint8_t *chunk;

	if (tcp_memory_used(m, b) + TCP_CHUNK > m->max)
		return NULL;
	chunk = m->kept_count ? m->kept[--m->kept_count] : malloc(TCP_CHUNK);
	if (chunk)
		count_taken(b, m, TCP_CHUNK);
	return chunk;
}

static void chunk_give(struct tcp_buffer *b, struct tcp_memory *m, uint8_t *chunk)
{
	count_given(b, m, TCP_CHUNK);
	if (m->kept_count < TCP_CHUNKS_KEPT)
		m->kept[m->kept_count++] = chunk;
	else
		free(chunk);
}

static void small_give(struct tcp_buffer *b, struct tcp_memory *m)
{
	if (!b->small)
		return;
	free(b->small);
	b->small = NULL;
	count_given(b, m, TCP_SMALL);
}

void tcp_buffer_init(struct tcp_buffer *b)
{
	memset(b, 0, sizeof(*b));
	b->slots = b->inline_slots;
	b->slot_mask = TCP_INLINE_SLOTS - 1;
}

/* Makes the slots span chunks first..last. */
static bool slots_grow(struct tcp_buffer *b, uint32_t first, uint32_t last)
{
	uint32_t span = (uint16_t)(last - first) + 1u, size = b->slot_mask + 1;
	uint8_t **slots;

	if (span <= size)
		return true;
	while (size < span)
		size *= 2;
	slots = calloc(size, sizeof(*slots));
	if (!slots)
		return false;
	/* The old slots hold chunks first .. first + old size - 1. */
	for (uint32_t i = 0; i <= b->slot_mask; i++)
		slots[(first + i) & (size - 1)] = b->slots[(first + i) & b->slot_mask];
	if (b->slots != b->inline_slots)
		free(b->slots);
	b->slots = slots;
	b->slot_mask = size - 1;
	return true;
}

static bool small_take(struct tcp_buffer *b, struct tcp_memory *m, uint32_t seq)
{
	b->small = malloc(TCP_SMALL);
	if (!b->small)
		return false;
	b->small_seq = seq;
	b->is_bulk = false;
	count_taken(b, m, TCP_SMALL);
	return true;
}

/* The chunk of seq, or NULL. */
static uint8_t *chunk_for(struct tcp_buffer *b, struct tcp_memory *m, uint32_t first, uint32_t seq)
{
	uint8_t **slot;

	if (!slots_grow(b, chunk_of(first), chunk_of(seq)))
		return NULL;
	slot = &b->slots[chunk_of(seq) & b->slot_mask];
	if (!*slot) {
		*slot = chunk_take(b, m);
		b->chunks += *slot != NULL;
	}
	return *slot;
}

uint8_t *tcp_buffer_room(struct tcp_buffer *b, struct tcp_memory *m, uint32_t first, uint32_t seq,
			 size_t *room)
{
	bool is_empty = !b->small && b->chunks == 0 && first == seq;
	uint8_t *chunk = NULL;

	if (is_empty && !b->is_bulk && !small_take(b, m, seq))
		return NULL;
	if (!b->small || seq - b->small_seq >= TCP_SMALL) {
		chunk = chunk_for(b, m, first, seq);
		if (chunk)
			b->is_bulk = true;
		else if (!is_empty || !small_take(b, m, seq))
			return NULL;
	}
	if (!chunk) {
		*room = TCP_SMALL - (seq - b->small_seq);
		return b->small + (seq - b->small_seq);
	}
	*room = TCP_CHUNK - (seq & (TCP_CHUNK - 1));
	return chunk + (seq & (TCP_CHUNK - 1));
}

uint8_t *tcp_buffer_at(const struct tcp_buffer *b, uint32_t seq, size_t *contiguous)
{
	uint8_t *chunk;

	if (b->small && seq - b->small_seq < TCP_SMALL) {
		*contiguous = TCP_SMALL - (seq - b->small_seq);
		return b->small + (seq - b->small_seq);
	}
	chunk = b->slots[chunk_of(seq) & b->slot_mask];
	assert(chunk);
	*contiguous = TCP_CHUNK - (seq & (TCP_CHUNK - 1));
	return chunk + (seq & (TCP_CHUNK - 1));
}

void tcp_buffer_copy(const struct tcp_buffer *b, uint32_t seq, uint8_t *out, size_t len)
{
	while (len > 0) {
		size_t contiguous;
		const uint8_t *from = tcp_buffer_at(b, seq, &contiguous);
		size_t n = MIN(len, contiguous);

		memcpy(out, from, n);
		out += n;
		len -= n;
		seq += (uint32_t)n;
	}
}

void tcp_buffer_drop(struct tcp_buffer *b, struct tcp_memory *m, uint32_t from, uint32_t to)
{
	if (b->small && to - b->small_seq >= TCP_SMALL && to - b->small_seq < UINT32_MAX / 2)
		small_give(b, m);
	for (uint32_t c = chunk_of(from); b->chunks > 0 && c != chunk_of(to);
	     c = (uint16_t)(c + 1)) {
		uint8_t **slot = &b->slots[c & b->slot_mask];

		if (!*slot)
			continue;
		chunk_give(b, m, *slot);
		*slot = NULL;
		b->chunks--;
	}
}

void tcp_buffer_clear(struct tcp_buffer *b, struct tcp_memory *m)
{
	if (b->chunks == 0 && b->small)
		b->is_bulk = false;
	small_give(b, m);
	for (uint32_t i = 0; b->chunks > 0 && i <= b->slot_mask; i++) {
		if (!b->slots[i])
			continue;
		chunk_give(b, m, b->slots[i]);
		b->slots[i] = NULL;
		b->chunks--;
	}
	if (b->slots != b->inline_slots) {
		free(b->slots);
		b->slots = b->inline_slots;
		b->slot_mask = TCP_INLINE_SLOTS - 1;
		memset(b->inline_slots, 0, sizeof(b->inline_slots));
	}
}
