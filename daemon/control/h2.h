/*
 * HTTP/2 requests over a stream of bytes, as a client with prior knowledge.
 * Several requests run at once; what carries the bytes is somebody else's business.
 */
#ifndef MESHWRAP_DAEMON_CONTROL_H2_H
#define MESHWRAP_DAEMON_CONTROL_H2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct h2;

#define H2_REQUESTS_MAX      32
#define H2_STREAM_WINDOW     (4 << 20)
#define H2_CONNECTION_WINDOW (16 << 20)
#define H2_HEADER_BYTES_MAX  (32u << 10)
#define H2_RETRY_AFTER_MAX   64
#define H2_QUEUED_MAX        (4u << 20) /* bytes of bodies that wait to be sent */

struct h2_response {
	int status;
	char retry_after[H2_RETRY_AFTER_MAX]; /* "" when absent */
};

struct h2_handler {
	/* The final head. May be NULL. */
	void (*headed)(void *owner, const struct h2_response *response);
	/* Bytes of the body. 0, or -errno: the request is given up, ended() follows. */
	int (*body)(void *owner, const uint8_t *bytes, size_t len);
	/*
	 * Always the last, once for each request that h2_request() took, save for
	 * those that still run at h2_destroy(). 0: the answer is whole; -errno:
	 * -ECONNRESET reset by the server, -ECONNABORTED given up by us.
	 */
	void (*ended)(void *owner, int err);
};

/* NULL: -ENOMEM. authority is copied. */
struct h2 *h2_create(const char *authority);
void h2_destroy(struct h2 *h2);

struct h2_request {
	const char *method, *path;
	const char *load_balance; /* the "ts-lb" header; NULL: none */
	const void *body;         /* copied, the copy is wiped; NULL: none */
	size_t body_len;
};
/*
 * The request's id (> 0); -EBUSY: too many; -ENOTCONN: the server accepts no
 * more on this connection; -ENOMEM. handler's functions come from h2_receive().
 */
int32_t h2_request(struct h2 *h2, const struct h2_request *request,
		   const struct h2_handler *handler, void *owner);
/* ended(-ECONNABORTED) comes from a later call. Unknown ids are ignored. */
void h2_cancel(struct h2 *h2, int32_t id);

/* Bytes from the server. 0, or -EPROTO: the connection is of no more use. Callbacks run inside. */
int h2_receive(struct h2 *h2, const uint8_t *bytes, size_t len);
/* Bytes to send, valid until the next call: their number, 0 for none, -EPROTO or -ENOMEM. */
ssize_t h2_send(struct h2 *h2, const uint8_t **bytes);
/* The server ends the connection in an orderly way; requests that run may still be answered. */
bool h2_is_going_away(const struct h2 *h2);

#endif
