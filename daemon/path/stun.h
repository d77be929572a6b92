/* STUN as the relays speak it: one request, and what answers may say. Pure. */
#ifndef MESHWRAP_DAEMON_PATH_STUN_H
#define MESHWRAP_DAEMON_PATH_STUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define STUN_TXID_LEN    12
#define STUN_REQUEST_LEN 40

/* Classes 01 only: cookie and the first two bytes. */
bool stun_is_packet(const uint8_t *bytes, size_t len);
void stun_make_request(const uint8_t txid[static STUN_TXID_LEN],
		       uint8_t out[static STUN_REQUEST_LEN]);
/* 0; -EBADMSG: no response with an address in it. */
int stun_parse_response(const uint8_t *bytes, size_t len, uint8_t txid[static STUN_TXID_LEN],
			struct endpoint *mapped);

#endif
