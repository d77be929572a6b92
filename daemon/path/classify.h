/* What a datagram is, and which of two addresses of a peer is better. Pure. */
#ifndef MESHWRAP_DAEMON_PATH_CLASSIFY_H
#define MESHWRAP_DAEMON_PATH_CLASSIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

enum datagram_class {
	DATAGRAM_WIREGUARD, /* or nothing at all: WireGuard says */
	DATAGRAM_DISCO,
	DATAGRAM_STUN,
	DATAGRAM_GENEVE /* UDP relayed by another node */
};

enum datagram_class classify_datagram(const uint8_t *bytes, size_t len);
/* For what a relay brings: disco or WireGuard. */
enum datagram_class classify_relayed(const uint8_t *bytes, size_t len);

/* Worth trying: not unspecified, multicast, broadcast, or of port 0. */
bool candidate_is_usable(const struct endpoint *ep);

struct measured_address {
	struct endpoint endpoint; /* port 0: none */
	uint64_t latency_ns;
};
bool address_is_better(const struct measured_address *a, const struct measured_address *b);

#endif
