/*
 * One client of the proxy.
 *
 *	GREETING -> REQUEST -> LOOKUP -> DIAL -> RELAY | handed to the edge
 *	                                      -> ENDING (an error was told)
 *	            REQUEST -> ASSOCIATED
 *
 * What a client says before its tunnel stands is only peeked at, and exactly the bytes of
 * a message are then taken. So whatever a client sends early stays in its socket and is
 * the tunnel's, and the socket can be handed to the edge, which moves bytes without us.
 *
 * Plain HTTP is one request a connection: both sides are told "Connection: close", the
 * request's body is passed on up to its end and nothing after it, and the answer's head is
 * rewritten. Everything behind that head is passed on as it comes.
 *
 * An error is followed by a FIN and some patience, since closing at once could reset
 * the answer away.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/sock.h"
#include "daemon/proxy/private.h"
#include "shared/util.h"

#define HEAD_NS   (15 * NS_PER_S) /* to say what it wants */
#define ENDING_NS (2 * NS_PER_S)

static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";

enum client_state { GREETING, REQUEST, LOOKUP, DIAL, RELAY, ASSOCIATED, ENDING, DEAD };
enum client_protocol { UNKNOWN, SOCKS, CONNECT, PLAIN };

struct client {
	struct proxy *proxy;
	struct client *prev, *next;
	enum client_state state;
	enum client_protocol protocol;
	unsigned kinds; /* that its listener takes */
	int fd;
	struct event event;
	bool has_event;
	struct edge_timer timer;
	struct target_place place;
	struct lookup *lookup;
	struct outgoing out;
	struct association *association;
	/* PLAIN: the rewritten head, until there is somebody to send it to */
	char *head;
	size_t head_len;
	struct httpproxy_request request;
	struct httpproxy_chunks chunks;
	uint64_t body_left;
	bool has_answer; /* the head of the final answer has come */
	int server;      /* RELAY's other end */
	struct relay relay;
};

static void free_client(void *arg)
{
	free(arg);
}

static void unwatch(struct client *c)
{
	if (c->has_event)
		event_del(&c->event);
	c->has_event = false;
}

/* Everything but the memory, which callbacks on the stack may still look at. */
void client_destroy(struct client *c)
{
	struct proxy *proxy = c->proxy;

	if (c->state == DEAD)
		return;
	c->state = DEAD;
	unwatch(c);
	edge_timer_cancel(&proxy->timers, &c->timer);
	lookup_forget(c->lookup);
	outgoing_stop(&c->out);
	relay_close(&c->relay);
	association_close(c->association);
	if (c->server >= 0)
		close(c->server);
	if (c->fd >= 0)
		close(c->fd);
	free(c->head);
	if (c->prev)
		c->prev->next = c->next;
	else
		proxy->all = c->next;
	if (c->next)
		c->next->prev = c->prev;
	proxy->count--;
	if (loop_defer(proxy->loop, free_client, c) != 0)
		log_err("proxy: out of memory, a client's memory is lost");
}

/* ---- answers ---- */

/* A few bytes to a socket that has taken none before. */
static bool say(struct client *c, const void *bytes, size_t len)
{
	return send(c->fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void end_politely(struct client *c)
{
	c->state = ENDING;
	if (shutdown(c->fd, SHUT_WR) != 0 || (!c->has_event && event_add(&c->event, NULL) != 0)) {
		client_destroy(c);
		return;
	}
	c->has_event = true;
	edge_timer_set(&c->proxy->timers, &c->timer, loop_now(c->proxy->loop) + ENDING_NS);
}

static void refuse_http(struct client *c, const char *status, const char *sentence)
{
	char text[512];
	int n = snprintf(text, sizeof(text),
			 "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
			 "Connection: close\r\n\r\n%s\n",
			 status, strlen(sentence) + 1, sentence);

	if (say(c, text, (size_t)n))
		end_politely(c);
	else
		client_destroy(c);
}

static void refuse_socks(struct client *c, enum socks_code code)
{
	uint8_t reply[SOCKS_REPLY_MAX];
	size_t len = socks_put_reply(code, NULL, reply);

	if (say(c, reply, len))
		end_politely(c);
	else
		client_destroy(c);
}

/* What a failed look-up or dial is called. */
static void refuse(struct client *c, int error)
{
	char name[80], sentence[256];
	bool is_late = error == ETIMEDOUT || error == EAGAIN;
	const char *why = error == ENOENT    ? "there is no such name"
			  : error == ENODATA ? "the name has no address"
			  : error == EAGAIN  ? "the name servers do not answer"
					     : strerror(error);

	if (c->protocol == SOCKS) {
		refuse_socks(c, socks_code_of(error));
		return;
	}
	if (c->place.is_name)
		snprintf(name, sizeof(name), "%.64s", c->place.name);
	else
		ip_format(&c->place.addr, name);
	snprintf(sentence, sizeof(sentence), "Cannot reach %s port %u: %s.", name,
		 (unsigned)c->place.port, why);
	refuse_http(c, is_late ? "504 Gateway Timeout" : "502 Bad Gateway", sentence);
}

/* ---- plain HTTP ---- */

/* The request's body: what is behind its end does not concern the server. */
static int body_arrived(struct client *c, struct relay_way *w)
{
	size_t len = w->end - w->ready, take = len;

	if (c->request.body == BODY_CHUNKED)
		take = httpproxy_take_chunks(&c->chunks, w->bytes + w->ready, len);
	else
		take = (size_t)MIN((uint64_t)len, c->body_left);
	if (c->chunks.is_bad)
		return -EPROTO;
	c->body_left -= c->request.body == BODY_CHUNKED ? 0 : take;
	w->ready += take;
	w->end = w->ready;
	return 0;
}

/* Heads of the answer, until the final one; then all is the body. */
static int answer_arrived(struct client *c, struct relay_way *w)
{
	char head[HTTPPROXY_GROWTH];

	while (!c->has_answer && w->ready < w->end) {
		size_t consumed, rest;
		bool is_final;
		int n = httpproxy_rewrite_response(w->bytes + w->ready, w->end - w->ready, head,
						   &consumed, &is_final);

		if (n < 0)
			return n;
		if (n == 0)
			return w->has_ended ? -EPROTO : 0;
		/* A head grows by a line; a server may send any number of them before its answer.
		 */
		if (w->end - consumed + (size_t)n > RELAY_ROOM + RELAY_SLACK)
			return -EPROTO;
		rest = w->end - w->ready - consumed;
		memmove(w->bytes + w->ready + n, w->bytes + w->ready + consumed, rest);
		memcpy(w->bytes + w->ready, head, (size_t)n);
		w->ready += (size_t)n;
		w->end = w->ready + rest;
		c->has_answer = is_final;
	}
	if (c->has_answer)
		w->ready = w->end;
	/* The client is to close, too, since it was told "Connection: close". */
	if (w->has_ended && c->has_answer)
		edge_timer_set(&c->proxy->timers, &c->timer, loop_now(c->proxy->loop) + ENDING_NS);
	return w->has_ended && !c->has_answer ? -EPROTO : 0;
}

static int plain_arrived(void *arg, enum relay_direction direction, struct relay_way *way)
{
	struct client *c = arg;

	return direction == RELAY_UP ? body_arrived(c, way) : answer_arrived(c, way);
}

/* ---- the tunnel ---- */

static void relay_done(void *arg, bool is_broken)
{
	struct client *c = arg;

	if (is_broken && c->protocol == PLAIN && !c->has_answer) {
		relay_close(&c->relay);
		refuse_http(c, "502 Bad Gateway", "The server gave no usable answer.");
		return;
	}
	if (is_broken) {
		sock_reset_on_close(c->fd);
		sock_reset_on_close(c->server);
	}
	client_destroy(c);
}

static void start_relay(struct client *c, int server)
{
	const struct relay_hooks hooks = { c->protocol == PLAIN ? plain_arrived : NULL, relay_done,
					   c };
	const int fd[2] = { c->fd, server };

	c->server = server;
	unwatch(c);
	if (relay_open(&c->relay, loop_base(c->proxy->loop), fd, &hooks) != 0) {
		client_destroy(c);
		return;
	}
	c->state = RELAY;
	if (c->protocol == PLAIN)
		relay_put(&c->relay.way[RELAY_UP], c->head, c->head_len);
	relay_run(&c->relay);
}

/* A connected pair on loopback, since the edge ends its side by TCP's own means. */
static int make_pair(int fd[2])
{
	struct endpoint at = sock_endpoint(0x7f000001, 0), from, ours;
	int listener = sock_open(&at, SOCK_STREAM), err;

	fd[0] = fd[1] = -1;
	err = listener < 0 ? listener : sock_bind(listener, &at);
	if (err == 0)
		err = listen(listener, 1) == 0 ? sock_local(listener, &at) : -errno;
	if (err == 0)
		fd[0] = err = sock_open(&at, SOCK_STREAM);
	if (err >= 0)
		err = sock_connect(fd[0], &at);
	if (err == 0) {
		fd[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		err = fd[1] < 0 ? -errno : 0;
	}
	/* Somebody else may have been faster. */
	if (err == 0 && (sock_peer(fd[1], &from) != 0 || sock_local(fd[0], &ours) != 0 ||
			 !endpoint_equal(&from, &ours)))
		err = -EADDRINUSE;
	if (listener >= 0)
		close(listener);
	for (int i = 0; err && i < 2; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
		fd[i] = -1;
	}
	return err;
}

/* The far side has answered a mesh dial. */
static void join_mesh(struct client *c)
{
	struct flow *dial = c->out.dial;
	int pair[2];

	c->out.dial = NULL;
	if (c->protocol != PLAIN) {
		int fd = c->fd;

		unwatch(c);
		c->fd = -1;
		dial_join(dial, fd);
		client_destroy(c);
		return;
	}
	if (make_pair(pair) != 0) {
		dial_cancel(dial);
		refuse(c, ENOBUFS);
		return;
	}
	dial_join(dial, pair[1]);
	start_relay(c, pair[0]);
}

static bool tell_connected(struct client *c)
{
	uint8_t reply[SOCKS_REPLY_MAX];
	struct endpoint bound;
	bool knows = c->out.fd >= 0 && sock_local(c->out.fd, &bound) == 0;
	size_t len;

	if (c->protocol == PLAIN)
		return true;
	if (c->protocol == CONNECT)
		return say(c, established, sizeof(established) - 1);
	len = socks_put_reply(SOCKS_DONE, knows ? &bound : NULL, reply);
	return say(c, reply, len);
}

static void dialled(void *arg, int error)
{
	struct client *c = arg;
	int fd;

	if (error) {
		refuse(c, error);
		return;
	}
	edge_timer_cancel(&c->proxy->timers, &c->timer);
	if (!tell_connected(c)) {
		client_destroy(c);
		return;
	}
	if (c->out.dial) {
		join_mesh(c);
		return;
	}
	fd = c->out.fd;
	c->out.fd = -1;
	start_relay(c, fd);
}

static void looked_up(void *arg, int error, const struct ip_addr *ips, unsigned count)
{
	struct client *c = arg;

	c->state = DIAL;
	if (!error)
		error = outgoing_start(&c->out, ips, count, c->place.port);
	if (error)
		refuse(c, error);
}

static void go(struct client *c, const struct target_place *place)
{
	/* From now on the outgoing side has the time limits. */
	edge_timer_cancel(&c->proxy->timers, &c->timer);
	c->place = *place;
	c->state = LOOKUP;
	lookup_start(c->proxy, place, looked_up, c, &c->lookup);
}

/* ---- what clients say first ---- */

/* The bytes that were peeked at. False: the socket is not what it was. */
static bool swallow(struct client *c, size_t len)
{
	char bytes[HTTPPROXY_HEAD_MAX];

	return recv(c->fd, bytes, len, MSG_DONTWAIT) == (ssize_t)len;
}

static void associate(struct client *c)
{
	uint8_t reply[SOCKS_REPLY_MAX];
	struct endpoint at;
	size_t len;
	int error = association_open(c->proxy, c->fd, &c->association, &at);

	if (error) {
		refuse_socks(c, socks_code_of(error));
		return;
	}
	edge_timer_cancel(&c->proxy->timers, &c->timer);
	c->state = ASSOCIATED;
	len = socks_put_reply(SOCKS_DONE, &at, reply);
	if (!say(c, reply, len))
		client_destroy(c);
}

/* True: it is done with, look no further now. */
static bool read_greeting(struct client *c, const uint8_t *bytes, size_t len)
{
	uint8_t answer[2] = { SOCKS_VERSION, SOCKS_NO_AUTH };
	bool no_auth;
	int n = socks_parse_greeting(bytes, len, &no_auth);

	if (n == 0)
		return true;
	if (n < 0 || !swallow(c, (size_t)n)) {
		client_destroy(c);
		return true;
	}
	if (!no_auth)
		answer[1] = SOCKS_NO_METHOD;
	c->protocol = SOCKS;
	c->state = REQUEST;
	if (!say(c, answer, sizeof(answer))) {
		client_destroy(c);
		return true;
	}
	if (!no_auth)
		end_politely(c);
	return !no_auth;
}

static void read_request(struct client *c, const uint8_t *bytes, size_t len)
{
	struct socks_request request;
	int n = socks_parse_request(bytes, len, &request);

	if (n == 0)
		return;
	if (n == -EAFNOSUPPORT) {
		refuse_socks(c, SOCKS_NO_ADDRESS_TYPE);
		return;
	}
	if (n < 0 || !swallow(c, (size_t)n))
		client_destroy(c);
	else if (request.command == SOCKS_UDP_ASSOCIATE)
		associate(c);
	else if (request.command != SOCKS_CONNECT)
		refuse_socks(c, SOCKS_NO_COMMAND);
	else if (!request.place.port)
		refuse_socks(c, SOCKS_FAILURE);
	else
		go(c, &request.place);
}

static void read_head(struct client *c, const char *bytes, size_t len)
{
	const char *problem = NULL;
	int n = httpproxy_parse_request(bytes, len, &c->request, &problem);

	if (n == 0)
		return;
	if (n == -E2BIG) {
		refuse_http(c, "431 Request Header Fields Too Large", "The head is too long.");
		return;
	}
	if (n < 0) {
		refuse_http(c, "400 Bad Request", problem);
		return;
	}
	c->protocol = c->request.is_connect ? CONNECT : PLAIN;
	c->body_left = c->request.body_len;
	if (c->protocol == PLAIN) {
		c->head = malloc(HTTPPROXY_GROWTH);
		if (c->head)
			c->head_len = httpproxy_rewrite_request(bytes, (size_t)n, c->head);
	}
	if (!swallow(c, (size_t)n) || (c->protocol == PLAIN && !c->head))
		client_destroy(c);
	else
		go(c, &c->request.place);
}

static void listen_to(struct client *c)
{
	char bytes[HTTPPROXY_HEAD_MAX];
	ssize_t n = recv(c->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
	bool is_socks;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		client_destroy(c);
		return;
	}
	is_socks = bytes[0] == SOCKS_VERSION;
	if (c->state == REQUEST) {
		read_request(c, (const uint8_t *)bytes, (size_t)n);
	} else if (is_socks && (c->kinds & PROXY_SOCKS)) {
		if (!read_greeting(c, (const uint8_t *)bytes, (size_t)n))
			listen_to(c); /* some do not wait for the answer */
	} else if (!is_socks && (c->kinds & PROXY_HTTP)) {
		read_head(c, bytes, (size_t)n);
	} else {
		client_destroy(c);
	}
}

/* A client that says nothing more to be read, or is to be gone. */
static void look_for_end(struct client *c)
{
	char bytes[4096];
	ssize_t n;

	do
		n = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	while (n > 0);
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		client_destroy(c);
}

/* While it waits, a reset is seen; a FIN is not, since half-closed clients wait, too. */
static void look_for_reset(struct client *c)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error)
		client_destroy(c);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct client *c = arg;

	(void)fd;
	(void)what;
	switch (c->state) {
	case GREETING:
	case REQUEST:
		listen_to(c);
		break;
	case ASSOCIATED:
	case ENDING:
		look_for_end(c);
		break;
	case LOOKUP:
	case DIAL:
		look_for_reset(c);
		break;
	case RELAY:
	case DEAD:
		break;
	}
}

static void timed_out(struct edge_timer *timer, uint64_t now_ns)
{
	struct client *c = CONTAINER_OF(timer, struct client, timer);

	/* It still takes what has come for it. */
	if (c->state == RELAY && !c->relay.way[RELAY_DOWN].is_closed)
		edge_timer_set(&c->proxy->timers, timer, now_ns + ENDING_NS);
	else
		client_destroy(c);
}

void client_create(struct proxy *proxy, int fd, unsigned kinds)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return;
	}
	*c = (struct client){ .proxy = proxy, .fd = fd, .server = -1, .kinds = kinds };
	outgoing_init(&c->out, proxy, dialled, c);
	c->timer.fired = timed_out;
	c->next = proxy->all;
	if (c->next)
		c->next->prev = c;
	proxy->all = c;
	proxy->count++;
	/* Edges only: what is peeked at stays readable. */
	if (event_assign(&c->event, loop_base(proxy->loop), fd, EV_READ | EV_ET | EV_PERSIST,
			 on_event, c) != 0 ||
	    event_add(&c->event, NULL) != 0) {
		client_destroy(c);
		return;
	}
	c->has_event = true;
	edge_timer_set(&proxy->timers, &c->timer, loop_now(proxy->loop) + HEAD_NS);
	listen_to(c);
}
