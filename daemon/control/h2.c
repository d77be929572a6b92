/*
 * nghttp2 over memory, for a handful of requests.
 *
 * The library keeps windows replenished by itself as bytes are handed on: they
 * are consumed at once here, so there is nothing to hold back. Both windows
 * are made large in the first flight, since a map comes as one long answer
 * and a small window would cost a round trip for each 64 KiB.
 *
 * A hostile server finds these bounds: requests are started by us alone (push
 * is off, and the library resets pushed streams), floods of SETTINGS and PING
 * end the connection in the library, heads are counted in bytes here, bodies
 * are limited by whoever takes them.
 *
 * A request is freed when its stream closes, never inside a call that somebody
 * above makes on it; a cancelled one is reset and closes like any other.
 */
#include "daemon/control/h2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <nghttp2/nghttp2.h>
#include <utlist.h>

#include "daemon/crypto/keys.h"
#include "shared/util.h"

struct request {
	struct h2 *h2;
	struct request *prev, *next;
	const struct h2_handler *handler;
	void *owner;
	int32_t id;
	uint8_t *body;
	size_t body_len, body_sent, body_room;
	struct h2_response response;
	size_t header_bytes;
	bool is_cancelled;
	bool has_head; /* the final one; what follows are trailers */
	int err;
};

struct h2 {
	nghttp2_session *session;
	struct request *requests;
	unsigned running;
	size_t queued;
	char *authority;
	bool is_going_away, is_dead;
};

static void request_free(struct request *r)
{
	r->h2->queued -= r->body_room;
	if (r->body) {
		secret_wipe(r->body, r->body_room);
		free(r->body);
	}
	free(r);
}

/* ---- what the library tells ---- */

static struct request *request_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

static void give_up(struct request *r, int err)
{
	if (r->is_cancelled)
		return;
	r->is_cancelled = true;
	r->err = err;
	nghttp2_submit_rst_stream(r->h2->session, NGHTTP2_FLAG_NONE, r->id, NGHTTP2_CANCEL);
}

static bool name_is(const uint8_t *name, size_t len, const char *what)
{
	return len == strlen(what) && memcmp(name, what, len) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *user)
{
	struct request *r = request_of(session, frame->hd.stream_id);

	(void)flags, (void)user;
	if (!r || frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	r->header_bytes += name_len + value_len + 32;
	if (r->header_bytes > H2_HEADER_BYTES_MAX) {
		give_up(r, -EMSGSIZE);
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	if (name_is(name, name_len, ":status")) {
		r->response.status = 0;
		for (size_t i = 0; i < MIN(value_len, 3); i++)
			r->response.status = r->response.status * 10 + (value[i] - '0');
	} else if (name_is(name, name_len, "retry-after") && value_len < H2_RETRY_AFTER_MAX) {
		memcpy(r->response.retry_after, value, value_len);
		r->response.retry_after[value_len] = '\0';
	}
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
	struct h2 *h2 = user;
	struct request *r;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		h2->is_going_away = true;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	r = request_of(session, frame->hd.stream_id);
	if (!r || r->is_cancelled || r->has_head || r->response.status < 200)
		return 0;
	r->has_head = true;
	if (r->handler->headed)
		r->handler->headed(r->owner, &r->response);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
		   size_t len, void *user)
{
	struct request *r = request_of(session, id);
	int err;

	(void)flags, (void)user;
	if (!r || r->is_cancelled)
		return 0;
	err = r->handler->body(r->owner, bytes, len);
	if (err != 0)
		give_up(r, err);
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
	struct h2 *h2 = user;
	struct request *r = request_of(session, id);
	int err;

	if (!r)
		return 0;
	nghttp2_session_set_stream_user_data(session, id, NULL);
	DL_DELETE(h2->requests, r);
	h2->running--;
	err = r->err;
	if (err == 0 && code != NGHTTP2_NO_ERROR)
		err = -ECONNRESET;
	r->handler->ended(r->owner, err);
	request_free(r);
	return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t room,
			 uint32_t *flags, nghttp2_data_source *source, void *user)
{
	struct request *r = source->ptr;
	size_t part = MIN(room, r->body_len - r->body_sent);

	(void)session, (void)id, (void)user;
	memcpy(buf, r->body + r->body_sent, part);
	r->body_sent += part;
	if (r->body_sent == r->body_len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)part;
}

/* ---- from above ---- */

static int open_session(struct h2 *h2)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_HEADER_BYTES_MAX },
	};
	nghttp2_session_callbacks *callbacks;
	int err;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	err = nghttp2_session_client_new(&h2->session, callbacks, h2);
	nghttp2_session_callbacks_del(callbacks);
	if (err != 0)
		return -ENOMEM;
	if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
				    ARRAY_LEN(settings)) != 0 ||
	    nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
						  H2_CONNECTION_WINDOW) != 0)
		return -ENOMEM;
	return 0;
}

struct h2 *h2_create(const char *authority)
{
	struct h2 *h2 = calloc(1, sizeof(*h2));

	if (!h2)
		return NULL;
	h2->authority = strdup(authority);
	if (!h2->authority || open_session(h2) != 0) {
		h2_destroy(h2);
		return NULL;
	}
	return h2;
}

void h2_destroy(struct h2 *h2)
{
	struct request *r, *next;

	if (!h2)
		return;
	nghttp2_session_del(h2->session);
	DL_FOREACH_SAFE(h2->requests, r, next)
	request_free(r);
	free(h2->authority);
	free(h2);
}

static struct request *request_new(struct h2 *h2, const struct h2_request *request,
				   const struct h2_handler *handler, void *owner)
{
	struct request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->h2 = h2;
	r->handler = handler;
	r->owner = owner;
	if (request->body_len > 0) {
		r->body = malloc(request->body_len);
		if (!r->body) {
			free(r);
			return NULL;
		}
		memcpy(r->body, request->body, request->body_len);
		r->body_len = r->body_room = request->body_len;
		h2->queued += r->body_room;
	}
	return r;
}

static nghttp2_nv header(const char *name, const char *value)
{
	return (nghttp2_nv){ (uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value),
			     NGHTTP2_NV_FLAG_NONE };
}

int32_t h2_request(struct h2 *h2, const struct h2_request *request,
		   const struct h2_handler *handler, void *owner)
{
	nghttp2_nv headers[] = {
		header(":method", request->method),
		header(":scheme", "https"),
		header(":authority", h2->authority),
		header(":path", request->path),
		header("content-type", "application/json"),
		header("ts-lb", request->load_balance ? request->load_balance : ""),
	};
	size_t count = ARRAY_LEN(headers) - (request->load_balance ? 0 : 1);
	nghttp2_data_provider provider = { .read_callback = read_body };
	struct request *r;

	if (h2->is_dead || h2->is_going_away)
		return -ENOTCONN;
	if (h2->running >= H2_REQUESTS_MAX || h2->queued + request->body_len > H2_QUEUED_MAX)
		return -EBUSY;
	r = request_new(h2, request, handler, owner);
	if (!r)
		return -ENOMEM;
	provider.source.ptr = r;
	r->id = nghttp2_submit_request(h2->session, NULL, headers, count,
				       r->body_len ? &provider : NULL, r);
	if (r->id < 0) {
		int err = r->id == NGHTTP2_ERR_NOMEM ? -ENOMEM : -ENOTCONN;

		request_free(r);
		return err;
	}
	DL_APPEND(h2->requests, r);
	h2->running++;
	return r->id;
}

void h2_cancel(struct h2 *h2, int32_t id)
{
	struct request *r;

	DL_FOREACH(h2->requests, r)
	if (r->id == id)
		give_up(r, -ECONNABORTED);
}

int h2_receive(struct h2 *h2, const uint8_t *bytes, size_t len)
{
	ssize_t taken;

	if (h2->is_dead)
		return -EPROTO;
	taken = nghttp2_session_mem_recv(h2->session, bytes, len);
	if (taken != (ssize_t)len)
		h2->is_dead = true;
	return h2->is_dead ? -EPROTO : 0;
}

ssize_t h2_send(struct h2 *h2, const uint8_t **bytes)
{
	ssize_t len = nghttp2_session_mem_send(h2->session, bytes);

	if (len < 0)
		return len == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
	/* After a fault of the protocol the library says goodbye and wants no more. */
	if (len == 0 && !nghttp2_session_want_read(h2->session) &&
	    !nghttp2_session_want_write(h2->session))
		return -EPROTO;
	return len;
}

bool h2_is_going_away(const struct h2 *h2)
{
	return h2->is_going_away;
}
