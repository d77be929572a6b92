/* What meshctl asks: HTTP on a Unix socket. */
#ifndef MESHWRAP_DAEMON_EDGE_LOCALAPI_H
#define MESHWRAP_DAEMON_EDGE_LOCALAPI_H

#include <stdint.h>

#define LOCALAPI_PINGS_MAX 64
#define LOCALAPI_PING_S    5
#define LOCALAPI_IDLE_S    10
#define LOCALAPI_MAX_BYTES 16384 /* of a request */

struct edge;
struct localapi;

/* 0 or -errno. */
int localapi_open(struct edge *edge, struct localapi **api);
void localapi_close(struct localapi *api);
/* What edge_pinged() reports. */
void localapi_pinged(struct localapi *api, uint32_t ticket, uint64_t round_trip_ns);

#endif
