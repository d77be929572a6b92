/*
 * Edge-triggered, as edge/stream.c: a flag remembers an edge until EAGAIN. Each
 * direction has one buffer and reads only what that takes, so a slow reader slows the
 * writer down. A run moves a bounded number of bytes and then lets others have their turn.
 */
#include "daemon/proxy/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "shared/util.h"

#define ROUNDS 8 /* buffers each way in one run */

static void finish(struct relay *r, bool is_broken)
{
	if (r->is_done)
		return;
	r->is_done = true;
	r->hooks.done(r->hooks.arg, is_broken);
}

static int arrived(struct relay *r, int direction)
{
	struct relay_way *w = &r->way[direction];

	if (r->hooks.arrived)
		return r->hooks.arrived(r->hooks.arg, (enum relay_direction)direction, w);
	w->ready = w->end;
	return 0;
}

static void compact(struct relay_way *w)
{
	if (w->start == 0)
		return;
	memmove(w->bytes, w->bytes + w->start, w->end - w->start);
	w->ready -= w->start;
	w->end -= w->start;
	w->start = 0;
}

void relay_put(struct relay_way *w, const char *bytes, size_t len)
{
	memcpy(w->bytes + w->end, bytes, len);
	w->end += len;
	w->ready = w->end;
}

/* < 0: broken. */
static int fill(struct relay *r, int direction)
{
	struct relay_way *w = &r->way[direction];
	ssize_t n;

	if (!r->is_readable[direction] || w->has_ended)
		return 0;
	compact(w);
	if (w->end >= RELAY_ROOM)
		return 0;
	n = recv(r->fd[direction], w->bytes + w->end, RELAY_ROOM - w->end, 0);
	if (n < 0 && errno == EAGAIN)
		r->is_readable[direction] = false;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	w->has_ended = n == 0;
	w->end += (size_t)n;
	return arrived(r, direction);
}

static int drain(struct relay *r, int direction)
{
	struct relay_way *w = &r->way[direction];
	int to = 1 - direction;
	ssize_t n;

	while (r->is_writable[to] && w->start < w->ready) {
		n = send(r->fd[to], w->bytes + w->start, w->ready - w->start, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n > 0)
			w->start += (size_t)n;
		else
			r->is_writable[to] = false;
	}
	if (!w->has_ended || w->is_closed || w->start < w->end)
		return 0;
	w->is_closed = true;
	return shutdown(r->fd[to], SHUT_WR) == 0 ? 0 : -errno;
}

/* Could this direction move more right now? */
static bool is_busy(const struct relay *r, int direction)
{
	const struct relay_way *w = &r->way[direction];

	return (r->is_readable[direction] && !w->has_ended && w->end - w->start < RELAY_ROOM) ||
	       (r->is_writable[1 - direction] && w->start < w->ready);
}

void relay_run(struct relay *r)
{
	for (int round = 0; round < ROUNDS; round++) {
		for (int d = RELAY_UP; d <= RELAY_DOWN; d++) {
			if (fill(r, d) < 0 || drain(r, d) < 0) {
				finish(r, true);
				return;
			}
		}
		if (r->way[RELAY_UP].is_closed && r->way[RELAY_DOWN].is_closed) {
			finish(r, false);
			return;
		}
		if (!is_busy(r, RELAY_UP) && !is_busy(r, RELAY_DOWN))
			return;
	}
	event_active(&r->event[0], 0, 0);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct relay *r = arg;
	int side = fd == r->fd[0] ? 0 : 1;

	if (r->is_done)
		return;
	if (what & EV_READ)
		r->is_readable[side] = true;
	if (what & EV_WRITE)
		r->is_writable[side] = true;
	relay_run(r);
}

int relay_open(struct relay *r, struct event_base *base, const int fd[static 2],
	       const struct relay_hooks *hooks)
{
	*r = (struct relay){ .fd = { fd[0], fd[1] },
			     .is_readable = { true, true },
			     .is_writable = { true, true },
			     .hooks = *hooks };
	for (int i = 0; i < 2; i++) {
		r->way[i].bytes = malloc(RELAY_ROOM + RELAY_SLACK);
		if (!r->way[i].bytes ||
		    event_assign(&r->event[i], base, fd[i], EV_READ | EV_WRITE | EV_ET | EV_PERSIST,
				 on_event, r) != 0 ||
		    event_add(&r->event[i], NULL) != 0) {
			relay_close(r);
			return -ENOMEM;
		}
		r->has_event[i] = true;
	}
	return 0;
}

void relay_close(struct relay *r)
{
	r->is_done = true;
	for (int i = 0; i < 2; i++) {
		if (r->has_event[i])
			event_del(&r->event[i]);
		r->has_event[i] = false;
		free(r->way[i].bytes);
		r->way[i].bytes = NULL;
	}
}
