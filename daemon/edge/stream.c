/*
 * The bridge.
 *
 * The socket is registered edge-triggered: for reading at first, since a new one has room, which
 * epoll would tell at once, and for both directions from when it was full. After that no
 * epoll_ctl() is made until it is closed (or stowed: stow.h). Two flags remember edges: set by the
 * event, cleared only by EAGAIN or a write that took less than it was given. So a direction that
 * stops because the other side has no room is resumed by the endpoint's own event without asking
 * epoll again.
 *
 * Most reads empty the socket, and asking it again only to hear EAGAIN would be a
 * third of an interactive connection's calls. A short read alone is no proof (it
 * also stops at urgent data, and before a FIN), so the kernel is asked to say with
 * each read what is left (TCP_INQ, which counts a FIN): 0 is an EAGAIN.
 *
 * However the daemon dies, the kernel must not end a stream that is not whole:
 * so the socket comes here set to be reset by close(), and only an orderly
 * end takes that back.
 *
 * The end: a read of 0 becomes tcp_send_finish(), the end of received bytes
 * becomes shutdown(SHUT_WR). The last FIN towards the program is not sent by
 * shutdown but left to close(), since the owner may prefer a reset there (see
 * flow.c on TIME_WAIT).
 *
 * A program's reset does not take back what it wrote before, so all that is read
 * first, then its reset is passed on. The event does not tell a reset from bytes, nor
 * does TCP_INQ count it. So after an event, when there is nothing more to be read, or
 * no room to read into, the socket is asked for its error, which that takes away.
 */
#include "daemon/edge/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "daemon/edge/sock.h"
#include "daemon/tcp/endpoint.h"
#include "shared/util.h"

#define PIECES 16

enum result { IDLE, MORE, DEAD };

union left_control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

static int watch(struct stream *s, struct event_base *base, event_callback_fn on_event, void *arg)
{
	short room = s->has_been_full ? EV_WRITE : 0;

	if (event_assign(&s->event, base, s->fd, (short)(EV_READ | room | EV_ET | EV_PERSIST),
			 on_event, arg) != 0 ||
	    event_add(&s->event, NULL) != 0)
		return -ENOMEM;
	s->has_event = true;
	return 0;
}

int stream_open(struct stream *s, struct event_base *base, int fd, struct tcp_conn *conn,
		event_callback_fn on_event, void *arg)
{
	int on = 1;

	*s = (struct stream){ .fd = fd, .conn = conn, .is_writable = true };
	/* Without it, which is a kernel before 4.18, reads go on until EAGAIN. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_INQ, &on, sizeof(on));
	return watch(s, base, on_event, arg);
}

bool stream_has_news(const struct stream *s)
{
	return tcp_recv_unread(s->conn) > 0 || tcp_recv_ended(s->conn);
}

bool stream_is_idle(const struct stream *s)
{
	return s->is_writable && !s->is_readable && !s->program_ended && !s->mesh_ended &&
	       !stream_has_news(s);
}

void stream_leave(struct stream *s)
{
	event_del(&s->event);
	s->has_event = false;
	close(s->fd);
	s->fd = -1;
}

int stream_return(struct stream *s, int fd)
{
	event_callback_fn on_event = event_get_callback(&s->event);
	void *arg = event_get_callback_arg(&s->event);

	s->fd = fd;
	s->is_readable = s->is_fresh = true; /* nobody has looked */
	return watch(s, event_get_base(&s->event), on_event, arg);
}

static bool has_error(int fd)
{
	socklen_t len = sizeof(int);
	int err = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0 || err != 0;
}

void stream_event(struct stream *s, short what)
{
	if (what & EV_READ)
		s->is_readable = true;
	if (what & EV_WRITE)
		s->is_writable = true;
	s->is_fresh = true;
}

static bool is_empty_now(struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int left = -1;

	if (c && c->cmsg_level == SOL_TCP && c->cmsg_type == TCP_CM_INQ)
		memcpy(&left, CMSG_DATA(c), sizeof(left));
	return left == 0;
}

static bool was_reset(struct stream *s)
{
	if (s->is_fresh && has_error(s->fd))
		s->is_reset = true;
	s->is_fresh = false;
	return s->is_reset;
}

/* One read, and what it told. */
static enum result pull_some(struct stream *s, struct iovec space[static 2], size_t *moved)
{
	union left_control control;
	struct msghdr msg = { .msg_iov = space,
			      .msg_iovlen = space[1].iov_len ? 2 : 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(s->fd, &msg, 0);

	if (n > 0) {
		tcp_send_commit(s->conn, (size_t)n);
		s->has_read = true;
		*moved += (size_t)n;
		s->is_readable = !is_empty_now(&msg) || was_reset(s);
	} else if (n < 0 && errno == EAGAIN) {
		s->is_readable = false;
	} else if (n < 0 && errno != EINTR) {
		s->is_reset = true;
		return DEAD;
	} else if (n == 0 && s->is_reset) {
		return DEAD;
	} else if (n == 0) {
		tcp_send_finish(s->conn);
		s->program_ended = true;
	}
	return IDLE;
}

/* Program to mesh. */
static enum result pull(struct stream *s)
{
	enum result result = IDLE;
	size_t moved = 0;

	if (s->program_ended)
		return was_reset(s) ? DEAD : IDLE;
	while (result == IDLE && s->is_readable && !s->program_ended) {
		struct iovec space[2] = { { 0 } };

		if (moved >= STREAM_ROUND)
			return MORE;
		if (tcp_send_space(s->conn, space) == 0) {
			(void)was_reset(s); /* the owner looks at is_reset */
			return IDLE;
		}
		result = pull_some(s, space, &moved);
	}
	return result;
}

/* Writing met it: what is unread comes first. */
static enum result note_reset(struct stream *s)
{
	s->is_reset = s->is_readable = true;
	return MORE;
}

static enum result pass_on_end(struct stream *s)
{
	if (!tcp_recv_ended(s->conn))
		return IDLE;
	s->mesh_ended = true;
	if (!s->program_ended && shutdown(s->fd, SHUT_WR) != 0)
		return note_reset(s);
	return IDLE;
}

/* Until the program has read some. */
static enum result wait_for_room(struct stream *s)
{
	s->is_writable = false;
	if (s->has_been_full)
		return IDLE;
	s->has_been_full = true;
	event_del(&s->event);
	s->has_event = false;
	return watch(s, event_get_base(&s->event), event_get_callback(&s->event),
		     event_get_callback_arg(&s->event)) == 0
		       ? IDLE
		       : DEAD;
}

/* Mesh to program. */
static enum result push(struct stream *s)
{
	size_t moved = 0;

	while (s->is_writable && !s->mesh_ended && !s->is_reset) {
		struct iovec data[PIECES];
		struct msghdr msg = { .msg_iov = data };
		unsigned count;
		size_t len;
		ssize_t n;

		if (moved >= STREAM_ROUND)
			return MORE;
		len = tcp_recv_data(s->conn, data, PIECES, &count);
		if (len == 0)
			return pass_on_end(s);
		msg.msg_iovlen = count;
		n = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
		if (n > 0) {
			tcp_recv_consume(s->conn, (size_t)n);
			moved += (size_t)n;
			if ((size_t)n < len)
				return wait_for_room(s);
		} else if (n < 0 && errno == EAGAIN) {
			return wait_for_room(s);
		} else if (n < 0 && errno != EINTR) {
			return note_reset(s);
		}
	}
	return IDLE;
}

enum stream_verdict stream_run(struct stream *s)
{
	enum result up, down;

	s->has_read = false;
	up = pull(s);
	down = up == DEAD ? DEAD : push(s);
	if (up == DEAD || down == DEAD)
		return STREAM_BROKEN;
	if (s->program_ended && s->mesh_ended)
		return STREAM_ENDED;
	return up == MORE || down == MORE ? STREAM_BUSY : STREAM_WAITS;
}

void stream_close(struct stream *s, bool reset)
{
	if (s->has_event)
		event_del(&s->event);
	s->has_event = false;
	if (s->fd < 0)
		return;
	if (!reset)
		sock_finish_on_close(s->fd);
	close(s->fd);
	s->fd = -1;
}
