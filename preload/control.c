/*
 * One exchange on a socket that lives only as long as the question.
 *
 * Keeping a connection would be cheaper, and would be the one descriptor that
 * closefrom(), fork() and sandboxes break. System calls are made directly:
 * libc's are cancellation points, and a thread cancelled here would leak the
 * socket; other preloaded libraries need not see them either.
 */
#include "preload/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "preload/explain.h"
#include "preload/shim.h"

static long retry(long (*call)(int fd, void *data, size_t len), int fd, void *data, size_t len)
{
	long r;

	do {
		r = call(fd, data, len);
	} while (r < 0 && errno == EINTR);
	return r;
}

static long do_connect(int fd, void *addr, size_t len)
{
	return syscall(SYS_connect, fd, addr, len);
}

static long do_send(int fd, void *data, size_t len)
{
	return syscall(SYS_sendto, fd, data, len, MSG_NOSIGNAL, NULL, 0);
}

static long do_receive(int fd, void *data, size_t len)
{
	return syscall(SYS_recvfrom, fd, data, len, 0, NULL, NULL);
}

/* Both ways in one piece: how long the answer is, or -errno. */
static long exchange(int fd, const void *question, size_t len, void *answer, size_t room)
{
	long n;

	if (retry(do_send, fd, (void *)question, len) != (long)len)
		return explain_unanswered("send", errno);
	n = retry(do_receive, fd, answer, room);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return -ETIMEDOUT;
	if (n < 0)
		return explain_unanswered("recv", errno);
	return n ? n : explain_unanswered("it hung up", 0);
}

static long ask(const void *question, size_t question_len, unsigned wait_s, void *answer,
		size_t room)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = wait_s };
	const char *path = shim_control_path();
	int saved = errno;
	long n;
	int fd;

	if (!path || strlen(path) >= sizeof(addr.sun_path))
		return -ENETUNREACH;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = (int)syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		errno = saved;
		return -ENOBUFS; /* no descriptor left */
	}
	syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (retry(do_connect, fd, &addr, sizeof(addr)) < 0)
		n = errno == EAGAIN ? -ETIMEDOUT : explain_unanswered("connect", errno);
	else
		n = exchange(fd, question, question_len, answer, room);
	syscall(SYS_close, fd);
	errno = saved;
	return n;
}

int control_ask(const struct ipc_request *request, unsigned wait_s, struct ipc_reply *reply)
{
	char in[sizeof(*reply) + 1]; /* one more: a longer answer is seen as such */
	long n = ask(request, sizeof(*request), wait_s, in, sizeof(in));

	if (n < 0)
		return (int)n;
	if (ipc_check_reply(in, (size_t)n, request->type, reply) < 0)
		return explain_unanswered("its answer is none", 0);
	return -reply->error;
}

int control_look_up(const struct ipc_lookup *question, unsigned wait_s, struct ipc_found *found)
{
	char in[sizeof(*found) + 1];
	long n = ask(question, sizeof(*question), wait_s, in, sizeof(in));

	if (n < 0)
		return (int)n;
	if (ipc_check_found(in, (size_t)n, found) < 0)
		return explain_unanswered("its answer is none", 0);
	return -found->error;
}
