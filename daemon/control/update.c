/*
 * Updates: what the server must know of this node, sent beside the map stream.
 *
 * At most one is under way, and it carries the newest state: whatever changes
 * meanwhile waits for its end and goes as one. A request that says the same as
 * the one before is not sent, but once a minute: its failure is the one sign of a
 * server that has deleted us and left the stream open. Each new stream is followed by an update,
 * since servers may ignore what the stream's own request says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/control/private.h"
#include "daemon/state.h"
#include "shared/util.h"

#define MAP_PATH        "/machine/map"
#define UPDATE_BODY_MAX (64u << 10) /* nobody reads it */
#define STREAM_DOUBT    16          /* one failure of so many makes the stream anew */

bool control_wants_update(const struct control *c)
{
	return c->has_first && c->update_id == 0 && !control_is_waiting(c, TIMER_UPDATE) &&
	       c->sent_generation != c->generation;
}

static void update_headed(void *owner, const struct h2_response *response)
{
	struct connection *conn = owner;

	if (conn->control)
		conn->control->update_answer.response = *response;
}

static int update_body(void *owner, const uint8_t *bytes, size_t len)
{
	struct connection *conn = owner;

	if (!conn->control)
		return -ECANCELED;
	return answer_append(&conn->control->update_answer, bytes, len, UPDATE_BODY_MAX);
}

/*
 * Some servers tell only a new map stream that they have deleted the node, and
 * leave the old one open: then the failed update is the one sign.
 */
static bool may_be_unknown(const struct control *c)
{
	int status = c->update_answer.response.status;

	return status == 404 || (status >= 500 && c->update_failures % STREAM_DOUBT == 2);
}

static void try_later(struct control *c)
{
	c->update_failures++;
	control_set_timer_in(c, TIMER_UPDATE, control_backoff_ns(c->update_failures));
}

static void update_ended(void *owner, int err)
{
	struct connection *conn = owner;
	struct control *c = conn->control;
	char words[CONTROL_WORDS_MAX + 1];

	if (!c)
		return;
	c->update_id = 0;
	control_clear_timer(c, TIMER_UPDATE_LIMIT);
	if (err == 0 && c->update_answer.response.status == 200) {
		free(c->sent_text);
		c->sent_text = c->sending_text;
		c->sending_text = NULL;
		c->sent_generation = c->sending_generation;
		c->update_failures = 0;
		c->updates++;
		control_set_timer_in(c, TIMER_CONFIRM, CONTROL_CONFIRM_NS);
	} else {
		answer_words(&c->update_answer, words, sizeof(words));
		log_limited(&c->gate, c->last_message_ns, LOG_WARN,
			    "control: %s: the server did not take an update (%d: %s), trying again",
			    c->server_url, err != 0 ? err : c->update_answer.response.status,
			    words);
		try_later(c);
		if (err == 0 && may_be_unknown(c))
			control_cancel(c, c->poll_id);
	}
	control_kick(c);
}

static const struct h2_handler update_handler = {
	.headed = update_headed,
	.body = update_body,
	.ended = update_ended,
};

void control_update(struct control *c)
{
	struct public_key node_key;
	int32_t id;
	size_t len;

	private_key_public(&state_data(c->state)->node_key, &node_key);
	free(c->sending_text);
	c->sending_text = messages_make_map(&c->node, c->self, &node_key, false, &len);
	if (!c->sending_text) {
		try_later(c);
		return;
	}
	if (c->sent_text && strcmp(c->sent_text, c->sending_text) == 0) {
		c->sent_generation = c->generation;
		return;
	}
	answer_reset(&c->update_answer);
	c->sending_generation = c->generation;
	id = control_request(c, MAP_PATH, c->sending_text, len, &update_handler);
	if (id < 0) {
		try_later(c);
		return;
	}
	if (!control_is_up(c))
		return;
	c->update_id = id;
	control_set_timer_in(c, TIMER_UPDATE_LIMIT, CONTROL_UPDATE_LIMIT_NS);
}

void control_update_forget(struct control *c)
{
	control_cancel(c, c->update_id);
	c->update_id = 0;
	free(c->sent_text);
	c->sent_text = NULL;
	c->sent_generation = 0;
	control_clear_timer(c, TIMER_UPDATE_LIMIT);
	control_clear_timer(c, TIMER_UPDATE);
	control_clear_timer(c, TIMER_CONFIRM);
	answer_reset(&c->update_answer);
}

void control_update_confirm(struct control *c)
{
	free(c->sent_text);
	c->sent_text = NULL;
	c->sent_generation = 0;
}

void control_update_expired(struct control *c)
{
	control_cancel(c, c->update_id);
}
