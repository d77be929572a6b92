/*
 * The head of an HTTP/1 response, and small bodies: what a client needs that
 * fetches a short document or upgrades the connection to something else. Pure.
 */
#ifndef MESHWRAP_DAEMON_HTTP1_H
#define MESHWRAP_DAEMON_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP1_HEAD_MAX    16384 /* bytes, with the empty line */
#define HTTP1_HEADERS_MAX 64

struct http1_text {
	const char *at; /* into the bytes that were parsed, not terminated */
	size_t len;
};

struct http1_head {
	size_t len; /* of the head: what follows is body, or the upgraded protocol */
	int status; /* 100 to 599 */
	struct {
		struct http1_text name, value; /* value without white space around it */
	} headers[HTTP1_HEADERS_MAX];
	unsigned header_count;
	bool is_chunked, has_length;
	uint64_t content_length;
};

/*
 * Parses the start of bytes. 0; -EAGAIN: the head is not complete (call again
 * with more); -EMSGSIZE: more than HTTP1_HEAD_MAX bytes or HTTP1_HEADERS_MAX
 * lines; -EBADMSG: not HTTP/1, or ambiguous (two lengths, length and chunks).
 */
int http1_parse_head(const char *bytes, size_t len, struct http1_head *head);
/* 101, with Upgrade: protocol and Connection: upgrade. */
bool http1_is_upgrade(const struct http1_head *head, const char *protocol);

/*
 * The body in len bytes that followed the head, of which up to *body_len bytes
 * are written to body; *body_len becomes their number. is_end: the peer has
 * closed. 0; -EAGAIN: more is needed; -EMSGSIZE: it does not fit; -EBADMSG.
 */
int http1_read_body(const struct http1_head *head, const char *bytes, size_t len, bool is_end,
		    char *body, size_t *body_len);

struct http1_url {
	bool is_tls;
	char host[256]; /* without brackets */
	uint16_t port;
	char authority[270]; /* for Host: and ":authority", as given: brackets, port */
	char path[1024];     /* "" or starts with '/', with its query */
};

/* "http://host[:port][/path]" or https. No user, no fragment, no control characters. 0 or -EINVAL.
 */
int http1_parse_url(const char *text, struct http1_url *url);

#endif
