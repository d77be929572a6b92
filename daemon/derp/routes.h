/* Where each peer was heard last: peer -> region. Bounded; forgets the oldest. Pure. */
#ifndef MESHWRAP_DAEMON_DERP_ROUTES_H
#define MESHWRAP_DAEMON_DERP_ROUTES_H

#include "daemon/crypto/keys.h"

struct relay_routes;

/* NULL: -ENOMEM. */
struct relay_routes *relay_routes_create(void);
void relay_routes_destroy(struct relay_routes *routes);
void relay_routes_heard(struct relay_routes *routes, const struct public_key *peer, int region);
/* 0: not heard anywhere. */
int relay_routes_find(const struct relay_routes *routes, const struct public_key *peer);
/* Only if it was heard there. */
void relay_routes_forget(struct relay_routes *routes, const struct public_key *peer, int region);
void relay_routes_forget_region(struct relay_routes *routes, int region);

#endif
