/* Where a client of the proxy wants to go: an address or a name, and a port. */
#ifndef MESHWRAP_DAEMON_PROXY_TARGET_H
#define MESHWRAP_DAEMON_PROXY_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define TARGET_NAME_MAX 256

struct target_place {
	bool is_name;
	char name[TARGET_NAME_MAX]; /* lower case, without a trailing dot; of a name only */
	struct ip_addr addr;        /* of an address */
	uint16_t port;
};

/*
 * From len bytes of host, which is an address or a name of printable ASCII. Pure.
 * False: it is neither.
 */
bool target_set_host(struct target_place *place, const char *host, size_t len);
/* "host:port" or "[v6]:port"; without a port default_port, 0: one is needed. Pure. */
bool target_parse(struct target_place *place, const char *text, size_t len, uint16_t default_port);

#endif
