/*
 * A stopped thread's registers, as far as system calls use them: the one place
 * that knows machines.
 */
#ifndef MESHWRAP_PRELOAD_TRACE_REGS_H
#define MESHWRAP_PRELOAD_TRACE_REGS_H

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/user.h>

#define TRACE_GET_SYSCALL_INFO 0x420e

struct trace_regs {
	struct user_regs_struct user;
#if defined(__aarch64__)
	int nr; /* of the call that is being entered */
#endif
};

#if defined(__x86_64__)
#define TRACE_INSN_BYTES 2 /* of the instruction that enters the kernel */
#elif defined(__aarch64__)
#define TRACE_INSN_BYTES 4
#endif

/* False: the thread is gone. */
static inline bool trace_regs_get(pid_t tid, struct trace_regs *r)
{
	struct iovec iov = { &r->user, sizeof(r->user) };

	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov) < 0)
		return false;
#if defined(__aarch64__)
	r->nr = (int)r->user.regs[8];
#endif
	return true;
}

static inline bool trace_regs_put(pid_t tid, struct trace_regs *r)
{
	struct iovec iov = { &r->user, sizeof(r->user) };

	return ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov) == 0;
}

#if defined(__x86_64__)
static inline long trace_regs_nr(const struct trace_regs *r)
{
	return (long)r->user.orig_rax;
}

static inline void trace_regs_args(const struct trace_regs *r, unsigned long args[static 6])
{
	args[0] = r->user.rdi;
	args[1] = r->user.rsi;
	args[2] = r->user.rdx;
	args[3] = r->user.r10;
	args[4] = r->user.r8;
	args[5] = r->user.r9;
}

static inline long trace_regs_result(const struct trace_regs *r)
{
	return (long)r->user.rax;
}

static inline void trace_regs_set_result(struct trace_regs *r, long result)
{
	r->user.rax = (unsigned long)result;
}

static inline void trace_regs_set_args(struct trace_regs *r, const unsigned long args[static 6])
{
	r->user.rdi = args[0];
	r->user.rsi = args[1];
	r->user.rdx = args[2];
	r->user.r10 = args[3];
	r->user.r8 = args[4];
	r->user.r9 = args[5];
}

/* At the entry of a call: it becomes another one; -1: none at all. */
static inline bool trace_regs_put_entry(pid_t tid, struct trace_regs *r, long nr)
{
	r->user.orig_rax = (unsigned long)nr;
	return trace_regs_put(tid, r);
}

/* After a call: back to the instruction, to make call nr by it. */
static inline void trace_regs_again(struct trace_regs *r, long nr)
{
	r->user.rip -= TRACE_INSN_BYTES;
	r->user.rax = (unsigned long)nr;
}
#elif defined(__aarch64__)
static inline long trace_regs_nr(const struct trace_regs *r)
{
	return r->nr;
}

static inline void trace_regs_args(const struct trace_regs *r, unsigned long args[static 6])
{
	for (int i = 0; i < 6; i++)
		args[i] = r->user.regs[i];
}

static inline long trace_regs_result(const struct trace_regs *r)
{
	return (long)r->user.regs[0];
}

static inline void trace_regs_set_result(struct trace_regs *r, long result)
{
	r->user.regs[0] = (unsigned long)result;
}

static inline void trace_regs_set_args(struct trace_regs *r, const unsigned long args[static 6])
{
	for (int i = 0; i < 6; i++)
		r->user.regs[i] = args[i];
}

static inline bool trace_regs_put_entry(pid_t tid, struct trace_regs *r, long nr)
{
	int number = (int)nr;
	struct iovec iov = { &number, sizeof(number) };

	return trace_regs_put(tid, r) &&
	       ptrace(PTRACE_SETREGSET, tid, NT_ARM_SYSTEM_CALL, &iov) == 0;
}

static inline void trace_regs_again(struct trace_regs *r, long nr)
{
	r->user.pc -= TRACE_INSN_BYTES;
	r->user.regs[8] = (unsigned long)nr;
}
#endif

/*
 * At a stop of a system call: is it the beginning? gVisor, and Linux before 5.3, cannot say;
 * then x86 has ENOSYS for the result, which at an end means a call that did nothing.
 */
static inline bool trace_regs_is_entry(pid_t tid, const struct trace_regs *r)
{
	unsigned char info[128];

	if (ptrace(TRACE_GET_SYSCALL_INFO, tid, sizeof(info), info) > 0)
		return info[0] == 1;
	return trace_regs_result(r) == -ENOSYS;
}

#endif
