/*
 * The coordination client: what to do next.
 *
 * Three things are kept going, each with its own failures and pauses: the
 * login, the map stream, and the updates about ourselves. They share one
 * connection. Whatever happens (an answer, a lost connection, a passed
 * deadline, a call from above) changes plain fields and kicks; step() then
 * looks at the fields and starts what is missing. So there is one place that
 * knows the order of things, and no chain of calls from callback to callback.
 *
 * Status callbacks are told from the same timer, never from inside a call, and
 * only the last of several changes in a round is seen.
 *
 * The auth key stays in secret memory after a login: a reusable one lets a node
 * renew itself when its key expires, with nobody there to ask. It goes as
 * soon as the server refuses it, at logout, and at the end.
 */
#include "daemon/control/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/control/private.h"
#include "daemon/loop.h"
#include "daemon/state.h"
#include "shared/util.h"

/* ---- timers ---- */

static void arm(struct control *c)
{
	uint64_t now = loop_now(c->loop), first = NEVER_NS, wait_ns;
	struct timeval tv;

	for (int i = 0; i < TIMER_COUNT; i++)
		first = MIN(first, c->at[i]);
	if (first == c->armed_ns || c->is_destroyed)
		return;
	c->armed_ns = first;
	if (first == NEVER_NS) {
		event_del(c->timer);
		return;
	}
	wait_ns = first > now ? first - now : 0;
	tv.tv_sec = (time_t)(wait_ns / NS_PER_S);
	tv.tv_usec = (suseconds_t)(wait_ns % NS_PER_S / NS_PER_US);
	if (event_add(c->timer, &tv) != 0)
		log_err("control: cannot set a timer, the server is not heard until a restart");
}

void control_set_timer(struct control *c, enum control_timer timer, uint64_t at_ns)
{
	c->at[timer] = at_ns;
	arm(c);
}

void control_set_timer_in(struct control *c, enum control_timer timer, uint64_t ns)
{
	control_set_timer(c, timer, loop_now(c->loop) + ns);
}

void control_clear_timer(struct control *c, enum control_timer timer)
{
	control_set_timer(c, timer, NEVER_NS);
}

bool control_is_waiting(const struct control *c, enum control_timer timer)
{
	return c->at[timer] != NEVER_NS;
}

uint64_t control_backoff_ns(unsigned failures)
{
	uint64_t n = MIN(failures, 100u);
	uint64_t wait_ns = MIN(n * n * 10 * NS_PER_MS, CONTROL_BACKOFF_MAX_NS);

	return wait_ns / 2 + wait_ns / 1000 * randombytes_uniform(1001);
}

void control_kick(struct control *c)
{
	control_set_timer(c, TIMER_TELL, loop_now(c->loop));
}

/* ---- what is told ---- */

const char *control_status_name(enum control_status status)
{
	switch (status) {
	case CONTROL_STOPPED:
		return "Stopped";
	case CONTROL_STARTING:
		return "Starting";
	case CONTROL_NEEDS_LOGIN:
	case CONTROL_REFUSED:
		return "NeedsLogin";
	case CONTROL_NEEDS_MACHINE_AUTH:
		return "NeedsMachineAuth";
	case CONTROL_RUNNING:
		return "Running";
	}
	return "NoState";
}

void control_set_status(struct control *c, enum control_status status, const char *format, ...)
{
	char sentence[CONTROL_SENTENCE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(sentence, sizeof(sentence), format, args);
	va_end(args);
	if (status == c->status && strcmp(sentence, c->sentence) == 0)
		return;
	log_limited(&c->status_gate, loop_now(c->loop), LOG_INFO, "control: %s: %s -> %s%s%s",
		    c->server_url, control_status_name(c->status), control_status_name(status),
		    sentence[0] ? ": " : "", sentence);
	c->status = status;
	memcpy(c->sentence, sentence, sizeof(sentence));
	c->tells_status = true;
	control_kick(c);
}

void control_set_problem(struct control *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(c->problem, sizeof(c->problem), format, args);
	va_end(args);
	if (c->problem[0])
		log_limited(&c->gate, loop_now(c->loop), LOG_WARN, "control: %s: %s, trying again",
			    c->server_url, c->problem);
}

bool control_save(struct control *c)
{
	char error[STATE_ERROR_MAX];

	if (state_save(c->state, error) == 0) {
		if (c->is_save_refused && c->status == CONTROL_REFUSED)
			control_set_status(c, CONTROL_STARTING, "%s", "");
		c->is_save_refused = false;
		return true;
	}
	c->is_save_refused = true;
	control_set_timer_in(c, TIMER_SAVE, CONTROL_SAVE_AGAIN_NS);
	control_set_status(c, CONTROL_REFUSED,
			   "%.400s; not logging in, since a login that is not saved would be lost",
			   error);
	return false;
}

/* Any of these may call control_destroy(). */
static void tell(struct control *c)
{
	if (c->tells_node_key && !c->is_destroyed) {
		c->tells_node_key = false;
		c->callbacks.node_key_changed(c->owner);
	}
	if (c->tells_status && !c->is_destroyed) {
		c->tells_status = false;
		c->callbacks.status_changed(c->owner, c->status, c->sentence);
	}
	if (c->tells_logout && !c->is_destroyed) {
		void (*done)(void *owner, int err) = c->logout_done;

		c->tells_logout = false;
		c->logout_done = NULL;
		if (done)
			done(c->owner, c->logout_err);
	}
}

/* ---- what is next ---- */

static bool wants_connection(const struct control *c)
{
	if (c->is_logging_out)
		return true;
	if (c->status == CONTROL_REFUSED)
		return c->key_is_refused;
	return c->status != CONTROL_STOPPED && !c->is_login_blocked;
}

static void step(struct control *c)
{
	/* A disk that was full may have room again. */
	if (c->is_save_refused && c->status == CONTROL_REFUSED &&
	    !control_is_waiting(c, TIMER_SAVE))
		control_save(c);
	if (!wants_connection(c)) {
		control_disconnect(c);
		control_clear_timer(c, TIMER_CONNECT);
		return;
	}
	if (!c->conn) {
		if (!control_is_waiting(c, TIMER_CONNECT))
			control_connect(c);
		return;
	}
	if (!control_is_up(c))
		return;
	if (c->is_logging_out) {
		control_send_logout(c);
	} else if (!state_data(c->state)->is_registered) {
		if (c->register_id == 0 && !control_is_waiting(c, TIMER_REGISTER))
			control_register(c);
	} else if (c->poll_id == 0) {
		if (!control_is_waiting(c, TIMER_POLL))
			control_poll(c);
	} else if (control_wants_update(c)) {
		control_update(c);
	}
}

static void timer_passed(struct control *c, enum control_timer timer)
{
	switch (timer) {
	case TIMER_DIAL:
		control_dial_expired(c);
		break;
	case TIMER_REGISTER_LIMIT:
		control_register_expired(c);
		break;
	case TIMER_WATCHDOG:
		control_poll_expired(c);
		break;
	case TIMER_UPDATE_LIMIT:
		control_update_expired(c);
		break;
	case TIMER_CONFIRM:
		control_update_confirm(c);
		break;
	case TIMER_LOGOUT_LIMIT:
		control_end_logout(c, -ETIMEDOUT);
		break;
	case TIMER_PING_LIMIT:
		control_ping_close(c);
		break;
	case TIMER_KEY_EXPIRY:
		control_key_expired(c);
		break;
	case TIMER_TELL:
	case TIMER_CONNECT:
	case TIMER_SAVE:
	case TIMER_REGISTER:
	case TIMER_POLL:
	case TIMER_UPDATE:
	case TIMER_COUNT:
		break; /* they only end a pause: step() goes on */
	}
}

static void fired(evutil_socket_t fd, short events, void *arg)
{
	struct control *c = arg;
	uint64_t now = loop_now(c->loop);

	(void)fd, (void)events;
	c->armed_ns = NEVER_NS;
	for (int i = 0; i < TIMER_COUNT; i++) {
		/* libevent's clock is coarser than ours: what is due in this millisecond is due. */
		if (c->at[i] == NEVER_NS || c->at[i] > now + NS_PER_MS)
			continue;
		c->at[i] = NEVER_NS;
		timer_passed(c, (enum control_timer)i);
	}
	tell(c);
	if (c->is_destroyed)
		return;
	step(c);
	arm(c);
}

/* ---- from above ---- */

static int copy_tags(struct control *c, const struct control_config *config)
{
	c->node.tags = calloc(MAX(config->tag_count, 1u), sizeof(*c->node.tags));
	if (!c->node.tags)
		return -ENOMEM;
	for (unsigned i = 0; i < config->tag_count; i++) {
		c->node.tags[i] = strdup(config->tags[i]);
		if (!c->node.tags[i])
			return -ENOMEM;
		c->node.tag_count++;
	}
	return 0;
}

static const char *copy_config(struct control *c, const struct control_config *config)
{
	size_t len;

	if (http1_parse_url(config->server_url, &c->url) != 0)
		return "is not a URL like http://host:8080 or https://host";
	if (c->url.path[0] != '\0' && strcmp(c->url.path, "/") != 0)
		return "must have no path";
	if (c->url.is_tls && !config->tls)
		return "wants TLS, which is not set up";
	c->server_url = strdup(config->server_url);
	c->auth_key = secret_alloc(CONTROL_AUTH_KEY_MAX + 1);
	c->self = calloc(1, sizeof(*c->self));
	if (!c->server_url || !c->auth_key || !c->self || copy_tags(c, config) != 0)
		return "cannot be used, no memory";
	len = strlen(c->server_url);
	if (len > 0 && c->server_url[len - 1] == '/')
		c->server_url[len - 1] = '\0';
	if (strlen(c->server_url) >= sizeof(((struct state_data *)0)->server_url))
		return "is too long";
	messages_host_label(config->host_name ? config->host_name : "", c->node.host_name);
	snprintf(c->node.version, sizeof(c->node.version), "%s",
		 config->version ? config->version : "0");
	c->node.capability_version = config->capability_version ? config->capability_version
								: CONTROL_CAPABILITY_VERSION;
	c->node.is_ephemeral = config->is_ephemeral;
	if (config->auth_key && config->auth_key_len > 0 &&
	    control_set_auth_key(c, config->auth_key, config->auth_key_len) != 0)
		return "cannot be given this auth key: it is too long, or not one plain word";
	return NULL;
}

/* For status and log: which one leads to the server. */
static void name_proxy(struct control *c)
{
	const struct outproxy *p = NULL;

	if (c->proxies)
		p = outproxies_for(c->proxies, c->url.host, c->url.port, c->url.is_tls);
	if (!p || p->problem)
		return;
	outproxy_authority(p->host, p->port, c->proxy);
	log_info("control: %s: %s names the proxy %s that leads there", c->server_url, p->variable,
		 c->proxy);
}

struct control *control_create(struct loop *loop, const struct control_config *config,
			       struct state *state, const struct control_callbacks *callbacks,
			       void *owner, char error[static CONTROL_SENTENCE_MAX])
{
	struct control *c = calloc(1, sizeof(*c));
	const char *fault = "cannot be used, no memory";

	if (!c)
		goto fail;
	c->loop = loop;
	c->state = state;
	c->callbacks = *callbacks;
	c->owner = owner;
	c->tls = config->tls;
	c->proxies = config->proxies;
	c->map_max = config->map_max;
	c->trusts_new_server_key = config->trusts_new_server_key;
	c->next_token = 1;
	c->status_gate.burst = CONTROL_STATUS_LINES;
	c->may_be_registered = state_data(state)->has_node_key && !state_data(state)->is_registered;
	for (int i = 0; i < TIMER_COUNT; i++)
		c->at[i] = NEVER_NS;
	c->armed_ns = NEVER_NS;
	c->timer = event_new(loop_base(loop), -1, 0, fired, c);
	if (!c->timer)
		goto fail;
	fault = copy_config(c, config);
	if (fault)
		goto fail;
	name_proxy(c);
	return c;
fail:
	snprintf(error, CONTROL_SENTENCE_MAX, "the login server %.200s %s", config->server_url,
		 fault);
	control_destroy(c);
	return NULL;
}

static void control_free(void *arg)
{
	struct control *c = arg;

	for (unsigned i = 0; i < c->node.tag_count; i++)
		free(c->node.tags[i]);
	free(c->node.tags);
	free(c->server_url);
	secret_free(c->auth_key);
	answer_reset(&c->register_answer);
	answer_reset(&c->poll_answer);
	answer_reset(&c->update_answer);
	free(c->self);
	free(c->sending_text);
	free(c->sent_text);
	free(c);
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	control_disconnect(control);
	control_ping_close(control);
	control->is_destroyed = true;
	if (control->timer)
		event_free(control->timer);
	control->timer = NULL;
	/* It may be called from one of our callbacks. */
	if (loop_defer(control->loop, control_free, control) != 0)
		log_err("control: no memory to free memory, some is lost");
}

void control_start(struct control *control)
{
	control->connect_failures = control->register_failures = control->poll_failures = 0;
	control->is_login_blocked = false;
	control->is_rotated = false;
	control->key_is_refused = control->is_save_refused = false;
	control->problem[0] = '\0';
	control_clear_timer(control, TIMER_CONNECT);
	control_clear_timer(control, TIMER_REGISTER);
	control_clear_timer(control, TIMER_POLL);
	if (control->status != CONTROL_RUNNING)
		control_set_status(control, CONTROL_STARTING, "%s", "");
	control_kick(control);
}

void control_stop(struct control *control)
{
	control_disconnect(control);
	control_clear_timer(control, TIMER_CONNECT);
	control_clear_timer(control, TIMER_KEY_EXPIRY);
	control->login_url[0] = '\0';
	control_set_status(control, CONTROL_STOPPED, "%s", "");
}

void control_set_self(struct control *control, const struct control_self *self)
{
	*control->self = *self;
	control->generation++;
	control_kick(control);
}

int control_set_auth_key(struct control *control, const char *key, size_t len)
{
	while (len > 0 && strchr(" \t\r\n", key[len - 1]))
		len--;
	while (len > 0 && strchr(" \t\r\n", key[0]))
		key++, len--;
	if (!messages_auth_key_ok(key, len))
		return -EINVAL;
	memcpy(control->auth_key, key, len);
	control->auth_key[len] = '\0';
	control->is_interactive = false;
	return 0;
}

void control_login_interactive(struct control *control)
{
	control->is_interactive = true;
	control_disconnect(control);
	if (state_data(control->state)->is_registered)
		control_key_expired(control); /* a new node key, and login again */
	control_start(control);
}

void control_logout(struct control *control, void (*done)(void *owner, int err))
{
	const struct state_data *data = state_data(control->state);

	control->logout_done = done;
	control->is_logging_out = true;
	control->is_logout_sent = false;
	control->connect_failures = 0;
	control_clear_timer(control, TIMER_CONNECT);
	control_set_timer_in(control, TIMER_LOGOUT_LIMIT, CONTROL_LOGOUT_LIMIT_NS);
	if (!data->has_node_key || !data->is_registered)
		control_end_logout(control, 0);
	control_kick(control);
}

void control_network_changed(struct control *control)
{
	control_disconnect(control);
	control->connect_failures = control->poll_failures = control->register_failures = 0;
	control->update_failures = 0;
	control_clear_timer(control, TIMER_CONNECT);
	control_clear_timer(control, TIMER_POLL);
	control_kick(control);
}

void control_get_info(const struct control *control, struct control_info *info)
{
	*info = (struct control_info){
		.status = control->status,
		.is_login_failed = control->is_login_blocked || control->status == CONTROL_REFUSED,
		.is_connected = control->has_first,
		.connected_ns = control->has_first ? control->connected_ns : 0,
		.last_message_ns = control->last_message_ns,
		.clock_delta_s = control->clock_delta_s,
		.sentence = control->sentence,
		.problem = control->has_first ? "" : control->problem,
		.login_url = control->login_url,
		.server_url = control->server_url,
		.proxy = control->proxy,
		.messages = control->messages,
		.bad_messages = control->bad_messages,
		.connects = control->connects,
		.registrations = control->registrations,
		.updates = control->updates,
	};
}
