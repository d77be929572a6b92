/*
 * The shim's table of real functions, as the tracer has it: each is made in the
 * thread that is being served, on copies of its arguments in that thread's slot.
 *
 * The shim's functions see memory of ours: addresses, message headers, control
 * messages and the list of buffers. Pointers to data (and, where something is
 * received, the list of buffers) stay the program's own; nobody here follows them.
 */
#include "preload/libc.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "preload/trace_memory.h"
#include "preload/trace_task.h"
#include "shared/util.h"

/* Bytes of a list of interfaces, so that there is room for the rest. */
#define INTERFACES_MAX (TRACE_OPEN_BYTES / sizeof(struct ifreq) / 2 * sizeof(struct ifreq))
#define ALIGN(n)       (((n) + 15) & ~(size_t)15)

/* Where the next argument goes in one half of the slot. */
struct area {
	unsigned long at, end;
};

struct areas {
	struct area sealed, open;
};

static long fail(long error)
{
	errno = (int)error;
	return -1;
}

static long make(long nr, enum trace_wait wait, const unsigned long args[static 6])
{
	long result = trace_remote(nr, args, wait);

	return result < 0 && result > -4096 ? fail(-result) : result;
}

#define CALL(nr, wait, ...) make(nr, wait, (unsigned long[6]){ __VA_ARGS__ })
#define UL(x)               ((unsigned long)(x))

static bool take_areas(struct areas *areas)
{
	const struct trace_slot *slot = &trace_current()->slot;
	int err = trace_take_slot();

	if (err < 0) {
		errno = -err;
		return false;
	}
	areas->sealed = (struct area){ slot->sealed, slot->sealed + TRACE_SEALED_BYTES };
	areas->open = (struct area){ slot->open, slot->open + TRACE_OPEN_BYTES };
	return true;
}

/* Room for n bytes; 0: full, with errno. */
static unsigned long reserve(struct area *area, size_t n)
{
	unsigned long at = area->at;

	if (ALIGN(n) > area->end - at) {
		errno = ENOBUFS;
		return 0;
	}
	area->at += ALIGN(n);
	return at;
}

/* Copies into the half the program cannot change; 0 on failure. */
static unsigned long put_sealed(struct areas *areas, const void *from, size_t n)
{
	unsigned long at = reserve(&areas->sealed, n);

	if (!at || trace_write_sealed(at, from, n))
		return at;
	errno = EFAULT;
	return 0;
}

static unsigned long put_open(struct areas *areas, const void *from, size_t n)
{
	unsigned long at = reserve(&areas->open, n);

	if (!at || trace_write(at, from, n))
		return at;
	errno = EFAULT;
	return 0;
}

static long with_address(long nr, int fd, const struct sockaddr *addr, socklen_t len)
{
	struct areas areas;
	unsigned long at;

	if (len > sizeof(struct sockaddr_storage))
		return fail(EINVAL);
	if (!take_areas(&areas))
		return -1;
	at = put_sealed(&areas, addr, len);
	return at ? CALL(nr, nr == SYS_connect ? TRACE_MAY_WAIT : TRACE_AT_ONCE, UL(fd), at, len)
		  : -1;
}

static int remote_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)with_address(SYS_connect, fd, addr, len);
}

static int remote_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)with_address(SYS_bind, fd, addr, len);
}

/* A place for an address of *len bytes and for its length. */
static bool put_reply(struct areas *areas, socklen_t room, unsigned long *at, unsigned long *len_at)
{
	*at = reserve(&areas->open, sizeof(struct sockaddr_storage));
	*len_at = *at ? put_open(areas, &room, sizeof(room)) : 0;
	return *len_at != 0;
}

static bool get_reply(unsigned long at, unsigned long len_at, void *to, socklen_t *len)
{
	socklen_t room = *len;

	return trace_read(len_at, len, sizeof(*len)) && trace_read(at, to, MIN(room, *len));
}

/* getsockname() and its like; fails with EFAULT only if the program unmapped our slot. */
static long with_reply(long nr, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	bool accepts = nr == SYS_accept4;
	struct areas areas;
	unsigned long at, len_at;
	long result;

	*len = MIN(*len, (socklen_t)sizeof(struct sockaddr_storage));
	if (!take_areas(&areas) || !put_reply(&areas, *len, &at, &len_at))
		return -1;
	result = CALL(nr, accepts ? TRACE_MAY_WAIT : TRACE_AT_ONCE, UL(fd), at, len_at, UL(flags));
	if (result < 0 || get_reply(at, len_at, addr, len))
		return result;
	if (accepts)
		CALL(SYS_close, TRACE_AT_ONCE, UL(result));
	return fail(EFAULT);
}

static int remote_accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	return (int)with_reply(SYS_accept4, fd, addr, len, flags);
}

static int remote_accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	return remote_accept4(fd, addr, len, 0);
}

static int remote_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)with_reply(SYS_getsockname, fd, addr, len, 0);
}

static int remote_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	return (int)with_reply(SYS_getpeername, fd, addr, len, 0);
}

static int remote_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	unsigned long at, len_at;
	struct areas areas;
	long result;

	if (!take_areas(&areas))
		return -1;
	at = reserve(&areas.open, *len);
	len_at = at ? put_open(&areas, len, sizeof(*len)) : 0;
	if (!len_at)
		return -1;
	result = CALL(SYS_getsockopt, TRACE_AT_ONCE, UL(fd), UL(level), UL(name), at, len_at);
	if (result < 0 || get_reply(at, len_at, value, len))
		return (int)result;
	return (int)fail(EFAULT);
}

static int remote_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	struct areas areas;
	unsigned long at = take_areas(&areas) ? put_open(&areas, value, len) : 0;

	if (!at)
		return -1;
	return (int)CALL(SYS_setsockopt, TRACE_AT_ONCE, UL(fd), UL(level), UL(name), at, len);
}

static ssize_t remote_sendto(int fd, const void *data, size_t n, int flags,
			     const struct sockaddr *addr, socklen_t len)
{
	struct areas areas;
	unsigned long at;

	if (len > sizeof(struct sockaddr_storage))
		return fail(EINVAL);
	at = take_areas(&areas) ? put_sealed(&areas, addr, len) : 0;
	return at ? CALL(SYS_sendto, TRACE_MAY_WAIT, UL(fd), UL(data), n, UL(flags), at, len) : -1;
}

/* The parts of a message that is sent; *msg then points to them in the program. */
static bool put_message(struct areas *areas, struct msghdr *msg)
{
	if (msg->msg_name) {
		msg->msg_name = (void *)put_sealed(areas, msg->msg_name, msg->msg_namelen);
		if (!msg->msg_name)
			return false;
	}
	if (msg->msg_control && msg->msg_controllen) {
		msg->msg_control = (void *)put_sealed(areas, msg->msg_control, msg->msg_controllen);
		if (!msg->msg_control)
			return false;
	}
	if (msg->msg_iovlen)
		msg->msg_iov = (void *)put_open(areas, msg->msg_iov,
						msg->msg_iovlen * sizeof(*msg->msg_iov));
	return !msg->msg_iovlen || msg->msg_iov;
}

static ssize_t send_message(int fd, const struct msghdr *msg, int flags, enum trace_wait wait)
{
	struct msghdr copy = *msg;
	struct areas areas;
	unsigned long at;

	if (!take_areas(&areas) || !put_message(&areas, &copy))
		return -1;
	at = put_sealed(&areas, &copy, sizeof(copy));
	return at ? CALL(SYS_sendmsg, wait, UL(fd), at, UL(flags)) : -1;
}

static ssize_t remote_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return send_message(fd, msg, flags, TRACE_MAY_WAIT);
}

/*
 * One by one: sendmmsg() writes lengths beside the pointers to the addresses,
 * so it cannot read them from memory that is sealed. Only the first may wait, and be
 * interrupted; a short count is an answer every caller must expect.
 */
static int remote_sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
	ssize_t n;

	for (unsigned i = 0; i < count; i++) {
		n = send_message(fd, &msgs[i].msg_hdr, flags,
				 flags & MSG_DONTWAIT ? TRACE_AT_ONCE : TRACE_MAY_WAIT);
		flags |= MSG_DONTWAIT;
		if (n < 0)
			return i ? (int)i : -1;
		msgs[i].msg_len = (unsigned)n;
	}
	return (int)count;
}

static ssize_t remote_recvfrom(int fd, void *data, size_t n, int flags, struct sockaddr *addr,
			       socklen_t *len)
{
	unsigned long at, len_at;
	struct areas areas;
	long result;

	*len = MIN(*len, (socklen_t)sizeof(struct sockaddr_storage));
	if (!take_areas(&areas) || !put_reply(&areas, *len, &at, &len_at))
		return -1;
	result = CALL(SYS_recvfrom, TRACE_MAY_WAIT, UL(fd), UL(data), n, UL(flags), at, len_at);
	return result < 0 || get_reply(at, len_at, addr, len) ? result : fail(EFAULT);
}

/* Room for the parts of a message to be received; *there is as the program's memory has it. */
static bool put_room(struct areas *areas, const struct msghdr *msg, struct msghdr *there)
{
	*there = *msg;
	if (msg->msg_name) {
		there->msg_name = (void *)reserve(&areas->open, msg->msg_namelen);
		if (!there->msg_name)
			return false;
	}
	if (msg->msg_control && msg->msg_controllen) {
		there->msg_control = (void *)reserve(&areas->open, msg->msg_controllen);
		if (!there->msg_control)
			return false;
	}
	return true;
}

/*
 * What the kernel wrote: there is the header it wrote to. Lengths lie where the program's other
 * threads can change them, and are believed as far as our own memory goes.
 */
static bool get_message(const struct msghdr *there, struct msghdr *msg)
{
	socklen_t room = msg->msg_namelen;
	size_t control = MIN(msg->msg_controllen, there->msg_controllen);

	if (msg->msg_name && !trace_read((unsigned long)there->msg_name, msg->msg_name,
					 MIN(room, there->msg_namelen)))
		return false;
	if (msg->msg_control &&
	    !trace_read((unsigned long)there->msg_control, msg->msg_control, control))
		return false;
	msg->msg_namelen = there->msg_namelen;
	msg->msg_controllen = control;
	msg->msg_flags = there->msg_flags;
	return true;
}

static ssize_t remote_recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct msghdr there;
	struct areas areas;
	unsigned long at;
	long result;

	if (!take_areas(&areas) || !put_room(&areas, msg, &there) ||
	    !(at = put_open(&areas, &there, sizeof(there))))
		return -1;
	result = CALL(SYS_recvmsg, TRACE_MAY_WAIT, UL(fd), at, UL(flags));
	if (result < 0)
		return result;
	return trace_read(at, &there, sizeof(there)) && get_message(&there, msg) ? result
										 : fail(EFAULT);
}

static int remote_recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags,
			   struct timespec *timeout)
{
	struct mmsghdr there[TRACE_MESSAGES];
	unsigned long headers, time_at = 0;
	struct areas areas;
	unsigned n;
	long result;

	count = MIN(count, TRACE_MESSAGES);
	if (!take_areas(&areas) || !(headers = reserve(&areas.open, sizeof(there))))
		return -1;
	if (timeout && !(time_at = put_open(&areas, timeout, sizeof(*timeout))))
		return -1;
	for (n = 0; n < count; n++) {
		there[n] = msgs[n];
		if (!put_room(&areas, &msgs[n].msg_hdr, &there[n].msg_hdr))
			break;
	}
	if ((n == 0 && count) || (n && !trace_write(headers, there, n * sizeof(*there))))
		return -1;
	result = CALL(SYS_recvmmsg, TRACE_MAY_WAIT, UL(fd), headers, n, UL(flags), time_at);
	if (timeout && !trace_read(time_at, timeout, sizeof(*timeout)))
		return (int)fail(EFAULT);
	if (result <= 0)
		return (int)result;
	if (!trace_read(headers, there, (size_t)result * sizeof(*there)))
		return (int)fail(EFAULT);
	for (long i = 0; i < result; i++) {
		msgs[i].msg_len = there[i].msg_len;
		if (!get_message(&there[i].msg_hdr, &msgs[i].msg_hdr))
			return (int)fail(EFAULT);
	}
	return (int)result;
}

/* A list of interfaces: the kernel writes it beside the structure that says where. */
static int list_interfaces(int fd, struct ifconf *list)
{
	struct ifconf there = *list;
	struct areas areas;
	unsigned long at;
	long result;
	int room = 0;

	if (!take_areas(&areas))
		return -1;
	if (list->ifc_buf) {
		room = there.ifc_len = MIN(list->ifc_len, (int)INTERFACES_MAX);
		there.ifc_buf = (char *)reserve(&areas.open, (size_t)there.ifc_len);
		if (!there.ifc_buf)
			return -1;
	}
	at = put_open(&areas, &there, sizeof(there));
	if (!at)
		return -1;
	result = CALL(SYS_ioctl, TRACE_AT_ONCE, UL(fd), SIOCGIFCONF, at);
	if (result < 0)
		return -1;
	if (!trace_read(at + offsetof(struct ifconf, ifc_len), &there.ifc_len,
			sizeof(there.ifc_len)) ||
	    (list->ifc_buf && (there.ifc_len < 0 || there.ifc_len > room)) ||
	    (list->ifc_buf && !trace_read(UL(there.ifc_buf), list->ifc_buf, (size_t)there.ifc_len)))
		return (int)fail(EFAULT);
	list->ifc_len = there.ifc_len;
	return (int)result;
}

/* Only the questions about interfaces come here. */
static int remote_ioctl(int fd, unsigned long request, void *arg)
{
	struct areas areas;
	unsigned long at;
	long result;

	if (request == SIOCGIFCONF)
		return list_interfaces(fd, arg);
	at = take_areas(&areas) ? put_open(&areas, arg, sizeof(struct ifreq)) : 0;
	if (!at)
		return -1;
	result = CALL(SYS_ioctl, TRACE_AT_ONCE, UL(fd), request, at);
	if (result < 0 || trace_read(at, arg, sizeof(struct ifreq)))
		return (int)result;
	return (int)fail(EFAULT);
}

#define REMOTE_MEMBER(ret, name, args) .name = remote_##name,
/* The tracer sees the interfaces its programs see. */
struct libc_calls libc = { LIBC_SOCKET_CALLS(REMOTE_MEMBER).ioctl = remote_ioctl,
			   .if_nametoindex = if_nametoindex };
#undef REMOTE_MEMBER

void libc_bind(void)
{
}
