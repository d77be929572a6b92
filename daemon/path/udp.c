/*
 * The UDP sockets of a node.
 *
 * Two sockets on one port, since a dual-stack socket would hide which family a
 * peer uses and is refused where IPv6 is off (open.c). Each receives into a few large
 * slots: with UDP_GRO one slot takes a whole train of datagrams from one sender,
 * which is cut again here, in place. A wake-up takes a bounded number of slots,
 * so that a flood cannot keep the loop from its other work, and it does not ask
 * again when the last answer left slots empty.
 *
 * Path MTU discovery is off, as in the kernel's WireGuard: what is too long for
 * a link travels as IP fragments instead of vanishing.
 */
#include "daemon/path/udp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/loop.h"
#include "daemon/path/open.h"
#include "daemon/path/udp_queue.h"
#include "shared/util.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SLOTS         16
#define SLOT_BYTES    65536
#define WAKE_UP_SLOTS 64
#define DATAGRAMS     256 /* given to the owner at once */
#define SOCKETS       2
#define UNREACHABLE   8 /* addresses told in one round of the loop */

union gro_control {
	struct cmsghdr align;
	uint8_t bytes[64];
};

struct udp_socket {
	struct udp_path *path;
	int fd;
	int family;
	struct event *readable, *writable;
	struct udp_queue *queue;
	bool is_waiting; /* until it is writable */
};

struct udp_path {
	struct loop *loop;
	struct udp_callbacks callbacks;
	void *owner;
	uint16_t port;
	struct udp_stats stats;
	bool is_blocked;
	struct udp_socket socket[SOCKETS]; /* IPv4, IPv6; fd -1: none */
	uint8_t *slots;
	struct mmsghdr message[SLOTS];
	struct iovec piece[SLOTS];
	struct sockaddr_storage address[SLOTS];
	union gro_control control[SLOTS];
	void (*unreachable)(void *owner, const struct endpoint *to);
	struct event *tell; /* of the addresses that cannot be sent to */
	struct endpoint unreachable_to[UNREACHABLE];
	unsigned unreachable_count;
	unsigned datagram_count;
	struct udp_datagram datagram[DATAGRAMS];
};

/* ---- receiving ---- */

static void deliver(struct udp_path *path)
{
	unsigned count = path->datagram_count;

	path->datagram_count = 0;
	if (count > 0)
		path->callbacks.received(path->owner, path->datagram, count);
}

static size_t segment_len_of(struct msghdr *m, size_t len)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int value;

		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO ||
		    c->cmsg_len < CMSG_LEN(sizeof(value)))
			continue;
		memcpy(&value, CMSG_DATA(c), sizeof(value));
		if (value > 0)
			return (size_t)value;
	}
	return len;
}

/* Cuts one slot into its datagrams. */
static void take_slot(struct udp_path *path, unsigned i)
{
	struct msghdr *m = &path->message[i].msg_hdr;
	size_t len = path->message[i].msg_len, segment_len = segment_len_of(m, len);
	uint8_t *bytes = path->slots + (size_t)i * SLOT_BYTES;
	struct endpoint from;

	if (m->msg_flags & MSG_TRUNC ||
	    endpoint_from_sockaddr(m->msg_name, m->msg_namelen, &from) < 0)
		return;
	path->stats.rx_bytes += len;
	for (size_t at = 0; at < len; at += segment_len) {
		if (path->datagram_count == DATAGRAMS)
			deliver(path);
		path->datagram[path->datagram_count++] =
			(struct udp_datagram){ bytes + at, (uint32_t)MIN(segment_len, len - at),
					       from };
		path->stats.rx_packets++;
	}
}

/* What the kernel has changed of them when it filled them. */
static void reset_slots(struct udp_path *path, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct msghdr *m = &path->message[i].msg_hdr;

		path->piece[i] = (struct iovec){ path->slots + (size_t)i * SLOT_BYTES, SLOT_BYTES };
		*m = (struct msghdr){ .msg_name = &path->address[i],
				      .msg_namelen = sizeof(path->address[i]),
				      .msg_iov = &path->piece[i],
				      .msg_iovlen = 1,
				      .msg_control = path->control[i].bytes,
				      .msg_controllen = sizeof(path->control[i].bytes) };
	}
}

static void socket_readable(evutil_socket_t fd, short events, void *arg)
{
	struct udp_socket *s = arg;
	struct udp_path *path = s->path;

	(void)events;
	for (unsigned taken = 0; taken < WAKE_UP_SLOTS; taken += SLOTS) {
		int n;

		n = recvmmsg(fd, path->message, SLOTS, MSG_DONTWAIT, NULL);
		path->stats.rx_calls++;
		/* An error is EAGAIN, or what some datagram of ours met: the next one is asked for.
		 */
		if (n < 0 && (errno == EAGAIN || errno == EBADF || errno == ENOMEM))
			return;
		for (int i = 0; i < n; i++)
			take_slot(path, (unsigned)i);
		reset_slots(path, n > 0 ? (unsigned)n : 0);
		deliver(path);
		if (n >= 0 && n < SLOTS)
			return;
	}
}

/* ---- sending ---- */

/* Tells the owner, and the loop, when a socket has become full or free. */
static void follow_blocking(struct udp_path *path)
{
	bool is_blocked = false;

	for (unsigned i = 0; i < SOCKETS; i++) {
		struct udp_socket *s = &path->socket[i];
		bool is_waiting = s->queue && udp_queue_is_blocked(s->queue);

		is_blocked |= is_waiting;
		if (is_waiting == s->is_waiting)
			continue;
		s->is_waiting = is_waiting;
		if (is_waiting)
			event_add(s->writable, NULL);
		else
			event_del(s->writable);
	}
	if (is_blocked == path->is_blocked)
		return;
	path->is_blocked = is_blocked;
	if (path->callbacks.blocked)
		path->callbacks.blocked(path->owner, is_blocked);
}

static void socket_writable(evutil_socket_t fd, short events, void *arg)
{
	struct udp_socket *s = arg;

	(void)fd;
	(void)events;
	udp_queue_retry(s->queue);
	follow_blocking(s->path);
}

void udp_path_send(struct udp_path *path, const struct endpoint *to, const uint8_t *bytes,
		   size_t len, size_t segment_len)
{
	struct udp_socket *s = &path->socket[ip_is_v4(&to->addr) ? 0 : 1];

	if (s->queue)
		udp_queue_add(s->queue, to, bytes, len, segment_len);
	else
		path->stats.tx_dropped++;
}

void udp_path_flush(struct udp_path *path)
{
	for (unsigned i = 0; i < SOCKETS; i++) {
		if (path->socket[i].queue)
			udp_queue_flush(path->socket[i].queue);
	}
	follow_blocking(path);
}

/* ---- sockets ---- */

static void socket_close(struct udp_socket *s)
{
	if (s->readable)
		event_free(s->readable);
	if (s->writable)
		event_free(s->writable);
	if (s->fd >= 0)
		close(s->fd);
	udp_queue_destroy(s->queue);
	*s = (struct udp_socket){ .fd = -1 };
}

/* What only makes things better; a kernel without it is no error. */
static void set_options(struct udp_socket *s)
{
	struct udp_stats *stats = &s->path->stats;
	int on = 1, mtu4 = IP_PMTUDISC_DONT, mtu6 = IPV6_PMTUDISC_DONT, value;
	socklen_t len = sizeof(value);

	if (s->family == AF_INET)
		(void)setsockopt(s->fd, IPPROTO_IP, IP_MTU_DISCOVER, &mtu4, sizeof(mtu4));
	else
		(void)setsockopt(s->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &mtu6, sizeof(mtu6));
	stats->gro = setsockopt(s->fd, SOL_UDP, UDP_GRO, &on, sizeof(on)) == 0;
	stats->gso = getsockopt(s->fd, SOL_UDP, UDP_SEGMENT, &value, &len) == 0;
}

static int socket_start(struct udp_socket *s)
{
	struct event_base *base = loop_base(s->path->loop);

	set_options(s);
	s->queue = udp_queue_create(s->fd, s->family, &s->path->stats);
	s->readable = event_new(base, s->fd, EV_READ | EV_PERSIST, socket_readable, s);
	s->writable = event_new(base, s->fd, EV_WRITE | EV_PERSIST, socket_writable, s);
	if (!s->queue || !s->readable || !s->writable || event_add(s->readable, NULL) != 0)
		return -ENOMEM;
	return 0;
}

int udp_path_create(struct loop *loop, uint16_t port, const struct udp_callbacks *callbacks,
		    void *owner, struct udp_path **out)
{
	struct udp_path *path = calloc(1, sizeof(*path));
	int err, v4, v6;

	if (!path)
		return -ENOMEM;
	path->loop = loop;
	path->callbacks = *callbacks;
	path->owner = owner;
	err = udp_open_both(port, &v4, &v6, &path->port);
	if (err < 0) {
		free(path);
		return err;
	}
	path->socket[0] = (struct udp_socket){ .path = path, .fd = v4, .family = AF_INET };
	path->socket[1] = (struct udp_socket){ .path = path, .fd = v6, .family = AF_INET6 };
	path->slots = malloc((size_t)SLOTS * SLOT_BYTES);
	err = path->slots ? 0 : -ENOMEM;
	if (err == 0)
		reset_slots(path, SLOTS);
	for (unsigned i = 0; i < SOCKETS && err == 0; i++) {
		if (path->socket[i].fd >= 0)
			err = socket_start(&path->socket[i]);
	}
	if (err < 0)
		goto fail;
	*out = path;
	return 0;
fail:
	udp_path_destroy(path);
	return err;
}

void udp_path_destroy(struct udp_path *path)
{
	if (!path)
		return;
	for (unsigned i = 0; i < SOCKETS; i++)
		socket_close(&path->socket[i]);
	if (path->tell)
		event_free(path->tell);
	free(path->slots);
	free(path);
}

static void note_unreachable(void *owner, const struct endpoint *to)
{
	struct udp_path *path = owner;

	for (unsigned i = 0; i < path->unreachable_count; i++) {
		if (endpoint_equal(&path->unreachable_to[i], to))
			return;
	}
	if (path->unreachable_count == UNREACHABLE)
		return;
	path->unreachable_to[path->unreachable_count++] = *to;
	event_active(path->tell, EV_TIMEOUT, 0);
}

static void tell_unreachable(evutil_socket_t fd, short events, void *arg)
{
	struct udp_path *path = arg;
	unsigned count = path->unreachable_count;
	struct endpoint to[UNREACHABLE];

	(void)fd;
	(void)events;
	memcpy(to, path->unreachable_to, sizeof(to));
	path->unreachable_count = 0;
	for (unsigned i = 0; i < count; i++)
		path->unreachable(path->owner, &to[i]);
}

int udp_path_on_unreachable(struct udp_path *path,
			    void (*unreachable)(void *owner, const struct endpoint *to))
{
	path->unreachable = unreachable;
	path->tell = event_new(loop_base(path->loop), -1, 0, tell_unreachable, path);
	if (!path->tell)
		return -ENOMEM;
	for (unsigned i = 0; i < SOCKETS; i++) {
		if (path->socket[i].queue)
			udp_queue_on_unreachable(path->socket[i].queue, note_unreachable, path);
	}
	return 0;
}

uint16_t udp_path_port(const struct udp_path *path)
{
	return path->port;
}

void udp_path_trim(struct udp_path *path)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)path->slots;
	uintptr_t end = (start + (size_t)SLOTS * SLOT_BYTES) & ~(page - 1);

	/* A hint. Nothing in the slots lives longer than a wake-up. */
	start = (start + page - 1) & ~(page - 1);
	(void)madvise((void *)start, end - start, MADV_DONTNEED);
}

void udp_path_get_stats(const struct udp_path *path, struct udp_stats *stats)
{
	*stats = path->stats;
}
