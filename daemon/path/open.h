/* Opening the pair of UDP sockets that daemon/path/udp.c works with. */
#ifndef MESHWRAP_DAEMON_PATH_OPEN_H
#define MESHWRAP_DAEMON_PATH_OPEN_H

#include <stdint.h>

/*
 * Binds 0.0.0.0 and [::] to port; port 0 takes one that is free in both.
 * *v6 is negative where the kernel has no IPv6. 0 or -errno (-EADDRINUSE);
 * *bound is the port.
 */
int udp_open_both(uint16_t port, int *v4, int *v6, uint16_t *bound);

#endif
