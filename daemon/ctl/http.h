/* One HTTP request to the daemon over its Unix socket, answered or given up in time. */
#ifndef MESHWRAP_DAEMON_CTL_HTTP_H
#define MESHWRAP_DAEMON_CTL_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_MAX_ANSWER (64u << 20) /* status of the largest mesh, with room */

struct http_answer {
	int status; /* 200 and so on */
	char *body; /* zero-terminated; the caller frees it */
	size_t body_len;
};

/*
 * method and target as they stand in the request line. 0; -ENOENT or
 * -ECONNREFUSED: no daemon; -EACCES: it is not ours; -ETIMEDOUT after
 * timeout_ms without a byte; -EPROTO for what is no HTTP answer; -E2BIG.
 */
int http_ask(const char *socket_path, const char *method, const char *target, int timeout_ms,
	     struct http_answer *answer);

/* Does somebody listen there, whether we may ask or not? */
bool http_is_served(const char *socket_path);

/*
 * Splits a whole answer, headers included. Pure. The body is what follows the
 * empty line; a Content-Length that disagrees with it is -EPROTO.
 */
int http_parse_answer(const char *bytes, size_t len, int *status, size_t *body_off);

/* text with everything but letters, digits and "-._~:" as %XX; 0 or -E2BIG. */
int http_escape(const char *text, char *out, size_t out_len);

#endif
