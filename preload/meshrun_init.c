/*
 * As PID 1 of a container nobody else reaps orphans, and the kernel delivers to
 * us only signals we ask for. So the program becomes a child: all its signals
 * are blocked here, waited for, and passed on, every dead child is reaped, and
 * the program's end is ours.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/meshrun.h"

/* What was found, to be put back in the program. */
struct found {
	sigset_t mask;
	struct sigaction child;
};

static void run_child(char **argv, const struct found *found)
{
	/* A terminal's keys go to the foreground group: make the program one. */
	if (isatty(STDIN_FILENO)) {
		setpgid(0, 0);
		tcsetpgrp(STDIN_FILENO, getpid()); /* SIGTTOU is blocked still */
	}
	sigaction(SIGCHLD, &found->child, NULL);
	sigprocmask(SIG_SETMASK, &found->mask, NULL);
	_exit(program_exec(argv));
}

/* Reaps everybody who has ended; true with *status when the program was among them. */
static bool reap(pid_t program, int *status)
{
	bool ended = false;
	int seen;
	pid_t pid;

	while ((pid = waitpid(-1, &seen, WNOHANG)) > 0) {
		if (pid != program)
			continue;
		ended = true;
		*status = WIFEXITED(seen) ? WEXITSTATUS(seen) : 128 + WTERMSIG(seen);
	}
	return ended;
}

int init_run(char **argv)
{
	const struct sigaction usual = { .sa_handler = SIG_DFL };
	struct found found;
	sigset_t all;
	int status = EXIT_NO_MESH, number;
	pid_t program;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &found.mask);
	/* Ignored, it would not tell of the program's end. */
	sigaction(SIGCHLD, &usual, &found.child);
	program = fork();
	if (program < 0) {
		complain("cannot start a process: %s", strerror(errno));
		return EXIT_NO_MESH;
	}
	if (program == 0)
		run_child(argv, &found);
	for (;;) {
		number = sigwaitinfo(&all, NULL);
		if (number == SIGCHLD) {
			if (reap(program, &status))
				return status;
		} else if (number > 0) {
			kill(program, number);
		}
	}
}
