/*
 * Keepalive and TCP_USER_TIMEOUT ask the other end of the kernel's connection, which here
 * is the daemon and answers, unless the far side of an idle connection is silent. The kernel keeps
 * what the program sets, so it is read from there and nothing is remembered but one fact of the
 * process: somebody has set one of the options. Programs that never do pay nothing for it, neither
 * in connect() nor in accept(). A socket with such options that is connected or accepted only after
 * an exec is missed, unless something is set there, too.
 *
 * The daemon gives no answer: the program's call has been made when it is told, and a daemon that
 * is stopped holds nobody up.
 */
#include "preload/patience.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "preload/address.h"
#include "preload/control.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/shim.h"

#define TELL_WAIT_S 1 /* for a place in the daemon's queue */

static atomic_bool has_set;

static uint32_t option(int fd, int level, int name, uint32_t most)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (libc.getsockopt(fd, level, name, &value, &len) < 0 || value < 0)
		return 0;
	return (uint32_t)value < most ? (uint32_t)value : most;
}

/*
 * No program can set nought, but the system's own number may be that (tcp_keepalive_time and its
 * like): then it is the least that can be set. False: nobody tells.
 */
static bool read_detail(int fd, int name, uint16_t most, uint16_t *detail)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (libc.getsockopt(fd, IPPROTO_TCP, name, &value, &len) < 0)
		return false;
	*detail = value < 1 ? 1 : value < most ? (uint16_t)value : most;
	return true;
}

static void read_options(int fd, struct ipc_patience *p)
{
	int saved = errno;

	p->user_timeout_ms = option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, IPC_USER_TIMEOUT_MAX);
	p->pad = 0;
	if (!option(fd, SOL_SOCKET, SO_KEEPALIVE, 1) ||
	    !read_detail(fd, TCP_KEEPIDLE, IPC_IDLE_S_MAX, &p->idle_s) ||
	    !read_detail(fd, TCP_KEEPINTVL, IPC_IDLE_S_MAX, &p->interval_s) ||
	    !read_detail(fd, TCP_KEEPCNT, IPC_COUNT_MAX, &p->count))
		p->idle_s = p->interval_s = p->count = 0;
	errno = saved;
}

static bool has_any(const struct ipc_patience *p)
{
	return p->user_timeout_ms || p->idle_s;
}

static bool is_set_by_anybody(void)
{
	return atomic_load_explicit(&has_set, memory_order_relaxed);
}

/* Of what traced programs set only TCP_USER_TIMEOUT is seen (trace_filter.c). */
static bool may_have_any(int fd)
{
#ifdef MESHWRAP_TRACER
	int saved = errno;
	bool is_kept = option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);

	errno = saved;
	return is_kept || is_set_by_anybody();
#else
	(void)fd;
	return is_set_by_anybody();
#endif
}

bool patience_of(int fd, struct ipc_patience *p)
{
	if (!may_have_any(fd))
		return false;
	read_options(fd, p);
	return has_any(p);
}

/*
 * Which flow of the daemon's this socket is, if any: the ends by which the daemon finds it.
 * While it is connecting the kernel has no peer for it, but the map has the flow.
 */
static bool find_flow(int fd, struct ipc_patience *p)
{
	const struct map *map = shim_map();
	struct endpoint local, peer, mesh;
	struct map_flow flow;

	if (!map || !socket_ends(fd, &local, &peer) || !ip_is_loopback(&peer.addr))
		return false;
	if (dialled_flow(map, &local, &peer, &flow)) {
		mesh = (struct endpoint){ flow.remote, flow.remote_port };
		ipc_make_request(&p->request, IPC_PATIENCE, &local, &mesh, 0);
		return flow.state == MAP_FLOW_HELD || flow.state == MAP_FLOW_OPEN;
	}
	if (!inbound_peer_to_mesh(map, &peer, &mesh))
		return false;
	ipc_make_request(&p->request, IPC_PATIENCE, &local, &mesh, IPC_ACCEPTED);
	return true;
}

static void tell(const struct ipc_patience *p)
{
	struct explain e;
	int err = control_tell(p, TELL_WAIT_S);

	if (!err || !explain_is_on())
		return;
	explain_begin(&e, "setsockopt", -1);
	explain_text(&e, " keepalive or timeout: the daemon was not told");
	explain_result(&e, -err);
	explain_end(&e);
}

void patience_changed(int fd, int level, int name)
{
	struct ipc_patience p;
	bool is_detail = level == IPPROTO_TCP && name != TCP_USER_TIMEOUT;

	atomic_store_explicit(&has_set, true, memory_order_relaxed);
	if (!find_flow(fd, &p))
		return;
	read_options(fd, &p);
	/* Without SO_KEEPALIVE its details mean nothing yet. */
	if (!is_detail || p.idle_s)
		tell(&p);
}

/*
 * Where a SYN of ours meets the program's half-way, which is how dials are answered, the kernel
 * does not begin to count. It does when SO_KEEPALIVE is switched on, also of one that is still
 * connecting, unless that takes longer than TCP_KEEPIDLE.
 */
void patience_begin(int fd)
{
	int saved = errno, off = 0, on = 1;

	libc.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof(off));
	libc.setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	errno = saved;
}

void patience_accepted(int fd)
{
	struct ipc_patience p;

	if (is_set_by_anybody() && patience_of(fd, &p) && find_flow(fd, &p))
		tell(&p);
}
