/*
 * Bounds-checked reading and writing of bytes, little- and big-endian.
 *
 * A reader or writer that once ran out of bytes stays failed, gives zeros, and
 * is checked once at the end. Plain loads and stores for fixed layouts follow.
 */
#ifndef MESHWRAP_SHARED_WIRE_H
#define MESHWRAP_SHARED_WIRE_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WIRE_LOAD_STORE(bits)                                        \
	static inline uint##bits##_t load_le##bits(const void *p)    \
	{                                                            \
		uint##bits##_t v;                                    \
		memcpy(&v, p, sizeof(v));                            \
		return le##bits##toh(v);                             \
	}                                                            \
	static inline uint##bits##_t load_be##bits(const void *p)    \
	{                                                            \
		uint##bits##_t v;                                    \
		memcpy(&v, p, sizeof(v));                            \
		return be##bits##toh(v);                             \
	}                                                            \
	static inline void store_le##bits(void *p, uint##bits##_t v) \
	{                                                            \
		v = htole##bits(v);                                  \
		memcpy(p, &v, sizeof(v));                            \
	}                                                            \
	static inline void store_be##bits(void *p, uint##bits##_t v) \
	{                                                            \
		v = htobe##bits(v);                                  \
		memcpy(p, &v, sizeof(v));                            \
	}
WIRE_LOAD_STORE(16)
WIRE_LOAD_STORE(32)
WIRE_LOAD_STORE(64)
#undef WIRE_LOAD_STORE

struct wire_reader {
	const uint8_t *at, *end;
	bool failed;
};

static inline struct wire_reader wire_reader(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	return (struct wire_reader){ at, at + len, false };
}

static inline size_t wire_left(const struct wire_reader *r)
{
	return (size_t)(r->end - r->at);
}

/* The next len bytes, or NULL. */
static inline const uint8_t *wire_take(struct wire_reader *r, size_t len)
{
	const uint8_t *at = r->at;

	if (r->failed || wire_left(r) < len) {
		r->failed = true;
		return NULL;
	}
	r->at += len;
	return at;
}

static inline uint8_t wire_u8(struct wire_reader *r)
{
	const uint8_t *p = wire_take(r, 1);

	return p ? *p : 0;
}

static inline uint16_t wire_be16(struct wire_reader *r)
{
	const uint8_t *p = wire_take(r, 2);

	return p ? load_be16(p) : 0;
}

static inline uint32_t wire_be32(struct wire_reader *r)
{
	const uint8_t *p = wire_take(r, 4);

	return p ? load_be32(p) : 0;
}

#endif
