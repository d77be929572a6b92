/*
 * One relay connection.
 *
 * The nodes of the region are tried in order until one lets us log in, all within 10 s.
 * With TLS 1.3 and a relay that shows its key in a certificate, the request and our
 * first frames leave in one flight (fast start), and no HTTP answer comes; else
 * they follow the 101 and the relay's key frame.
 *
 * Receiving: bytes are read into one buffer of 128 KiB and parsed where they lie; runs
 * of packets of one source are handed on together, in place. Only frames that we
 * read must fit, so unknown ones are skipped as they come. Sending: frames are
 * laid straight into the stream's queue: one copy, and many in one TLS record.
 *
 * A relay is not trusted. It may send anything: what makes us work (pings, gone peers) is
 * rationed, what makes us wait is clamped, and a frame that cannot be is the end.
 */
#include "daemon/derp/client.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/derp/client_private.h"
#include "daemon/derp/copy.h"
#include "daemon/http1.h"
#include "daemon/loop.h"
#include "daemon/stream.h"
#include "shared/log.h"

#define LOGIN_NS    (10 * NS_PER_S)
#define NODE_NS     (NS_PER_S * 3 / 2) /* to connect to a node while there are others */
#define SILENCE_NS  (120 * NS_PER_S)
#define QUIET_NS    (3 * NS_PER_S) /* after we sent something: is anybody there? */
#define PONG_NS     (3 * NS_PER_S)
#define READ_ROUND  (512u * 1024) /* bytes before others get their turn */
#define BULK_NS     (4 * NS_PER_MS)
#define BULK_BYTES  (64u * 1024) /* in that time: somebody sends as much as goes */
#define BULK_WAKE   (16u * 1024)
#define NOTSENT_MAX (128u * 1024)
#define GONE_BURST  8192 /* PeerGone frames that are believed at once, */
#define GONE_PER_S  200  /* and each second after that */
#define DEAD_REGION "the map names no usable node of this region"

static void try_node(struct derp_client *c);

bool derp_client_is_over(const struct derp_client *c)
{
	return c->is_destroyed || c->state == CLIENT_CLOSED;
}

/* ---- ends and deadlines ---- */

static void close_stream(struct derp_client *c)
{
	net_stream_destroy(c->stream);
	c->stream = NULL;
	evtimer_del(c->bulk_timer);
	c->is_bulk = false;
	c->has_node = false;
	c->have = c->skip = 0;
	c->packet_count = 0;
}

static void end(struct derp_client *c)
{
	c->state = CLIENT_CLOSED;
	close_stream(c);
	evtimer_del(c->timer);
	c->callbacks.down(c->owner, c->sentence);
}

void derp_client_failed(struct derp_client *c, const char *sentence)
{
	if (derp_client_is_over(c))
		return;
	if (sentence != c->sentence)
		snprintf(c->sentence, sizeof(c->sentence), "%s", sentence);
	if (c->state == CLIENT_UP || loop_now(c->loop) >= c->login_by_ns) {
		end(c);
		return;
	}
	close_stream(c);
	c->state = CLIENT_DIALING;
	c->node++;
	try_node(c);
}

void derp_client_arm(struct derp_client *c)
{
	uint64_t now = loop_now(c->loop), at = c->login_by_ns, in;
	struct timeval tv;

	if (c->state == CLIENT_UP) {
		at = MIN(c->heard_ns + SILENCE_NS, c->pong_by_ns);
		if (c->pong_by_ns == NEVER_NS && c->asked_ns)
			at = MIN(at, c->asked_ns + QUIET_NS);
	}
	c->armed_ns = at;
	in = at > now ? at - now : 0;
	tv.tv_sec = (time_t)(in / NS_PER_S);
	tv.tv_usec = (suseconds_t)(in % NS_PER_S / NS_PER_US) + 1;
	evtimer_add(c->timer, &tv);
}

/* Nothing came back for a while: the relay may be gone without a word. */
static void look_for_life(struct derp_client *c, uint64_t now)
{
	if (now >= c->pong_by_ns && c->heard_ns <= c->pinged_ns) {
		derp_client_failed(c, "the relay did not answer a ping");
		return;
	}
	if (now >= c->pong_by_ns)
		c->pong_by_ns = NEVER_NS; /* it spoke, if not of this */
	if (now >= c->heard_ns + SILENCE_NS) {
		derp_client_failed(c, "the relay was silent for two minutes");
		return;
	}
	if (c->asked_ns && now >= c->asked_ns + QUIET_NS)
		derp_client_ping(c);
	derp_client_arm(c);
}

static const char *late_login(const struct derp_client *c)
{
	if (c->sentence[0])
		return c->sentence;
	if (c->state == CLIENT_DIALING)
		return "no connection to the relay within 10 s";
	if (c->state == CLIENT_UPGRADING)
		return "the relay did not answer our request within 10 s";
	if (c->state == CLIENT_GREETING)
		return "the relay did not say its key within 10 s";
	return "the relay did not answer our login within 10 s";
}

static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct derp_client *c = arg;
	uint64_t now = loop_now(c->loop);

	(void)fd;
	(void)events;
	if (derp_client_is_over(c))
		return;
	if (c->state == CLIENT_NEW) {
		/* Not from inside derp_client_open(): down() may be the first thing to say. */
		c->state = CLIENT_DIALING;
		derp_client_arm(c);
		try_node(c);
	} else if (c->state == CLIENT_UP) {
		look_for_life(c, now);
	} else if (now >= c->login_by_ns) {
		derp_client_failed(c, late_login(c));
	} else {
		derp_client_arm(c);
	}
}

/* ---- frames out ---- */

void derp_client_put(struct derp_client *c, enum derp_type type, const void *payload, size_t len)
{
	uint8_t *at = net_stream_reserve(c->stream, DERP_HEADER + len);

	if (!at) /* the relay does not read: what it asked for it does not get */
		return;
	derp_put_header(at, type, len);
	memcpy(at + DERP_HEADER, payload, len);
	net_stream_commit(c->stream, DERP_HEADER + len);
}

static void say_preferred(struct derp_client *c)
{
	uint8_t is_home = c->is_preferred;

	if (c->state < CLIENT_LOGGING_IN || derp_client_is_over(c) ||
	    c->was_preferred_said == c->is_preferred)
		return;
	derp_client_put(c, DERP_NOTE_PREFERRED, &is_home, 1);
	c->was_preferred_said = c->is_preferred;
}

bool derp_client_log_in(struct derp_client *c)
{
	uint8_t nonce[DERP_NONCE], frame[DERP_INFO_MAX];
	size_t len;

	randombytes_buf(nonce, sizeof(nonce));
	len = derp_seal_client_info(frame, c->key, &c->relay_key, nonce);
	if (len == 0 || net_stream_write(c->stream, frame, len) != 0)
		return false;
	c->state = CLIENT_LOGGING_IN;
	c->was_preferred_said = false;
	say_preferred(c);
	return true;
}

static void connected(void *owner)
{
	struct derp_client *c = owner;
	const struct derp_node *node = &c->region->nodes[c->node];
	bool is_fast = net_stream_relay_key(c->stream, c->relay_key.byte);
	char head[768], host[300];
	int len;

	derp_node_authority(node, host);
	len = snprintf(head, sizeof(head),
		       "GET /derp HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n"
		       "%s%s%s%s\r\n",
		       host, is_fast ? "Derp-Fast-Start: 1\r\n" : "",
		       c->node > 0 ? "Ideal-Node: " : "",
		       c->node > 0 ? c->region->nodes[0].name : "", c->node > 0 ? "\r\n" : "");
	if (net_stream_write(c->stream, head, (size_t)len) != 0) {
		derp_client_failed(c, "the request does not fit");
		return;
	}
	c->has_node = true;
	if (!is_fast)
		c->state = CLIENT_UPGRADING;
	else if (!derp_client_log_in(c))
		derp_client_failed(c, "the relay's certificate shows an unusable key");
}

/* ---- bytes in ---- */

static void set_bulk_timer(struct derp_client *c)
{
	const struct timeval in = { 0, BULK_NS / NS_PER_US };

	c->counted_bytes = 0;
	evtimer_add(c->bulk_timer, &in);
}

/*
 * A relay hands on packet by packet. In a bulk transfer each would wake us, we the program, and
 * our acknowledgement the relay: so the kernel waits for more of them, as long as so many come.
 * Not for too many: a relay's own queue is short.
 */
static void count_bulk(struct derp_client *c, size_t bytes)
{
	uint64_t now = loop_now(c->loop);

	if (!c->is_bulk && now - c->counted_ns > BULK_NS) {
		c->counted_ns = now;
		c->counted_bytes = 0;
	}
	c->counted_bytes += bytes;
	if (c->is_bulk || c->counted_bytes < BULK_BYTES)
		return;
	c->is_bulk = true;
	net_stream_wake_at(c->stream, BULK_WAKE);
	set_bulk_timer(c);
}

static void bulk_timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct derp_client *c = arg;

	(void)fd;
	(void)events;
	if (c->counted_bytes >= BULK_BYTES) {
		set_bulk_timer(c);
		return;
	}
	c->is_bulk = false;
	net_stream_wake_at(c->stream, 1);
}

/* The answer to the request, if it is complete; what follows are frames. */
static size_t take_upgrade(struct derp_client *c)
{
	struct http1_head head;
	int err = http1_parse_head((const char *)c->buffer, c->have, &head);

	if (err == -EAGAIN)
		return 0;
	if (err != 0 || head.status != 101) {
		snprintf(c->sentence, sizeof(c->sentence),
			 err ? "the server is no relay"
			     : "the server does not relay (HTTP status %d)",
			 err ? 0 : head.status);
		derp_client_failed(c, c->sentence);
		return 0;
	}
	c->state = CLIENT_GREETING;
	return head.len;
}

static void consume(struct derp_client *c)
{
	struct net_stream *stream = c->stream;
	size_t at = MIN(c->skip, c->have);

	c->skip -= at;
	if (c->state == CLIENT_UPGRADING)
		at = take_upgrade(c);
	if (!derp_client_is_over(c) && c->stream == stream && c->state != CLIENT_UPGRADING)
		at = derp_client_take_frames(c, at);
	if (derp_client_is_over(c) || c->stream != stream)
		return;
	if (at > 0) { /* whole frames count, not bytes that dribble in */
		c->heard_ns = loop_now(c->loop);
		c->asked_ns = 0;
	}
	c->have -= at;
	memmove(c->buffer, c->buffer + at, c->have);
}

static void readable(void *owner)
{
	struct derp_client *c = owner;
	struct net_stream *stream = c->stream;
	size_t total = 0;
	long n = 0;

	while (total < READ_ROUND && n >= 0) {
		while (c->have < BUFFER_LEN && (n = net_stream_read(stream, c->buffer + c->have,
								    BUFFER_LEN - c->have)) > 0) {
			c->have += (size_t)n;
			total += (size_t)n;
		}
		consume(c);
		if (derp_client_is_over(c) || c->stream != stream)
			return;
	}
	count_bulk(c, total);
}

static void drained(void *owner)
{
	struct derp_client *c = owner;

	if (c->state == CLIENT_UP)
		c->callbacks.drained(c->owner);
}

static void closed(void *owner, const char *sentence)
{
	struct derp_client *c = owner;

	if (c->state == CLIENT_LOGGING_IN)
		sentence = "the relay hung up on our login: it may not admit this node";
	derp_client_failed(c, sentence);
}

/* ---- life ---- */

/* The next usable node from c->node on. */
static void try_node(struct derp_client *c)
{
	static const struct net_stream_callbacks callbacks = { connected, readable, drained,
							       closed };
	struct derp_target target;
	uint64_t now = loop_now(c->loop);

	while (c->node < c->region->node_count &&
	       !derp_node_target(&c->region->nodes[c->node], c->tls, &target))
		c->node++;
	if (c->node >= c->region->node_count || now >= c->login_by_ns) {
		if (!c->sentence[0])
			snprintf(c->sentence, sizeof(c->sentence), DEAD_REGION);
		end(c);
		return;
	}
	target.options.limit_ns = c->login_by_ns - now;
	if (c->node + 1 < c->region->node_count)
		target.options.attempt_ns = NODE_NS;
	target.options.queue_max = DERP_QUEUE_MAX;
	target.options.queue_low = DERP_QUEUE_LOW;
	target.options.notsent_max = NOTSENT_MAX;
	c->stream = net_stream_open(c->loop, &target.options, &callbacks, c);
	if (!c->stream) {
		snprintf(c->sentence, sizeof(c->sentence), "out of memory");
		end(c);
	}
}

struct derp_client *derp_client_open(struct loop *loop, const struct tls_context *tls,
				     const struct private_key *key,
				     const struct derp_region *region,
				     const struct derp_client_callbacks *callbacks, void *owner)
{
	const struct timeval at_once = { 0, 0 };
	struct derp_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->loop = loop;
	c->tls = tls;
	c->key = key;
	c->region = region;
	c->callbacks = *callbacks;
	c->owner = owner;
	c->heard_ns = loop_now(loop);
	c->login_by_ns = c->heard_ns + LOGIN_NS;
	c->pong_by_ns = NEVER_NS;
	bucket_init(&c->gone, GONE_PER_S, GONE_BURST, c->heard_ns);
	c->timer = evtimer_new(loop_base(loop), timer_fired, c);
	c->bulk_timer = evtimer_new(loop_base(loop), bulk_timer_fired, c);
	if (!c->timer || !c->bulk_timer || evtimer_add(c->timer, &at_once) != 0) {
		if (c->timer)
			event_free(c->timer);
		if (c->bulk_timer)
			event_free(c->bulk_timer);
		free(c);
		return NULL;
	}
	return c;
}

void derp_client_destroy(struct derp_client *c)
{
	if (!c || c->is_destroyed)
		return;
	c->is_destroyed = true;
	close_stream(c);
	event_free(c->timer);
	event_free(c->bulk_timer);
	/* Where memory is short it leaks: its caller may be one of its callbacks. */
	loop_defer(c->loop, free, c);
}

/* ---- the owner's calls ---- */

void derp_client_set_preferred(struct derp_client *c, bool is_home)
{
	c->is_preferred = is_home;
	say_preferred(c);
}

static void note_asked(struct derp_client *c)
{
	uint64_t now = loop_now(c->loop);

	if (c->asked_ns)
		return;
	c->asked_ns = now;
	if (c->armed_ns > now + QUIET_NS)
		derp_client_arm(c);
}

/* The relay's own limit, which it asks us to keep by dropping: how much of it goes. */
static size_t within_limit(struct derp_client *c, size_t len, size_t segment_len)
{
	uint64_t now = loop_now(c->loop);
	size_t at = 0;

	while (at < len) {
		size_t n = MIN(segment_len, len - at);

		if (!bucket_take(&c->limit, n + DERP_SEND_EXTRA, now))
			break;
		at += n;
	}
	return at;
}

long derp_client_send(struct derp_client *c, const struct public_key *to, const uint8_t *bytes,
		      size_t len, size_t segment_len)
{
	size_t count, total;
	uint8_t *at;

	if (c->state != CLIENT_UP)
		return -EAGAIN;
	if (c->has_limit)
		len = within_limit(c, len, segment_len);
	if (len == 0)
		return -ENOBUFS;
	count = (len + segment_len - 1) / segment_len;
	total = len + count * DERP_SEND_EXTRA;
	at = net_stream_reserve(c->stream, total);
	if (!at)
		return -ENOBUFS;
	for (size_t i = 0; i < len; i += segment_len) {
		size_t n = MIN(segment_len, len - i);

		derp_put_send(at, to, n);
		memcpy(at + DERP_SEND_EXTRA, bytes + i, n);
		at += DERP_SEND_EXTRA + n;
	}
	net_stream_commit(c->stream, total);
	note_asked(c);
	return (long)len;
}

void derp_client_ping(struct derp_client *c)
{
	if (c->state != CLIENT_UP || c->pong_by_ns != NEVER_NS)
		return;
	randombytes_buf(c->ping, sizeof(c->ping));
	derp_client_put(c, DERP_TYPE_PING, c->ping, sizeof(c->ping));
	c->pinged_ns = loop_now(c->loop);
	c->pong_by_ns = c->pinged_ns + PONG_NS;
	derp_client_arm(c);
}

size_t derp_client_queued(const struct derp_client *c)
{
	return c->stream ? net_stream_queued(c->stream) : 0;
}

bool derp_client_is_up(const struct derp_client *c)
{
	return c->state == CLIENT_UP;
}

const char *derp_client_node(const struct derp_client *c)
{
	return c->has_node ? c->region->nodes[c->node].name : "";
}

void derp_client_remote(const struct derp_client *c, struct endpoint *remote)
{
	struct endpoint local;

	*remote = (struct endpoint){ 0 };
	if (c->has_node)
		net_stream_addresses(c->stream, remote, &local);
}
