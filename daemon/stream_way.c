/*
 * The way to a server: its name looked up and its addresses raced, or the same for the proxy that
 * leads there, which is then asked for the server by name.
 *
 * Of the proxy's answer no byte more is taken from the socket than belongs to it: what has come is
 * looked at first (MSG_PEEK). So whatever the server says next is read by whoever reads the server,
 * and nothing has to be handed over.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/http1.h"
#include "daemon/loop.h"
#include "daemon/outproxy.h"
#include "daemon/resolve.h"
#include "daemon/stream_private.h"
#include "shared/util.h"

struct way {
	struct loop *loop;
	way_done *done;
	void *owner;
	const struct outproxy *proxy; /* NULL: straight to the server */
	char host[STREAM_NAME_MAX];   /* that is looked up and dialled: the proxy's, if there is one
				       */
	char server[OUTPROXY_AUTHORITY_MAX];
	uint64_t attempt_ns;
	struct event *timer; /* of the attempt, or at once for what failed at the start */

	struct resolver *resolver;
	struct dial *dial;
	/* Asking the proxy: */
	int fd;
	struct event *event;
	char *answer; /* HTTP1_HEAD_MAX; the first answer_len bytes were taken from the socket */
	size_t answer_len;

	char sentence[NET_STREAM_REASON_MAX];
};

static void set_timer(struct way *w, uint64_t in_ns)
{
	const struct timeval in = { (time_t)(in_ns / NS_PER_S),
				    (suseconds_t)(in_ns % NS_PER_S / NS_PER_US) };

	evtimer_add(w->timer, &in);
}

static void stop_asking(struct way *w)
{
	if (w->event)
		event_free(w->event);
	w->event = NULL;
	free(w->answer);
	w->answer = NULL;
}

/* The last thing that is done with it: the owner may destroy it. */
static void fail(struct way *w, const char *sentence)
{
	stop_asking(w);
	evtimer_del(w->timer);
	w->done(w->owner, -1, sentence);
}

static void succeed(struct way *w)
{
	int fd = w->fd;

	stop_asking(w);
	evtimer_del(w->timer);
	w->fd = -1;
	w->done(w->owner, fd, NULL);
}

static const char *kind(const struct way *w)
{
	return w->proxy ? "the proxy " : "";
}

/* ---- the proxy ---- */

/* What has come, after what was taken before. */
static ssize_t peek(struct way *w)
{
	ssize_t n;

	do
		n = recv(w->fd, w->answer + w->answer_len, HTTP1_HEAD_MAX - w->answer_len,
			 MSG_PEEK);
	while (n < 0 && errno == EINTR);
	return n;
}

/* Bytes that were seen are there. */
static void take(struct way *w, size_t len)
{
	ssize_t n;

	do
		n = recv(w->fd, w->answer + w->answer_len, len, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		w->answer_len += (size_t)n;
}

static void answered(evutil_socket_t fd, short events, void *arg)
{
	struct way *w = arg;
	ssize_t n = peek(w);
	size_t used;
	int err;

	(void)fd;
	(void)events;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		snprintf(w->sentence, sizeof(w->sentence),
			 "the proxy %.80s hung up when it was asked for %.100s", w->host,
			 w->server);
		fail(w, w->sentence);
		return;
	}
	err = outproxy_answer(w->proxy, w->server, w->answer, w->answer_len + (size_t)n, &used,
			      w->sentence);
	if (err == -EAGAIN) {
		take(w, (size_t)n);
	} else if (err != 0) {
		fail(w, w->sentence);
	} else {
		take(w, used - w->answer_len);
		succeed(w);
	}
}

/* A new socket takes the few bytes of the request at once. */
static bool send_request(struct way *w)
{
	char text[OUTPROXY_REQUEST_MAX];
	int len = outproxy_request(w->proxy, w->server, text);
	ssize_t n;

	if (len < 0)
		return false;
	do
		n = send(w->fd, text, (size_t)len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	sodium_memzero(text, sizeof(text));
	return n == len;
}

static void ask_proxy(struct way *w)
{
	w->answer = malloc(HTTP1_HEAD_MAX);
	w->event = event_new(loop_base(w->loop), w->fd, EV_READ | EV_PERSIST, answered, w);
	if (!w->answer || !w->event || event_add(w->event, NULL) != 0) {
		fail(w, "out of memory");
	} else if (!send_request(w)) {
		snprintf(w->sentence, sizeof(w->sentence),
			 "the proxy %.80s cannot be asked for %.100s", w->host, w->server);
		fail(w, w->sentence);
	}
}

/* ---- to whoever is dialled ---- */

static void dialed(void *owner, int fd, const char *sentence)
{
	struct way *w = owner;

	if (fd < 0) {
		snprintf(w->sentence, sizeof(w->sentence), "cannot connect to %s%.80s: %.120s",
			 kind(w), w->host, sentence);
		fail(w, w->sentence);
		return;
	}
	dial_destroy(w->dial);
	w->dial = NULL;
	w->fd = fd;
	if (w->proxy)
		ask_proxy(w);
	else
		succeed(w);
}

static void start_dial(struct way *w, const struct endpoint *candidates, unsigned count)
{
	w->dial = dial_create(loop_base(w->loop), candidates, count, dialed, w);
	if (!w->dial) {
		snprintf(w->sentence, sizeof(w->sentence), "out of memory");
		set_timer(w, 0);
	} else if (w->attempt_ns) {
		set_timer(w, w->attempt_ns);
	}
}

static void looked_up(void *owner, unsigned token, const char *error, const struct endpoint *ep)
{
	struct way *w = owner;
	const struct endpoint *found;
	unsigned count;

	(void)token;
	(void)ep;
	if (error) {
		snprintf(w->sentence, sizeof(w->sentence), "cannot look up %s%.100s: %.100s",
			 kind(w), w->host, error);
		fail(w, w->sentence);
		return;
	}
	count = resolver_found(w->resolver, &found);
	start_dial(w, found, count);
}

const char *way_is_late(struct way *w)
{
	if (w->fd >= 0)
		snprintf(w->sentence, sizeof(w->sentence),
			 "the proxy %.80s does not say in time whether it reaches %.100s", w->host,
			 w->server);
	else if (w->dial)
		snprintf(w->sentence, sizeof(w->sentence),
			 "cannot connect to %s%.80s in time: %.120s", kind(w), w->host,
			 dial_sentence(w->dial));
	else
		snprintf(w->sentence, sizeof(w->sentence), "looking up %s%.100s takes too long",
			 kind(w), w->host);
	return w->sentence;
}

/* The attempt took too long, or there was none. */
static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct way *w = arg;

	(void)fd;
	(void)events;
	fail(w, w->sentence[0] ? w->sentence : way_is_late(w));
}

static void start(struct way *w, const struct net_stream_options *o)
{
	struct endpoint literal = { .port = w->proxy ? w->proxy->port : o->port };

	if (w->proxy && w->proxy->problem) {
		snprintf(w->sentence, sizeof(w->sentence), "%s %s", w->proxy->variable,
			 w->proxy->problem);
		set_timer(w, 0);
	} else if (!w->proxy && o->candidates) {
		start_dial(w, o->candidates, o->candidate_count);
	} else if (ip_parse(w->host, &literal.addr) == 0) {
		start_dial(w, &literal, 1);
	} else {
		w->resolver = resolver_create(w->loop, looked_up, w);
		if (w->resolver && resolver_start(w->resolver, w->host, literal.port, 0) == 0)
			return;
		snprintf(w->sentence, sizeof(w->sentence), "cannot start looking the name up");
		set_timer(w, 0);
	}
}

struct way *way_create(struct loop *loop, const struct net_stream_options *o,
		       const struct outproxy *proxy, way_done *done, void *owner)
{
	struct way *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->loop = loop;
	w->done = done;
	w->owner = owner;
	w->proxy = proxy;
	w->attempt_ns = o->attempt_ns;
	w->fd = -1;
	snprintf(w->host, sizeof(w->host), "%s", proxy ? proxy->host : o->host);
	outproxy_authority(o->host, o->port, w->server);
	w->timer = evtimer_new(loop_base(loop), timer_fired, w);
	if (!w->timer) {
		free(w);
		return NULL;
	}
	start(w, o);
	return w;
}

void way_destroy(struct way *w)
{
	if (!w)
		return;
	stop_asking(w);
	resolver_destroy(w->resolver);
	dial_destroy(w->dial);
	event_free(w->timer);
	if (w->fd >= 0)
		close(w->fd);
	free(w);
}
