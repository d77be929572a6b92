/* Times and bounds of path choice, named as the protocol's own texts name them. */
#ifndef MESHWRAP_DAEMON_PATH_LIMITS_H
#define MESHWRAP_DAEMON_PATH_LIMITS_H

#include "shared/util.h"

#define PONG_WAIT_NS     (5 * NS_PER_S)
#define PING_INTERVAL_NS (5 * NS_PER_S)     /* between pings to one address */
#define HEARTBEAT_NS     (3 * NS_PER_S)     /* pings to the best address */
#define TRUST_NS         (6500 * NS_PER_MS) /* in the best address after a pong */
#define ACTIVE_NS        (45 * NS_PER_S)    /* after the last packet out */
#define UPGRADE_NS       (60 * NS_PER_S)    /* look for something better than a working path */
#define GOOD_ENOUGH_NS   (5 * NS_PER_MS)    /* but not than one this fast */
#define STUN_FRESH_NS    (27 * NS_PER_S)    /* for call-me-maybe */
#define STUN_MIN_NS      (20 * NS_PER_S)    /* periodic STUN while active */
#define STUN_SPREAD_NS   (6 * NS_PER_S)
#define STUN_RETRY_NS    (60 * NS_PER_S)  /* when nothing at all answered */
#define ENDPOINT_KEEP_NS (310 * NS_PER_S) /* own endpoint, after it was last seen */

/* Ours. A pong to a ping to the best address that takes longer than these makes it doubtful. */
#define LATE_PONG_NS        (500 * NS_PER_MS)
#define LATE_PONG_FACTOR    4
#define TRY_INTERVAL_NS     (250 * NS_PER_MS) /* between looks for addresses to ping, while sending */
#define EAGER_NS            (5 * NS_PER_S)    /* of new activity: the peer may just have joined, */
#define EAGER_FIRST_NS      (250 * NS_PER_MS) /* and is pinged this often, and ever more slowly */
#define EAGER_PING_NS       (NS_PER_S)     /* down to this; call-me-maybes have it from the start */
#define TICKET_PING_NS      (NS_PER_S)     /* between the pings of one question */
#define STUN_DOUBT_NS       (2 * NS_PER_S) /* an older STUN result is asked again when a path breaks */
#define HOME_PATIENCE_NS    (5 * NS_PER_S) /* with a home that is not connected; a report follows */
#define HOME_AGAIN_NS       (30 * NS_PER_S)  /* until the next, when nobody else answered */
#define WG_ONLY_PATIENCE_NS (10 * NS_PER_S)  /* with one of several endpoints */
#define DEADLINE_GRAIN_NS   (50 * NS_PER_MS) /* deadlines of peers are rounded up to it */

#define CANDIDATES_MAX 100 /* of one peer */
#define CALLS_BURST    4   /* call-me-maybes taken at once from one peer, then */
#define CALL_REFILL_NS (NS_PER_S)
#define TICKETS_MAX    64
#define REGIONS_MAX    256 /* whose relay connections are known */
#define STUN_SEEN_MAX  8

#endif
