/*
 * What the server asks of us in the map stream.
 *
 * A URL is followed only to the server itself: through the connection that
 * stands, or to the very scheme, host and port of the configured URL. So a
 * server cannot make us speak to anybody it likes, least of all on loopback.
 * One such request at a time; more are dropped, the server asks again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/control/private.h"
#include "daemon/loop.h"
#include "daemon/stream.h"
#include "shared/util.h"

#define PING_BODY_MAX (128u << 10)

/* ---- outside of the connection ---- */

void control_ping_close(struct control *c)
{
	net_stream_destroy(c->ping_stream);
	c->ping_stream = NULL;
	control_clear_timer(c, TIMER_PING_LIMIT);
}

static void ping_connected(void *owner)
{
	(void)owner;
}

/* Any answer is as good as another. */
static void ping_readable(void *owner)
{
	control_ping_close(owner);
}

static void ping_drained(void *owner)
{
	(void)owner;
}

static void ping_closed(void *owner, const char *sentence)
{
	struct control *c = owner;

	log_debug("control: %s: a ping that the server wanted failed: %s", c->server_url, sentence);
	control_ping_close(c);
}

static const struct net_stream_callbacks ping_callbacks = {
	.connected = ping_connected,
	.readable = ping_readable,
	.drained = ping_drained,
	.closed = ping_closed,
};

static bool is_server(const struct control *c, const struct http1_url *url)
{
	return url->is_tls == c->url.is_tls && url->port == c->url.port &&
	       strcasecmp(url->host, c->url.host) == 0;
}

static void send_outside(struct control *c, const struct http1_url *url, const void *body,
			 size_t len)
{
	struct net_stream_options options = {
		.host = url->host,
		.port = url->port,
		.tls = url->is_tls ? c->tls : NULL,
		.proxies = c->proxies,
		.alpn = url->is_tls ? "http/1.1" : NULL,
		.limit_ns = CONTROL_PING_LIMIT_NS,
	};
	char head[2048];
	int head_len;

	if (!is_server(c, url)) {
		log_limited(&c->gate, loop_now(c->loop), LOG_WARN,
			    "control: %s: wants a request to %s, which is not itself; not done",
			    c->server_url, url->authority);
		return;
	}
	if (c->ping_stream)
		return;
	c->ping_stream = net_stream_open(c->loop, &options, &ping_callbacks, c);
	if (!c->ping_stream)
		return;
	head_len = snprintf(head, sizeof(head),
			    "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
			    "Content-Length: %zu\r\n\r\n",
			    body ? "POST" : "HEAD", url->path[0] ? url->path : "/", url->authority,
			    len);
	if (net_stream_write(c->ping_stream, head, (size_t)head_len) != 0 ||
	    (body && net_stream_write(c->ping_stream, body, len) != 0)) {
		control_ping_close(c);
		return;
	}
	control_set_timer_in(c, TIMER_PING_LIMIT, CONTROL_PING_LIMIT_NS);
}

/* ---- through it ---- */

static int inside_body(void *owner, const uint8_t *bytes, size_t len)
{
	(void)owner, (void)bytes;
	return len > PING_BODY_MAX ? -EMSGSIZE : 0;
}

static void inside_ended(void *owner, int err)
{
	(void)owner, (void)err; /* it was all for the server */
}

static const struct h2_handler inside_handler = { .body = inside_body, .ended = inside_ended };

/* body NULL: HEAD. */
static void send_ping(struct control *c, const char *text, bool is_noise, const void *body,
		      size_t len)
{
	struct http1_url url;
	int32_t id;

	if (http1_parse_url(text, &url) != 0)
		return;
	if (!is_noise) {
		send_outside(c, &url, body, len);
		return;
	}
	id = control_request(c, url.path[0] ? url.path : "/", body, len, &inside_handler);
	if (id < 0)
		log_debug("control: %s: a ping that the server wanted is dropped", c->server_url);
}

/* ---- kinds ---- */

static const char *const types[] = {
	[PING_DISCO] = "disco", [PING_TSMP] = "TSMP", [PING_ICMP] = "ICMP"
};

static struct asked *free_slot(struct control *c, uint64_t now_ns)
{
	for (unsigned i = 0; i < CONTROL_ASKED_MAX; i++)
		if (c->asked[i].token == 0 || c->asked[i].until_ns <= now_ns)
			return &c->asked[i];
	return NULL;
}

static void ask_others(struct control *c, const struct messages_ping *ping, enum ping_type type)
{
	uint64_t now_ns = loop_now(c->loop);
	struct asked *asked = free_slot(c, now_ns);
	struct control_ping wanted;

	if (!asked) {
		log_debug("control: %s: too many pings at once, one is dropped", c->server_url);
		return;
	}
	*asked = (struct asked){ .token = c->next_token,
				 .type = type,
				 .ip = ping->ip,
				 .until_ns = now_ns + CONTROL_ASKED_LIMIT_NS,
				 .is_noise = ping->is_noise };
	c->next_token = c->next_token == INT32_MAX ? 1 : c->next_token + 1;
	snprintf(asked->url, sizeof(asked->url), "%s", ping->url);
	wanted = (struct control_ping){ type, ping->ip, asked->token };
	c->callbacks.ping_wanted(c->owner, &wanted);
}

/* Each kind of a list has an answer of its own; of others nothing is said. */
static void ask_for_types(struct control *c, const struct messages_ping *ping)
{
	char list[MESSAGES_TYPES_MAX], *at = list, *word;

	if (!c->callbacks.ping_wanted || !ping->has_ip)
		return;
	snprintf(list, sizeof(list), "%s", ping->types);
	while ((word = strsep(&at, ",")))
		for (unsigned i = 0; i < ARRAY_LEN(types); i++)
			if (strcmp(word, types[i]) == 0)
				ask_others(c, ping, (enum ping_type)i);
}

void control_answer_ping(struct control *c, const struct messages_ping *ping)
{
	char *answer;
	size_t len;

	if (strcmp(ping->url, c->last_ping_url) == 0)
		return;
	snprintf(c->last_ping_url, sizeof(c->last_ping_url), "%s", ping->url);
	if (ping->types[0] == '\0') {
		send_ping(c, ping->url, ping->is_noise, NULL, 0);
	} else if (strcmp(ping->types, "c2n") == 0) {
		answer = messages_answer_c2n(ping->payload, ping->payload_len, &len);
		if (answer)
			send_ping(c, ping->url, true, answer, len);
		free(answer);
	} else {
		ask_for_types(c, ping);
	}
}

void control_ping_done(struct control *control, uint32_t token, const struct pong *pong)
{
	char *json;

	for (unsigned i = 0; i < CONTROL_ASKED_MAX; i++) {
		struct asked *asked = &control->asked[i];

		if (asked->token != token || token == 0)
			continue;
		asked->token = 0;
		json = asked->until_ns > loop_now(control->loop)
			       ? messages_pong(types[asked->type], &asked->ip, pong)
			       : NULL;
		if (json)
			send_ping(control, asked->url, asked->is_noise, json, strlen(json));
		free(json);
		return;
	}
}
