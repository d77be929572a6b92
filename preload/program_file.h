/*
 * A program's file, as it is looked at: bytes in memory, or a descriptor. That is read and never
 * mapped: a file that is made shorter meanwhile, as by "cp" over it, would end whoever looks at
 * what was mapped (SIGBUS).
 */
#ifndef MESHWRAP_PRELOAD_PROGRAM_FILE_H
#define MESHWRAP_PRELOAD_PROGRAM_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRAM_FILE_PIECE 1024

struct program_file {
	const void *bytes; /* NULL: they are read from fd */
	size_t len;
	int fd;
	/* The pieces that were read last: headers lie close together, and names elsewhere. */
	struct {
		size_t at, len;
		uint8_t bytes[PROGRAM_FILE_PIECE];
	} piece[2];
	unsigned next;
};

/* False: no regular file, or empty. */
bool program_file_open(int fd, struct program_file *file);
struct program_file program_file_of_bytes(const void *bytes, size_t len);
/* How many bytes: fewer than are asked for where the file ends. errno may change. */
size_t program_file_read(struct program_file *file, size_t at, void *to, size_t len);

#endif
