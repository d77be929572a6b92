/*
 * The login: register requests and what their answers mean.
 *
 * A node key is on disk before the server hears of it. Else a full disk would
 * burn an auth key that works once: registered there, forgotten here.
 *
 * An error in the answer is the server's last word on this key: nothing is
 * repeated until the user acts. With one exception: an answer got lost, by our
 * death or the connection's, that may have said yes. A server that is still
 * busy with it calls the key used; a little later it knows the node. An HTTP error or silence is a
 * matter of trying again. Login by hand is a request that the server holds until somebody has
 * opened the URL; it is cut off and repeated now and then, since a dead
 * connection would look just the same.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "daemon/control/private.h"
#include "daemon/loop.h"
#include "daemon/state.h"
#include "shared/util.h"

#define REGISTER_PATH        "/machine/register"
#define DOUBTED_REFUSALS_MAX 3
#define DOUBT_NS             NS_PER_S

static void forget_auth_key(struct control *c)
{
	secret_wipe(c->auth_key, CONTROL_AUTH_KEY_MAX + 1);
}

static bool uses_auth_key(const struct control *c)
{
	return c->auth_key[0] != '\0' && !c->is_interactive;
}

static void try_later(struct control *c)
{
	c->register_failures++;
	control_set_timer_in(c, TIMER_REGISTER, control_backoff_ns(c->register_failures));
	control_kick(c);
}

/* Nothing is sent until the user acts. */
static void block(struct control *c)
{
	c->is_login_blocked = true;
	c->login_url[0] = '\0';
	control_kick(c);
}

static void rotate(struct control *c)
{
	struct state_data *data = state_data(c->state);

	if (data->has_node_key && !data->has_old_node_key) {
		data->old_node_key = data->node_key;
		data->has_old_node_key = true;
	}
	private_key_generate(&data->node_key);
	data->has_node_key = true;
	data->is_registered = false;
	c->may_be_registered = false;
	c->tells_node_key = true;
	c->is_saved = false;
	c->login_url[0] = '\0';
}

/* ---- answers ---- */

static void refused_key(struct control *c, const char *error)
{
	bool had_key = uses_auth_key(c);

	if (had_key && c->may_be_registered && c->doubted_refusals < DOUBTED_REFUSALS_MAX) {
		c->doubted_refusals++;
		control_set_problem(c,
				    "the server refused the auth key (%s), maybe because it has "
				    "let this node in before; asking again",
				    error);
		control_set_timer_in(c, TIMER_REGISTER, c->doubted_refusals * DOUBT_NS);
		control_kick(c);
		return;
	}
	if (had_key)
		forget_auth_key(c);
	if (had_key && c->node.tag_count > 0 && strstr(error, "tag"))
		/* As Headscale does with every key that is a user's. */
		control_set_status(
			c, CONTROL_NEEDS_LOGIN,
			"the server refused the auth key with these tags: %s. Make a key that has "
			"them (Headscale: headscale preauthkeys create --tags %s) and start again "
			"with it, without --advertise-tags",
			error, c->node.tags[0]);
	else if (had_key)
		control_set_status(
			c, CONTROL_NEEDS_LOGIN,
			"the server refused the auth key: %s. Make a new one (Headscale: "
			"headscale preauthkeys create --user ID) and start again with it",
			error);
	else
		control_set_status(c, CONTROL_NEEDS_LOGIN,
				   "the server refused the login: %s. Log in again, or start with "
				   "an auth key",
				   error);
	block(c);
}

static void needs_visit(struct control *c, const char *url)
{
	bool is_first = c->login_url[0] == '\0';

	if (uses_auth_key(c) && is_first)
		log_warn("control: %s: the server wants a login by hand in spite of the auth key",
			 c->server_url);
	snprintf(c->login_url, sizeof(c->login_url), "%s", url);
	control_set_status(c, CONTROL_NEEDS_LOGIN, "to log in, open %.400s", url);
	if (is_first)
		control_kick(c);
	else
		try_later(c);
}

static void key_has_expired(struct control *c)
{
	if (c->is_rotated) {
		control_set_status(c, CONTROL_NEEDS_LOGIN,
				   "the server calls a brand-new node key expired; log in again");
		block(c);
		return;
	}
	c->is_rotated = true;
	rotate(c);
	control_kick(c);
}

static void logged_in(struct control *c, const struct messages_registered *answer)
{
	struct state_data *data = state_data(c->state);

	data->is_registered = true;
	data->has_old_node_key = false;
	secret_wipe(&data->old_node_key, sizeof(data->old_node_key));
	snprintf(data->login_name, sizeof(data->login_name), "%s", answer->login_name);
	snprintf(data->server_url, sizeof(data->server_url), "%s", c->server_url);
	c->login_url[0] = '\0';
	c->is_rotated = c->is_interactive = false;
	c->may_be_registered = false;
	c->register_failures = c->doubted_refusals = 0;
	c->registrations++;
	if (!control_save(c))
		return;
	if (answer->is_authorized)
		control_set_status(c, CONTROL_STARTING, "%s", "");
	else
		control_set_status(c, CONTROL_NEEDS_MACHINE_AUTH,
				   "an administrator of the network must approve this node");
	control_kick(c);
}

static void http_failed(struct control *c)
{
	const struct answer *a = &c->register_answer;
	char words[CONTROL_WORDS_MAX + 1];

	if (a->response.status == 429 ||
	    (a->response.status == 503 && a->response.retry_after[0])) {
		uint64_t wait_ns = messages_retry_after_ns(a->response.retry_after, time(NULL),
							   randombytes_random());

		control_set_problem(c, "the server is busy (HTTP %d)", a->response.status);
		control_set_timer_in(c, TIMER_REGISTER, wait_ns);
		return;
	}
	answer_words(a, words, sizeof(words));
	control_set_problem(c, "login failed, HTTP %d: %s", a->response.status, words);
	try_later(c);
}

static void answered(struct control *c)
{
	const struct answer *a = &c->register_answer;
	struct messages_registered answer;

	if (a->response.status != 200) {
		http_failed(c);
		return;
	}
	if (messages_parse_registered(a->body ? a->body : "", a->len, &answer) != 0) {
		control_set_problem(c, "the answer to the login cannot be read");
		try_later(c);
	} else if (answer.error[0]) {
		refused_key(c, answer.error);
	} else if (answer.wants_signature) {
		control_set_status(c, CONTROL_REFUSED,
				   "the network is locked (tailnet lock), which is not supported "
				   "here: exempt this node, or unlock the network");
		control_kick(c);
	} else if (answer.is_key_expired) {
		key_has_expired(c);
	} else if (answer.auth_url[0]) {
		needs_visit(c, answer.auth_url);
	} else {
		logged_in(c, &answer);
	}
}

/* ---- the request ---- */

static void register_headed(void *owner, const struct h2_response *response)
{
	struct connection *conn = owner;

	if (conn->control)
		conn->control->register_answer.response = *response;
}

static int register_body(void *owner, const uint8_t *bytes, size_t len)
{
	struct connection *conn = owner;

	if (!conn->control)
		return -ECANCELED;
	return answer_append(&conn->control->register_answer, bytes, len, MESSAGES_ANSWER_MAX);
}

static void register_ended(void *owner, int err)
{
	struct connection *conn = owner;
	struct control *c = conn->control;

	if (!c)
		return;
	c->register_id = 0;
	control_clear_timer(c, TIMER_REGISTER_LIMIT);
	if (c->is_logging_out) {
		bool is_told = err == 0 && c->register_answer.response.status == 200;

		if (c->is_logout_sent)
			control_end_logout(c, is_told ? 0 : err != 0 ? err : -EREMOTEIO);
		control_kick(c);
		return;
	}
	if (err == 0 && c->register_answer.response.status != 0) {
		answered(c);
		return;
	}
	c->may_be_registered = true;
	if (!c->login_url[0])
		control_set_problem(c, "the login was not answered (%s)", strerror(-err));
	try_later(c);
}

static const struct h2_handler register_handler = {
	.headed = register_headed,
	.body = register_body,
	.ended = register_ended,
};

/* 0 or -errno. */
static int send_register(struct control *c, const struct messages_register *ask)
{
	size_t len;
	char *body =
		messages_make_register(&c->node, c->generation > 0 ? c->self : NULL, ask, &len);
	int32_t id;

	if (!body)
		return -ENOMEM;
	answer_reset(&c->register_answer);
	id = control_request(c, REGISTER_PATH, body, len, &register_handler);
	secret_free(body);
	if (id < 0)
		return id;
	if (control_is_up(c))
		c->register_id = id;
	return 0;
}

void control_register(struct control *c)
{
	struct state_data *data = state_data(c->state);
	struct messages_register ask = { 0 };
	struct public_key node_key, old_node_key;
	bool is_followup = c->login_url[0] != '\0';

	if (!data->has_node_key)
		rotate(c);
	if (!c->is_saved) {
		if (!control_save(c))
			return;
		c->is_saved = true;
		control_kick(c);
	}
	private_key_public(&data->node_key, &node_key);
	ask.node_key = &node_key;
	if (data->has_old_node_key) {
		private_key_public(&data->old_node_key, &old_node_key);
		ask.old_node_key = &old_node_key;
	}
	if (is_followup)
		ask.followup = c->login_url;
	else if (uses_auth_key(c))
		ask.auth_key = c->auth_key;
	if (send_register(c, &ask) != 0) {
		try_later(c);
		return;
	}
	control_set_timer_in(c, TIMER_REGISTER_LIMIT,
			     is_followup ? CONTROL_FOLLOWUP_LIMIT_NS : CONTROL_REGISTER_LIMIT_NS);
}

void control_register_forget(struct control *c)
{
	c->register_id = 0;
	c->is_logout_sent = false;
	control_clear_timer(c, TIMER_REGISTER_LIMIT);
	answer_reset(&c->register_answer);
}

void control_register_expired(struct control *c)
{
	control_cancel(c, c->register_id);
}

void control_key_expired(struct control *c)
{
	const struct state_data *data = state_data(c->state);

	if (!data->is_registered)
		return;
	control_disconnect(c);
	control_clear_timer(c, TIMER_KEY_EXPIRY);
	c->key_expiry = 0;
	c->is_rotated = true;
	rotate(c);
	/* A server may call every key of ours expired. */
	c->poll_failures++;
	control_set_timer_in(c, TIMER_REGISTER, control_backoff_ns(c->poll_failures));
	if (uses_auth_key(c))
		control_set_status(c, CONTROL_STARTING,
				   "the login of this node has expired; renewing it");
	else
		control_set_status(c, CONTROL_NEEDS_LOGIN,
				   "the login of this node has expired; asking for a URL");
}

/* ---- logout ---- */

void control_send_logout(struct control *c)
{
	const struct state_data *data = state_data(c->state);
	struct messages_register ask = { .is_logout = true };
	struct public_key node_key;

	if (c->register_id != 0 && !c->is_logout_sent) {
		control_cancel(c, c->register_id);
		return;
	}
	if (c->is_logout_sent)
		return;
	private_key_public(&data->node_key, &node_key);
	ask.node_key = &node_key;
	c->is_logout_sent = true;
	if (send_register(c, &ask) != 0)
		control_end_logout(c, -ENOTCONN);
}

void control_end_logout(struct control *c, int err)
{
	struct state_data *data = state_data(c->state);
	char error[STATE_ERROR_MAX];

	if (!c->is_logging_out)
		return;
	c->is_logging_out = c->is_logout_sent = false;
	control_clear_timer(c, TIMER_LOGOUT_LIMIT);
	control_clear_timer(c, TIMER_KEY_EXPIRY);
	control_disconnect(c);
	forget_auth_key(c);
	secret_wipe(&data->node_key, sizeof(data->node_key));
	secret_wipe(&data->old_node_key, sizeof(data->old_node_key));
	data->has_node_key = data->has_old_node_key = data->is_registered = false;
	data->login_name[0] = '\0';
	state_set_netmap(c->state, NULL, 0);
	if (state_save(c->state, error) != 0) {
		log_warn("control: logged out, but the state still has the login: %s", error);
		err = err != 0 ? err : -EIO;
	}
	c->is_saved = false;
	c->logout_err = err;
	c->tells_logout = true;
	c->tells_node_key = true;
	control_set_status(c, CONTROL_NEEDS_LOGIN,
			   "this node was logged out; 'meshctl up' logs it in again");
	block(c);
}
