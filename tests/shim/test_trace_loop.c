/*
 * The order in which a system tells of a traced call: Linux by its entry and then by the filter,
 * gVisor the other way round. And in which order threads are served.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>

#include <cmocka.h>

/* So that no compiler counts on what it does not do. */
static long fake_ptrace(int request, pid_t tid, ...);
static long (*volatile kernel)(int request, pid_t tid, ...) = fake_ptrace;
#define ptrace kernel

#include "preload/trace_loop.c"
#include "preload/trace_task.c"

#define TID          4000
#define STOP(event)  ((event) << 16 | SIGTRAP << 8 | 0x7f)
#define SYSCALL_STOP ((SIGTRAP | 0x80) << 8 | 0x7f)

static long shown_result; /* in the thread's registers */

static long fake_ptrace(int request, pid_t tid, ...)
{
	struct trace_regs regs = { 0 };
	struct iovec *iov;
	va_list args;

	(void)tid;
	if (request != PTRACE_GETREGSET)
		return 0;
	va_start(args, tid);
	va_arg(args, long);
	iov = va_arg(args, struct iovec *);
	va_end(args);
	trace_regs_set_result(&regs, shown_result);
	memcpy(iov->iov_base, &regs, iov->iov_len);
	return 0;
}

/* A call of ours that the filter stops, although nobody counted on that. */
static void test_a_call_of_ours_begins_once_where_the_filter_comes_first(void **state)
{
	struct trace_task *task = trace_task_get(TID);

	(void)state;
	assert_non_null(task);
	task->tgid = TID;
	task->nr = SYS_getsockopt;
	task->is_stopped_by_filter = trace_filter_stops(task->nr);
	task->phase = TRACE_STARTING;
	assert_false(task->is_stopped_by_filter);
	changed(task, STOP(PTRACE_EVENT_SECCOMP));
	assert_int_equal(task->phase, TRACE_INSIDE);
	shown_result = -ENOSYS;
	changed(task, SYSCALL_STOP);
	assert_int_equal(task->phase, TRACE_INSIDE); /* not its end */
	trace_task_destroy(task);
}

static void assert_noted(pid_t tid, int status)
{
	int seen = 0;
	struct trace_task *task = trace_task_noted(&seen);

	assert_non_null(task);
	assert_int_equal(task->tid, tid);
	assert_int_equal(seen, status);
}

static void test_who_was_noted_first_comes_first(void **state)
{
	int status;

	(void)state;
	assert_true(trace_task_note(TID, SYSCALL_STOP));
	assert_true(trace_task_note(TID + 1, SYSCALL_STOP));
	assert_true(trace_task_note(TID + 2, SYSCALL_STOP));
	assert_true(
		trace_task_note(TID, STOP(PTRACE_EVENT_EXEC))); /* of another thread, meanwhile */
	trace_task_destroy(trace_task_find(TID + 1));
	assert_noted(TID, STOP(PTRACE_EVENT_EXEC));
	assert_noted(TID + 2, SYSCALL_STOP);
	assert_null(trace_task_noted(&status));
	assert_true(trace_task_note(TID + 1, 0)); /* the end of one that is forgotten */
	assert_null(trace_task_noted(&status));
	trace_task_destroy(trace_task_find(TID));
	trace_task_destroy(trace_task_find(TID + 2));
	assert_int_equal(trace_task_count(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_call_of_ours_begins_once_where_the_filter_comes_first),
		cmocka_unit_test(test_who_was_noted_first_comes_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
