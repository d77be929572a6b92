/*
 * Does a dynamic program make network calls by instructions of its own, which no
 * replaced function of libc sees? The bytes of its file in, a verdict out. Async-signal-safe.
 */
#ifndef MESHWRAP_PRELOAD_OWN_CALLS_H
#define MESHWRAP_PRELOAD_OWN_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OWN_CALLS_CODE_MAX ((size_t)64 << 20) /* what lies behind so much code is not looked at */
#define OWN_CALLS_ROOM     ((size_t)65536)

/* Where a file's bytes come from: memory, or room is filled again and again. */
struct own_calls_file {
	const uint8_t *bytes; /* NULL: they are read */
	size_t len;
	/* How many bytes: fewer than are asked for where the file has become shorter. */
	size_t (*read)(const struct own_calls_file *file, size_t at, void *to, size_t len);
	int fd;
	uint8_t *room; /* of OWN_CALLS_ROOM bytes */
};

/*
 * The whole file, of this kind of machine or another, or its first len bytes. False for
 * what is no ELF file or is broken. Pure.
 */
bool own_calls_found(const void *bytes, size_t len);
bool own_calls_in_file(const struct own_calls_file *file);
/* The same for code of this kind of machine. Pure. */
bool own_calls_in_code(const void *bytes, size_t len);
/* The same for the file of fd, which may change meanwhile; false, too, when it cannot be read. */
bool own_calls_in(int fd);

#endif
