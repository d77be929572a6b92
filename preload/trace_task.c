/*
 * Threads under trace, and calls made in them.
 *
 * A thread that was stopped at the entry of a call has not begun it: the first
 * call of ours simply takes its place. For each further one the thread goes back
 * to the instruction that enters the kernel, with other registers. In the end
 * it stands behind that instruction with the registers it had and the result.
 *
 * Signals. Between two calls of ours the thread would return to the program, and
 * a pending signal would be delivered with our registers in the frame. So all
 * signals are blocked from the first call to the last, except inside a call that may
 * wait: the mask is lifted when the kernel has begun it. A signal then ends the
 * wait, and the kernel itself restarts the program's own call or ends it with EINTR.
 * Undoing a call from outside instead was tried: a dial would be asked for twice.
 *
 * Arguments lie in a slot of memory mapped into the program. Addresses go to
 * its sealed half, which is read-only to the program: no other thread of it can
 * change between our look and the kernel's what we have looked at, short of
 * making that memory writable on purpose.
 *
 * Slots belong to a process (tgid), and are used again by its other threads. A
 * forked child has copies of its parent's, which it does not use.
 */
#include "preload/trace_task.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utlist.h>

#include "preload/trace_filter.h"

#define SLOTS         16
#define CHUNK_BYTES   (SLOTS * (TRACE_SEALED_BYTES + TRACE_OPEN_BYTES))
#define WATCHED_CALLS 128 /* to list some interfaces takes a dozen */
#define ERESTARTSYS   512 /* the kernel's own; 512 to 516 never reach a program */
#define ERESTART_LAST 516

struct chunk {
	unsigned long base;
	uint32_t used; /* a bit a slot */
	struct chunk *next;
};

struct space {
	pid_t tgid;
	unsigned tasks;
	struct chunk *chunks;
	UT_hash_handle hh;
};

static struct trace_task *tasks, *noted;
static struct space *spaces;
static struct trace_task *current; /* whose stack runs */
static unsigned waiting;

struct trace_task *trace_current(void)
{
	return current;
}

struct trace_task *trace_task_find(pid_t tid)
{
	struct trace_task *task;

	HASH_FIND_INT(tasks, &tid, task);
	return task;
}

struct trace_task *trace_task_get(pid_t tid)
{
	struct trace_task *task = trace_task_find(tid);

	if (task)
		return task;
	task = calloc(1, sizeof(*task));
	if (!task)
		return NULL;
	task->tid = tid;
	task->question = -1;
	task->watched = -1;
	task->awaited = -1;
	HASH_ADD_INT(tasks, tid, task);
	return task;
}

bool trace_task_note(pid_t tid, int status)
{
	struct trace_task *task = WIFSTOPPED(status) ? trace_task_get(tid) : trace_task_find(tid);

	if (!task)
		return !WIFSTOPPED(
			status); /* else it has ended, and an exec has told of that before */
	if (!task->is_noted)
		DL_APPEND(noted, task);
	task->is_noted = true;
	task->status = status;
	return true;
}

struct trace_task *trace_task_noted(int *status)
{
	struct trace_task *task = noted;

	if (task) {
		DL_DELETE(noted, task);
		task->is_noted = false;
		*status = task->status;
	}
	return task;
}

unsigned trace_task_count(void)
{
	return HASH_COUNT(tasks);
}

unsigned trace_task_waiting(void)
{
	return waiting;
}

static void stop_waiting(struct trace_task *task)
{
	if (task->deadline_ns)
		waiting--;
	task->deadline_ns = 0;
	task->awaited = -1;
}

void trace_task_wait(int fd, uint64_t deadline_ns)
{
	struct trace_task *task = current;

	task->awaited = fd;
	task->deadline_ns = deadline_ns;
	waiting++;
	trace_stack_leave();
	stop_waiting(task);
}

struct trace_task *trace_task_next(const struct trace_task *task)
{
	return task ? task->hh.next : tasks;
}

static void free_chunks(struct space *space)
{
	struct chunk *chunk;

	while ((chunk = space->chunks)) {
		space->chunks = chunk->next;
		free(chunk);
	}
}

static struct space *find_space(pid_t tgid)
{
	struct space *space;

	HASH_FIND_INT(spaces, &tgid, space);
	return space;
}

static void free_space_if_unused(pid_t tgid)
{
	struct space *space = find_space(tgid);

	for (struct trace_task *t = tasks; t; t = t->hh.next)
		if (t->tgid == tgid)
			return;
	if (!space)
		return;
	HASH_DEL(spaces, space);
	free_chunks(space);
	free(space);
}

static struct trace_slot slot_at(const struct chunk *chunk, unsigned i)
{
	return (struct trace_slot){ chunk->base + i * TRACE_SEALED_BYTES,
				    chunk->base + SLOTS * TRACE_SEALED_BYTES +
					    i * TRACE_OPEN_BYTES };
}

static void give_slot_back(struct trace_task *task)
{
	struct space *space = find_space(task->tgid);
	unsigned long i;

	if (!task->slot.sealed)
		return;
	for (struct chunk *c = space ? space->chunks : NULL; c; c = c->next) {
		i = (task->slot.sealed - c->base) / TRACE_SEALED_BYTES;
		if (task->slot.sealed >= c->base && i < SLOTS)
			c->used &= ~(UINT32_C(1) << i);
	}
	task->slot = (struct trace_slot){ 0, 0 };
}

/* What the call under way holds. */
static void forget_call(struct trace_task *task)
{
	trace_stack_destroy(task->stack);
	task->stack = NULL;
	task->phase = TRACE_IDLE;
	stop_waiting(task);
	if (task->question >= 0)
		close(task->question);
	task->question = -1;
	give_slot_back(task);
}

void trace_task_destroy(struct trace_task *task)
{
	pid_t tgid = task->tgid;

	forget_call(task);
	if (task->is_noted)
		DL_DELETE(noted, task);
	HASH_DEL(tasks, task);
	free(task);
	if (tgid)
		free_space_if_unused(tgid);
}

void trace_task_exec(struct trace_task *task, pid_t former_tid)
{
	struct trace_task *other, *next;
	struct space *space = find_space(task->tid);

	for (other = tasks; other; other = next) {
		next = other->hh.next;
		if (other != task && (other->tid == former_tid || other->tgid == task->tid))
			trace_task_destroy(other);
	}
	if (space)
		free_chunks(space);
	task->slot = (struct trace_slot){ 0, 0 };
	task->tgid = task->tid;
	task->is_masked = false;
	task->watched = -1;
	forget_call(task);
}

static bool set_mask(struct trace_task *task, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, task->tid, sizeof(mask), &mask) == 0;
}

static void block_signals(struct trace_task *task)
{
	if (!task->is_masked &&
	    ptrace(PTRACE_GETSIGMASK, task->tid, sizeof(task->mask), &task->mask) == 0)
		task->is_masked = set_mask(task, ~UINT64_C(0));
}

static void unblock_signals(struct trace_task *task)
{
	if (task->is_masked)
		set_mask(task, task->mask);
	task->is_masked = false;
}

void trace_task_resume(struct trace_task *task, int signal)
{
	bool to_next_stop = task->phase == TRACE_INSIDE ||
			    (task->phase == TRACE_IDLE && task->watched >= 0) ||
			    (task->phase == TRACE_STARTING && !task->is_stopped_by_filter);

	/* A thread that was killed meanwhile says so by its exit. */
	ptrace(to_next_stop ? PTRACE_SYSCALL : PTRACE_CONT, task->tid, 0, (unsigned long)signal);
}

void trace_task_serve(struct trace_task *task, void (*run)(void *arg))
{
	if (!task->stack) {
		task->stack = trace_stack_create(run, task);
		if (!task->stack) {
			trace_task_finish(task, -ENOMEM);
			return;
		}
	}
	current = task;
	trace_stack_enter(task->stack);
	current = NULL;
	if (task->phase == TRACE_IDLE) { /* the program goes on: the call is over */
		trace_stack_destroy(task->stack);
		task->stack = NULL;
	}
}

void trace_task_watch(struct trace_task *task, int fd)
{
	task->watched = fd;
	task->watched_calls = WATCHED_CALLS;
}

static void put_behind_call(struct trace_task *task, long result)
{
	struct trace_regs regs = task->at_call;

	trace_regs_set_result(&regs, result);
	if (task->phase == TRACE_ENTERED)
		trace_regs_put_entry(task->tid, &regs, -1);
	else
		trace_regs_put(task->tid, &regs);
}

void trace_task_finish(struct trace_task *task, long result)
{
	put_behind_call(task, result);
	unblock_signals(task);
	give_slot_back(task);
	task->phase = TRACE_IDLE;
	trace_task_resume(task, 0);
}

void trace_task_as_is(struct trace_task *task)
{
	assert(task->phase == TRACE_ENTERED);
	give_slot_back(task);
	task->phase = TRACE_IDLE;
	trace_task_resume(task, 0);
}

/*
 * Linux stops a traced call at its entry, then by the filter; gVisor, and Linux
 * before 4.8, the other way round, so that a stop at the entry follows the filter's.
 * The first call ever made is mmap(), which tells: it never fails with ENOSYS, and that
 * is what stands for the result at an entry.
 */
bool trace_task_is_at_entry(struct trace_task *task)
{
	static enum { UNKNOWN, NEVER, ALWAYS } follows;
	struct trace_regs regs;

	if (!task->is_entry_unseen)
		return false;
	task->is_entry_unseen = false;
	if (follows == UNKNOWN && trace_regs_get(task->tid, &regs))
		follows = trace_regs_result(&regs) == -ENOSYS ? ALWAYS : NEVER;
	return follows == ALWAYS;
}

void trace_task_begun(struct trace_task *task)
{
	task->is_entry_unseen = task->is_stopped_by_filter;
	task->phase = TRACE_INSIDE;
	if (task->may_wait)
		unblock_signals(task);
	trace_task_resume(task, 0);
}

/* The kernel's own end of an interrupted call: again, or EINTR, as the signal's handler says. */
static void __attribute__((noreturn)) interrupted(struct trace_task *task, long result)
{
	trace_task_finish(task, result);
	/* Nobody will come back to this stack. */
	for (;;)
		trace_stack_leave();
}

static void start_call(struct trace_task *task, const unsigned long args[static 6])
{
	struct trace_regs regs = task->at_call;

	if (task->phase == TRACE_ENTERED) {
		task->is_entry_unseen = true;
		trace_regs_set_args(&regs, args);
		trace_regs_put_entry(task->tid, &regs, task->nr);
		task->phase = TRACE_INSIDE;
		return;
	}
	trace_regs_again(&regs, task->nr);
	trace_regs_set_args(&regs, args);
	trace_regs_put(task->tid, &regs);
	task->is_stopped_by_filter = trace_filter_stops(task->nr);
	task->phase = TRACE_STARTING;
}

long trace_remote(long nr, const unsigned long args[static 6], enum trace_wait wait)
{
	struct trace_task *task = current;
	struct trace_regs regs;
	long result;

	task->nr = nr;
	task->may_wait = wait == TRACE_MAY_WAIT;
	if (!task->may_wait || task->phase != TRACE_ENTERED)
		block_signals(task);
	start_call(task, args);
	trace_task_resume(task, 0);
	trace_stack_leave();
	/* A thread that is gone is not served again, so it is stopped here. */
	result = trace_regs_get(task->tid, &regs) ? trace_regs_result(&regs) : -ESRCH;
	if (result <= -ERESTARTSYS && result >= -ERESTART_LAST)
		interrupted(task, result);
	block_signals(task);
	return result;
}

static struct space *get_space(pid_t tgid)
{
	struct space *space = find_space(tgid);

	if (space)
		return space;
	space = calloc(1, sizeof(*space));
	if (space) {
		space->tgid = tgid;
		HASH_ADD_INT(spaces, tgid, space);
	}
	return space;
}

/* Sixteen slots more in the program's memory. */
static struct chunk *map_chunk(struct space *space)
{
	struct chunk *chunk;
	long base;

	base = trace_remote(SYS_mmap,
			    (unsigned long[6]){ 0, CHUNK_BYTES, PROT_READ | PROT_WRITE,
						MAP_PRIVATE | MAP_ANONYMOUS, (unsigned long)-1, 0 },
			    TRACE_AT_ONCE);
	if (base < 0 && base > -4096)
		return NULL;
	if (trace_remote(SYS_mprotect,
			 (unsigned long[6]){ (unsigned long)base, SLOTS * TRACE_SEALED_BYTES,
					     PROT_READ },
			 TRACE_AT_ONCE) < 0)
		return NULL;
	chunk = calloc(1, sizeof(*chunk));
	if (!chunk)
		return NULL;
	chunk->base = (unsigned long)base;
	chunk->next = space->chunks;
	space->chunks = chunk;
	return chunk;
}

int trace_take_slot(void)
{
	struct trace_task *task = current;
	struct space *space = get_space(task->tgid);
	struct chunk *chunk;
	unsigned i;

	if (task->slot.sealed)
		return 0;
	for (chunk = space ? space->chunks : NULL; chunk; chunk = chunk->next)
		if (chunk->used != (UINT32_C(1) << SLOTS) - 1)
			break;
	if (!chunk && space)
		chunk = map_chunk(space);
	if (!chunk)
		return -ENOMEM;
	for (i = 0; chunk->used & (UINT32_C(1) << i); i++)
		;
	chunk->used |= UINT32_C(1) << i;
	task->slot = slot_at(chunk, i);
	return 0;
}
