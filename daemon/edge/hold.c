/*
 * SYN hold. A listener whose accept queue is full drops further SYNs in
 * silence, so whoever connects to it stays in SYN_SENT. One connection of our
 * own, never accepted, fills the queue of a listener with backlog 0. When the
 * far side has answered, a second socket with the same address and port
 * (SO_REUSEPORT) connects to the program: a TCP simultaneous open.
 *
 * The listener takes every address of lo but nothing else (SO_BINDTODEVICE,
 * allowed to all since Linux 5.7), so nobody outside can fill or probe it.
 * Rejected: a socket filter that drops SYNs, which needs CAP_NET_ADMIN on
 * newer kernels.
 *
 * Whether all this works is tried out at start, as a program would use it:
 * with an edge-triggered registration made before connect(), once completed
 * and once refused. tcp_abort_on_overflow, gVisor or an older kernel fail the
 * trial; then the port is an ordinary listener.
 */
#include "daemon/edge/hold.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/edge/socktable.h"
#include "shared/log.h"
#include "shared/util.h"

#define PORT_TRIES      256
#define FALLBACK_QUEUE  1024
#define TRIAL_SILENT_MS 5
#define TRIAL_ANSWER_MS 1000

static int share_port(int fd)
{
	int one = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0)
		return -errno;
	return 0;
}

/* An ordinary listener can do without: who comes from elsewhere is no program that waits. */
static int tie_to_lo(int fd, bool is_needed)
{
	if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) != 0 && is_needed)
		return -errno;
	return 0;
}

static int open_listener(const struct endpoint *at, int backlog, bool shared, int *out)
{
	int err, fd = sock_open(at, SOCK_STREAM);

	if (fd < 0)
		return fd;
	err = tie_to_lo(fd, shared);
	if (err == 0 && shared) {
		/*
		 * Without SO_REUSEPORT first: it would let us in beside another
		 * daemon of the same user.
		 */
		err = sock_bind(fd, at);
		close(fd);
		if (err)
			return err;
		fd = sock_open(at, SOCK_STREAM);
		if (fd < 0)
			return fd;
		err = tie_to_lo(fd, shared);
		if (err == 0)
			err = share_port(fd);
	}
	if (err == 0)
		err = sock_bind(fd, at);
	if (err == 0 && listen(fd, backlog) != 0)
		err = -errno;
	if (err)
		close(fd);
	else
		*out = fd;
	return err;
}

static int find_port(struct hold *hold, const struct port_range *range, uint32_t avoid, int backlog,
		     bool shared)
{
	uint32_t start;
	int err = -EADDRINUSE;

	if (getrandom(&start, sizeof(start), 0) != sizeof(start))
		return -EIO;
	for (uint32_t i = 0; i < PORT_TRIES && err == -EADDRINUSE; i++) {
		struct endpoint any = sock_endpoint(0, port_range_at(range, start % 65536 + i));

		/* Programs may still retransmit SYNs to a dead predecessor's port: let them fail.
		 */
		if (any.port == avoid)
			continue;
		err = open_listener(&any, backlog, shared, &hold->listener);
		hold->port = any.port;
	}
	return err;
}

/* ---- the trial ---- */

struct trial {
	int epoll, program, ours;
	struct endpoint at, local;
};

static int trial_wait(const struct trial *t, int timeout_ms)
{
	struct epoll_event event;
	int n;

	do
		n = epoll_wait(t->epoll, &event, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n <= 0 ? n : (int)event.events;
}

/* A program's socket in SYN_SENT; NULL or what went wrong. */
static const char *trial_begin(struct trial *t, const struct hold *hold)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET };
	struct endpoint any = sock_endpoint(INADDR_LOOPBACK, 0);
	int err;

	t->at = sock_endpoint(INADDR_LOOPBACK, hold->port);
	t->epoll = epoll_create1(EPOLL_CLOEXEC);
	t->program = sock_open(&any, SOCK_STREAM);
	t->ours = hold_socket(hold, INADDR_LOOPBACK);
	if (t->epoll < 0 || t->program < 0 || t->ours < 0)
		return "no sockets to try it with";
	if (sock_bind(t->program, &any) != 0 || sock_local(t->program, &t->local) != 0 ||
	    epoll_ctl(t->epoll, EPOLL_CTL_ADD, t->program, &event) != 0)
		return "a socket to try it with could not be set up";
	trial_wait(t, 0); /* the unconnected socket's own edge */
	err = sock_connect(t->program, &t->at);
	if (err != -EINPROGRESS)
		return err == 0 ? "a full accept queue takes connections here"
				: "a full accept queue refuses connections here";
	return NULL;
}

static const char *trial_meet(const struct trial *t)
{
	struct pollfd ready = { .fd = t->ours, .events = POLLOUT };
	int err = hold_meet(t->ours, &t->local);

	if (err == -EINPROGRESS && poll(&ready, 1, TRIAL_ANSWER_MS) == 1)
		err = hold_meet(t->ours, &t->local);
	return err ? "a simultaneous open does not complete" : NULL;
}

static int trial_error(const struct trial *t)
{
	socklen_t len = sizeof(int);
	int err = 0;

	return getsockopt(t->program, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : errno;
}

static const char *trial_completed(const struct trial *t)
{
	struct pollfd ready = { .fd = t->ours, .events = POLLIN };
	const char *bad = trial_meet(t);
	int events;
	char c;

	if (bad)
		return bad;
	events = trial_wait(t, TRIAL_ANSWER_MS);
	if (!(events & EPOLLOUT) || (events & (EPOLLERR | EPOLLHUP)) || trial_error(t) != 0)
		return "a completed connect is not reported to epoll";
	if (send(t->program, "x", 1, MSG_NOSIGNAL) != 1 || poll(&ready, 1, TRIAL_ANSWER_MS) != 1 ||
	    recv(t->ours, &c, 1, 0) != 1 || c != 'x')
		return "a completed connect carries no data";
	return NULL;
}

static const char *trial_refused(struct trial *t)
{
	const char *bad;
	int events;

	bad = trial_meet(t);
	if (bad)
		return bad;
	close(t->ours);
	t->ours = -1;
	/* A busy kernel may tell of the connection before its end. */
	do
		events = trial_wait(t, TRIAL_ANSWER_MS);
	while (events > 0 && !(events & EPOLLERR));
	if (events <= 0 || trial_error(t) == 0)
		return "a refused connect is not reported to epoll";
	return NULL;
}

static void trial_end(struct trial *t)
{
	if (t->program >= 0) {
		sock_reset_on_close(t->program);
		close(t->program);
	}
	if (t->ours >= 0)
		close(t->ours);
	if (t->epoll >= 0)
		close(t->epoll);
}

/* One completed, one refused; their silence is waited for together, since every start waits. */
static const char *try_out(const struct hold *hold)
{
	struct trial completed = { .epoll = -1, .program = -1, .ours = -1 }, refused = completed;
	const char *bad = trial_begin(&completed, hold);

	if (!bad)
		bad = trial_begin(&refused, hold);
	if (!bad && (trial_wait(&completed, TRIAL_SILENT_MS) != 0 || trial_wait(&refused, 0) != 0))
		bad = "a held connect does not stay silent";
	if (!bad)
		bad = trial_completed(&completed);
	if (!bad)
		bad = trial_refused(&refused);
	trial_end(&completed);
	trial_end(&refused);
	return bad;
}

/* ---- opening ---- */

static bool is_ready(int fd, short events)
{
	struct pollfd ready = { .fd = fd, .events = events };

	return poll(&ready, 1, TRIAL_ANSWER_MS) == 1 && (ready.revents & events);
}

/*
 * By a connection that nobody accepts. A busy kernel puts off what comes over lo, and
 * the queue is full only when the last packet of the handshake has been looked at.
 */
static bool fill_queue(struct hold *hold, const struct endpoint *lo)
{
	int err;

	hold->plug = sock_open(lo, SOCK_STREAM);
	if (hold->plug < 0)
		return false;
	err = sock_connect(hold->plug, lo);
	if (err == -EINPROGRESS && is_ready(hold->plug, POLLOUT))
		err = sock_connect(hold->plug, lo);
	return err == 0 && is_ready(hold->listener, POLLIN);
}

static const char *open_held(struct hold *hold, const struct port_range *range, uint32_t avoid)
{
	struct endpoint lo;
	int err = find_port(hold, range, avoid, 0, true);

	if (err) {
		log_debug("edge: no port for SYN hold: %s", strerror(-err));
		return "no listener on lo could be opened";
	}
	lo = sock_endpoint(INADDR_LOOPBACK, hold->port);
	if (!fill_queue(hold, &lo))
		return "the listener's queue could not be filled";
	return try_out(hold);
}

int hold_open(struct hold *hold, const struct port_range *range, uint32_t avoid, bool refuse)
{
	*hold = (struct hold){ .listener = -1, .plug = -1 };
	hold->why = refuse ? "switched off" : open_held(hold, range, avoid);
	hold->works = hold->why == NULL;
	if (hold->works)
		return 0;
	hold_close(hold);
	return find_port(hold, range, avoid, FALLBACK_QUEUE, false);
}

void hold_close(struct hold *hold)
{
	if (hold->plug >= 0) {
		sock_reset_on_close(hold->plug);
		close(hold->plug);
	}
	if (hold->listener >= 0)
		close(hold->listener);
	hold->plug = hold->listener = -1;
}

int hold_socket(const struct hold *hold, uint32_t peer_mirror)
{
	struct endpoint at = sock_endpoint(peer_mirror, hold->port);
	int err, one = 1, fd = sock_open(&at, SOCK_STREAM);

	if (fd < 0)
		return fd;
	err = share_port(fd);
	if (err == 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
		err = -errno;
	if (err == 0)
		err = sock_bind(fd, &at);
	if (err) {
		close(fd);
		return err;
	}
	sock_reset_on_close(fd);
	return fd;
}

int hold_meet(int fd, const struct endpoint *program)
{
	return sock_connect(fd, program);
}

/*
 * A socket in TIME_WAIT answers a SYN by an ACK of the old connection, which
 * the kernel resets on behalf of the new socket, and the reset ends the wait.
 * Only a listener at that port would take the SYN for a connect. On a busy
 * machine our FIN may still be under way, and the wait begins too late for us:
 * so most are ended, not all.
 */
void hold_end_wait(const struct hold *hold, int table, uint32_t peer_mirror,
		   const struct endpoint *program)
{
	struct endpoint ours = sock_endpoint(peer_mirror, hold->port);
	int err, fd;

	if (!hold->works || socktable_life(table, program, &ours) != SOCK_WAITING ||
	    socktable_taker(table, SOCK_STREAM, program) != TAKER_NONE)
		return;
	fd = hold_socket(hold, peer_mirror);
	if (fd < 0)
		return; /* the kernel ends it in a minute */
	err = sock_connect(fd, program);
	if (err != -EINPROGRESS)
		log_debug("edge: a port stays in TIME_WAIT: %s", strerror(-err));
	close(fd);
}
