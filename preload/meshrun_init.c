/*
 * As PID 1 of a container nobody else reaps orphans, and the kernel delivers to
 * us only signals we ask for. So the program becomes a child: all its signals
 * are blocked here, waited for, and passed on, every dead child is reaped, and
 * the program's end is ours.
 *
 * With us the kernel ends the whole container, the daemon too. What the program said last may
 * still be with it, so it has a moment to say that to the peers, and to tell the server that
 * this node leaves.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/meshrun.h"
#include "preload/meshrun_status.h"

#define SAY_WITHIN_MS 4000 /* the last bytes; runtimes give a container 10 s to end */
#define CALM_MS       300
#define END_WITHIN_MS 2000 /* the daemon */
#define LOOK_EVERY_MS 10
#define ENDED_LOOKS   2 /* in a row: what was said just now is seen by the second one */

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

/*
 * The terminal has stopped it (Ctrl-Z). Nobody is there to continue it: as PID 1 itself it would
 * not have been stopped.
 */
static void keep_running(pid_t program, int signal)
{
	pid_t group = getpgid(program);

	if (signal == SIGSTOP || group < 0)
		return;
	/* It was refused as one in the background, though there is nobody else. */
	if (signal != SIGTSTP && tcsetpgrp(STDIN_FILENO, group) < 0)
		return;
	kill(-group, SIGCONT);
}

/*
 * Reaps everybody who has ended; true with *status when the program was among them. It is not
 * left stopped either.
 */
static bool reap(pid_t program, int *status)
{
	bool ended = false;
	int seen;
	pid_t pid;

	while ((pid = waitpid(-1, &seen, WNOHANG | WUNTRACED)) > 0) {
		if (pid == program && WIFSTOPPED(seen))
			keep_running(program, WSTOPSIG(seen));
		if (pid != program || WIFSTOPPED(seen))
			continue;
		ended = true;
		*status = WIFEXITED(seen) ? WEXITSTATUS(seen) : 128 + WTERMSIG(seen);
	}
	return ended;
}

/*
 * Until all connections have ended, or those that are left (whose far side has not closed) have
 * had nothing to carry for a while. The daemon, or 0 when it is none of ours.
 */
static pid_t wait_until_said(const char *dir)
{
	uint64_t began = now_ms(), busy = began;
	struct traffic now;
	int ended = 0;

	do {
		if (!status_ask_traffic(dir, &now) || now.daemon <= 1)
			return 0;
		if (now.bytes > 0)
			busy = now_ms();
		ended = now.connections == 0 ? ended + 1 : 0;
		poll(NULL, 0, LOOK_EVERY_MS);
	} while (ended < ENDED_LOOKS && now_ms() - busy < CALM_MS &&
		 now_ms() - began < SAY_WITHIN_MS);
	return now.daemon;
}

static void end_daemon(const char *dir)
{
	pid_t daemon = wait_until_said(dir);
	uint64_t began = now_ms();
	int status;

	if (!daemon || kill(daemon, SIGTERM) < 0)
		return;
	while (now_ms() - began < END_WITHIN_MS && kill(daemon, 0) == 0) {
		reap(daemon, &status);
		poll(NULL, 0, LOOK_EVERY_MS);
	}
}

int init_run(char **argv, const char *dir)
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
			if (reap(program, &status)) {
				end_daemon(dir);
				return status;
			}
		} else if (number > 0) {
			kill(program, number);
		}
	}
}
