/*
 * A bridge between a loopback TCP socket and a connection of our TCP endpoint.
 *
 * Bytes move without a buffer in between: read into the endpoint's send
 * space, written from its receive buffer. Each side's end is passed on as the
 * same kind of end: FIN as FIN, reset as reset.
 */
#ifndef MESHWRAP_DAEMON_EDGE_STREAM_H
#define MESHWRAP_DAEMON_EDGE_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include <event2/event.h>
#include <event2/event_struct.h>

struct tcp_conn;

#define STREAM_ROUND (512u << 10) /* bytes each way before others get their turn */

struct stream {
	int fd;
	struct tcp_conn *conn;
	struct event event;
	bool has_event;
	/* Edges seen and not yet used up: reading (writing) may not give EAGAIN. */
	bool is_readable, is_writable;
	bool is_fresh;      /* an event came since the socket was asked for its error */
	bool is_reset;      /* by the program; what it wrote before may still be unread */
	bool has_been_full; /* so epoll tells of room, too */
	bool has_read;      /* bytes of the program, when it ran last */
	bool program_ended; /* its FIN was passed on */
	bool mesh_ended;    /* the far side's FIN was passed on */
};

enum stream_verdict {
	STREAM_WAITS,  /* for an event on either side; if is_reset, for room for what is unread */
	STREAM_BUSY,   /* there is more to do: call again in the next round */
	STREAM_ENDED,  /* both directions have finished; only closing is left */
	STREAM_BROKEN, /* the program's side is dead, and nothing is unread: reset the other */
};

/*
 * fd is established, and closing it would reset (sock_reset_on_close); from now
 * on it is closed by stream_close(). 0 or -ENOMEM.
 */
int stream_open(struct stream *s, struct event_base *base, int fd, struct tcp_conn *conn,
		event_callback_fn on_event, void *arg);
/* Has nothing to do, in neither direction, and both are open. */
bool stream_is_idle(const struct stream *s);
/* Has the mesh side something for the program? */
bool stream_has_news(const struct stream *s);
/* An idle stream lets go of its descriptor, which the caller keeps alive elsewhere; nothing is
 * sent. */
void stream_leave(struct stream *s);
/* The same socket again, with bytes or none: run the stream. 0 or -ENOMEM; fd is the stream's. */
int stream_return(struct stream *s, int fd);
/* What on_event was called with. */
void stream_event(struct stream *s, short what);
enum stream_verdict stream_run(struct stream *s);
/* reset: the program sees ECONNRESET. Not to be called twice. */
void stream_close(struct stream *s, bool reset);

#endif
