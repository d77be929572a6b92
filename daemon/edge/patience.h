/* How long programs have patience with a far side that is silent: SO_KEEPALIVE and the like. */
#ifndef MESHWRAP_DAEMON_EDGE_PATIENCE_H
#define MESHWRAP_DAEMON_EDGE_PATIENCE_H

#include "daemon/tcp/endpoint.h"
#include "shared/ipc.h"

struct edge;

struct tcp_patience patience_of(const struct ipc_patience *asked);
/*
 * Serves IPC_PATIENCE; asker is the program's control connection. A flow that is not there (any
 * more), or not the asker's to decide on, is left alone.
 */
void patience_set(struct edge *edge, int asker, const struct ipc_patience *asked);

#endif
