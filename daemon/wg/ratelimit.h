/*
 * Handshakes by source address, under load: 20 a second, 5 at once. Bounded:
 * a full table refuses newcomers until some source has been idle.
 */
#ifndef MESHWRAP_DAEMON_WG_RATELIMIT_H
#define MESHWRAP_DAEMON_WG_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define WG_RATE_PER_S 20
#define WG_RATE_BURST 5

struct wg_ratelimit;

struct wg_ratelimit *wg_ratelimit_create(void);
void wg_ratelimit_destroy(struct wg_ratelimit *r);
/* Takes one token of the address (IPv6: of its /64); false: it has none left. */
bool wg_ratelimit_allow(struct wg_ratelimit *r, const struct ip_addr *from, uint64_t now_ns);

#endif
