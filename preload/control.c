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
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/explain.h"
#include "preload/raw.h"
#include "preload/shim.h"

#define CHILD_STACK ((size_t)65536)

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
	return raw_syscall(SYS_connect, fd, addr, len);
}

static long do_send(int fd, void *data, size_t len)
{
	return raw_syscall(SYS_sendto, fd, data, len, MSG_NOSIGNAL, NULL, 0);
}

static long do_receive(int fd, void *data, size_t len)
{
	return raw_syscall(SYS_recvfrom, fd, data, len, 0, NULL, NULL);
}

/*
 * The daemon answers and closes. Where that happens between the kernel's looks for a message and
 * for the end, it says that this is the end; asked again, it has the message.
 */
static long receive(int fd, void *answer, size_t room)
{
	long n = retry(do_receive, fd, answer, room);

	return n ? n : retry(do_receive, fd, answer, room);
}

/* Both ways in one piece: how long the answer is, or -errno. Without room for one nobody waits. */
static long exchange(int fd, const void *question, size_t len, void *answer, size_t room)
{
	long n;

	if (retry(do_send, fd, (void *)question, len) != (long)len)
		return explain_unanswered("send", errno);
	if (room == 0)
		return 0;
	n = receive(fd, answer, room);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return -ETIMEDOUT;
	if (n < 0)
		return explain_unanswered("recv", errno);
	return n ? n : explain_unanswered("it hung up", 0);
}

struct errand {
	struct sockaddr_un to;
	const void *question;
	size_t len;
	void *answer;
	size_t room;
	unsigned wait_s;
	long result; /* how long the answer is, or -errno */
};

/* -EMFILE: not begun. */
static long run(const struct errand *e)
{
	struct timeval wait = { .tv_sec = e->wait_s };
	int fd = (int)raw_syscall(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	long n;

	if (fd < 0)
		return errno == EMFILE ? -EMFILE : -ENOBUFS;
	raw_syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	raw_syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (retry(do_connect, fd, (void *)&e->to, sizeof(e->to)) < 0)
		n = errno == EAGAIN ? -ETIMEDOUT : explain_unanswered("connect", errno);
	else
		n = exchange(fd, e->question, e->len, e->answer, e->room);
	raw_syscall(SYS_close, fd);
	return n;
}

/* Its table of descriptors is a copy, where one can be spared. */
static int run_in_child(void *arg)
{
	struct errand *e = arg;

	raw_syscall(SYS_close, STDIN_FILENO);
	e->result = run(e);
	return 0;
}

/*
 * The program has all descriptors it may have, and its connect() needs none. No signal comes
 * while a child uses our memory, and none when it ends: nobody else waits for it.
 */
static void run_by_child(struct errand *e)
{
	uint64_t all = ~UINT64_C(0), mask;
	void *stack =
		mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int pid;

	e->result = -ENOBUFS;
	if (stack == MAP_FAILED)
		return;
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
	pid = clone(run_in_child, (char *)stack + CHILD_STACK, CLONE_VM | CLONE_VFORK, e);
	while (pid > 0 && raw_syscall(SYS_wait4, pid, NULL, __WCLONE, NULL) < 0 && errno == EINTR)
		;
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
	munmap(stack, CHILD_STACK);
	if (e->result == -EMFILE)
		e->result = -ENOBUFS;
}

static long ask(const void *question, size_t len, unsigned wait_s, void *answer, size_t room)
{
	struct errand e = { { .sun_family = AF_UNIX }, question, len, answer, room, wait_s, 0 };
	const char *path = shim_control_path();
	int saved = errno;

	if (!path || strlen(path) >= sizeof(e.to.sun_path))
		return -ENETUNREACH;
	memcpy(e.to.sun_path, path, strlen(path) + 1);
	e.result = run(&e);
	if (e.result == -EMFILE)
		run_by_child(&e);
	errno = saved;
	return e.result;
}

static int ask_for_reply(const struct ipc_request *request, size_t len, unsigned wait_s,
			 struct ipc_reply *reply)
{
	char in[sizeof(*reply) + 1]; /* one more: a longer answer is seen as such */
	long n = ask(request, len, wait_s, in, sizeof(in));

	if (n < 0)
		return (int)n;
	if (ipc_check_reply(in, (size_t)n, request->type, reply) < 0)
		return explain_unanswered("its answer is none", 0);
	return -reply->error;
}

int control_ask(const struct ipc_request *request, unsigned wait_s, struct ipc_reply *reply)
{
	return ask_for_reply(request, sizeof(*request), wait_s, reply);
}

int control_ask_patiently(const struct ipc_patience *request, unsigned wait_s,
			  struct ipc_reply *reply)
{
	return ask_for_reply(&request->request, sizeof(*request), wait_s, reply);
}

int control_tell(const struct ipc_patience *patience, unsigned wait_s)
{
	return (int)ask(patience, sizeof(*patience), wait_s, NULL, 0);
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

/* A full queue, or none: who asks instead is told why, and waits where the daemon is slow. */
bool control_post(const struct ipc_post *post)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = shim_posts_path();
	int fd, saved = errno;
	long n;

	if (!path || strlen(path) >= sizeof(to.sun_path))
		return false;
	memcpy(to.sun_path, path, strlen(path) + 1);
	fd = (int)raw_syscall(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		errno = saved;
		return false;
	}
	n = raw_syscall(SYS_sendto, fd, post, sizeof(*post), MSG_NOSIGNAL | MSG_DONTWAIT, &to,
			sizeof(to));
	raw_syscall(SYS_close, fd);
	errno = saved;
	return n == (long)sizeof(*post);
}
