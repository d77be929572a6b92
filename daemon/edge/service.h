/*
 * Addresses that the daemon itself answers: the mesh's resolver, and port 53 of
 * the name servers of this machine. Programs reach them as they reach peers,
 * and nothing sent there ever goes to one.
 */
#ifndef MESHWRAP_DAEMON_EDGE_SERVICE_H
#define MESHWRAP_DAEMON_EDGE_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"
#include "shared/map.h"

#define SERVICE_CONNS_MAX 256
#define SERVICE_IDLE_S    45
#define SERVICE_OUT_MAX   (256u << 10) /* waiting for a slow reader: nothing more is read */
#define SERVICE_RESOLVERS 2

struct app;
struct dgram;
struct dns;
struct edge;
struct service_conn;

struct services {
	struct edge *edge;
	struct dns *dns; /* NULL: there are none */
	struct ip_addr resolver[SERVICE_RESOLVERS];
	unsigned resolver_count; /* of the mesh there is now */
	struct service_conn *conns;
	unsigned conn_count;
};

void services_init(struct services *services, struct edge *edge);
void services_close(struct services *services);
/* Its resolvers behind the tunnel are dialled by this edge. */
void services_set_dns(struct services *services, struct dns *dns);

/* A draft of the directory gets the addresses of services; own and peers' are in it. */
void services_plan(struct services *services, struct map_directory *dir);
/* Only this machine's name servers have changed. */
void services_plan_servers(struct services *services, struct map_directory *dir);
/* Opens the endpoints that programs will want, once the map is written. */
void services_open_endpoints(struct services *services);

/* Is this one of ours to answer? *mirror: its loopback address. */
bool service_find(const struct edge *edge, const struct endpoint *remote, uint32_t *mirror);
/* A datagram of a program for the service behind this endpoint. */
void service_datagram(struct dgram *dgram, const struct endpoint *from, const uint8_t *data,
		      size_t len);
/* A program's connection to a service; fd is the service's now. */
void service_stream(struct edge *edge, int fd);
/* Serves IPC_LOOKUP: answers app later. */
struct ipc_lookup;
void service_lookup(struct edge *edge, struct app *app, const struct ipc_lookup *lookup);

#endif
