/*
 * Datagrams from the mesh: who sent them, and to which of our addresses.
 *
 * The kernel writes into the program's own buffers, and a loopback sender is
 * translated there. A buffer too short for any INET address is replaced for
 * the call, since what was cut off cannot be asked for afterwards; in a
 * recvmmsg() such names stay as they are.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <linux/errqueue.h>
#include <linux/netlink.h>

#include "preload/address.h"
#include "preload/dial.h"
#include "preload/explain.h"
#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/netlink.h"
#include "preload/reply.h"
#include "preload/shim.h"
#ifdef MESHWRAP_TRACER
#include "preload/trace_netlink.h"
#include "preload/trace_task.h"
#endif
#include "shared/util.h"

#define MAX_MESSAGES 1024 /* UIO_MAXIOV: what the kernel takes in one call */
#define ADDED_MAX    4096 /* to a list whose length is asked for: 60 routes, say */

/*
 * A refused datagram: the program hears of it all the same, but the next one need not be lost. A
 * reset: of a dial that failed, perhaps, whose own error is wanted.
 */
static ssize_t check_refused(int fd, ssize_t result)
{
	if (__builtin_expect(result < 0 && errno == ECONNREFUSED, 0))
		dial_refused(fd);
	else if (__builtin_expect(result < 0 && errno == ECONNRESET, 0))
		dial_reset(fd);
	return result;
}

/* The name of a sender in a whole buffer. True: from the mesh, and *mesh is who. */
static bool translate_sender(const struct map *map, struct sockaddr *addr, socklen_t room,
			     socklen_t *len, struct endpoint *mesh)
{
	struct endpoint from;

	if (!reply_is_whole(addr, room, *len) || !reply_may_be_mesh(addr, *len) ||
	    endpoint_from_sockaddr(addr, *len, &from) < 0 || !sender_to_mesh(map, &from, mesh))
		return false;
	reply_write(map, mesh, addr->sa_family, addr, room, len);
	return true;
}

/* A local address in a control message, of a datagram from sender (or NULL: not the mesh). */
static bool translate_local(const struct map *map, const struct endpoint *sender,
			    struct ip_addr *ip)
{
	struct map_own own;
	uint32_t loopback;

	if (!loopback_of(ip, &loopback))
		return false;
	if (is_own_mirror(map, loopback, ip))
		return true;
	if (!sender || !map_own(map, !ip_is_v4(&sender->addr), &own))
		return false;
	*ip = own.addr;
	return true;
}

static bool show_as_v4(const struct map *map, struct ip_addr *ip, struct in_addr *out)
{
	if (!ip_is_v4(ip) && !map_v4_of_v6(map, ip, ip))
		return false;
	out->s_addr = htonl(ip_v4(ip));
	return true;
}

static void translate_pktinfo(const struct map *map, const struct endpoint *sender,
			      struct cmsghdr *c)
{
	struct in6_pktinfo info6;
	struct in_pktinfo info;
	struct ip_addr ip;

	if (c->cmsg_level == IPPROTO_IP) {
		memcpy(&info, CMSG_DATA(c), sizeof(info));
		ip = ip_from_v4(ntohl(info.ipi_addr.s_addr));
		if (translate_local(map, sender, &ip)) {
			show_as_v4(map, &ip, &info.ipi_addr);
			info.ipi_ifindex = MESHIF_INDEX;
		}
		ip = ip_from_v4(ntohl(info.ipi_spec_dst.s_addr));
		if (translate_local(map, sender, &ip))
			show_as_v4(map, &ip, &info.ipi_spec_dst);
		memcpy(CMSG_DATA(c), &info, sizeof(info));
	} else {
		memcpy(&info6, CMSG_DATA(c), sizeof(info6));
		memcpy(ip.byte, &info6.ipi6_addr, sizeof(ip.byte));
		if (translate_local(map, sender, &ip)) {
			memcpy(&info6.ipi6_addr, ip.byte, sizeof(ip.byte));
			info6.ipi6_ifindex = MESHIF_INDEX;
		}
		memcpy(CMSG_DATA(c), &info6, sizeof(info6));
	}
}

/* A socket address inside a control message: our own end, or who reported an error. */
static void translate_name(const struct map *map, const struct endpoint *sender,
			   unsigned char *name, size_t len)
{
	struct sockaddr_storage shown;
	struct endpoint ep;
	socklen_t full;

	if (len < sizeof(sa_family_t) || endpoint_from_sockaddr(name, (socklen_t)len, &ep) < 0)
		return;
	if (!translate_local(map, sender, &ep.addr) && !sender_to_mesh(map, &ep, &ep))
		return;
	full = mesh_sockaddr(map, &ep, ((struct sockaddr *)name)->sa_family, &shown);
	if (full && full <= len)
		memcpy(name, &shown, full);
}

static void translate_control(const struct map *map, const struct endpoint *sender,
			      struct msghdr *msg)
{
	const size_t err_len = sizeof(struct sock_extended_err);

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		bool v4 = c->cmsg_level == IPPROTO_IP, v6 = c->cmsg_level == IPPROTO_IPV6;
		size_t len = c->cmsg_len - CMSG_LEN(0);

		if ((v4 && c->cmsg_type == IP_PKTINFO && len >= sizeof(struct in_pktinfo)) ||
		    (v6 && c->cmsg_type == IPV6_PKTINFO && len >= sizeof(struct in6_pktinfo)))
			translate_pktinfo(map, sender, c);
		else if ((v4 && c->cmsg_type == IP_ORIGDSTADDR) ||
			 (v6 && c->cmsg_type == IPV6_ORIGDSTADDR))
			translate_name(map, sender, CMSG_DATA(c), len);
		else if (((v4 && c->cmsg_type == IP_RECVERR) ||
			  (v6 && c->cmsg_type == IPV6_RECVERR)) &&
			 len > err_len)
			translate_name(map, NULL, CMSG_DATA(c) + err_len, len - err_len);
	}
}

__attribute__((cold, noinline)) static void explain_received(int fd, const struct endpoint *mesh)
{
	struct explain e;

	explain_begin(&e, "receive", fd);
	explain_text(&e, ": from");
	explain_endpoint(&e, mesh);
	explain_end(&e);
}

/* A received message whose name buffer was room bytes. */
static void translate_message(const struct map *map, int fd, struct msghdr *msg, socklen_t room)
{
	struct endpoint mesh;
	bool known = room && msg->msg_name &&
		     translate_sender(map, msg->msg_name, room, &msg->msg_namelen, &mesh);

	if (msg->msg_control && msg->msg_controllen >= sizeof(struct cmsghdr))
		translate_control(map, known ? &mesh : NULL, msg);
	if (known && explain_is_on())
		explain_received(fd, &mesh);
}

#ifdef MESHWRAP_TRACER
/* How long the list is to be cannot be seen from outside: a guess. */
static ssize_t told_len(int fd, int flags, ssize_t n, size_t room)
{
	ssize_t told = n > 0 ? (ssize_t)netlink_told_len((size_t)n, room, flags) : n;

	return told > n && socket_lists_interfaces(fd) && shim_map() ? told : n;
}

/* The data and the list of buffers are the traced program's. */
static ssize_t show_interface(int fd, void *data, ssize_t n, size_t room)
{
	return trace_show_interface(fd, data, n, room);
}

static struct iovec first_buffer(const struct msghdr *msg)
{
	return trace_first_buffer(msg->msg_iov, msg->msg_iovlen);
}
#else
static struct iovec first_buffer(const struct msghdr *msg)
{
	return msg->msg_iovlen ? msg->msg_iov[0] : (struct iovec){ NULL, 0 };
}

/* What recv() says of the list that waits, of len bytes, with the mesh interface in it. */
static size_t len_with_mesh(int fd, const struct map *map, size_t len)
{
	const size_t room = len + ADDED_MAX;
	ssize_t n = -1;
	void *list = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (list == MAP_FAILED)
		return len;
	n = libc.recvfrom(fd, list, len, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
	if (n > 0 && (size_t)n == len && netlink_is_list(list, len))
		len = netlink_show_mesh(map, list, len, room);
	munmap(list, room);
	return len;
}

/*
 * Who asks how long the next list is, to make a buffer for it, is told exactly: some go on
 * reading until they have so much (UCX).
 */
static ssize_t told_len(int fd, int flags, ssize_t n, size_t room)
{
	const int asks = MSG_PEEK | MSG_TRUNC;
	char name[MAP_IFNAME_MAX];
	int saved = errno;
	ssize_t told;

	if (__builtin_expect((flags & asks) != asks || n <= (ssize_t)NLMSG_LENGTH(sizeof(int)),
			     1) ||
	    !socket_lists_interfaces(fd) || !meshif_name(shim_map(), name) ||
	    libc.if_nametoindex(name))
		return n;
	told = (ssize_t)len_with_mesh(fd, shim_map(), (size_t)n);
	errno = saved;
	return told > (ssize_t)room ? told : n;
}

/*
 * n bytes of whatever kind were received into room: perhaps the kernel's list of interfaces. What
 * a stream's reader throws away (MSG_TRUNC) is written nowhere, and needs no room.
 */
static ssize_t show_interface(int fd, void *data, ssize_t n, size_t room)
{
	char name[MAP_IFNAME_MAX];
	int saved = errno;

	if (__builtin_expect(n <= 0 || (size_t)n > room || !is_plausible(data) ||
				     !netlink_is_list(data, (size_t)n),
			     1) ||
	    !socket_lists_interfaces(fd) || !meshif_name(shim_map(), name) ||
	    libc.if_nametoindex(name))
		return n;
	errno = saved;
	return (ssize_t)netlink_show_mesh(shim_map(), data, (size_t)n, room);
}

#endif

/* The same for a call with flags, which may only ask how long the list is. */
static ssize_t show_list(int fd, int flags, void *data, ssize_t n, size_t room)
{
	ssize_t told = told_len(fd, flags, n, room);

	return told > n ? told : show_interface(fd, data, n, room);
}

#ifndef MESHWRAP_TRACER
SHIM_EXPORT(ssize_t, recv, (int fd, void *data, size_t n, int flags))
{
	ssize_t result = libc.recv ? libc.recv(fd, data, n, flags)
				   : libc.recvfrom(fd, data, n, flags, NULL, NULL);

	return show_list(fd, flags, data, check_refused(fd, result), n);
}

SHIM_EXPORT(ssize_t, __recv_chk, (int fd, void *data, size_t n, size_t size, int flags))
{
	if (n > size)
		return libc.__recv_chk(fd, data, n, size, flags); /* aborts */
	return shim_recv(fd, data, n, flags);
}
#endif

/* Only a list that lies in one piece, as everybody asks for it. */
static ssize_t show_in_message(int fd, struct msghdr *msg, ssize_t n, int flags)
{
	struct iovec first;
	ssize_t longer;

	if (n <= 0)
		return n;
	first = first_buffer(msg);
	longer = show_list(fd, flags, first.iov_base, n, first.iov_len);
	if ((size_t)longer > first.iov_len && longer > n)
		msg->msg_flags |= MSG_TRUNC;
	return longer;
}

/* recvfrom() with a short name buffer: the kernel gets ours. */
static ssize_t receive_short(int fd, struct iovec *iov, int flags, struct sockaddr *addr,
			     socklen_t *len)
{
	struct sockaddr_storage name;
	socklen_t full = sizeof(name), room = *len;
	const struct map *map = shim_map();
	struct endpoint mesh;
	ssize_t n = libc.recvfrom(fd, iov->iov_base, iov->iov_len, flags, (struct sockaddr *)&name,
				  &full);

	if (n < 0)
		return check_refused(fd, n);
	if (map && translate_sender(map, (struct sockaddr *)&name, sizeof(name), &full, &mesh) &&
	    explain_is_on())
		explain_received(fd, &mesh);
	memcpy(addr, &name, MIN(full, room));
	*len = full;
	return show_list(fd, flags, iov->iov_base, n, iov->iov_len);
}

SHIM_EXPORT(ssize_t, recvfrom,
	    (int fd, void *data, size_t n, int flags, struct sockaddr *addr, socklen_t *len))
{
	socklen_t room = reply_room(addr, len);
	struct iovec iov = { data, n };
	const struct map *map;
	struct endpoint mesh;
	ssize_t result;

	if (room && room < INET_ADDR_MAX && is_plausible(addr))
		return receive_short(fd, &iov, flags, addr, len);
	result = libc.recvfrom(fd, data, n, flags, addr, len);
	if (result >= 0 && room && (map = shim_map()) &&
	    translate_sender(map, addr, room, len, &mesh) && explain_is_on())
		explain_received(fd, &mesh);
	return show_list(fd, flags, data, check_refused(fd, result), n);
}

SHIM_EXPORT(ssize_t, __recvfrom_chk,
	    (int fd, void *data, size_t n, size_t size, int flags, struct sockaddr *addr,
	     socklen_t *len))
{
	if (n > size)
		return libc.__recvfrom_chk(fd, data, n, size, flags, addr, len); /* aborts */
	return shim_recvfrom(fd, data, n, flags, addr, len);
}

/* recvmsg() with a short name buffer: the kernel gets ours. */
static ssize_t receive_message_short(int fd, struct msghdr *msg, int flags)
{
	const struct map *map = shim_map();
	struct sockaddr_storage name;
	struct msghdr whole = *msg;
	ssize_t result;

	whole.msg_name = &name;
	whole.msg_namelen = sizeof(name);
	result = libc.recvmsg(fd, &whole, flags);
	if (result < 0)
		return check_refused(fd, result);
	if (map)
		translate_message(map, fd, &whole, sizeof(name));
	result = show_in_message(fd, &whole, result, flags);
	memcpy(msg->msg_name, &name, MIN(whole.msg_namelen, msg->msg_namelen));
	msg->msg_namelen = whole.msg_namelen;
	msg->msg_controllen = whole.msg_controllen;
	msg->msg_flags = whole.msg_flags;
	return result;
}

SHIM_EXPORT(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags))
{
	socklen_t room = is_plausible(msg) && is_plausible(msg->msg_name) ? msg->msg_namelen : 0;
	const struct map *map;
	ssize_t result;

	if (room && room < INET_ADDR_MAX)
		return receive_message_short(fd, msg, flags);
	result = libc.recvmsg(fd, msg, flags);
	if (result >= 0 && (map = shim_map()))
		translate_message(map, fd, msg, room);
	return result < 0 ? check_refused(fd, result) : show_in_message(fd, msg, result, flags);
}

/* A traced thread's messages are looked at when it has opened such a socket of late. */
static bool may_list(int fd)
{
#ifdef MESHWRAP_TRACER
	return fd == trace_current()->watched;
#else
	(void)fd;
	return true;
#endif
}

SHIM_EXPORT(int, recvmmsg,
	    (int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout))
{
	uint8_t room[MAX_MESSAGES];
	const struct map *map;
	int result;

	if (is_plausible(msgs))
		for (unsigned i = 0; i < MIN(count, MAX_MESSAGES); i++)
			room[i] = msgs[i].msg_hdr.msg_name
					  ? (uint8_t)MIN(msgs[i].msg_hdr.msg_namelen, 255u)
					  : 0;
	result = (int)check_refused(fd, libc.recvmmsg(fd, msgs, count, flags, timeout));
	if (result > 0 && (map = shim_map()))
		for (int i = 0; i < MIN(result, MAX_MESSAGES); i++)
			translate_message(map, fd, &msgs[i].msg_hdr, room[i]);
	for (int i = 0; i < result && may_list(fd); i++)
		msgs[i].msg_len = (unsigned)show_in_message(fd, &msgs[i].msg_hdr,
							    (ssize_t)msgs[i].msg_len, flags);
	return result;
}
