/*
 * The latency of a relay over HTTPS. The TLS handshake is not counted: the time
 * runs from the request to the first bytes of an answer, about one round trip.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <event2/event.h>

#include "daemon/derp/copy.h"
#include "daemon/derp/relays.h"
#include "daemon/http1.h"
#include "daemon/loop.h"
#include "daemon/stream.h"

#define PROBE_NS (5 * NS_PER_S)

struct relay_probe {
	struct loop *loop;
	struct net_stream *stream;
	struct event *timer;
	relay_probe_done *done;
	void *owner;
	char authority[300];
	uint64_t sent_ns, answered_ns;
	bool is_over, is_refused;
	size_t len;
	char answer[HTTP1_HEAD_MAX];
};

static void finish(struct relay_probe *p, const char *error)
{
	struct endpoint remote = { 0 }, local;

	if (p->is_over)
		return;
	p->is_over = true;
	if (!error)
		net_stream_addresses(p->stream, &remote, &local);
	net_stream_destroy(p->stream);
	p->stream = NULL;
	evtimer_del(p->timer);
	p->done(p->owner, error, p->answered_ns - p->sent_ns, &remote);
}

static void connected(void *owner)
{
	struct relay_probe *p = owner;
	char head[512];
	int len = snprintf(
		head, sizeof(head),
		"GET /derp/latency-check HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
		p->authority);

	p->sent_ns = loop_now(p->loop);
	if (net_stream_write(p->stream, head, (size_t)len) != 0)
		finish(p, "the request does not fit");
}

static void readable(void *owner)
{
	struct relay_probe *p = owner;
	struct http1_head head;
	long n;
	int err;

	while (p->len < sizeof(p->answer) &&
	       (n = net_stream_read(p->stream, p->answer + p->len, sizeof(p->answer) - p->len)) >
		       0) {
		p->answered_ns = p->answered_ns ? p->answered_ns : loop_now(p->loop);
		p->len += (size_t)n;
	}
	err = http1_parse_head(p->answer, p->len, &head);
	if (err == -EAGAIN)
		return;
	if (err != 0 || head.status < 200 || head.status > 299)
		finish(p, "it does not answer latency checks");
	else
		finish(p, NULL);
}

static void closed(void *owner, const char *sentence)
{
	finish(owner, sentence);
}

static void timed_out(evutil_socket_t fd, short events, void *arg)
{
	struct relay_probe *p = arg;

	(void)fd;
	(void)events;
	finish(p, p->is_refused ? "the map does not let it be used" : "no answer within 5 s");
}

struct relay_probe *relay_probe_start(struct loop *loop, const struct tls_context *tls,
				      const struct derp_node *node, relay_probe_done *done,
				      void *owner)
{
	static const struct net_stream_callbacks callbacks = { connected, readable, NULL, closed };
	struct timeval in = { (time_t)(PROBE_NS / NS_PER_S), 0 };
	struct relay_probe *p = calloc(1, sizeof(*p));
	struct derp_target target;

	if (!p)
		return NULL;
	p->loop = loop;
	p->done = done;
	p->owner = owner;
	p->is_refused = !derp_node_target(node, tls, &target);
	p->timer = evtimer_new(loop_base(loop), timed_out, p);
	if (p->is_refused) {
		in.tv_sec = 0;
	} else {
		derp_node_authority(node, p->authority);
		target.options.limit_ns = PROBE_NS;
		p->stream = net_stream_open(loop, &target.options, &callbacks, p);
	}
	if (!p->timer || evtimer_add(p->timer, &in) != 0 || (!p->is_refused && !p->stream)) {
		relay_probe_destroy(p);
		return NULL;
	}
	return p;
}

void relay_probe_destroy(struct relay_probe *p)
{
	if (!p)
		return;
	net_stream_destroy(p->stream);
	if (p->timer)
		event_free(p->timer);
	/* Where memory is short it leaks: its caller may be done(). */
	loop_defer(p->loop, free, p);
}
