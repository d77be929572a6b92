/* What a program sets to hear of a far side that has gone silent, told to the daemon. */
#ifndef MESHWRAP_PRELOAD_PATIENCE_H
#define MESHWRAP_PRELOAD_PATIENCE_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "shared/ipc.h"

/* SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT. */
static inline bool patience_is_option(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_KEEPALIVE;
	return level == IPPROTO_TCP &&
	       (name == TCP_USER_TIMEOUT || (name >= TCP_KEEPIDLE && name <= TCP_KEEPCNT));
}

/* The kernel has taken one of them. */
void patience_changed(int fd, int level, int name);
/* A socket with keepalive has connected or is about to. */
void patience_begin(int fd);
/* A connection that accept() gave has what its listener had. */
void patience_accepted(int fd);
/*
 * What the socket has now, behind a request that is filled already. False: nothing, or nobody in
 * this process ever set any of them, which costs no look.
 */
bool patience_of(int fd, struct ipc_patience *patience);

#endif
