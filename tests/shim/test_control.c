/*
 * How the tracer asks the daemon, with a kernel that says what the test wants: the end of a
 * conversation before its last message, as Linux does when both come at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t scripted_recv(int fd, void *data, size_t len, int flags);
static int scripted_connect(int fd, const struct sockaddr *addr, socklen_t len);
static ssize_t scripted_send(int fd, const void *data, size_t len, int flags);
#define recv    scripted_recv
#define connect scripted_connect
#define send    scripted_send
#include "preload/trace_control.c"
#undef recv
#undef connect
#undef send

static const char *script; /* a letter a recv(): e the end, a EAGAIN, m the message */
static struct trace_task task;

static ssize_t scripted_recv(int fd, void *data, size_t len, int flags)
{
	struct ipc_reply reply = { .magic = IPC_MAGIC, .version = IPC_VERSION, .type = IPC_READY };

	(void)fd;
	(void)flags;
	assert_true(*script && len >= sizeof(reply));
	switch (*script++) {
	case 'e':
		return 0;
	case 'a':
		errno = EAGAIN;
		return -1;
	default:
		memcpy(data, &reply, sizeof(reply));
		return sizeof(reply);
	}
}

static int scripted_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)fd;
	(void)addr;
	(void)len;
	return 0;
}

static ssize_t scripted_send(int fd, const void *data, size_t len, int flags)
{
	(void)fd;
	(void)data;
	(void)flags;
	return (ssize_t)len;
}

const char *shim_posts_path(void)
{
	return "/nowhere";
}

const char *shim_control_path(void)
{
	return "/nowhere";
}

uint64_t trace_loop_now(void)
{
	return 1;
}

struct trace_task *trace_current(void)
{
	return &task;
}

void trace_task_wait(int fd, uint64_t deadline_ns)
{
	assert_true(fd >= 0 && deadline_ns > 1);
}

int explain_unanswered(const char *step, int error)
{
	(void)step;
	(void)error;
	return -ENETUNREACH;
}

static int ask(const char *steps)
{
	struct ipc_request request = { .type = IPC_READY };
	struct ipc_reply reply;
	int err;

	script = steps;
	err = control_ask(&request, 5, &reply);
	assert_int_equal(*script, 0);
	return err;
}

static void test_an_answer_behind_the_end_is_heard(void **state)
{
	(void)state;
	assert_int_equal(ask("m"), 0);
	assert_int_equal(ask("em"), 0);
	assert_int_equal(ask("aaem"), 0);
}

static void test_an_end_without_an_answer_is_no_daemon(void **state)
{
	(void)state;
	assert_int_equal(ask("aee"), -ENETUNREACH);
}

static void test_what_has_no_answer_is_not_waited_for(void **state)
{
	const struct ipc_patience patience = { .request = { .type = IPC_PATIENCE } };

	(void)state;
	script = "";
	assert_int_equal(control_tell(&patience, 5), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_answer_behind_the_end_is_heard),
		cmocka_unit_test(test_an_end_without_an_answer_is_no_daemon),
		cmocka_unit_test(test_what_has_no_answer_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
