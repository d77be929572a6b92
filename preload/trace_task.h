/*
 * The threads of traced programs, and how a system call is made in one of them.
 */
#ifndef MESHWRAP_PRELOAD_TRACE_TASK_H
#define MESHWRAP_PRELOAD_TRACE_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uthash.h>

#include "preload/trace_regs.h"
#include "preload/trace_stack.h"

/*
 * IDLE -> ENTERED when a trapped call stops, before the kernel has looked at it;
 * ENTERED | LEFT -> STARTING | INSIDE by trace_remote(), STARTING -> INSIDE when
 * the kernel has begun it, INSIDE -> LEFT when it has ended; any -> IDLE when
 * the program goes on.
 */
enum trace_phase { TRACE_IDLE, TRACE_ENTERED, TRACE_STARTING, TRACE_INSIDE, TRACE_LEFT };

/* Where system calls of ours find their arguments in the program's memory. */
struct trace_slot {
	unsigned long sealed; /* the program can read it, and only we can write it */
	unsigned long open;   /* the kernel writes its answers here */
};
#define TRACE_SEALED_BYTES 8192u
#define TRACE_OPEN_BYTES   24576u
#define TRACE_MESSAGES     16u /* of sendmmsg() and recvmmsg(), in one go */

struct trace_task {
	pid_t tid, tgid; /* tgid 0: its parent's event has not come yet */
	bool is_passed;  /* the shim is inside, or it is one of our tools */
	bool is_held;    /* stopped, until its parent's event comes */
	int held_by;     /* the signal of that stop */
	enum trace_phase phase;
	struct trace_stack *stack; /* of the call under way */
	struct trace_regs at_call; /* when it was trapped */
	uint64_t mask;             /* the thread's own blocked signals */
	bool is_masked;            /* all are blocked, so that none comes between two calls */
	struct trace_slot slot;    /* sealed 0: none */
	bool is_stopped_by_filter; /* the call that is made stops at its entry by itself */
	bool is_entry_unseen;      /* entered by way of the filter: maybe it stops once more */
	bool may_wait;             /* the call that is made for it */
	long nr;                   /* of the call that is made for it */
	int question;              /* a socket to the daemon, or -1 */
	int watched;               /* a socket that lists interfaces, or -1 */
	unsigned watched_calls;    /* how many calls it is watched for yet */
	long watched_result;       /* of the call that has ended */
	int awaited;               /* a descriptor to become readable, or -1 */
	uint64_t deadline_ns;      /* of waiting for it; 0: not waiting */
	bool is_noted;             /* waitpid() has told of it, and nobody has looked yet */
	int status;                /* of that */
	struct trace_task *next, *prev;
	UT_hash_handle hh;
};

/* Creates it when it is new; NULL: out of memory. */
struct trace_task *trace_task_get(pid_t tid);
struct trace_task *trace_task_find(pid_t tid);
void trace_task_destroy(struct trace_task *task);
/*
 * What waitpid() told of a thread. It takes the place of what was noted before: such a thread has
 * been killed since, or another one of its program has taken its number by exec. False: out of
 * memory.
 */
bool trace_task_note(pid_t tid, int status);
/* The one that was noted first and is so no longer; NULL: there is none. */
struct trace_task *trace_task_noted(int *status);
/* After exec: the other threads are gone, and so is the memory. */
void trace_task_exec(struct trace_task *task, pid_t former_tid);
unsigned trace_task_count(void);
/* How many wait in trace_task_wait(). */
unsigned trace_task_waiting(void);
/* For each task; NULL first. The one given may be destroyed after its next was asked for. */
struct trace_task *trace_task_next(const struct trace_task *task);

/* ---- only inside a call, on its own stack ---- */

enum trace_wait { TRACE_AT_ONCE, TRACE_MAY_WAIT };
/*
 * Makes a system call in the thread that is being served; the kernel's own
 * result. A call that a signal interrupts so that it would be restarted does
 * not return: the program's own call is restarted, or ends with EINTR.
 */
long trace_remote(long nr, const unsigned long args[static 6], enum trace_wait wait);
/* The thread that is being served. */
struct trace_task *trace_current(void);
/* Gives it a slot; 0 or -errno. */
int trace_take_slot(void);
/* From its next call on every one stops at both ends for a while: fd may list interfaces. */
void trace_task_watch(struct trace_task *task, int fd);
/* Lets others be served until fd (or -1) is readable, or until that monotonic time. */
void trace_task_wait(int fd, uint64_t deadline_ns);

/* ---- only the loop ---- */

/* Begins or goes on with the call of a stopped thread; run() ends it by the two below. */
void trace_task_serve(struct trace_task *task, void (*run)(void *arg));
/* Lets a stopped thread go on, delivering a signal (or 0). */
void trace_task_resume(struct trace_task *task, int signal);
/* The kernel has begun the call made by trace_remote(); the thread is stopped there. */
void trace_task_begun(struct trace_task *task);
/* Is this stop, after the filter's, still the entry of the call? */
bool trace_task_is_at_entry(struct trace_task *task);
/* Ends the call with its result, a negative errno too; as_is lets the kernel do it as it stands. */
void trace_task_finish(struct trace_task *task, long result);
void trace_task_as_is(struct trace_task *task);

#endif
