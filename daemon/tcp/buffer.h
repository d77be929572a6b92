/*
 * The bytes of one direction of a stream, addressed by sequence number.
 *
 * Memory comes in chunks of 64 KiB on 64 KiB boundaries of sequence space, or,
 * for streams that carry little, as one block of 4 KiB. Chunks are allocated
 * when first written and given back when their last byte is done with, through
 * a small last-in-first-out store: a reader that keeps up works in warm cache.
 */
#ifndef MESHWRAP_DAEMON_TCP_BUFFER_H
#define MESHWRAP_DAEMON_TCP_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TCP_CHUNK        65536u
#define TCP_SMALL        4096u
#define TCP_CHUNKS_KEPT  64u
#define TCP_INLINE_SLOTS 2u

/* All buffers of an endpoint share one. */
struct tcp_memory {
	size_t used, max; /* bytes; small blocks count, but are never refused */
	uint8_t *kept[TCP_CHUNKS_KEPT];
	unsigned kept_count;
};

struct tcp_buffer {
	size_t *held;    /* what the peer's streams hold together; NULL: not counted */
	uint8_t **slots; /* chunk of sequence number s: slots[(s >> 16) & slot_mask] */
	uint32_t slot_mask;
	uint32_t chunks; /* slots in use */
	uint8_t *small;  /* covers [small_seq, small_seq + TCP_SMALL) */
	uint32_t small_seq;
	size_t beside; /* bytes that are counted but not in blocks */
	bool is_bulk;  /* a small block was filled: begin with a chunk next time */
	uint8_t *inline_slots[TCP_INLINE_SLOTS];
};

/*
 * Bytes in use, as a stream must see them: half of what its peer's streams hold counts
 * twice, so that they never hold more than twice what is free (see share.c).
 */
size_t tcp_memory_used(const struct tcp_memory *m, const struct tcp_buffer *b);
/* Frees what is kept. */
void tcp_memory_trim(struct tcp_memory *m);

void tcp_buffer_init(struct tcp_buffer *b);
/*
 * Where the byte seq may be written, allocating; first is the oldest byte still
 * needed. *room: bytes that stand contiguous from there. NULL when memory_max is reached.
 */
uint8_t *tcp_buffer_room(struct tcp_buffer *b, struct tcp_memory *m, uint32_t first, uint32_t seq,
			 size_t *room);
/* So many bytes are now in use for the stream, beside its blocks. */
void tcp_buffer_count(struct tcp_buffer *b, struct tcp_memory *m, size_t beside);
/* Where the byte seq was written, and how many are contiguous from it. */
uint8_t *tcp_buffer_at(const struct tcp_buffer *b, uint32_t seq, size_t *contiguous);
/* Copies out len bytes from seq. */
void tcp_buffer_copy(const struct tcp_buffer *b, uint32_t seq, uint8_t *out, size_t len);
/* Bytes [from, to) are done with; to is the oldest still needed. */
void tcp_buffer_drop(struct tcp_buffer *b, struct tcp_memory *m, uint32_t from, uint32_t to);
/* Gives everything back: the buffer is empty. */
void tcp_buffer_clear(struct tcp_buffer *b, struct tcp_memory *m);

#endif
