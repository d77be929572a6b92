/*
 * How a program comes under trace.
 *
 * The program keeps the process it was started as, with its process id, parent,
 * terminal and exit status; the tracer is a process beside it, as strace -D has
 * it. So nothing has to be forwarded, and who kills the program kills it.
 *
 *   meshrun ---- becomes the program
 *      \- (ends at once) - watcher - tracer
 *
 * The tracer has a session of its own, so that a terminal's keys do not reach
 * it, and ends with the last program. The watcher is there for the one case in
 * which the tracer is killed: its programs then die with it, and somebody has to say why.
 * Both let go of standard error when the program has ended, since whoever reads it waits for that.
 */
#include "preload/trace.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/meshrun.h"
#include "preload/trace_filter.h"
#include "preload/trace_loop.h"
#include "preload/trace_regs.h"
#include "shared/util.h"

static int program_has_ended = -1; /* the tracer's end of a pipe to the watcher */

/* From first on, up to last; Linux before 5.9 has no call for that. */
static void close_some(unsigned first, unsigned last)
{
	struct dirent *entry;
	DIR *dir;

	if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
		return;
	dir = opendir("/proc/self/fd");
	while (dir && (entry = readdir(dir))) {
		unsigned fd = (unsigned)atoi(entry->d_name);

		if (*entry->d_name != '.' && fd >= first && fd <= last && (int)fd != dirfd(dir))
			close((int)fd);
	}
	if (dir)
		closedir(dir);
}

/* Nothing of the program's is kept open, except standard error. */
static void close_all_but(int a, int b)
{
	unsigned low = (unsigned)MIN(a, b), high = (unsigned)MAX(a, b);

	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	close_some(STDERR_FILENO + 1, low - 1);
	close_some(low + 1, high - 1);
	close_some(high + 1, ~0u);
}

/* One for each call that waits for the daemon; the soft limit is often 1,024 only. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* then fewer calls wait at once */
}

static void first_ended(void)
{
	ssize_t n = write(program_has_ended, "e", 1);

	(void)n; /* the watcher is gone: then nobody will complain */
	close(program_has_ended);
	close(STDERR_FILENO);
}

static void __attribute__((noreturn)) be_tracer(pid_t program, int link)
{
	int32_t word = getpid();
	char go;

	prctl(PR_SET_NAME, "meshrun-trace");
	raise_descriptor_limit();
	if (send(link, &word, sizeof(word), MSG_NOSIGNAL) != sizeof(word) ||
	    recv(link, &go, 1, 0) != 1)
		_exit(EXIT_NO_MESH);
	word = ptrace(PTRACE_SEIZE, program, 0, TRACE_OPTIONS) < 0 ? errno : 0;
	if (send(link, &word, sizeof(word), MSG_NOSIGNAL) != sizeof(word) || word)
		_exit(EXIT_NO_MESH);
	close(link);
	word = trace_loop_run(program, first_ended);
	if (word)
		complain("the tracer has ended, and its programs with it: %s", strerror(-word));
	_exit(word ? EXIT_NO_MESH : 0);
}

static void __attribute__((noreturn)) be_watcher(pid_t tracer, int ended)
{
	int status = 0;
	char byte;

	close_all_but(ended, ended);
	prctl(PR_SET_NAME, "meshrun-watch");
	if (read(ended, &byte, 1) == 1)
		close(STDERR_FILENO);
	waitpid(tracer, &status, 0);
	if (WIFSIGNALED(status))
		complain("the process that keeps this program on the mesh was killed (signal %d), "
			 "and the program ended with it",
			 WTERMSIG(status));
	_exit(0);
}

/* The errno that stands in the way, instead of the tracer's process id. */
static void __attribute__((noreturn)) give_up(int link)
{
	int32_t word = -errno;
	ssize_t n = send(link, &word, sizeof(word), MSG_NOSIGNAL);

	(void)n; /* then the program has gone */
	_exit(EXIT_NO_MESH);
}

/* In the child that ends at once. */
static void __attribute__((noreturn)) start_tracer(pid_t program, int link)
{
	sigset_t all;
	int ended[2];
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	signal(SIGCHLD, SIG_DFL); /* ignored, it would not tell of stops */
	setsid();
	pid = fork();
	if (pid > 0)
		_exit(0);
	if (pid < 0 || chdir("/") < 0 || pipe(ended) < 0)
		give_up(link);
	pid = fork();
	if (pid < 0)
		give_up(link);
	if (pid > 0)
		be_watcher(pid, ended[0]);
	close_all_but(link, ended[1]);
	program_has_ended = ended[1];
	be_tracer(program, link);
}

/* A number from the tracer; false: it has gone. Its last one may lie behind its end (control.c). */
static bool hear(int link, int32_t *word)
{
	int ends = 0;
	ssize_t n;

	do {
		n = recv(link, word, sizeof(*word), 0);
	} while ((n < 0 && errno == EINTR) || (n == 0 && ++ends < 2));
	return n == sizeof(*word);
}

/* 0 or a positive errno. */
static int be_seized(int link)
{
	int32_t word;
	int err;

	if (!hear(link, &word))
		return ECHILD;
	if (word < 0)
		return -word;
	/* Where only ancestors may trace (Yama), the program has to name its tracer. */
	prctl(PR_SET_PTRACER, (unsigned long)word, 0, 0, 0);
	err = send(link, "g", 1, MSG_NOSIGNAL) == 1 && hear(link, &word) ? word : ECHILD;
	prctl(PR_SET_PTRACER, 0, 0, 0, 0);
	return err;
}

static int start_trace(void)
{
	int link[2], err = 0;
	pid_t self = getpid(), child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0)
		return errno;
	child = fork();
	if (child == 0) {
		close(link[0]);
		start_tracer(self, link[1]);
	}
	if (child < 0)
		err = errno;
	close(link[1]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	if (!err)
		err = be_seized(link[0]);
	close(link[0]);
	return err;
}

int trace_begin(const char **step)
{
	int err = start_trace();

	*step = "tracing it (ptrace)";
	if (!err) {
		*step = "a seccomp filter";
		err = -trace_filter_install();
	}
	return err;
}
