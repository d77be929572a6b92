/* The TCP try of a leg: the query, then the answer, each behind its length. */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/dns/leg.h"
#include "shared/wire.h"

void leg_close_tcp(struct leg *leg)
{
	const struct dns_dialler *dialler = &leg->request->forwarder->dialler;

	if (leg->dial)
		dialler->cancel(dialler->owner, leg->dial);
	leg->dial = NULL;
	if (leg->tcp >= 0) {
		event_del(&leg->tcp_event);
		close(leg->tcp);
	}
	leg->tcp = -1;
	if (leg->tcp_state == TRY_WAITS)
		leg->tcp_state = TRY_OVER;
}

void leg_free_bytes(struct leg *leg)
{
	free(leg->in);
	leg->in = NULL;
	leg->got = leg->room = 0;
}

static void tcp_failed(struct leg *leg)
{
	leg_close_tcp(leg);
	leg_free_bytes(leg);
	if (leg->udp_state != TRY_WAITS)
		leg_over(leg);
}

static bool tcp_grow(struct leg *leg, size_t room)
{
	uint8_t *grown;

	if (room <= leg->room)
		return true;
	grown = realloc(leg->in, room);
	if (!grown)
		return false;
	leg->in = grown;
	leg->room = room;
	return true;
}

/* -1: it failed; 0: more is to come; 1: whole. */
static int tcp_read(struct leg *leg)
{
	for (;;) {
		size_t want = leg->got < 2 ? 2 : 2 + (size_t)load_be16(leg->in);
		ssize_t n;

		if (leg->got >= 2 && leg->got == want)
			return 1;
		if (!tcp_grow(leg, want))
			return -1;
		n = recv(leg->tcp, leg->in + leg->got, want - leg->got, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		leg->got += (size_t)n;
	}
}

static void on_tcp(evutil_socket_t fd, short what, void *arg);

static bool watch_tcp(struct leg *leg, short what)
{
	return event_assign(&leg->tcp_event, loop_base(leg->request->forwarder->loop), leg->tcp,
			    (short)(what | EV_PERSIST), on_tcp, leg) == 0 &&
	       event_add(&leg->tcp_event, NULL) == 0;
}

static void on_tcp(evutil_socket_t fd, short what, void *arg)
{
	struct leg *leg = arg;
	struct request *r = leg->request;
	size_t len = 2 + r->query_len;
	int got;

	(void)what;
	if (leg->sent < len) {
		ssize_t n = send(fd, r->query + leg->sent, len - leg->sent,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			tcp_failed(leg);
			return;
		}
		leg->sent += n > 0 ? (size_t)n : 0;
		if (leg->sent < len)
			return;
		event_del(&leg->tcp_event);
		if (!watch_tcp(leg, EV_READ))
			tcp_failed(leg);
		return;
	}
	got = tcp_read(leg);
	if (got < 0)
		tcp_failed(leg);
	else if (got > 0)
		leg_judge(leg, leg->in + 2, leg->got - 2, true);
}

/* The socket is the leg's now. */
static bool take_tcp(struct leg *leg, int fd)
{
	leg->tcp = fd;
	leg->sent = 0;
	if (watch_tcp(leg, EV_WRITE))
		return true;
	close(fd);
	leg->tcp = -1;
	return false;
}

static void dialled(void *arg, int fd)
{
	struct leg *leg = arg;

	leg->dial = NULL;
	if (fd < 0 || !take_tcp(leg, fd))
		tcp_failed(leg);
}

/* False: there will be no answer by TCP. */
bool leg_start_tcp(struct leg *leg)
{
	const struct dns_dialler *dialler = &leg->request->forwarder->dialler;
	bool is_open;
	int fd;

	if (leg->tcp_state != TRY_NONE)
		return leg->tcp_state == TRY_WAITS;
	if (leg->is_tunnel) {
		is_open = dialler->start && dialler->start(dialler->owner, &leg->upstream, dialled,
							   leg, &leg->dial) == 0;
	} else {
		fd = leg_open_socket(&leg->upstream, SOCK_STREAM);
		is_open = fd >= 0 && take_tcp(leg, fd);
	}
	leg->tcp_state = is_open ? TRY_WAITS : TRY_OVER;
	return is_open;
}
