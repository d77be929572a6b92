/* What programs on the two nodes do with their sockets. */
#ifndef MESHWRAP_TESTS_EDGE_PROGRAMS_H
#define MESHWRAP_TESTS_EDGE_PROGRAMS_H

#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

/* Blocking sockets of programs; port 0: any, *port is set. */
int program_listen(const struct endpoint *at, uint16_t *port);
/* connect() itself, with an address of the socket's family. */
int program_connect(int fd, const struct endpoint *to);
void program_send(int fd, const void *bytes, size_t len);
/* Reads until the end or len bytes; returns the count. */
size_t program_receive(int fd, void *bytes, size_t len);

/* Receiving fails after some seconds. */
void program_limit(int fd);
/* The edge's end of a program's connection: it is in this process. */
int program_edge_end(int program);
/* Sent on one, heard on the other. */
void program_say(int from, int to, const char *text);

/* Many bytes that tell where they belong, and then the end. */
#define BIG_BYTES (20u << 20)
struct big {
	int fd;
	uint32_t seed;
};
void *program_send_big(void *big);
void program_expect_big(int fd, uint32_t seed);

/* Processor time of the calling thread so far. */
uint64_t program_used_ns(void);

#endif
