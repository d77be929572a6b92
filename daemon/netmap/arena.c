/* Chunks are taken as they are needed; the first is as large as its owner expects to need. */
#include "daemon/netmap/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define CHUNK_SIZE 1024u
#define ALIGNMENT  8u

struct arena_chunk {
	struct arena_chunk *next;
	size_t size, used;
	_Alignas(ALIGNMENT) unsigned char bytes[];
};

static struct arena_chunk *add_chunk(struct arena *a, size_t need)
{
	size_t size = MAX(a->chunk ? CHUNK_SIZE : a->first_size, need);
	struct arena_chunk *chunk = malloc(sizeof(*chunk) + size);

	if (!chunk)
		return NULL;
	chunk->size = size;
	chunk->used = 0;
	chunk->next = a->chunk;
	a->chunk = chunk;
	return chunk;
}

void *arena_alloc(struct arena *a, size_t count, size_t size)
{
	struct arena_chunk *chunk = a->chunk;
	size_t len;
	void *out;

	if (a->failed || __builtin_mul_overflow(MAX(count, (size_t)1), size, &len) ||
	    len > SIZE_MAX / 2)
		goto fail;
	len = (len + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (!chunk || len > chunk->size - chunk->used)
		chunk = add_chunk(a, len);
	if (!chunk)
		goto fail;
	out = chunk->bytes + chunk->used;
	chunk->used += len;
	return memset(out, 0, len);
fail:
	a->failed = true;
	return NULL;
}

char *arena_text(struct arena *a, const char *text, size_t len)
{
	char *copy = arena_alloc(a, len + 1, 1);

	if (copy)
		memcpy(copy, text, len);
	return copy;
}

void arena_finish(struct arena *a)
{
	while (a->chunk) {
		struct arena_chunk *next = a->chunk->next;

		free(a->chunk);
		a->chunk = next;
	}
	*a = (struct arena){ .chunk = NULL };
}
