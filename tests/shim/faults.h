/* Wrong pointers and lengths: what both parts of the sweep (test_faults.c) are made with. */
#ifndef MESHWRAP_TESTS_SHIM_FAULTS_H
#define MESHWRAP_TESTS_SHIM_FAULTS_H

#include "tests/shim/harness.h"

#include <errno.h>
#include <sys/socket.h>

#include "shared/util.h"

#define FAULTS_WRONG   4
#define FAULTS_LENGTHS 16

/* No memory of a program's; the compiler is not to know. */
extern void *volatile wrong[FAULTS_WRONG];
extern const int lengths[FAULTS_LENGTHS];

/* Behind it no memory is. */
extern unsigned char *edge;
/* The last n bytes there are, with from's in them. */
void *at_edge(const void *from, size_t n);
/* A length of a program's, as pointed to. */
socklen_t *length(int n);

/* A socket at an address of this node; a stream listens. */
int bound(int type);
/* Two ends of a connection, or two such sockets; what the first sends lies in the second. */
void open_pair(int type, int pair[2]);
void close_pair(const int pair[2]);

/* A part of a line, and its end: what came of it. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);
void say_end(long result);

/* What is being done is said first: it may be the last thing that is. */
#define TRY(call, ...)                 \
	do {                           \
		say(__VA_ARGS__);      \
		errno = 0;             \
		say_end((long)(call)); \
	} while (0)

/* Of calls that carry data. */
void faults_sweep_data(void);

#endif
