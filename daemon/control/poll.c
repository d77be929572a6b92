/*
 * The map stream: one request whose answer never ends.
 *
 * Signs of life are whole messages, not bytes: a server that drips a byte a
 * minute is as dead as one that is silent. Bad messages end the stream, not
 * the mesh: a new stream begins with a full map, which heals whatever was
 * misunderstood.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "daemon/control/mapstream.h"
#include "daemon/control/private.h"
#include "daemon/loop.h"
#include "daemon/state.h"
#include "shared/util.h"

#define MAP_PATH        "/machine/map"
#define FAILED_BODY_MAX 4096
#define CLOCK_SLACK_S   60

static void try_later(struct control *c)
{
	c->poll_failures++;
	control_set_timer_in(c, TIMER_POLL, control_backoff_ns(c->poll_failures));
	control_kick(c);
}

/* ---- messages ---- */

static void set_expiry_timer(struct control *c)
{
	int64_t left_s;

	if (c->key_expiry == 0) {
		control_clear_timer(c, TIMER_KEY_EXPIRY);
		return;
	}
	left_s = c->key_expiry - (time(NULL) + c->clock_delta_s);
	left_s = MAX(left_s, 0);
	control_set_timer_in(c, TIMER_KEY_EXPIRY, (uint64_t)MIN(left_s, INT32_MAX) * NS_PER_S);
}

static void note_clock(struct control *c, int64_t control_time)
{
	int64_t delta_s = control_time - time(NULL);

	if (control_time != 0)
		c->clock_delta_s = llabs(delta_s) > CLOCK_SLACK_S ? delta_s : 0;
}

static void note_url(struct control *c, const char *url)
{
	if (!url[0] || strcmp(url, c->last_pop_url) == 0)
		return;
	snprintf(c->last_pop_url, sizeof(c->last_pop_url), "%s", url);
	if (c->callbacks.show_url)
		c->callbacks.show_url(c->owner, url);
}

/* Our own node: may we, and for how long? */
static void note_node(struct control *c, const struct messages_notes *notes)
{
	c->key_expiry = notes->key_expiry;
	if (notes->is_expired) {
		/* An expired node is often called unauthorized too. */
		control_set_timer_in(c, TIMER_KEY_EXPIRY, 0);
		return;
	}
	set_expiry_timer(c);
	if (notes->is_authorized)
		control_set_status(c, CONTROL_RUNNING, "%s", "");
	else
		control_set_status(c, CONTROL_NEEDS_MACHINE_AUTH,
				   "an administrator of the network must approve this node");
}

static int pass_on(struct connection *conn, const char *text, size_t len,
		   const struct messages_notes *notes)
{
	struct control *c = conn->control;
	int err;

	if (!c->has_first && !notes->has_node)
		return -EBADMSG;
	err = c->callbacks.map_message(c->owner, text, len, !c->has_first);
	if (!conn->control)
		return -ECANCELED;
	if (err != 0)
		return err;
	if (!c->has_first) {
		c->has_first = true;
		c->connected_ns = loop_now(c->loop);
		c->problem[0] = '\0';
		log_limited(&c->map_gate, c->connected_ns, LOG_INFO, "control: %s: the map is here",
			    c->server_url);
		control_kick(c);
	}
	if (notes->has_node)
		note_node(c, notes);
	return 0;
}

static int message(void *owner, const char *text, size_t len)
{
	struct connection *conn = owner;
	struct control *c = conn->control;
	struct messages_notes notes;
	struct messages_ping ping;
	int err;

	if (!c)
		return -ECANCELED;
	err = messages_read_notes(text, len, &notes, &ping);
	if (err == 0) {
		c->messages++;
		c->last_message_ns = loop_now(c->loop);
		control_set_timer_in(c, TIMER_WATCHDOG, CONTROL_WATCHDOG_NS);
		note_clock(c, notes.control_time);
		if (c->key_expiry != 0)
			set_expiry_timer(c);
		if (!notes.is_keep_alive)
			err = pass_on(conn, text, len, &notes);
	}
	if (conn->control && err == 0 && notes.has_ping)
		control_answer_ping(c, &ping);
	messages_ping_free(&ping);
	if (conn->control && err == 0)
		note_url(c, notes.pop_url);
	if (!conn->control)
		return -ECANCELED;
	if (err == 0 && notes.sleep_ns > 0) {
		log_limited(&c->sleep_gate, c->last_message_ns, LOG_INFO,
			    "control: %s: the server asks to be left alone for %u s", c->server_url,
			    (unsigned)(notes.sleep_ns / NS_PER_S));
		control_set_timer_in(c, TIMER_POLL, notes.sleep_ns);
		return -ECANCELED;
	}
	if (err != 0)
		c->bad_messages++;
	return err;
}

/* ---- the request ---- */

static void poll_headed(void *owner, const struct h2_response *response)
{
	struct connection *conn = owner;
	struct control *c = conn->control;
	struct mapstream_callbacks callbacks = { .message = message, .owner = conn };

	if (!c)
		return;
	c->poll_answer.response = *response;
	if (response->status == 200)
		conn->map = mapstream_create(true, c->map_max, &callbacks);
}

static int poll_body(void *owner, const uint8_t *bytes, size_t len)
{
	struct connection *conn = owner;
	struct control *c = conn->control;

	if (!c)
		return -ECANCELED;
	if (c->poll_answer.response.status != 200)
		return answer_append(&c->poll_answer, bytes, len, FAILED_BODY_MAX);
	return conn->map ? mapstream_receive(conn->map, bytes, len) : -ENOMEM;
}

/* The server does not know this node key (any more). */
static void node_unknown(struct control *c, const char *words)
{
	state_data(c->state)->is_registered = false;
	c->poll_failures++;
	control_set_timer_in(c, TIMER_REGISTER, control_backoff_ns(c->poll_failures));
	control_set_status(c, CONTROL_STARTING,
			   "the server does not know this node any more (%.100s); logging in again",
			   words);
	control_kick(c);
}

static void poll_failed(struct control *c)
{
	const struct answer *a = &c->poll_answer;
	char words[CONTROL_WORDS_MAX + 1];

	answer_words(a, words, sizeof(words));
	if (a->response.status == 404) {
		node_unknown(c, words);
		return;
	}
	control_set_problem(c, "no map, HTTP %d: %s", a->response.status, words);
	c->poll_failures++;
	if (a->response.status == 429 || (a->response.status == 503 && a->response.retry_after[0]))
		control_set_timer_in(c, TIMER_POLL,
				     messages_retry_after_ns(a->response.retry_after, time(NULL),
							     randombytes_random()));
	else
		control_set_timer_in(c, TIMER_POLL, control_backoff_ns(c->poll_failures));
}

static void poll_ended(void *owner, int err)
{
	struct connection *conn = owner;
	struct control *c = conn->control;
	int status;
	bool is_asleep;

	if (!c)
		return;
	status = c->poll_answer.response.status;
	is_asleep = err == -ECANCELED && control_is_waiting(c, TIMER_POLL);
	if (c->has_first && loop_now(c->loop) - c->connected_ns >= CONTROL_SETTLED_NS)
		c->poll_failures = 0;
	if (err == 0 && status != 0 && status != 200) {
		poll_failed(c);
	} else if (!is_asleep) {
		if (err == -EMSGSIZE || err == -EBADMSG)
			control_set_problem(c, "the server sent a map that cannot be %s",
					    err == -EMSGSIZE ? "taken, it is too large" : "read");
		else
			control_set_problem(c, "the map stream has ended (%s)",
					    err == 0 ? "by the server" : strerror(-err));
		try_later(c);
	}
	if (h2_is_going_away(conn->h2))
		control_connection_failed(c);
	else
		control_poll_forget(c);
}

static const struct h2_handler poll_handler = {
	.headed = poll_headed,
	.body = poll_body,
	.ended = poll_ended,
};

void control_poll(struct control *c)
{
	const struct state_data *data = state_data(c->state);
	struct public_key node_key;
	int32_t id = -ENOMEM;
	char *body;
	size_t len;

	private_key_public(&data->node_key, &node_key);
	body = messages_make_map(&c->node, c->generation > 0 ? c->self : NULL, &node_key, true,
				 &len);
	if (body)
		id = control_request(c, MAP_PATH, body, len, &poll_handler);
	free(body);
	if (id < 0) {
		try_later(c);
		return;
	}
	if (!control_is_up(c))
		return;
	c->poll_id = id;
	control_set_timer_in(c, TIMER_WATCHDOG, CONTROL_WATCHDOG_NS);
}

void control_poll_forget(struct control *c)
{
	c->poll_id = 0;
	c->has_first = false;
	control_clear_timer(c, TIMER_WATCHDOG);
	answer_reset(&c->poll_answer);
	if (c->conn) {
		mapstream_destroy(c->conn->map);
		c->conn->map = NULL;
	}
	control_update_forget(c);
}

/* Nothing for two minutes: the connection is as dead as the stream. */
void control_poll_expired(struct control *c)
{
	control_set_problem(c, "nothing from the server for %u s",
			    (unsigned)(CONTROL_WATCHDOG_NS / NS_PER_S));
	control_connection_failed(c);
}
