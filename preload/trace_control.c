/*
 * Asking the daemon on behalf of a traced program: the same exchange as in the
 * shim, but the tracer serves other threads while it waits. The program's
 * thread stays stopped; a signal for it comes when the answer has come.
 */
#include "preload/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "preload/explain.h"
#include "preload/shim.h"
#include "preload/trace_loop.h"
#include "preload/trace_task.h"
#include "shared/util.h"

#define AGAIN_NS (2 * NS_PER_MS) /* the daemon's queue is full */

static int connect_daemon(int fd, uint64_t deadline_ns)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const char *path = shim_control_path();

	if (!path || strlen(path) >= sizeof(addr.sun_path))
		return -ENETUNREACH;
	memcpy(addr.sun_path, path, strlen(path) + 1);
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		if (errno != EAGAIN)
			return explain_unanswered("connect", errno);
		if (trace_loop_now() >= deadline_ns)
			return -ETIMEDOUT;
		trace_task_wait(-1, trace_loop_now() + AGAIN_NS);
	}
	return 0;
}

/*
 * The daemon answers and closes. Where that happens between the kernel's looks for a message and
 * for the end, it says that this is the end; asked again, it has the message.
 */
static ssize_t receive(int fd, void *answer, size_t room)
{
	ssize_t n = recv(fd, answer, room, 0);

	return n ? n : recv(fd, answer, room, 0);
}

/* reply: NULL, there is none. */
static int exchange(int fd, const struct ipc_request *request, size_t len, uint64_t deadline_ns,
		    struct ipc_reply *reply)
{
	char in[sizeof(*reply) + 1]; /* one more: a longer answer is seen as such */
	ssize_t n;
	int err = connect_daemon(fd, deadline_ns);

	if (err < 0)
		return err;
	if (send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
		return explain_unanswered("send", errno);
	if (!reply)
		return 0;
	while ((n = receive(fd, in, sizeof(in))) < 0 && errno == EAGAIN) {
		if (trace_loop_now() >= deadline_ns)
			return -ETIMEDOUT;
		trace_task_wait(fd, deadline_ns);
	}
	if (n <= 0)
		return n < 0 ? explain_unanswered("recv", errno)
			     : explain_unanswered("it hung up", 0);
	if (ipc_check_reply(in, (size_t)n, request->type, reply) < 0)
		return explain_unanswered("its answer is none", 0);
	return -reply->error;
}

static int ask_daemon(const struct ipc_request *request, size_t len, unsigned wait_s,
		      struct ipc_reply *reply)
{
	struct trace_task *task = trace_current();
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err;

	if (fd < 0)
		return -ENOBUFS;
	task->question = fd;
	err = exchange(fd, request, len, trace_loop_now() + wait_s * NS_PER_S, reply);
	task->question = -1;
	close(fd);
	return err;
}

int control_ask(const struct ipc_request *request, unsigned wait_s, struct ipc_reply *reply)
{
	return ask_daemon(request, sizeof(*request), wait_s, reply);
}

int control_ask_patiently(const struct ipc_patience *request, unsigned wait_s,
			  struct ipc_reply *reply)
{
	return ask_daemon(&request->request, sizeof(*request), wait_s, reply);
}

int control_tell(const struct ipc_patience *patience, unsigned wait_s)
{
	return ask_daemon(&patience->request, sizeof(*patience), wait_s, NULL);
}

/* A traced thread goes where the answer says, in a call of its own. */
bool control_post(const struct ipc_post *post)
{
	(void)post;
	return false;
}
