/*
 * One thread, one loop.
 *
 * Threads are seized (PTRACE_SEIZE), so that stops for job control are told
 * apart from signals and last as long as they should (PTRACE_LISTEN). Everything
 * a program starts is traced from its first instruction on; the system may
 * tell us of a child before it tells us whose it is, which waits then. If its parent was
 * killed in that moment, nobody will ever tell.
 *
 * Of several that have stopped, waitpid() tells of the youngest. Where young ones stop
 * again and again the old would never have their turn; so now and then all are noted
 * first and served then, one after the other.
 *
 * A filter once installed stays in all descendants, and its trapped calls fail
 * without a tracer. So a dynamic program that a static one starts cannot be let
 * go: when the shim is inside, its calls are passed on unseen.
 *
 * A thread that has opened a socket which lists interfaces is watched for a while: then
 * all its calls stop, those too that no filter can tell by their arguments.
 *
 * If we die, the kernel kills what we trace (PTRACE_O_EXITKILL): a thread left
 * in the middle of a call of ours would go on with registers that are not its own.
 */
#include "preload/trace_loop.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload/trace_calls.h"
#include "preload/trace_memory.h"
#include "preload/trace_program.h"
#include "preload/trace_task.h"
#include "shared/util.h"

#define LOOK_AROUND  32 /* stops served before answers are looked at */
#define HEAR_ALL     4  /* rounds of the loop until nobody is left out */
#define HELD_LOOK_MS 20 /* without any news, until a child is taken for an orphan */

static bool is_any_held;

uint64_t trace_loop_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- a thread starts another ---- */

/* Does the child of this clone(), clone3(), fork() or vfork() belong to the same process? */
static bool makes_thread(pid_t tid)
{
	struct trace_regs regs;
	unsigned long args[6];
	long flags;

	if (!trace_regs_get(tid, &regs))
		return false;
	trace_regs_args(&regs, args);
	switch (trace_regs_nr(&regs)) {
	case SYS_clone:
		return args[0] & CLONE_THREAD;
	case SYS_clone3:
		errno = 0;
		flags = ptrace(PTRACE_PEEKDATA, tid, args[0], 0);
		return errno ? true : (flags & CLONE_THREAD) != 0;
	default:
		return false;
	}
}

/* At a stop that is no signal's: one for job control lasts, others are over. */
static void go_on(struct trace_task *task, int signal)
{
	if (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)
		ptrace(PTRACE_LISTEN, task->tid, 0, 0);
	else
		trace_task_resume(task, 0);
}

static void let_go(struct trace_task *task)
{
	task->is_held = false;
	go_on(task, task->held_by);
}

static void child_started(struct trace_task *parent)
{
	struct trace_task *child;
	unsigned long tid;

	if (ptrace(PTRACE_GETEVENTMSG, parent->tid, 0, &tid) < 0)
		return;
	child = trace_task_get((pid_t)tid);
	if (!child)
		return;
	child->is_passed = parent->is_passed;
	child->tgid = makes_thread(parent->tid) ? parent->tgid : child->tid;
	if (child->is_held)
		let_go(child);
}

/*
 * Somebody has died; was it before we heard of a child it had just started? Or has it, before
 * the child itself was heard of? Such a child is on its own. A thread is not: who started it
 * dies alone only when it ends by itself, and then its event came before that.
 */
static void release_orphans(void)
{
	is_any_held = false;
	for (struct trace_task *t = trace_task_next(NULL); t; t = trace_task_next(t)) {
		if (!t->is_held)
			continue;
		if (trace_program_of(t->tid) != t->tid) {
			is_any_held = true;
			continue;
		}
		t->tgid = t->tid;
		t->is_passed = trace_program_is_passed(t->tid);
		let_go(t);
	}
}

static void image_replaced(struct trace_task *task)
{
	unsigned long former = 0;

	ptrace(PTRACE_GETEVENTMSG, task->tid, 0, &former);
	trace_task_exec(task, (pid_t)former);
	task->is_passed = trace_program_is_passed(task->tid);
}

/* ---- stops ---- */

static void call_trapped(struct trace_task *task)
{
	if (task->phase == TRACE_STARTING) {
		/* One of ours, stopped by our own filter, whether that was foreseen or not. */
		task->is_stopped_by_filter = true;
		trace_task_begun(task);
		return;
	}
	if (task->phase == TRACE_INSIDE) {
		trace_task_resume(task, 0);
		return;
	}
	if (task->is_passed || !trace_regs_get(task->tid, &task->at_call)) {
		trace_task_resume(task, 0);
		return;
	}
	task->phase = TRACE_ENTERED;
	trace_task_serve(task, trace_calls_run);
}

static void event_stop(struct trace_task *task, int event, int signal)
{
	switch (event) {
	case PTRACE_EVENT_SECCOMP:
		call_trapped(task);
		return;
	case PTRACE_EVENT_CLONE:
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		child_started(task);
		break;
	case PTRACE_EVENT_EXEC:
		image_replaced(task);
		break;
	case PTRACE_EVENT_STOP:
		task->is_held = task->tgid == 0;
		task->held_by = signal;
		if (task->is_held)
			is_any_held = true;
		else
			go_on(task, signal);
		return;
	}
	trace_task_resume(task, 0);
}

/* A call of the program's own, at its end; does it take over the thread? */
static bool watched_call_ended(struct trace_task *task, long result)
{
	long nr = trace_regs_nr(&task->at_call);
	unsigned long args[6];

	trace_regs_args(&task->at_call, args);
	if (--task->watched_calls == 0 || (nr == SYS_close && (int)args[0] == task->watched))
		task->watched = -1;
	if ((nr != SYS_recvfrom && nr != SYS_read) || (int)args[0] != task->watched || result <= 0)
		return false;
	task->watched_result = result;
	task->phase = TRACE_LEFT;
	trace_task_serve(task, trace_calls_received);
	return true;
}

/* Either end of such a call; what it was is known at its beginning only, on some machines. */
static void watch(struct trace_task *task)
{
	struct trace_regs regs;

	if (trace_regs_get(task->tid, &regs)) {
		if (trace_regs_is_entry(task->tid, &regs))
			task->at_call = regs;
		else if (watched_call_ended(task, trace_regs_result(&regs)))
			return;
	}
	trace_task_resume(task, 0);
}

/* A stop at the beginning or at the end of a call of ours, or of one that is watched. */
static void syscall_stop(struct trace_task *task)
{
	if (task->phase == TRACE_STARTING) {
		trace_task_begun(task);
	} else if (task->phase == TRACE_INSIDE && trace_task_is_at_entry(task)) {
		trace_task_resume(task, 0);
	} else if (task->phase == TRACE_INSIDE) {
		task->phase = TRACE_LEFT;
		trace_task_serve(task, trace_calls_run);
	} else if (task->watched >= 0) {
		watch(task);
	} else {
		trace_task_resume(task, 0);
	}
}

static void stopped(struct trace_task *task, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;

	if (event)
		event_stop(task, event, signal);
	else if (signal == (SIGTRAP | 0x80))
		syscall_stop(task);
	else
		trace_task_resume(task, signal);
}

static void changed(struct trace_task *task, int status)
{
	if (WIFSTOPPED(status)) {
		stopped(task, status);
		return;
	}
	trace_task_destroy(task);
	release_orphans();
}

/*
 * Notes one that has changed, or all; sleeps until there is one, if it may. How many, or -1:
 * nobody is left.
 */
static int hear(bool may_sleep, bool all)
{
	int status, n = 0;
	pid_t tid;

	do {
		tid = waitpid(-1, &status, __WALL | (may_sleep && n == 0 ? 0 : WNOHANG));
		if (tid < 0 && errno != EINTR && n == 0)
			return -1;
		if (tid <= 0)
			break;
		n++;
		if (!trace_task_note(tid, status))
			kill(tid, SIGKILL); /* better ended than outside the mesh */
	} while (all);
	return n;
}

/* ---- answers ---- */

/* Waits for news (when it may), an answer or a deadline, and serves who got one. */
static int look_around(int signals, bool may_wait)
{
	unsigned waiting = trace_task_waiting();
	struct pollfd *polls = calloc(waiting + 1u, sizeof(*polls));
	pid_t *tids = calloc(waiting + 1u, sizeof(*tids));
	uint64_t now = trace_loop_now(), first = UINT64_MAX;
	struct signalfd_siginfo info;
	struct trace_task *task;
	unsigned n = 0;
	int wait_ms = 0, events;

	if (!polls || !tids) {
		free(polls);
		free(tids);
		return -ENOMEM;
	}
	for (task = trace_task_next(NULL); task && n < waiting; task = trace_task_next(task)) {
		if (!task->deadline_ns)
			continue;
		polls[n] = (struct pollfd){ task->awaited, POLLIN, 0 };
		tids[n++] = task->tid;
		first = MIN(first, task->deadline_ns);
	}
	polls[n] = (struct pollfd){ signals, POLLIN, 0 };
	if (may_wait)
		wait_ms = first <= now ? 0 : (int)MIN((first - now) / NS_PER_MS + 1, 60000u);
	if (is_any_held)
		wait_ms = MIN(wait_ms, HELD_LOOK_MS);
	events = poll(polls, n + 1, wait_ms);
	if (events > 0 && polls[n].revents)
		while (read(signals, &info, sizeof(info)) > 0)
			;
	if (events == 0 && is_any_held && may_wait)
		release_orphans();
	now = trace_loop_now();
	for (unsigned i = 0; i < n; i++) {
		task = trace_task_find(tids[i]);
		if (task && task->deadline_ns && (polls[i].revents || now >= task->deadline_ns))
			trace_task_serve(task, trace_calls_run);
	}
	free(polls);
	free(tids);
	return 0;
}

static int open_signals(void)
{
	sigset_t all, child;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	return signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
}

int trace_loop_run(pid_t program, void (*first_ended)(void))
{
	struct trace_task *first = trace_task_get(program);
	int signals = open_signals(), status, heard, err = 0;
	struct trace_task *task;
	unsigned rounds = 0;
	bool may_sleep;
	pid_t tid;

	if (signals < 0)
		return -errno;
	if (!first)
		return -ENOMEM;
	first->tgid = program;
	first->is_passed = true; /* until it has exec'd */
	while (trace_task_count() && !err) {
		may_sleep = !trace_task_waiting() && !is_any_held;
		heard = hear(may_sleep, ++rounds % HEAR_ALL == 0);
		if (heard < 0)
			break;
		while ((task = trace_task_noted(&status))) {
			tid = task->tid;
			/* Killed since, or another thread has taken its number by exec. */
			if (heard > 1)
				waitpid(tid, &status, __WALL | WNOHANG);
			changed(task, status);
			if (tid == program && !WIFSTOPPED(status))
				first_ended();
		}
		if (!may_sleep && (heard == 0 || rounds % LOOK_AROUND == 0))
			err = look_around(signals, heard == 0);
	}
	close(signals);
	return err;
}
