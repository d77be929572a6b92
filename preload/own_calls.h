/*
 * Does a dynamic program make network calls by instructions of its own, which no
 * replaced function of libc sees? The bytes of its file in, a verdict out. Async-signal-safe.
 */
#ifndef MESHWRAP_PRELOAD_OWN_CALLS_H
#define MESHWRAP_PRELOAD_OWN_CALLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "preload/program_file.h"

#define OWN_CALLS_CODE_MAX ((size_t)64 << 20) /* what lies behind so much code is not looked at */
#define OWN_CALLS_ROOM     ((size_t)65536)

/*
 * The whole file, of this kind of machine or another, or its first len bytes. False for
 * what is no ELF file or is broken. Pure.
 */
bool own_calls_found(const void *bytes, size_t len);
/* room: of OWN_CALLS_ROOM bytes, where the file is read. */
bool own_calls_in_file(struct program_file *file, uint8_t *room);
/* The same for code of this kind of machine. Pure. */
bool own_calls_in_code(const void *bytes, size_t len);
/* The same for the file of fd, which may change meanwhile; false, too, when it cannot be read. */
bool own_calls_in(int fd);

#endif
