/*
 * The connection: the server's key, the upgrade, Noise, HTTP/2.
 *
 * The key is fetched when none is pinned, or when a handshake has failed with
 * the pinned one: then a server that was moved and an impostor look the same
 * until the key is compared. A changed key ends everything until the user
 * acts or the known one is back, before a byte about us has been sent to the new
 * holder.
 *
 * Handlers of requests get the connection as their owner. Closing it clears
 * its way back to the client, so that callbacks which are still on the stack
 * (of the stream, of HTTP/2, of the map) find nobody and unwind; it is freed
 * after the round.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "daemon/control/channel.h"
#include "daemon/control/mapstream.h"
#include "daemon/control/private.h"
#include "daemon/loop.h"
#include "daemon/state.h"
#include "daemon/stream.h"
#include "shared/util.h"

#define PROTOCOL       "tailscale-control-protocol"
#define READ_MAX       (64u << 10)
#define READS_A_ROUND  16
#define OUTPUT_HIGH    (256u << 10)
#define OUTPUT_MAX     (512u << 10)
#define KEY_ANSWER_MAX (HTTP1_HEAD_MAX + CONTROL_KEY_BODY_MAX)

static void connection_free(void *arg)
{
	struct connection *conn = arg;

	h2_destroy(conn->h2);
	channel_destroy(conn->channel);
	mapstream_destroy(conn->map);
	free(conn->head);
	free(conn);
}

void control_disconnect(struct control *c)
{
	struct connection *conn = c->conn;

	if (!conn)
		return;
	c->conn = NULL;
	conn->control = NULL;
	net_stream_destroy(conn->stream);
	conn->stream = NULL;
	control_clear_timer(c, TIMER_DIAL);
	control_register_forget(c);
	control_poll_forget(c);
	control_update_forget(c);
	if (loop_defer(c->loop, connection_free, conn) != 0)
		log_err("control: no memory to free memory, some is lost");
}

/* With the problem already set: close, and try again after a while. */
void control_connection_failed(struct control *c)
{
	if (c->has_first && loop_now(c->loop) - c->connected_ns >= CONTROL_SETTLED_NS)
		c->connect_failures = 0;
	control_disconnect(c);
	c->key_is_fresh = false;
	c->connect_failures++;
	control_set_timer_in(c, TIMER_CONNECT, control_backoff_ns(c->connect_failures));
}

bool control_is_up(const struct control *c)
{
	return c->conn && c->conn->phase == CONNECTION_UP;
}

/* ---- sending ---- */

/* What HTTP/2 has to say, sealed, as far as the queue is short. */
static int pump(struct connection *conn)
{
	while (!conn->is_busy && net_stream_queued(conn->stream) < OUTPUT_HIGH) {
		const uint8_t *bytes;
		size_t sealed_len;
		uint8_t *room;
		ssize_t len;

		conn->is_busy = true;
		len = h2_send(conn->h2, &bytes);
		conn->is_busy = false;
		if (!conn->control)
			return 0;
		if (len <= 0)
			return (int)len;
		sealed_len = channel_sealed_len((size_t)len);
		room = net_stream_reserve(conn->stream, sealed_len);
		if (!room)
			return -EPIPE;
		channel_seal(conn->channel, bytes, (size_t)len, room);
		net_stream_commit(conn->stream, sealed_len);
	}
	return 0;
}

static void pump_or_fail(struct connection *conn)
{
	int err = pump(conn);
	struct control *c = conn->control;

	if (err == 0 || !c)
		return;
	control_set_problem(c, "the connection broke off (%s)", strerror(-err));
	control_connection_failed(c);
}

int32_t control_request(struct control *c, const char *path, const void *body, size_t len,
			const struct h2_handler *handler)
{
	struct h2_request request = {
		.method = body ? "POST" : "HEAD", .path = path, .body = body, .body_len = len
	};
	int32_t id;

	if (!control_is_up(c))
		return -ENOTCONN;
	id = h2_request(c->conn->h2, &request, handler, c->conn);
	if (id > 0) {
		pump_or_fail(c->conn);
	} else if (id == -ENOTCONN) {
		/* A map stream that goes on must not keep us where nothing else can be said. */
		control_set_problem(c, "the server takes no more requests");
		control_connection_failed(c);
	}
	return id;
}

void control_cancel(struct control *c, int32_t id)
{
	if (!control_is_up(c) || id <= 0)
		return;
	h2_cancel(c->conn->h2, id);
	pump_or_fail(c->conn);
}

/* ---- the server's key ---- */

static bool same_server(const struct control *c)
{
	const struct state_data *data = state_data(c->state);

	return data->is_registered || strcmp(data->server_url, c->server_url) == 0;
}

/* False: the connection must end. */
static bool take_server_key(struct control *c, const struct public_key *key)
{
	struct state_data *data = state_data(c->state);

	if (data->has_server_key && public_key_equal(&data->server_key, key)) {
		if (c->key_is_refused) {
			c->key_is_refused = false;
			control_set_status(c, CONTROL_STARTING, "%s", "");
		}
		if (strcmp(data->server_url, c->server_url) == 0)
			return true;
	} else if (data->has_server_key && same_server(c)) {
		if (!c->trusts_new_server_key) {
			control_set_status(
				c, CONTROL_REFUSED,
				"the key of the server %s has changed since this node knew it: it "
				"is another server, or somebody sits in between. Nothing was sent "
				"to it. If the server was set up anew, start once with "
				"--trust-new-server-key",
				c->server_url);
			c->key_is_refused = true;
			control_set_timer_in(c, TIMER_CONNECT, CONTROL_REFUSED_NS);
			return false;
		}
		log_warn("control: %s: the new server key is trusted, as the user wishes",
			 c->server_url);
		data->is_registered = false;
	}
	data->server_key = *key;
	data->has_server_key = true;
	snprintf(data->server_url, sizeof(data->server_url), "%s", c->server_url);
	return control_save(c);
}

/* Reads what has come of the answer. -EAGAIN: there is more to come. */
static int read_key_answer(struct connection *conn, bool is_end, int *status,
			   struct public_key *key)
{
	struct http1_head head;
	size_t body_len = CONTROL_KEY_BODY_MAX;
	char *body;
	int err = http1_parse_head(conn->head, conn->head_len, &head);

	if (err != 0)
		return err;
	*status = head.status;
	if (head.status != 200)
		return -EPROTO;
	body = malloc(body_len);
	if (!body)
		return -ENOMEM;
	err = http1_read_body(&head, conn->head + head.len, conn->head_len - head.len, is_end, body,
			      &body_len);
	if (err == 0)
		err = messages_parse_server_key(body, body_len, key);
	free(body);
	return err;
}

static void key_progress(struct connection *conn, bool is_end)
{
	struct control *c = conn->control;
	struct public_key key;
	int status = 0;
	int err = read_key_answer(conn, is_end, &status, &key);

	if (err == -EAGAIN && !is_end)
		return;
	if (err == 0) {
		control_disconnect(c);
		if (take_server_key(c, &key)) {
			c->key_is_fresh = true;
			c->key_is_doubted = false;
		}
		control_kick(c);
		return;
	}
	if (err == -EPROTONOSUPPORT)
		control_set_problem(c,
				    "the server is too old: it has no key for capability "
				    "version %d",
				    c->node.capability_version);
	else if (status != 0 && status != 200)
		control_set_problem(c, "no coordination server there: GET /key gave HTTP %d",
				    status);
	else
		control_set_problem(c, "no coordination server there: GET /key gave no key");
	control_connection_failed(c);
}

/* ---- the upgrade and the handshake ---- */

static int opened(void *owner, const uint8_t *bytes, size_t len)
{
	struct connection *conn = owner;
	int err = h2_receive(conn->h2, bytes, len);

	return conn->control ? err : -ECANCELED;
}

static int start_handshake(struct connection *conn)
{
	struct control *c = conn->control;
	const struct state_data *data = state_data(c->state);
	struct channel_callbacks callbacks = { .opened = opened, .owner = conn };
	char initiation[sodium_base64_ENCODED_LEN(CHANNEL_INITIATION_LEN,
						  sodium_base64_VARIANT_ORIGINAL)];
	char request[1024];
	int len;

	conn->channel = channel_create(&data->machine_key, &data->server_key,
				       (uint16_t)c->node.capability_version, NULL, &callbacks);
	conn->h2 = h2_create(c->url.authority);
	if (!conn->channel || !conn->h2)
		return -ENOMEM;
	sodium_bin2base64(initiation, sizeof(initiation), channel_initiation(conn->channel),
			  CHANNEL_INITIATION_LEN, sodium_base64_VARIANT_ORIGINAL);
	len = snprintf(request, sizeof(request),
		       "POST /ts2021 HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\n"
		       "Upgrade: " PROTOCOL "\r\nX-Tailscale-Handshake: %s\r\n"
		       "Content-Length: 0\r\n\r\n",
		       c->url.authority, initiation);
	return net_stream_write(conn->stream, request, (size_t)len);
}

/* The handshake was not answered as it must be. */
static void handshake_failed(struct control *c, const char *why)
{
	if (!c->key_is_fresh) {
		/* The pinned key may be the reason: look once, without waiting. */
		c->key_is_doubted = true;
		control_disconnect(c);
		control_kick(c);
		return;
	}
	control_set_problem(c, "%s", why);
	control_connection_failed(c);
}

static void handshake_closed(struct control *c)
{
	char why[256];

	snprintf(why, sizeof(why),
		 "the server refused capability version %d: it is too low for the server, or the "
		 "server too old for it",
		 c->node.capability_version);
	handshake_failed(c, why);
}

static void upgrade_failed(struct control *c, const struct http1_head *head, int err)
{
	if (err != 0)
		control_set_problem(c, "no coordination server there: it does not speak HTTP/1");
	else if (head->status == 500)
		control_set_problem(c, "the server did not see the upgrade (HTTP 500): a proxy in "
				       "between may have removed it");
	else
		control_set_problem(c,
				    "the server did not upgrade the connection (HTTP %d): no "
				    "coordination server, or a proxy in between",
				    head->status);
	control_connection_failed(c);
}

static void connection_received(struct connection *conn, const uint8_t *bytes, size_t len)
{
	struct control *c = conn->control;
	int err;

	conn->is_busy = true;
	err = channel_receive(conn->channel, bytes, len);
	conn->is_busy = false;
	if (conn->control != c)
		return;
	if (err == 0) {
		if (conn->phase == CONNECTION_NOISE && channel_is_open(conn->channel)) {
			conn->phase = CONNECTION_UP;
			c->connects++;
			c->key_is_fresh = false;
			control_clear_timer(c, TIMER_DIAL);
			log_debug("control: %s: connected", c->server_url);
			control_kick(c);
		}
		if (conn->phase == CONNECTION_UP)
			pump_or_fail(conn);
		return;
	}
	if (conn->phase == CONNECTION_NOISE) {
		char why[CHANNEL_ERROR_MAX + 64] =
			"the server's handshake is not the one of its key";

		if (err == -ECONNREFUSED)
			snprintf(why, sizeof(why), "the server refused the handshake: %s",
				 channel_error(conn->channel));
		handshake_failed(c, why);
		return;
	}
	control_set_problem(c, "the server sent what cannot be read (%s)", strerror(-err));
	control_connection_failed(c);
}

static void upgrade_progress(struct connection *conn)
{
	struct control *c = conn->control;
	struct http1_head head;
	int err = http1_parse_head(conn->head, conn->head_len, &head);

	if (err == -EAGAIN)
		return;
	if (err != 0 || !http1_is_upgrade(&head, PROTOCOL)) {
		upgrade_failed(c, &head, err);
		return;
	}
	conn->phase = CONNECTION_NOISE;
	if (conn->head_len > head.len)
		connection_received(conn, (const uint8_t *)conn->head + head.len,
				    conn->head_len - head.len);
}

/* ---- the stream ---- */

static void stream_connected(void *owner)
{
	struct connection *conn = owner;
	struct control *c = conn->control;
	char request[1024];
	int len;

	if (conn->phase == CONNECTION_KEY) {
		len = snprintf(request, sizeof(request),
			       "GET /key?v=%d HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			       c->node.capability_version, c->url.authority);
		if (net_stream_write(conn->stream, request, (size_t)len) == 0)
			return;
	} else if (start_handshake(conn) == 0) {
		return;
	}
	control_set_problem(c, "no memory for a connection");
	control_connection_failed(c);
}

/* While an HTTP/1 answer is read. */
static long read_head(struct connection *conn)
{
	size_t max = conn->phase == CONNECTION_KEY ? KEY_ANSWER_MAX : HTTP1_HEAD_MAX;
	long len;

	if (conn->head_len == max)
		return -EMSGSIZE;
	len = net_stream_read(conn->stream, conn->head + conn->head_len, max - conn->head_len);
	if (len <= 0)
		return len;
	conn->head_len += (size_t)len;
	if (conn->phase == CONNECTION_KEY)
		key_progress(conn, false);
	else
		upgrade_progress(conn);
	return len;
}

static long read_records(struct connection *conn)
{
	uint8_t bytes[READ_MAX];
	long len = net_stream_read(conn->stream, bytes, sizeof(bytes));

	if (len > 0)
		connection_received(conn, bytes, (size_t)len);
	return len;
}

static void stream_readable(void *owner)
{
	struct connection *conn = owner;
	struct control *c = conn->control;

	for (int i = 0; i < READS_A_ROUND && conn->control; i++) {
		long len = conn->phase <= CONNECTION_UPGRADE ? read_head(conn) : read_records(conn);

		if (len == -EMSGSIZE && conn->control) {
			control_set_problem(c, "no coordination server there: its answer is too "
					       "long");
			control_connection_failed(c);
		}
		if (len <= 0)
			return;
	}
}

static void stream_drained(void *owner)
{
	struct connection *conn = owner;

	if (conn->phase == CONNECTION_UP)
		pump_or_fail(conn);
}

static void stream_closed(void *owner, const char *sentence)
{
	struct connection *conn = owner;
	struct control *c = conn->control;

	if (conn->phase == CONNECTION_KEY && conn->head_len > 0) {
		key_progress(conn, true);
	} else if (conn->phase == CONNECTION_NOISE) {
		handshake_closed(c);
	} else {
		control_set_problem(c, "%s", sentence);
		control_connection_failed(c);
	}
}

static const struct net_stream_callbacks stream_callbacks = {
	.connected = stream_connected,
	.readable = stream_readable,
	.drained = stream_drained,
	.closed = stream_closed,
};

void control_connect(struct control *c)
{
	const struct state_data *data = state_data(c->state);
	bool needs_key = !c->key_is_fresh &&
			 (!data->has_server_key || c->key_is_doubted || !same_server(c));
	struct net_stream_options options = {
		.host = c->url.host,
		.port = c->url.port,
		.tls = c->url.is_tls ? c->tls : NULL,
		.proxies = c->proxies,
		.alpn = c->url.is_tls ? "http/1.1" : NULL,
		.limit_ns = CONTROL_DIAL_LIMIT_NS,
		.queue_max = OUTPUT_MAX,
	};
	struct connection *conn = calloc(1, sizeof(*conn));

	if (conn)
		conn->head = malloc(needs_key ? KEY_ANSWER_MAX : HTTP1_HEAD_MAX);
	if (conn && conn->head)
		conn->stream = net_stream_open(c->loop, &options, &stream_callbacks, conn);
	if (!conn || !conn->stream) {
		if (conn)
			connection_free(conn);
		control_set_problem(c, "no memory for a connection");
		c->connect_failures++;
		control_set_timer_in(c, TIMER_CONNECT, control_backoff_ns(c->connect_failures));
		return;
	}
	conn->control = c;
	conn->phase = needs_key ? CONNECTION_KEY : CONNECTION_UPGRADE;
	c->conn = conn;
	control_set_timer_in(c, TIMER_DIAL, CONTROL_DIAL_LIMIT_NS);
}

void control_dial_expired(struct control *c)
{
	if (!c->conn)
		return;
	control_set_problem(c, "the server does not answer");
	control_connection_failed(c);
}
