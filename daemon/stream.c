/*
 * One outgoing connection: the way there (stream_way.c), handshake, then bytes both ways.
 *
 * Writing: bytes wait in one linear queue and leave at the end of the loop's round,
 * or earlier when 64 KiB are there, so that many small writes share records and
 * system calls. Reading: the owner pulls, straight into its own buffer.
 *
 * closed() is told from a timer of zero and never from inside a call. When sending
 * fails the connection is not given up before everything that had arrived was read:
 * a server's last words often say why it hangs up.
 *
 * Rejected: libevent's bufferevents, which copy into chains both ways and hand
 * each record to the kernel alone.
 */
#include "daemon/stream.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/loop.h"
#include "daemon/outproxy.h"
#include "daemon/stream_private.h"
#include "shared/util.h"

#define LIMIT_NS    (10 * NS_PER_S)
#define QUEUE_MAX   (256u * 1024)
#define QUEUE_FIRST (16u * 1024)
#define FLUSH_AT    (64u * 1024) /* what leaves before the end of the round */

struct net_stream {
	struct loop *loop;
	struct net_stream_callbacks callbacks;
	void *owner;
	enum net_stream_state state;
	char host[STREAM_NAME_MAX];
	char alpn[32];
	const struct tls_context *context;
	uint32_t notsent_max;

	struct way *way;
	int fd;
	struct event *read_event, *write_event, *timer;
	struct tls_check check;
	struct tls_session *tls;

	uint8_t *queue;
	size_t at, end, room, queue_max, queue_low;
	bool is_flush_due, is_above_low, is_write_dead, is_destroyed;
	bool may_have_more; /* the owner stopped reading before -EAGAIN */
	char sentence[NET_STREAM_REASON_MAX];
};

static void set_timer(struct net_stream *s, uint64_t in_ns)
{
	const struct timeval in = { (time_t)(in_ns / NS_PER_S),
				    (suseconds_t)(in_ns % NS_PER_S / NS_PER_US) };

	evtimer_add(s->timer, &in);
}

static void release_connection(struct net_stream *s)
{
	way_destroy(s->way);
	if (s->read_event)
		event_free(s->read_event);
	if (s->write_event)
		event_free(s->write_event);
	tls_session_destroy(s->tls);
	if (s->fd >= 0)
		close(s->fd);
	s->way = NULL;
	s->read_event = s->write_event = NULL;
	s->tls = NULL;
	s->fd = -1;
}

/* The first reason stays. The connection itself is released when closed() is told. */
static void fail(struct net_stream *s, const char *sentence)
{
	if (s->state == NET_STREAM_CLOSED)
		return;
	if (s->sentence != sentence)
		snprintf(s->sentence, sizeof(s->sentence), "%s", sentence);
	s->state = NET_STREAM_CLOSED;
	if (s->read_event)
		event_del(s->read_event);
	if (s->write_event)
		event_del(s->write_event);
	set_timer(s, 0);
}

/* ---- bytes out ---- */

static long send_some(struct net_stream *s)
{
	ssize_t n;

	if (s->tls)
		return tls_session_write(s->tls, s->queue + s->at, s->end - s->at);
	do
		n = send(s->fd, s->queue + s->at, s->end - s->at, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	return n;
}

static void write_failed(struct net_stream *s)
{
	s->is_write_dead = true; /* reading tells how it ended */
	s->at = s->end = 0;
	event_del(s->write_event);
	event_active(s->read_event, EV_READ, 0);
}

/* As much as the kernel takes. */
static void flush(struct net_stream *s)
{
	long n = 0;

	if (s->state != NET_STREAM_OPEN || s->is_write_dead)
		return;
	while (s->at < s->end && (n = send_some(s)) > 0)
		s->at += (size_t)n;
	if (s->at == s->end)
		s->at = s->end = 0;
	if (s->tls && (n >= 0 || n == -EAGAIN)) {
		int err = tls_session_flush(s->tls);

		n = err < 0 ? err : n;
	}
	if (n < 0 && n != -EAGAIN)
		write_failed(s);
	else if (net_stream_queued(s) > 0)
		event_add(s->write_event, NULL);
	else
		event_del(s->write_event);
}

static void check_drained(struct net_stream *s)
{
	if (!s->is_above_low || s->state != NET_STREAM_OPEN || s->is_destroyed ||
	    net_stream_queued(s) > s->queue_low)
		return;
	s->is_above_low = false;
	if (s->callbacks.drained)
		s->callbacks.drained(s->owner);
}

static void flush_deferred(void *arg)
{
	struct net_stream *s = arg;

	s->is_flush_due = false;
	if (s->is_destroyed)
		return;
	flush(s);
	check_drained(s);
}

static void writable(evutil_socket_t fd, short events, void *arg)
{
	struct net_stream *s = arg;

	(void)fd;
	(void)events;
	flush(s);
	check_drained(s);
}

/* ---- life ---- */

static void deliver(struct net_stream *s)
{
	s->may_have_more = true;
	if (s->tls)
		tls_session_awake(s->tls);
	s->callbacks.readable(s->owner);
	if (s->is_destroyed || s->state != NET_STREAM_OPEN)
		return;
	/* The socket may be silent while bytes wait inside the TLS library. */
	if (s->may_have_more && s->tls && tls_session_has_pending(s->tls))
		set_timer(s, 0);
	/* A change of keys is answered while reading. */
	if (s->tls && tls_session_unsent(s->tls) > 0)
		flush(s);
}

static void opened(struct net_stream *s)
{
	s->state = NET_STREAM_OPEN;
	evtimer_del(s->timer);
	s->callbacks.connected(s->owner);
	if (s->is_destroyed || s->state != NET_STREAM_OPEN)
		return;
	flush(s);
	check_drained(s);
	/* What the server sent along with its handshake. */
	if (!s->is_destroyed && s->tls && s->state == NET_STREAM_OPEN)
		set_timer(s, 0);
	if (!s->is_destroyed && s->state == NET_STREAM_OPEN)
		event_add(s->read_event, NULL);
}

static void shake(struct net_stream *s)
{
	int err, flushed;

	tls_session_awake(s->tls);
	err = tls_session_handshake(s->tls);
	if (err == -EPIPE)
		fail(s, "the server hung up during the TLS handshake");
	else if (err < 0 && err != -EAGAIN)
		fail(s, tls_session_error(s->tls));
	if (s->state == NET_STREAM_CLOSED)
		return;
	flushed = tls_session_flush(s->tls);
	if (flushed < 0 && flushed != -EAGAIN)
		fail(s, strerror(-flushed));
	else if (flushed == -EAGAIN)
		event_add(s->write_event, NULL);
	else
		event_del(s->write_event);
	if (s->state == NET_STREAM_SHAKING && err == 0)
		opened(s);
}

static void socket_ready(evutil_socket_t fd, short events, void *arg)
{
	struct net_stream *s = arg;

	(void)fd;
	if (s->state == NET_STREAM_SHAKING)
		shake(s);
	else if (s->state == NET_STREAM_OPEN && (events & EV_WRITE))
		writable(fd, events, s);
	else if (s->state == NET_STREAM_OPEN)
		deliver(s);
}

static void tell_closed(struct net_stream *s)
{
	release_connection(s);
	s->callbacks.closed(s->owner, s->sentence);
}

static void timed_out(struct net_stream *s)
{
	fail(s, s->state == NET_STREAM_CONNECTING ? way_is_late(s->way)
						  : "the TLS handshake takes too long");
}

static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct net_stream *s = arg;

	(void)fd;
	(void)events;
	if (s->state == NET_STREAM_CLOSED)
		tell_closed(s);
	else if (s->state != NET_STREAM_OPEN)
		timed_out(s);
	else
		deliver(s);
}

static void way_found(void *owner, int fd, const char *sentence)
{
	struct net_stream *s = owner;
	struct event_base *base = loop_base(s->loop);

	if (fd < 0) {
		fail(s, sentence);
		return;
	}
	if (s->state == NET_STREAM_CLOSED) { /* its time had run out in this very round */
		close(fd);
		return;
	}
	way_destroy(s->way);
	s->way = NULL;
	s->fd = fd;
	dial_tune(fd, s->notsent_max);
	s->read_event = event_new(base, fd, EV_READ | EV_PERSIST, socket_ready, s);
	s->write_event = event_new(base, fd, EV_WRITE | EV_PERSIST, socket_ready, s);
	if (s->context)
		s->tls = tls_session_create(s->context, fd, s->host, s->alpn[0] ? s->alpn : NULL,
					    &s->check);
	if (!s->read_event || !s->write_event || (s->context && !s->tls)) {
		fail(s, "out of memory");
	} else if (!s->tls) {
		opened(s);
	} else {
		s->state = NET_STREAM_SHAKING;
		event_add(s->read_event, NULL);
		shake(s);
	}
}

static void set_options(struct net_stream *s, const struct net_stream_options *o)
{
	snprintf(s->host, sizeof(s->host), "%s", o->host);
	snprintf(s->alpn, sizeof(s->alpn), "%s", o->alpn ? o->alpn : "");
	snprintf(s->check.name, sizeof(s->check.name), "%s",
		 o->verify_name && o->verify_name[0] ? o->verify_name : o->host);
	if (o->pin_sha256) /* of a wrong length it matches nothing, but is a pin all the same */
		snprintf(s->check.pin, sizeof(s->check.pin), "%s",
			 strlen(o->pin_sha256) == 64 ? o->pin_sha256 : "-");
	s->check.is_insecure = o->is_insecure;
	s->context = o->tls;
	s->notsent_max = o->notsent_max;
	set_timer(s, o->limit_ns ? o->limit_ns : LIMIT_NS);
	s->queue_max = o->queue_max ? o->queue_max : QUEUE_MAX;
	s->queue_low = o->queue_low ? o->queue_low : s->queue_max / 4;
}

static void start(struct net_stream *s, const struct net_stream_options *o)
{
	const struct outproxies *proxies = o->tls ? tls_context_proxies(o->tls) : o->proxies;
	const struct outproxy *proxy = NULL;

	if (proxies)
		proxy = outproxies_for(proxies, s->host, o->port, o->tls != NULL);
	s->way = way_create(s->loop, o, proxy, way_found, s);
	if (!s->way)
		fail(s, "out of memory");
}

struct net_stream *net_stream_open(struct loop *loop, const struct net_stream_options *options,
				   const struct net_stream_callbacks *callbacks, void *owner)
{
	struct net_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->loop = loop;
	s->callbacks = *callbacks;
	s->owner = owner;
	s->fd = -1;
	s->timer = evtimer_new(loop_base(loop), timer_fired, s);
	if (!s->timer) {
		free(s);
		return NULL;
	}
	set_options(s, options);
	start(s, options);
	return s;
}

static void free_stream(void *arg)
{
	struct net_stream *s = arg;

	free(s->queue);
	free(s);
}

void net_stream_destroy(struct net_stream *s)
{
	if (!s || s->is_destroyed)
		return;
	s->is_destroyed = true;
	s->state = NET_STREAM_CLOSED;
	event_free(s->timer);
	s->timer = NULL;
	/* Callbacks of its parts may be running: all of it goes at the end of the round. */
	if (s->read_event)
		event_del(s->read_event);
	if (s->write_event)
		event_del(s->write_event);
	release_connection(s);
	/* Where memory is short it leaks: its caller may be one of its callbacks. */
	loop_defer(s->loop, free_stream, s);
}

/* ---- the owner's calls ---- */

static bool make_room(struct net_stream *s, size_t len)
{
	size_t used = s->end - s->at, room = s->room ? s->room : QUEUE_FIRST;
	uint8_t *grown;

	if (s->at > 0 && s->end + len > s->room) {
		memmove(s->queue, s->queue + s->at, used);
		s->at = 0;
		s->end = used;
	}
	while (room < s->end + len)
		room *= 2;
	if (room == s->room)
		return true;
	grown = realloc(s->queue, room);
	if (!grown)
		return false;
	s->queue = grown;
	s->room = room;
	return true;
}

uint8_t *net_stream_reserve(struct net_stream *s, size_t len)
{
	if (s->state == NET_STREAM_CLOSED || s->is_write_dead)
		return NULL;
	if (len > s->queue_max || net_stream_queued(s) > s->queue_max - len) {
		s->is_above_low = true;
		return NULL;
	}
	return make_room(s, len) ? s->queue + s->end : NULL;
}

void net_stream_commit(struct net_stream *s, size_t len)
{
	assert(s->end + len <= s->room);
	s->end += len;
	if (s->end - s->at >= FLUSH_AT)
		flush(s);
	if (net_stream_queued(s) > s->queue_low)
		s->is_above_low = true;
	if (s->end > s->at && !s->is_flush_due) {
		s->is_flush_due = loop_defer(s->loop, flush_deferred, s) == 0;
		if (!s->is_flush_due)
			flush(s);
	}
}

int net_stream_write(struct net_stream *s, const void *bytes, size_t len)
{
	uint8_t *room = net_stream_reserve(s, len);

	if (!room)
		return s->state == NET_STREAM_CLOSED || s->is_write_dead ? -EPIPE : -ENOBUFS;
	memcpy(room, bytes, len);
	net_stream_commit(s, len);
	return 0;
}

size_t net_stream_queued(const struct net_stream *s)
{
	return s->end - s->at + (s->tls ? tls_session_unsent(s->tls) : 0);
}

/* Nothing more will come. */
static long read_ended(struct net_stream *s, int err)
{
	if (err == 0 || err == -EPIPE)
		fail(s,
		     s->is_write_dead ? "the server hung up" : "the server closed the connection");
	else if (err == -EPROTO)
		fail(s, tls_session_error(s->tls));
	else
		fail(s, strerror(-err));
	return -EPIPE;
}

long net_stream_read(struct net_stream *s, void *bytes, size_t max)
{
	long n;

	if (s->state == NET_STREAM_CLOSED)
		return -EPIPE;
	if (s->state != NET_STREAM_OPEN)
		return -EAGAIN;
	if (s->tls) {
		n = tls_session_read(s->tls, bytes, max);
	} else {
		do
			n = recv(s->fd, bytes, max, 0);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			n = errno == EWOULDBLOCK ? -EAGAIN : -errno;
	}
	if (n > 0)
		return n;
	if (n != -EAGAIN)
		return read_ended(s, (int)n);
	s->may_have_more = false;
	return -EAGAIN;
}

void net_stream_wake_at(struct net_stream *s, size_t bytes)
{
	int mark = (int)bytes;

	if (s->state != NET_STREAM_OPEN)
		return;
	/* Where it is refused, each arrival goes on waking us. */
	(void)setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof(mark));
	set_timer(s, 0); /* for what is there already */
}

void net_stream_addresses(const struct net_stream *s, struct endpoint *remote,
			  struct endpoint *local)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);

	*remote = *local = (struct endpoint){ 0 };
	if (getpeername(s->fd, (struct sockaddr *)&sa, &len) == 0)
		endpoint_from_sockaddr((struct sockaddr *)&sa, len, remote);
	len = sizeof(sa);
	if (getsockname(s->fd, (struct sockaddr *)&sa, &len) == 0)
		endpoint_from_sockaddr((struct sockaddr *)&sa, len, local);
}

bool net_stream_has_alpn(const struct net_stream *s)
{
	return s->tls && tls_session_has_alpn(s->tls);
}

bool net_stream_relay_key(const struct net_stream *s, uint8_t key[static 32])
{
	return s->tls && tls_session_relay_key(s->tls, key);
}
