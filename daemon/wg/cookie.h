/*
 * mac1, mac2 and cookies, both sides (section 5.4.7 of the paper).
 *
 * A wg_macs belongs to a peer and signs what we send it; a wg_checker is the
 * node's own and checks what it receives. Times are monotonic.
 */
#ifndef MESHWRAP_DAEMON_WG_COOKIE_H
#define MESHWRAP_DAEMON_WG_COOKIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/wg/message.h"
#include "shared/endpoint.h"

struct blake2s;

struct wg_macs {
	struct symmetric_key mac1_key, cookie_key;
	uint8_t last_mac1[WG_MAC_LEN];
	uint8_t cookie[WG_MAC_LEN];
	uint64_t cookie_ns;
	bool has_last_mac1, has_cookie;
};

/* False: no memory. */
bool wg_macs_init(struct wg_macs *m, struct blake2s *engine, const struct public_key *peer);
void wg_macs_finish(struct wg_macs *m);
/* Fills in the last 32 bytes of an initiation or response. */
void wg_macs_sign(struct wg_macs *m, struct blake2s *engine, void *message, size_t len,
		  uint64_t now_ns);
/* The cookie answers our last message; false: it does not. */
bool wg_macs_take_cookie(struct wg_macs *m, const struct wg_cookie_reply *reply, uint64_t now_ns);

struct wg_checker {
	struct symmetric_key mac1_key, cookie_key;
	struct symmetric_key secret;
	uint64_t secret_ns;
	bool has_secret;
};

/* False: no memory. */
bool wg_checker_init(struct wg_checker *c, struct blake2s *engine, const struct public_key *own);
void wg_checker_finish(struct wg_checker *c);
bool wg_checker_mac1_is_valid(const struct wg_checker *c, struct blake2s *engine,
			      const void *message, size_t len);
bool wg_checker_mac2_is_valid(const struct wg_checker *c, struct blake2s *engine,
			      const void *message, size_t len, const struct endpoint *from,
			      uint64_t now_ns);
/* The reply to a message whose mac1 is valid and whose sender index is given. */
void wg_checker_reply(struct wg_checker *c, struct blake2s *engine, const void *message, size_t len,
		      const struct endpoint *from, uint64_t now_ns, struct wg_cookie_reply *reply);

#endif
