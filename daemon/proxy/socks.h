/* SOCKS5 (RFC 1928) in bytes: no authentication, CONNECT and UDP ASSOCIATE. Pure. */
#ifndef MESHWRAP_DAEMON_PROXY_SOCKS_H
#define MESHWRAP_DAEMON_PROXY_SOCKS_H

#include "daemon/proxy/target.h"

#define SOCKS_VERSION     5
#define SOCKS_NO_AUTH     0x00
#define SOCKS_NO_METHOD   0xff
#define SOCKS_REPLY_MAX   22
#define SOCKS_MESSAGE_MAX 262 /* of a greeting or a request */

enum socks_command { SOCKS_CONNECT = 1, SOCKS_BIND = 2, SOCKS_UDP_ASSOCIATE = 3 };

enum socks_code {
	SOCKS_DONE = 0,
	SOCKS_FAILURE = 1,
	SOCKS_NOT_ALLOWED = 2,
	SOCKS_NET_UNREACHABLE = 3,
	SOCKS_HOST_UNREACHABLE = 4,
	SOCKS_REFUSED = 5,
	SOCKS_TIMED_OUT = 6,
	SOCKS_NO_COMMAND = 7,
	SOCKS_NO_ADDRESS_TYPE = 8
};

struct socks_request {
	uint8_t command; /* not checked */
	struct target_place place;
};

/* How many bytes it has, 0: more are needed, -EPROTO. */
int socks_parse_greeting(const uint8_t *bytes, size_t len, bool *no_auth);
/* The same; -EAFNOSUPPORT: an address type that does not exist. Port 0 is fine. */
int socks_parse_request(const uint8_t *bytes, size_t len, struct socks_request *request);
/* A reply of at most SOCKS_REPLY_MAX bytes; bound NULL: 0.0.0.0:0. */
size_t socks_put_reply(enum socks_code code, const struct endpoint *bound,
		       uint8_t out[static SOCKS_REPLY_MAX]);
/* What a positive errno of a dial or a look-up is called. */
enum socks_code socks_code_of(int error);

/* A client's datagram: the length of its header, or -EPROTO (fragments, too). */
int socks_parse_datagram(const uint8_t *bytes, size_t len, struct target_place *place);
size_t socks_put_datagram_head(const struct endpoint *from, uint8_t out[static SOCKS_REPLY_MAX]);

#endif
