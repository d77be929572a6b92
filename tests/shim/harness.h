/*
 * Runs a cmocka test program inside the shim, against a fake daemon.
 *
 * The program starts twice: outside, where it makes a folder, starts fakemesh
 * and runs itself again with LD_PRELOAD; and inside, where the tests run.
 * LIBMESHWRAP and FAKEMESH in the environment say where those are. With
 * MESHRUN_TRACE, a meshrun, the second is traced instead, without the shim.
 */
#ifndef MESHWRAP_TESTS_SHIM_HARNESS_H
#define MESHWRAP_TESTS_SHIM_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shared/endpoint.h"
#include "tests/shim/mesh.h"

enum harness_daemon {
	HARNESS_DAEMON,   /* one that knows its mesh */
	HARNESS_NO_MESH,  /* one that runs and knows nothing yet */
	HARNESS_NO_DAEMON /* an empty folder */
};

/* Call first in main(); returns in the inside process only. */
void harness_enter(char **argv, enum harness_daemon daemon);

/* From outside, by the tracer: what needs libc (names, interfaces) is not there. */
bool harness_is_traced(void);

/* "1.2.3.4" and port, or a v6 address, as a socket address for a socket of family. */
struct harness_addr {
	struct sockaddr_storage storage;
	socklen_t len;
};
struct harness_addr at(int family, const char *text, uint16_t port);
struct sockaddr *sa(struct harness_addr *addr);

/* The ends of a socket as text: "100.64.0.2:80", v4-mapped ones as "mapped:100.64.0.2:80". */
const char *local_text(int fd);
const char *peer_text(int fd);
/* The address part alone, without the port. */
const char *local_ip(int fd);
const char *peer_ip(int fd);
const char *sockaddr_text(const void *addr, socklen_t len);
uint16_t local_port(int fd);

int new_socket(int family, int type);
/* The kernel's own view, past the shim; nobody gets past the tracer. */
struct endpoint raw_local(int fd);
/* The mirror of a mesh address, by the map in the test's folder. */
uint32_t mirror_of(const char *mesh);
/* A socket past the shim: bound to loopback:port and, if to_port, connected to to:to_port. */
int raw_stream(uint32_t loopback, uint16_t port, uint32_t to, uint16_t to_port);
/* The two numbers of a file of the folder. */
void read_numbers(const char *file, unsigned *a, unsigned *b);

int so_error(int fd);
uint64_t now_ms(void);

#endif
