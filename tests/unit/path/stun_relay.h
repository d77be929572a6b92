/* The other side of STUN: what a relay takes, and what it answers. */
#ifndef MESHWRAP_TESTS_STUN_RELAY_H
#define MESHWRAP_TESTS_STUN_RELAY_H

#include "daemon/path/stun.h"

#define STUN_RESPONSE_MAX 44

/* A relay's check. 0; -EBADMSG: no request that a relay answers. */
int stun_parse_request(const uint8_t *bytes, size_t len, uint8_t txid[static STUN_TXID_LEN]);
/* Returns the length: 32 or 44. */
size_t stun_make_response(const uint8_t txid[static STUN_TXID_LEN], const struct endpoint *mapped,
			  uint8_t out[static STUN_RESPONSE_MAX]);

#endif
