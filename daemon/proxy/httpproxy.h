/*
 * What an HTTP/1 proxy must know of heads and bodies. Pure.
 *
 * A head is taken only if it means the same to everybody: lines end with CRLF, no
 * folding, no space before a colon, one Host, one length. All else is refused
 * rather than repaired, since what two readers understand differently smuggles requests.
 */
#ifndef MESHWRAP_DAEMON_PROXY_HTTPPROXY_H
#define MESHWRAP_DAEMON_PROXY_HTTPPROXY_H

#include "daemon/proxy/target.h"

#define HTTPPROXY_HEAD_MAX 16384
#define HTTPPROXY_LINES    128                        /* of a head */
#define HTTPPROXY_GROWTH   (HTTPPROXY_HEAD_MAX + 512) /* room that any rewritten head fits in */

enum httpproxy_body { BODY_NONE, BODY_LENGTH, BODY_CHUNKED };

struct httpproxy_request {
	struct target_place place;
	bool is_connect;
	enum httpproxy_body body;
	uint64_t body_len; /* of BODY_LENGTH */
};

/*
 * How many bytes the head has; 0: more are needed; -EPROTO: *problem says in one
 * sentence what is wrong; -E2BIG: it is longer than HTTPPROXY_HEAD_MAX.
 */
int httpproxy_parse_request(const char *bytes, size_t len, struct httpproxy_request *request,
			    const char **problem);
/*
 * The head of a parsed plain request as the server shall see it: origin form, its own
 * Host, no hop-by-hop and no identity headers, one request a connection. Its
 * length; room is HTTPPROXY_GROWTH.
 */
size_t httpproxy_rewrite_request(const char *head, size_t len, char *out);
/*
 * The same for a server's answer, whose head is *consumed bytes. 0: more are needed;
 * -EPROTO. *is_final: no further head follows (it is no 1xx).
 */
int httpproxy_rewrite_response(const char *bytes, size_t len, char *out, size_t *consumed,
			       bool *is_final);

/* Where a chunked body ends. Begins as zeros. */
struct httpproxy_chunks {
	uint64_t left; /* of this chunk's data */
	unsigned state, digits;
	bool is_done, is_bad;
};
/* How many of these bytes belong to the body; fewer than len when it is done or bad. */
size_t httpproxy_take_chunks(struct httpproxy_chunks *chunks, const char *bytes, size_t len);

#endif
