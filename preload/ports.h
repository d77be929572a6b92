/* Binding to a port of the kernel's choice, without the kernel's long search for one. */
#ifndef MESHWRAP_PRELOAD_PORTS_H
#define MESHWRAP_PRELOAD_PORTS_H

#include <sys/socket.h>

/* addr has port 0. 0 or -errno, as bind(). Async-signal-safe. */
int ports_bind(int fd, const struct sockaddr *addr, socklen_t len);

#endif
