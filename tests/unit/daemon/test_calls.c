/* A sandbox that refuses a system call: which one is told before anything is begun. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cmocka.h>

#include "daemon/calls.h"
#include "shared/util.h"

/* For this process, from now on. */
static bool forbid(long number, int err)
{
	struct sock_filter refuse[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { ARRAY_LEN(refuse), refuse };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* 0, or the step that went wrong. */
static int named_when_refused(long number, int err, const char *name)
{
	char error[256] = "", wanted[64];

	if (!forbid(number, err))
		return 1;
	if (calls_check(error) != -err)
		return 2;
	snprintf(wanted, sizeof(wanted), "the system call %s is refused here (%s)", name,
		 strerror(err));
	return strncmp(error, wanted, strlen(wanted)) == 0 ? 0 : 3;
}

static void test_a_refused_call_is_named(void **state)
{
	static const struct {
		long number;
		const char *name;
	} calls[] = {
		{ SYS_accept4, "accept4" },
		{ SYS_eventfd2, "eventfd2" },
		{ SYS_getsockopt, "getsockopt" },
		{ SYS_recvmmsg, "recvmmsg" },
		{ SYS_sendmmsg, "sendmmsg" },
		{ SYS_timerfd_create, "timerfd_create" },
		{ SYS_timerfd_settime, "timerfd_settime" },
	};
	static const int errors[] = { EPERM, ENOSYS };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(calls) * ARRAY_LEN(errors); i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(named_when_refused(calls[i / 2].number, errors[i % 2],
						 calls[i / 2].name));
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status != 0)
			fail_msg("%s: %d", calls[i / 2].name, status);
	}
}

static void test_here_nothing_is_refused(void **state)
{
	char error[256] = "";
	int before = dup(STDERR_FILENO), after;

	(void)state;
	close(before);
	assert_int_equal(calls_check(error), 0);
	assert_string_equal(error, "");
	after = dup(STDERR_FILENO); /* and nothing is left open */
	assert_int_equal(after, before);
	close(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_refused_call_is_named),
		cmocka_unit_test(test_here_nothing_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
