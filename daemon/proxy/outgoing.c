/*
 * Addresses are tried in order, each for a part of the time there is. A peer's goes by the
 * edge, one of our own to the loopback addresses where programs listen for it, and all others
 * by the kernel. Mesh addresses never go to the real network.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/sock.h"
#include "daemon/proxy/private.h"
#include "shared/util.h"

#define PATIENCE_NS     (30 * NS_PER_S)
#define ONE_PATIENCE_NS (10 * NS_PER_S) /* where there are more addresses */

static void try_next(struct outgoing *o);

static void end_try(struct outgoing *o)
{
	edge_timer_cancel(&o->proxy->timers, &o->timer);
	if (o->has_event)
		event_del(&o->event);
	o->has_event = false;
}

static void drop_try(struct outgoing *o)
{
	end_try(o);
	if (o->dial)
		dial_cancel(o->dial);
	o->dial = NULL;
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}

static void failed(struct outgoing *o, int error)
{
	drop_try(o);
	o->error = error;
	try_next(o);
}

static void dialled(void *arg, int error)
{
	struct outgoing *o = arg;

	if (error) {
		o->dial = NULL;
		failed(o, error);
		return;
	}
	end_try(o);
	o->done(o->arg, 0);
}

static void connected(evutil_socket_t fd, short what, void *arg)
{
	struct outgoing *o = arg;
	socklen_t len = sizeof(int);
	int error = 0;

	(void)what;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error) {
		failed(o, error);
		return;
	}
	end_try(o);
	o->done(o->arg, 0);
}

static void timed_out(struct edge_timer *timer, uint64_t now_ns)
{
	(void)now_ns;
	failed(CONTAINER_OF(timer, struct outgoing, timer), ETIMEDOUT);
}

static int connect_direct(struct outgoing *o, const struct endpoint *to)
{
	int one = 1, err;

	o->fd = sock_open(to, SOCK_STREAM);
	if (o->fd < 0) {
		err = -o->fd;
		o->fd = -1;
		return err;
	}
	setsockopt(o->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(o->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	err = sock_connect(o->fd, to);
	if (err != 0 && err != -EINPROGRESS)
		return -err;
	if (event_assign(&o->event, loop_base(o->proxy->loop), o->fd, EV_WRITE, connected, o) !=
		    0 ||
	    event_add(&o->event, NULL) != 0)
		return ENOMEM;
	o->has_event = true;
	return 0;
}

static int try_one(struct outgoing *o, const struct endpoint *to)
{
	if (dial_way_to(o->proxy->edge, &to->addr) == DIAL_MESH)
		return dial_start(o->proxy->edge, to, dialled, o, &o->dial);
	return connect_direct(o, to);
}

/* Starts with the next address that can be tried at all; false: there is none. */
static bool begin_next(struct outgoing *o)
{
	uint64_t now_ns = loop_now(o->proxy->loop);

	if (now_ns >= o->deadline_ns) {
		o->error = ETIMEDOUT;
		return false;
	}
	while (o->next < o->count) {
		bool is_last = o->next + 1 == o->count;

		o->error = try_one(o, &o->at[o->next++]);
		if (o->error == 0) {
			edge_timer_set(&o->proxy->timers, &o->timer,
				       is_last ? o->deadline_ns
					       : MIN(o->deadline_ns, now_ns + ONE_PATIENCE_NS));
			return true;
		}
		drop_try(o);
	}
	return false;
}

static void try_next(struct outgoing *o)
{
	if (!begin_next(o))
		o->done(o->arg, o->error);
}

void outgoing_init(struct outgoing *o, struct proxy *proxy, void (*done)(void *arg, int error),
		   void *arg)
{
	*o = (struct outgoing){ .proxy = proxy, .fd = -1, .done = done, .arg = arg };
	o->timer.fired = timed_out;
}

int outgoing_start(struct outgoing *o, const struct ip_addr *ips, unsigned count, uint16_t port)
{
	o->deadline_ns = loop_now(o->proxy->loop) + PATIENCE_NS;
	o->error = EHOSTUNREACH;
	for (unsigned i = 0; i < count && i < PROXY_ADDRESSES_MAX; i++) {
		struct endpoint to = { ips[i], port };

		if (o->count + TARGETS_MAX > ARRAY_LEN(o->at))
			break;
		if (dial_way_to(o->proxy->edge, &to.addr) == DIAL_OWN)
			o->count += dial_own(o->proxy->edge, &to, SOCK_STREAM, o->at + o->count);
		else
			o->at[o->count++] = to;
	}
	return begin_next(o) ? 0 : o->error;
}

void outgoing_stop(struct outgoing *o)
{
	drop_try(o);
}
