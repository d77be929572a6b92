/* Loopback sockets, and the port numbers that are the daemon's own. */
#ifndef MESHWRAP_DAEMON_EDGE_SOCK_H
#define MESHWRAP_DAEMON_EDGE_SOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "shared/endpoint.h"

/* Ports the kernel never hands out by itself; both ends inclusive. */
struct port_range {
	uint16_t first, last;
};

/* From the text of ip_local_port_range ("32768\t60999\n"); NULL or nonsense: the usual one. */
struct port_range port_range_beside(const char *ip_local_port_range);
/* The same for this network namespace. */
struct port_range port_range_read(void);
/* The n-th of the range, beginning again after the last one. */
uint16_t port_range_at(const struct port_range *range, uint32_t n);

struct endpoint sock_endpoint(uint32_t v4, uint16_t port);
/* The address a socket is bound to (or its peer's); 0 or -errno. */
int sock_local(int fd, struct endpoint *ep);
int sock_peer(int fd, struct endpoint *ep);
int sock_bind(int fd, const struct endpoint *ep);
/*
 * Starts a connect, or asks how it goes: 0 when established, -EINPROGRESS, or
 * another -errno when it has failed. Loopback answers within the first call.
 */
int sock_connect(int fd, const struct endpoint *to);
/* Closing will reset instead of finish; also when the kernel closes for a killed daemon. */
void sock_reset_on_close(int fd);
void sock_finish_on_close(int fd);
/* A non-blocking socket of the endpoint's family. fd or -errno. */
int sock_open(const struct endpoint *family_of, int type);
/* Its port may be bound by others that share it, too (SO_REUSEADDR or SO_REUSEPORT). 0 or -errno.
 */
int sock_share_port(int fd);
/* Is some socket bound to this endpoint, or to its port on all addresses? */
bool sock_is_bound(const struct endpoint *ep, int type);

#endif
