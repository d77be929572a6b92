/*
 * Datagrams to the mesh: another destination, and our mirror as the source.
 *
 * A socket on the wildcard stays there; each datagram says its source by
 * IP_PKTINFO, which the kernel takes on AF_INET6 sockets too when the
 * destination is v4-mapped. What the caller put into his control messages is
 * copied in front, with mesh addresses translated. All scratch is on the stack
 * and bounded; sendmmsg() goes in pieces.
 *
 * An IPv6-only socket cannot send to a mirror: the daemon then stands for the
 * peer on ::1.
 *
 * On a stream the kernel ignores the name, except for MSG_FASTOPEN, which is
 * answered as where no cookie is known: connect, then send.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "preload/address.h"
#include "preload/dial.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/shim.h"
#include "preload/source.h"
#include "shared/util.h"

#define CONTROL_MAX 256
#define BATCH       8 /* half a kilobyte of the stack each */
#define LOOPBACK_V4 0x7f000001u

/* What the kernel sends at most, and of control messages, what it may take at all. */
#define KERNEL_DATA_MAX    ((size_t)0x7ffff000)
#define KERNEL_CONTROL_MAX ((size_t)1 << 20)

/* What a send needs to know of its socket, asked once a call. */
struct sender {
	int fd, type;
	struct socket_end local;
};

/* One translated message; msg points into name and control. */
struct outgoing {
	struct msghdr msg;
	struct sockaddr_storage name;
	union {
		struct cmsghdr align;
		char bytes[CONTROL_MAX];
	} control;
};

static int sender_look(int fd, struct sender *s)
{
	int err = socket_local(fd, &s->local);

	s->fd = fd;
	s->type = err < 0 ? err : socket_type(fd);
	return s->type < 0 ? s->type : 0;
}

static bool to_own_mirror(const struct map *map, const struct ip_addr *mesh, uint32_t *mirror)
{
	return map_to_mirror(map, mesh, mirror) == MAP_OWN;
}

/*
 * A caller's choice of source: mesh becomes mirror, or ::1 where that is the
 * destination. True if it names a source at all.
 */
static bool translate_source(const struct map *map, const struct endpoint *to, struct cmsghdr *c)
{
	struct in6_pktinfo info6;
	struct in_pktinfo info;
	struct ip_addr ip;
	uint32_t mirror;

	if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO &&
	    c->cmsg_len >= CMSG_LEN(sizeof(info))) {
		memcpy(&info, CMSG_DATA(c), sizeof(info));
		ip = ip_from_v4(ntohl(info.ipi_spec_dst.s_addr));
		if (to_own_mirror(map, &ip, &mirror)) {
			info.ipi_spec_dst.s_addr = htonl(mirror);
			info.ipi_ifindex = 0;
		} else if (info.ipi_ifindex == (int)MESHIF_INDEX) {
			info.ipi_ifindex = 0;
		}
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		return info.ipi_spec_dst.s_addr != 0;
	}
	if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO &&
	    c->cmsg_len >= CMSG_LEN(sizeof(info6))) {
		memcpy(&info6, CMSG_DATA(c), sizeof(info6));
		memcpy(ip.byte, &info6.ipi6_addr, sizeof(ip.byte));
		if (to_own_mirror(map, &ip, &mirror)) {
			ip = ip_is_v4(&to->addr) ? ip_from_v4(mirror) : to->addr;
			memcpy(&info6.ipi6_addr, ip.byte, sizeof(ip.byte));
			info6.ipi6_ifindex = 0;
		} else if (info6.ipi6_ifindex == MESHIF_INDEX) {
			info6.ipi6_ifindex = 0;
		}
		memcpy(CMSG_DATA(c), &info6, sizeof(info6));
		return !ip_is_any(&ip);
	}
	return false;
}

static void append_source(struct msghdr *msg, uint32_t mirror)
{
	struct in_pktinfo info = { .ipi_spec_dst.s_addr = htonl(mirror) };
	struct cmsghdr *c;

	c = (struct cmsghdr *)((char *)msg->msg_control + msg->msg_controllen);
	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info));
	memcpy(CMSG_DATA(c), &info, sizeof(info));
	msg->msg_controllen += CMSG_SPACE(sizeof(info));
}

/* The caller's control messages, translated, and mirror as the source unless he chose one. */
static int copy_control(const struct map *map, const struct msghdr *from, const struct endpoint *to,
			uint32_t mirror, struct outgoing *out)
{
	size_t len = from->msg_controllen;
	size_t own = mirror ? CMSG_SPACE(sizeof(struct in_pktinfo)) : 0;
	bool chosen = false;

	if (len > 0 && len <= KERNEL_CONTROL_MAX && !is_plausible(from->msg_control))
		return -EFAULT;
	if (len < sizeof(struct cmsghdr)) /* as the kernel has it, nothing */
		len = 0;
	if (len > sizeof(out->control) || CMSG_ALIGN(len) + own > sizeof(out->control))
		return -ENOBUFS;
	memset(&out->control, 0, sizeof(out->control));
	if (len)
		memcpy(out->control.bytes, from->msg_control, len);
	out->msg.msg_control = out->control.bytes;
	out->msg.msg_controllen = len;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&out->msg); c; c = CMSG_NXTHDR(&out->msg, c))
		chosen |= translate_source(map, to, c);
	out->msg.msg_controllen = CMSG_ALIGN(len);
	if (own && !chosen)
		append_source(&out->msg, mirror);
	return 0;
}

/* Which mirror must be named as the source: 0 none, the socket has one. */
static int choose_source(const struct sender *s, const struct route *route, struct endpoint *local,
			 uint32_t *mirror)
{
	struct ip_addr mesh;
	struct map_own own;
	uint32_t loopback;

	*mirror = 0;
	*local = s->local.ep;
	if (ip_is_any(&local->addr)) {
		if (!route_own(route, &own))
			return -ENETUNREACH;
		*mirror = own.mirror;
		local->addr = ip_from_v4(own.mirror);
		return 0;
	}
	if (route->kind == ROUTE_OWN || route->kind == ROUTE_SERVER)
		return 0; /* both are at home: any address of this machine will do */
	if (loopback_of(&local->addr, &loopback) && (loopback == LOOPBACK_V4 || loopback == 0 ||
						     is_own_mirror(route->map, loopback, &mesh)))
		return 0;
	return -ENETUNREACH;
}

/* from as the kernel must get it. 0 or -errno for the program. */
static int translate(const struct sender *s, const struct msghdr *from, const struct route *route,
		     struct outgoing *out)
{
	bool v6only = s->local.family == AF_INET6 && !ip_is_v4(&route->mesh.addr) &&
		      (source_is_v6only(s->fd) || source_is_outside_v6(&s->local.ep));
	struct endpoint local, to;
	uint32_t mirror;
	int err;

	if (route->kind == ROUTE_CLOSED)
		return -route->error;
	err = choose_source(s, route, &local, &mirror);
	if (!err)
		err = source_datagram_target(route, &local, v6only, &to);
	if (err < 0)
		return err;
	if (!ip_is_v4(&to.addr))
		mirror = 0; /* to ::1, where only ::1 is a source */
	out->msg = *from;
	out->msg.msg_name = &out->name;
	out->msg.msg_namelen = endpoint_to_sockaddr(&to, s->local.family, &out->name);
	if (out->msg.msg_namelen == 0)
		return -ENETUNREACH;
	return copy_control(route->map, from, &to, mirror, out);
}

static ssize_t fail(int error)
{
	errno = error;
	return -1;
}

static sa_family_t named_family(const struct msghdr *msg)
{
	return ((const struct sockaddr *)msg->msg_name)->sa_family;
}

static ssize_t send_stream(int fd, const struct msghdr *msg, int flags, const struct route *route)
{
	struct msghdr plain = *msg;

	if (!(flags & MSG_FASTOPEN) || named_family(msg) == AF_UNSPEC)
		return libc.sendmsg(fd, msg, flags);
	if (dial(fd, msg->msg_name, msg->msg_namelen, route) < 0)
		return -1;
	plain.msg_name = NULL;
	plain.msg_namelen = 0;
	return libc.sendmsg(fd, &plain, flags & ~MSG_FASTOPEN);
}

/* A family the socket does not take; on an IPv6 one, AF_UNSPEC is no name at all. */
static bool is_refused_family(const struct sender *s, const struct msghdr *msg)
{
	if (named_family(msg) == AF_UNSPEC)
		return s->local.family != AF_INET;
	return s->local.family == AF_INET && named_family(msg) != AF_INET;
}

/* out NULL: it was not sent, because of error. */
__attribute__((cold, noinline)) static void explain_sent(int fd, const struct route *route,
							 const struct outgoing *out, int error)
{
	struct endpoint to;
	struct explain e;

	explain_begin(&e, "send", fd);
	explain_endpoint(&e, &route->mesh);
	if (out && endpoint_from_sockaddr(out->msg.msg_name, out->msg.msg_namelen, &to) == 0)
		explain_mirror(&e, &to);
	explain_result(&e, error);
	explain_end(&e);
}

static ssize_t send_routed(int fd, const struct msghdr *msg, int flags, const struct route *route)
{
	struct outgoing out;
	struct sender s;
	int err = sender_look(fd, &s);
	ssize_t sent;

	if (err < 0)
		return fail(-err);
	if (s.type == SOCK_STREAM)
		return send_stream(fd, msg, flags, route);
	if (s.local.family != AF_INET && s.local.family != AF_INET6)
		return libc.sendmsg(fd, msg, flags);
	if (s.type != SOCK_DGRAM && route->kind != ROUTE_SERVER)
		return fail(ENETUNREACH); /* raw packets do not pass the mirror */
	if (s.type != SOCK_DGRAM || is_refused_family(&s, msg))
		return libc.sendmsg(fd, msg, flags);
	err = translate(&s, msg, route, &out);
	if (err < 0 && route->kind == ROUTE_SERVER)
		return libc.sendmsg(fd, msg, flags); /* to the server itself */
	sent = err < 0 ? fail(-err) : libc.sendmsg(fd, &out.msg, flags);
	if (explain_is_on())
		explain_sent(fd, route, err < 0 ? NULL : &out, sent < 0 ? errno : 0);
	return sent;
}

__attribute__((cold, noinline)) static void
explain_outside(const char *call, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct explain e;

	explain_begin(&e, call, fd);
	explain_address(&e, addr, len);
	explain_left_alone(&e, addr, len);
	explain_end(&e);
}

/* What was to leave this machine, if addr is an address at all, and how that went. */
static inline ssize_t left(int fd, const struct sockaddr *addr, socklen_t len, ssize_t result)
{
	struct endpoint to;

	if (__builtin_expect(result < 0 && errno == EINVAL, 0) && is_plausible(addr) &&
	    len <= sizeof(struct sockaddr_storage) && endpoint_from_sockaddr(addr, len, &to) == 0)
		errno = source_explain_invalid(fd);
	return result;
}

/* Where a datagram goes. For an IPv4 socket an address without a family is one of its own. */
static inline enum route_kind find_destination(const struct sockaddr *addr, socklen_t len,
					       struct route *route)
{
	enum route_kind kind = route_find(addr, len, route);
	struct sockaddr_in in;

	if (kind != ROUTE_OUTSIDE || len < sizeof(in) || len > sizeof(struct sockaddr_storage) ||
	    !is_plausible(addr) || __builtin_expect(addr->sa_family != AF_UNSPEC, 1))
		return kind;
	memcpy(&in, addr, sizeof(in));
	in.sin_family = AF_INET;
	return route_find((struct sockaddr *)&in, sizeof(in), route);
}

SHIM_EXPORT(ssize_t, sendto,
	    (int fd, const void *data, size_t n, int flags, const struct sockaddr *addr,
	     socklen_t len))
{
	struct iovec iov = { (void *)data, MIN(n, KERNEL_DATA_MAX) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct route route;

	if (__builtin_expect(!addr || find_destination(addr, len, &route) == ROUTE_OUTSIDE, 1)) {
		if (explain_is_on() && addr)
			explain_outside("sendto", fd, addr, len);
		return left(fd, addr, len, libc.sendto(fd, data, n, flags, addr, len));
	}
	msg.msg_name = (void *)addr;
	msg.msg_namelen = len;
	return send_routed(fd, &msg, flags, &route);
}

static bool is_outside(const struct msghdr *msg, struct route *route)
{
	socklen_t len;

	if (!is_plausible(msg) || !msg->msg_name)
		return true;
	len = msg->msg_namelen;
	if ((int)len >= 0) /* else the kernel refuses it; a longer one it cuts off */
		len = MIN(len, (socklen_t)sizeof(struct sockaddr_storage));
	return find_destination(msg->msg_name, len, route) == ROUTE_OUTSIDE;
}

static ssize_t left_message(int fd, const struct msghdr *msg, ssize_t result)
{
	return is_plausible(msg) ? left(fd, msg->msg_name, msg->msg_namelen, result) : result;
}

SHIM_EXPORT(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags))
{
	struct route route;

	if (__builtin_expect(is_outside(msg, &route), 1)) {
		if (explain_is_on() && is_plausible(msg) && msg->msg_name)
			explain_outside("sendmsg", fd, msg->msg_name, msg->msg_namelen);
		return left_message(fd, msg, libc.sendmsg(fd, msg, flags));
	}
	return send_routed(fd, msg, flags, &route);
}

/* Fills batch from msgs until one cannot be sent, whose -errno is then in *error. */
static unsigned translate_batch(const struct sender *s, const struct mmsghdr *msgs, unsigned count,
				struct mmsghdr *batch, struct outgoing *out, int *error)
{
	struct route route;
	unsigned n;

	*error = 0;
	for (n = 0; n < count && n < BATCH; n++) {
		batch[n] = msgs[n];
		if (is_outside(&msgs[n].msg_hdr, &route) || is_refused_family(s, &msgs[n].msg_hdr))
			continue;
		*error = translate(s, &msgs[n].msg_hdr, &route, &out[n]);
		if (*error < 0 && route.kind == ROUTE_SERVER) {
			*error = 0;
			continue; /* to the server itself */
		}
		if (explain_is_on())
			explain_sent(s->fd, &route, *error < 0 ? NULL : &out[n], -*error);
		if (*error < 0)
			break;
		batch[n].msg_hdr = out[n].msg;
	}
	return n;
}

static int send_batches(const struct sender *s, struct mmsghdr *msgs, unsigned count, int flags)
{
	struct mmsghdr batch[BATCH];
	struct outgoing out[BATCH];
	unsigned sent = 0, n;
	int error, result;

	while (sent < count) {
		n = translate_batch(s, msgs + sent, count - sent, batch, out, &error);
		if (n == 0)
			return sent ? (int)sent : (int)fail(-error);
		result = libc.sendmmsg(s->fd, batch, n, flags);
		if (result < 0)
			return sent ? (int)sent : -1;
		for (int i = 0; i < result; i++)
			msgs[sent + (unsigned)i].msg_len = batch[i].msg_len;
		sent += (unsigned)result;
		if ((unsigned)result < n)
			break;
	}
	return (int)sent;
}

/* It connects, and the next could not; fewer than asked for are an answer. */
static int send_first(int fd, struct mmsghdr *msgs, int flags)
{
	ssize_t n = shim_sendmsg(fd, &msgs->msg_hdr, flags);

	if (n < 0)
		return -1;
	msgs->msg_len = (unsigned)n;
	return 1;
}

SHIM_EXPORT(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned count, int flags))
{
	struct sender s;
	struct route route;
	unsigned i = 0;

	count = MIN(count, 1024u); /* as the kernel does */
	if (is_plausible(msgs))
		while (i < count && is_outside(&msgs[i].msg_hdr, &route))
			i++;
	else
		i = count;
	if (__builtin_expect(i == count, 1))
		return (int)left_message(fd, count ? &msgs->msg_hdr : NULL,
					 libc.sendmmsg(fd, msgs, count, flags));
	if (sender_look(fd, &s) == 0 && s.type == SOCK_STREAM && (flags & MSG_FASTOPEN))
		return send_first(fd, msgs, flags);
	if (s.type < 0 || s.type == SOCK_STREAM ||
	    (s.local.family != AF_INET && s.local.family != AF_INET6))
		return libc.sendmmsg(fd, msgs, count, flags);
	if (s.type != SOCK_DGRAM && route.kind == ROUTE_SERVER)
		return libc.sendmmsg(fd, msgs, count, flags);
	if (s.type != SOCK_DGRAM)
		return (int)fail(ENETUNREACH);
	return send_batches(&s, msgs, count, flags);
}
