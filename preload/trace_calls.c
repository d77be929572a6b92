/*
 * What a trapped call does: its arguments are copied once, the shim's own
 * function runs on the copies, and its answers are copied back.
 *
 * What decides over a destination (addresses, message headers, control messages)
 * is looked at on the copy only, and the kernel is given that copy, never
 * the program's memory again. Calls that only receive may be left to the kernel
 * as they stand, when they ask for no address.
 */
#include "preload/trace_calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

#include <linux/sockios.h>

#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/netlink.h"
#include "preload/trace_memory.h"
#include "preload/trace_netlink.h"
#include "preload/trace_task.h"
#include "shared/util.h"

#define MAX_CONTROL    4096u
#define MAX_BUFFERS    1024u /* UIO_MAXIOV */
#define MAX_BATCH      1024u /* the same, for messages */
#define OPTION_MAX     320u  /* bytes; more than the longest we know, struct group_source_req */
#define INTERFACES_MAX 256u

static long answer(long result)
{
	return result < 0 ? -errno : result;
}

/* ---- addresses that go in ---- */

static int take_address(unsigned long at, unsigned long len, struct sockaddr_storage *addr)
{
	if ((unsigned)len > sizeof(*addr))
		return -EINVAL;
	return trace_read(at, addr, (unsigned)len) ? 0 : -EFAULT;
}

static long run_connect(const unsigned long *a)
{
	struct sockaddr_storage addr;
	int err = take_address(a[1], a[2], &addr);

	return err ? err
		   : answer(shim_connect((int)a[0], (struct sockaddr *)&addr, (socklen_t)a[2]));
}

static long run_bind(const unsigned long *a)
{
	struct sockaddr_storage addr;
	int err = take_address(a[1], a[2], &addr);

	return err ? err : answer(shim_bind((int)a[0], (struct sockaddr *)&addr, (socklen_t)a[2]));
}

static long run_sendto(const unsigned long *a)
{
	struct sockaddr_storage addr;
	int err = take_address(a[4], a[5], &addr);

	return err ? err
		   : answer(shim_sendto((int)a[0], (void *)a[1], a[2], (int)a[3],
					(struct sockaddr *)&addr, (socklen_t)a[5]));
}

/* ---- addresses that come out ---- */

/* A buffer for an address as the program has it, and ours in its place. */
struct name {
	struct sockaddr_storage addr;
	unsigned long at, len_at;
	socklen_t room, len;
};

static int take_name(unsigned long at, unsigned long len_at, struct name *name)
{
	name->at = at;
	name->len_at = len_at;
	if (!trace_read(len_at, &name->room, sizeof(name->room)))
		return -EFAULT;
	if ((int)name->room < 0)
		return -EINVAL;
	name->room = MIN(name->room, (socklen_t)sizeof(name->addr));
	name->len = name->room;
	return 0;
}

static bool give_name(const struct name *name)
{
	return trace_write(name->at, &name->addr, MIN(name->room, name->len)) &&
	       trace_write(name->len_at, &name->len, sizeof(name->len));
}

static long run_accept4(const unsigned long *a, int flags)
{
	struct name name;
	int err = take_name(a[1], a[2], &name);
	int fd;

	if (err)
		return err;
	fd = shim_accept4((int)a[0], (struct sockaddr *)&name.addr, &name.len, flags);
	if (fd < 0 || give_name(&name))
		return answer(fd);
	trace_remote(SYS_close, (unsigned long[6]){ (unsigned long)fd }, TRACE_AT_ONCE);
	return -EFAULT;
}

static long run_name(const unsigned long *a, int (*get)(int fd, struct sockaddr *, socklen_t *))
{
	struct name name;
	int err = take_name(a[1], a[2], &name);

	if (err)
		return err;
	if (get((int)a[0], (struct sockaddr *)&name.addr, &name.len) < 0)
		return -errno;
	return give_name(&name) ? 0 : -EFAULT;
}

static long run_recvfrom(const unsigned long *a)
{
	struct name name;
	int err = take_name(a[4], a[5], &name);
	long result;

	if (err)
		return err;
	result = shim_recvfrom((int)a[0], (void *)a[1], a[2], (int)a[3],
			       (struct sockaddr *)&name.addr, &name.len);
	return result < 0 ? -errno : give_name(&name) ? result : -EFAULT;
}

static long run_getsockopt(const unsigned long *a)
{
	_Alignas(int) char value[OPTION_MAX] = "";
	socklen_t len, room;

	if (!trace_read(a[4], &len, sizeof(len)))
		return -EFAULT;
	if ((int)len < 0)
		return -EINVAL;
	room = len = MIN(len, (socklen_t)sizeof(value));
	if (shim_getsockopt((int)a[0], (int)a[1], (int)a[2], value, &len) < 0)
		return -errno;
	return trace_write(a[3], value, MIN(room, len)) && trace_write(a[4], &len, sizeof(len))
		       ? 0
		       : -EFAULT;
}

/* ---- interfaces ---- */

static long run_setsockopt(const unsigned long *a, bool *as_is)
{
	char value[OPTION_MAX];
	socklen_t len = (socklen_t)a[4];

	*as_is = !a[3] || len > sizeof(value);
	if (*as_is)
		return 0;
	if (!trace_read(a[3], value, len))
		return -EFAULT;
	return answer(shim_setsockopt((int)a[0], (int)a[1], (int)a[2], value, len));
}

static long list_interfaces(int fd, unsigned long at)
{
	char list[INTERFACES_MAX * sizeof(struct ifreq)];
	struct ifconf theirs, mine;

	if (!trace_read(at, &theirs, sizeof(theirs)))
		return -EFAULT;
	mine = theirs;
	if (theirs.ifc_buf) {
		if (theirs.ifc_len < 0)
			return -EINVAL;
		mine.ifc_buf = list;
		mine.ifc_len = MIN(theirs.ifc_len, (int)sizeof(list));
	}
	if (shim_ioctl(fd, SIOCGIFCONF, &mine) < 0)
		return -errno;
	if (theirs.ifc_buf &&
	    !trace_write((unsigned long)theirs.ifc_buf, list, (size_t)mine.ifc_len))
		return -EFAULT;
	return trace_write(at + offsetof(struct ifconf, ifc_len), &mine.ifc_len,
			   sizeof(mine.ifc_len))
		       ? 0
		       : -EFAULT;
}

static long run_ioctl(const unsigned long *a, bool *as_is)
{
	unsigned question = (unsigned)a[1];
	struct ifreq r;

	if (question == SIOCGIFCONF)
		return list_interfaces((int)a[0], a[2]);
	if (!meshif_is_question(question)) {
		*as_is = true;
		return 0;
	}
	if (!trace_read(a[2], &r, sizeof(r)))
		return -EFAULT;
	if (shim_ioctl((int)a[0], question, &r) < 0)
		return -errno;
	return trace_write(a[2], &r, sizeof(r)) ? 0 : -EFAULT;
}

/* One that can list interfaces: its answers are looked at, however they are read. */
static long run_socket(const unsigned long *a, struct trace_task *task)
{
	long fd = trace_remote(SYS_socket, a, TRACE_AT_ONCE);

	if (fd >= 0)
		trace_task_watch(task, (int)fd);
	return fd;
}

void trace_calls_received(void *arg)
{
	struct trace_task *task = arg;
	long n = task->watched_result;
	unsigned long a[6];
	int flags;

	trace_regs_args(&task->at_call, a);
	flags = trace_regs_nr(&task->at_call) == SYS_recvfrom ? (int)a[3] : 0;
	if (netlink_told_len((size_t)n, a[2], flags) > (size_t)n)
		n = (long)netlink_told_len((size_t)n, a[2], flags);
	else
		n = trace_show_interface((int)a[0], (void *)a[1], n, a[2]);
	trace_task_finish(task, n);
}

/* ---- messages ---- */

/* One message's parts in our memory. */
struct message {
	struct sockaddr_storage name;
	_Alignas(struct cmsghdr) char control[MAX_CONTROL];
};

static int take_message(struct msghdr *msg, struct message *copy, struct iovec *buffers,
			size_t room)
{
	if (msg->msg_name && (int)msg->msg_namelen < 0)
		return -EINVAL;
	msg->msg_namelen = msg->msg_name ? MIN(msg->msg_namelen, sizeof(copy->name)) : 0;
	if (!msg->msg_namelen)
		msg->msg_name = NULL;
	if (msg->msg_name &&
	    !trace_read((unsigned long)msg->msg_name, &copy->name, msg->msg_namelen))
		return -EFAULT;
	if (msg->msg_name)
		msg->msg_name = &copy->name;
	if (!msg->msg_control)
		msg->msg_controllen = 0;
	if (msg->msg_controllen > sizeof(copy->control))
		return -ENOBUFS;
	if (!trace_read((unsigned long)msg->msg_control, copy->control, msg->msg_controllen))
		return -EFAULT;
	msg->msg_control = msg->msg_controllen ? copy->control : NULL;
	if ((size_t)msg->msg_iovlen > MAX_BUFFERS)
		return -EMSGSIZE;
	if ((size_t)msg->msg_iovlen > room)
		return -ENOBUFS;
	if (!trace_read((unsigned long)msg->msg_iov, buffers,
			(size_t)msg->msg_iovlen * sizeof(*buffers)))
		return -EFAULT;
	msg->msg_iov = buffers;
	return 0;
}

static long run_sendmsg(const unsigned long *a)
{
	struct iovec buffers[MAX_BUFFERS];
	struct message copy;
	struct msghdr msg;
	int err;

	if (!trace_read(a[1], &msg, sizeof(msg)))
		return -EFAULT;
	err = take_message(&msg, &copy, buffers, MAX_BUFFERS);
	return err ? err : answer(shim_sendmsg((int)a[0], &msg, (int)a[2]));
}

/* Room for a batch; one message alone may have as many buffers as the kernel allows. */
struct batch {
	struct mmsghdr msgs[TRACE_MESSAGES], theirs[TRACE_MESSAGES];
	struct message copies[TRACE_MESSAGES];
	struct iovec buffers[MAX_BUFFERS];
};

/* Sends what of count messages at the program's at can be taken over; how many, or -errno. */
static long send_batch(int fd, unsigned long at, unsigned count, int flags, struct batch *b)
{
	size_t used = 0;
	unsigned n;
	int err = 0;
	long sent;

	if (!trace_read(at, b->msgs, count * sizeof(*b->msgs)))
		return -EFAULT;
	for (n = 0; n < count; n++) {
		err = take_message(&b->msgs[n].msg_hdr, &b->copies[n], b->buffers + used,
				   MAX_BUFFERS - used);
		if (err)
			break;
		used += b->msgs[n].msg_hdr.msg_iovlen;
	}
	if (n == 0 && err)
		return err;
	sent = shim_sendmmsg(fd, b->msgs, n, flags);
	for (long i = 0; i < sent; i++)
		if (!trace_write(at + (size_t)i * sizeof(*b->msgs) +
					 offsetof(struct mmsghdr, msg_len),
				 &b->msgs[i].msg_len, sizeof(b->msgs[i].msg_len)))
			return i ? i : -EFAULT;
	return answer(sent);
}

static long run_sendmmsg(const unsigned long *a)
{
	unsigned count = MIN((unsigned)a[2], MAX_BATCH), done = 0;
	int flags = (int)a[3];
	struct batch batch;
	long n;

	do {
		unsigned piece = MIN(count - done, TRACE_MESSAGES);

		n = send_batch((int)a[0], a[1] + done * sizeof(*batch.msgs), piece, flags, &batch);
		if (n < 0)
			return done ? (long)done : n;
		done += (unsigned)n;
		if (n < piece)
			break;
		flags |= MSG_DONTWAIT; /* what is sent must not be sent again after a signal */
	} while (done < count);
	return done;
}

/* Our memory in place of the program's, where something is to be translated. */
static int make_room(struct msghdr *msg, struct message *copy)
{
	if (msg->msg_name && (int)msg->msg_namelen < 0)
		return -EINVAL;
	if (msg->msg_name) {
		msg->msg_namelen = MIN(msg->msg_namelen, sizeof(copy->name));
		msg->msg_name = &copy->name;
	}
	msg->msg_controllen = MIN(msg->msg_controllen, sizeof(copy->control));
	if (msg->msg_control)
		msg->msg_control = copy->control;
	return 0;
}

/* The answers into the program's own message at; theirs is its header as it was. */
static bool give_message(unsigned long at, const struct msghdr *theirs, const struct msghdr *msg)
{
	struct msghdr out = *theirs;

	out.msg_flags = msg->msg_flags;
	out.msg_namelen = msg->msg_namelen;
	out.msg_controllen = msg->msg_controllen;
	if (theirs->msg_name &&
	    !trace_write((unsigned long)theirs->msg_name, msg->msg_name,
			 MIN(MIN(theirs->msg_namelen, sizeof(struct sockaddr_storage)),
			     msg->msg_namelen)))
		return false;
	return (!theirs->msg_control || trace_write((unsigned long)theirs->msg_control,
						    msg->msg_control, msg->msg_controllen)) &&
	       trace_write(at, &out, sizeof(out));
}

static long run_recvmsg(const unsigned long *a, bool *as_is)
{
	struct msghdr theirs, msg;
	struct message copy;
	long result;
	int err;

	if (!trace_read(a[1], &theirs, sizeof(theirs)))
		return -EFAULT;
	*as_is = !theirs.msg_name && (!theirs.msg_control || !theirs.msg_controllen) &&
		 (int)a[0] != trace_current()->watched;
	if (*as_is)
		return 0;
	msg = theirs;
	err = make_room(&msg, &copy);
	if (err)
		return err;
	result = shim_recvmsg((int)a[0], &msg, (int)a[2]);
	if (result < 0)
		return -errno;
	return give_message(a[1], &theirs, &msg) ? result : -EFAULT;
}

static long receive_batch(const unsigned long *a, struct batch *b, unsigned count,
			  struct timespec *timeout)
{
	unsigned long at = a[1];
	int err, n;

	memcpy(b->msgs, b->theirs, count * sizeof(*b->msgs));
	for (unsigned i = 0; i < count; i++) {
		err = make_room(&b->msgs[i].msg_hdr, &b->copies[i]);
		if (err)
			return err;
	}
	n = shim_recvmmsg((int)a[0], b->msgs, count, (int)a[3], timeout);
	for (int i = 0; i < n; i++, at += sizeof(*b->msgs))
		if (!give_message(at, &b->theirs[i].msg_hdr, &b->msgs[i].msg_hdr) ||
		    !trace_write(at + offsetof(struct mmsghdr, msg_len), &b->msgs[i].msg_len,
				 sizeof(b->msgs[i].msg_len)))
			return -EFAULT;
	return answer(n);
}

/* Fewer messages than asked for are an answer that every caller must expect. */
static long run_recvmmsg(const unsigned long *a)
{
	unsigned count = MIN((unsigned)a[2], TRACE_MESSAGES);
	struct timespec timeout;
	struct batch batch;
	long result;

	if (!trace_read(a[1], batch.theirs, count * sizeof(*batch.theirs)) ||
	    (a[4] && !trace_read(a[4], &timeout, sizeof(timeout))))
		return -EFAULT;
	result = receive_batch(a, &batch, count, a[4] ? &timeout : NULL);
	if (result >= 0 && a[4] && !trace_write(a[4], &timeout, sizeof(timeout)))
		return -EFAULT;
	return result;
}

static long run(long nr, const unsigned long *a, bool *as_is)
{
	switch (nr) {
	case SYS_connect:
		return run_connect(a);
	case SYS_bind:
		return run_bind(a);
#ifdef SYS_accept
	case SYS_accept:
		return run_accept4(a, 0);
#endif
	case SYS_accept4:
		return run_accept4(a, (int)a[3]);
	case SYS_getsockname:
		return run_name(a, shim_getsockname);
	case SYS_getpeername:
		return run_name(a, shim_getpeername);
	case SYS_getsockopt:
		return run_getsockopt(a);
	case SYS_setsockopt:
		return run_setsockopt(a, as_is);
	case SYS_ioctl:
		return run_ioctl(a, as_is);
	case SYS_socket:
		return run_socket(a, trace_current());
	case SYS_sendto:
		return run_sendto(a);
	case SYS_sendmsg:
		return run_sendmsg(a);
	case SYS_sendmmsg:
		return run_sendmmsg(a);
	case SYS_recvfrom:
		return run_recvfrom(a);
	case SYS_recvmsg:
		return run_recvmsg(a, as_is);
	case SYS_recvmmsg:
		return run_recvmmsg(a);
	}
	*as_is = true; /* a filter of the program's own asked for a tracer: we are not it */
	return 0;
}

void trace_calls_run(void *arg)
{
	struct trace_task *task = arg;
	long nr = trace_regs_nr(&task->at_call), result;
	unsigned long args[6];
	bool as_is = false;

	trace_regs_args(&task->at_call, args);
	result = run(nr, args, &as_is);
	if (as_is && task->phase == TRACE_ENTERED) {
		trace_task_as_is(task);
		return;
	}
	if (as_is)
		result = trace_remote(nr, args, TRACE_MAY_WAIT);
	trace_task_finish(task, result);
}
