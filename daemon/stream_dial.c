/*
 * Many addresses, one connection (RFC 8305 in short).
 *
 * Addresses are put in an order that alternates families, starting with the
 * family of the first. The next one is tried when the one before it failed, after
 * 200 ms where it is of the other family, and after 1.5 s where it is of the same.
 * Earlier ones go on trying meanwhile: the first to answer wins and the rest are
 * closed. So a dead address costs a delay and never an answer that was on its way.
 * Rejected: giving an address up after its 1.5 s, which loses slow paths for nothing.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/stream_private.h"
#include "shared/util.h"

#define FAMILY_DELAY_MS  200
#define ADDRESS_DELAY_MS 1500

#define USER_TIMEOUT_MS 20000 /* the longest that sent bytes may stay unacknowledged */
#define KEEP_IDLE_S     60
#define KEEP_INTERVAL_S 10
#define KEEP_COUNT      3

struct attempt {
	struct dial *dial;
	struct endpoint to;
	int fd; /* -1: not tried yet, or failed */
	struct event *event;
};

struct dial {
	struct event_base *base;
	struct event *timer;
	dial_done *done;
	void *owner;
	struct attempt attempt[NET_STREAM_CANDIDATES_MAX];
	unsigned count, next, failed;
	char sentence[NET_STREAM_REASON_MAX]; /* of the last failure */
};

static void close_attempt(struct attempt *a)
{
	if (a->event)
		event_free(a->event);
	a->event = NULL;
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

static void set_timer(struct dial *d, unsigned ms)
{
	const struct timeval in = { ms / 1000, (ms % 1000) * 1000 };

	evtimer_add(d->timer, &in);
}

/* The next one is due at once. */
static void attempt_failed(struct attempt *a, int error)
{
	struct dial *d = a->dial;
	char text[ENDPOINT_TEXT_MAX];

	close_attempt(a);
	d->failed++;
	snprintf(d->sentence, sizeof(d->sentence), "%s: %s", endpoint_format(&a->to, text),
		 strerror(error));
	set_timer(d, 0);
}

static void attempt_ready(evutil_socket_t fd, short events, void *arg)
{
	struct attempt *a = arg;
	struct dial *d = a->dial;
	int error = 0;
	socklen_t len = sizeof(error);

	(void)events;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0) {
		attempt_failed(a, error);
		return;
	}
	event_free(a->event);
	a->event = NULL;
	a->fd = -1;
	for (unsigned i = 0; i < d->count; i++)
		close_attempt(&d->attempt[i]);
	evtimer_del(d->timer);
	d->done(d->owner, fd, NULL);
}

static void start_attempt(struct attempt *a)
{
	struct sockaddr_storage sa;
	int family = ip_is_v4(&a->to.addr) ? AF_INET : AF_INET6;
	socklen_t len = endpoint_to_sockaddr(&a->to, family, &sa);

	a->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0 ||
	    (connect(a->fd, (struct sockaddr *)&sa, len) != 0 && errno != EINPROGRESS)) {
		attempt_failed(a, errno);
		return;
	}
	a->event = event_new(a->dial->base, a->fd, EV_WRITE, attempt_ready, a);
	if (!a->event || event_add(a->event, NULL) != 0)
		attempt_failed(a, ENOMEM);
}

static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct dial *d = arg;
	struct attempt *a;

	(void)fd;
	(void)events;
	if (d->next == d->count) {
		if (d->failed == d->count)
			d->done(d->owner, -1, d->sentence);
		return;
	}
	a = &d->attempt[d->next++];
	if (d->next < d->count)
		set_timer(d, ip_is_v4(&a->to.addr) != ip_is_v4(&d->attempt[d->next].to.addr)
				     ? FAMILY_DELAY_MS
				     : ADDRESS_DELAY_MS);
	start_attempt(a); /* may set the timer nearer */
}

/* Alternates families, keeping the order within each. */
static void order(struct dial *d, const struct endpoint *candidates, unsigned count)
{
	unsigned at[2] = { 0, 0 }; /* of each family: IPv6, IPv4 */
	bool turn = ip_is_v4(&candidates[0].addr);

	while (d->count < count) {
		unsigned *i = &at[turn];

		while (*i < count && ip_is_v4(&candidates[*i].addr) != turn)
			++*i;
		if (*i < count) {
			struct attempt *a = &d->attempt[d->count++];

			*a = (struct attempt){ d, candidates[*i], -1, NULL };
			++*i;
		}
		turn = !turn;
	}
}

struct dial *dial_create(struct event_base *base, const struct endpoint *candidates, unsigned count,
			 dial_done *done, void *owner)
{
	struct dial *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->base = base;
	d->done = done;
	d->owner = owner;
	d->timer = evtimer_new(base, timer_fired, d);
	if (!d->timer) {
		free(d);
		return NULL;
	}
	snprintf(d->sentence, sizeof(d->sentence), "there is no address to try");
	if (count > 0)
		order(d, candidates, MIN(count, NET_STREAM_CANDIDATES_MAX));
	set_timer(d, 0);
	return d;
}

void dial_destroy(struct dial *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->count; i++)
		close_attempt(&d->attempt[i]);
	event_free(d->timer);
	free(d);
}

const char *dial_sentence(const struct dial *d)
{
	return d->failed > 0 ? d->sentence : "no answer";
}

void dial_tune(int fd, uint32_t notsent_max)
{
	const struct {
		int level, name, value;
	} option[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT },
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)notsent_max },
	};

	/* The connection works without each of them. */
	for (unsigned i = 0; i < ARRAY_LEN(option) - (notsent_max ? 0 : 1); i++)
		setsockopt(fd, option[i].level, option[i].name, &option[i].value, sizeof(int));
}
