/* The system's resolvers: the servers of resolv.conf, read again when it changes. */
#ifndef MESHWRAP_DAEMON_DNS_SYSTEM_H
#define MESHWRAP_DAEMON_DNS_SYSTEM_H

#include <stddef.h>

#include "daemon/dns/dns.h"

struct dns_system;

/* The servers in the text of a resolv.conf, each once; without any it is 127.0.0.1. Pure. */
unsigned dns_system_parse(const char *text, struct ip_addr servers[static DNS_SERVERS_MAX]);

/* changed is called from the loop. NULL on -ENOMEM. */
struct dns_system *dns_system_create(struct loop *loop, const char *path,
				     void (*changed)(void *owner), void *owner);
void dns_system_destroy(struct dns_system *system);
unsigned dns_system_servers(const struct dns_system *system, const struct ip_addr **servers);

#endif
