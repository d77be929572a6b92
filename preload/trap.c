/*
 * The filter traps by where the instruction lies, so libc's calls and ours pass. What it traps
 * becomes SIGSYS for the thread that called. The handler serves nothing: it would run with
 * signals blocked, on a stack that may be small, while an accept() may wait for
 * days. It notes the registers and sends the thread on to a stack of ours, where the
 * replaced functions are called as from anywhere else, and signals arrive as in any other call.
 * Then the thread jumps back behind its instruction, with all registers as the kernel
 * leaves them.
 *
 *   library: syscall -> SIGSYS -> trapped() -> trap_enter -> trap_run() -> connect()
 *            next instruction <- registers as they were <-
 *
 * The signal's handler asks for the alternate stack: Go's goroutines have theirs of 2 KB. A
 * thread that was on it already, in a handler of the program's, must not seem to have left it,
 * or the next handler there would overwrite that one: meanwhile ours is the alternate stack.
 *
 * A filter survives exec, and then stands for addresses at which the kernel has mapped
 * something else. Where addresses are not random none is installed. Where they are,
 * hardly ever a call will meet one; children with the shim are told (MESHWRAP_TRAPPED) and
 * have the handler, which makes such a call as it stands.
 *
 * A program that such code starts itself is started by our execve(), which follows it. The thread
 * may be a child of vfork(), which leaves for good with its stack still marked as busy in memory
 * that is its parent's: what the kernel clears when a thread is gone from its memory is that mark.
 *
 * What the thread's memory says may change until the kernel looks, as with the shim in general.
 *
 * Rejected: a tracer that joins later (a process for each such program, signals that go
 * by way of it, and a filter that its children would need, too); syscall user dispatch (for one
 * thread at a time, and lets one range pass instead of trapping one); changing the
 * instructions in memory (two bytes leave room for a trap only, and reads and writes would
 * take it as well).
 */
#include "preload/trap.h"

#include <errno.h>

#if defined(__x86_64__)
#include <assert.h>
#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "preload/libc.h"
#include "preload/raw.h"
#include "preload/trace_filter.h"
#include "shared/util.h"

#define TRAP_MARK   0x6d77 /* tells our filter's signals from another's */
#define CODE_MAX    16u
#define STACKS_MAX  4096 /* calls at a time */
#define STACK_BYTES ((size_t)256 * 1024)
#define GUARD_BYTES ((size_t)4096)
#define PATIENCE    1000        /* turns of others that are waited for */
#define AUTODISARM  0x80000000u /* of an alternate stack: nobody is on it, ever */
#define STATE_BYTES 2816        /* what XSAVE writes of the parts we ask for, and more */
#define STATE_PARTS 0xe7        /* x87, SSE, AVX, AVX-512 */

/* At the upper end of a stack. Assembly below knows where its parts lie. */
struct stack {
	greg_t regs[NGREG]; /* 0 */
	_Atomic int is_busy;
	struct stack *next;
	stack_t alternate; /* 200: the thread's, if it was on that; else of size 0 */
	uint64_t mask;     /* then: of signals, from before */
	_Alignas(64) uint8_t state[STATE_BYTES]; /* 256 */
};
static_assert(offsetof(struct stack, is_busy) == 184 && offsetof(struct stack, state) == 256 &&
		      offsetof(struct stack, alternate) == 200 && offsetof(stack_t, ss_size) == 16,
	      "as trap_enter has it");
static_assert(SYS_sigaltstack == 131, "as trap_enter has it");
static_assert(REG_R8 == 0 && REG_R15 == 7 && REG_RDI == 8 && REG_RSI == 9 && REG_RBP == 10 &&
		      REG_RBX == 11 && REG_RDX == 12 && REG_RAX == 13 && REG_RSP == 15 &&
		      REG_RIP == 16 && REG_EFL == 17,
	      "as trap_enter has it");

struct code {
	uintptr_t from, to;
};

static struct code code[CODE_MAX];
static _Atomic unsigned code_count;
static _Atomic bool is_armed;
static _Atomic bool has_handler, is_changing;
static bool has_tid_address; /* the kernel tells which word it clears when a thread is gone */
static struct sigaction programs[2]; /* the program's own handler, and room for the next */
static _Atomic unsigned programs_at;
static _Atomic(struct stack *) stacks;
static _Atomic int stack_count;
uint32_t trap_state_parts __attribute__((used));

/* ---- a call ---- */

/* The kernel's own answer, a negative errno too. */
static long serve(long nr, const greg_t *regs)
{
	long a = regs[REG_RDI], b = regs[REG_RSI], c = regs[REG_RDX], result;

	switch (nr) {
	case SYS_connect:
	case SYS_bind:
	case SYS_accept:
	case SYS_accept4:
	case SYS_getsockname:
	case SYS_getpeername:
	case SYS_getsockopt:
	case SYS_setsockopt:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_socket:
		result = raw_network(nr, a, b, c, regs[REG_R10], regs[REG_R8], regs[REG_R9]);
		break;
	case SYS_ioctl:
		result = ioctl((int)a, (unsigned long)b, c);
		break;
	default:
		return -ENOSYS; /* io_uring would pass us by */
	}
	return result < 0 ? -errno : result;
}

/* Once more, since it was forgotten, or since it was loaded again where it lay before? */
static bool is_known(uintptr_t from, uintptr_t to)
{
	unsigned n = atomic_load(&code_count);

	for (unsigned i = 0; i < n; i++)
		if (code[i].from == from && code[i].to == to)
			return true;
	return false;
}

static bool is_ours(uintptr_t at)
{
	unsigned n = atomic_load_explicit(&code_count, memory_order_acquire);

	for (unsigned i = 0; i < n; i++)
		if (at > code[i].from && at <= code[i].to)
			return true;
	return false;
}

/* Not declared by every libc. */
int execveat(int folder, const char *path, char *const argv[], char *const envp[], int flags);

static bool starts_program(long nr)
{
	return nr == SYS_execve || nr == SYS_execveat;
}

/*
 * The kernel's own negative errno, if it comes back. Nothing of the thread's may have changed then,
 * nor may anything of its parent's if it does not.
 */
static long start(long nr, struct stack *stack)
{
	long a = stack->regs[REG_RDI], b = stack->regs[REG_RSI], c = stack->regs[REG_RDX];
	long d = stack->regs[REG_R10], error;
	int *clears = NULL;

	raw_syscall(SYS_prctl, PR_GET_TID_ADDRESS, &clears);
	raw_syscall(SYS_set_tid_address, &stack->is_busy);
	if (nr == SYS_execve)
		execve((const char *)a, (char *const *)b, (char *const *)c);
	else
		execveat((int)a, (const char *)b, (char *const *)c, (char *const *)d,
			 (int)stack->regs[REG_R8]);
	error = errno;
	raw_syscall(SYS_set_tid_address, clears);
	return -error;
}

/* This stack is the thread's alternate one now. Its signals are blocked, and come from then on. */
static void move_alternate(struct stack *stack)
{
	char *from = (char *)(stack + 1) - STACK_BYTES;
	stack_t ours = { .ss_sp = from, .ss_size = (size_t)((char *)stack - from) };

	raw_syscall(SYS_sigaltstack, &ours, NULL);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &stack->mask, NULL, sizeof(stack->mask));
}

void trap_run(struct stack *stack) __attribute__((used));
void trap_run(struct stack *stack)
{
	greg_t *regs = stack->regs;
	int saved = errno, cancel;

	if (stack->alternate.ss_size)
		move_alternate(stack);
	if (starts_program(regs[REG_RAX])) {
		regs[REG_RAX] = start(regs[REG_RAX], stack);
		errno = saved;
		return;
	}
	/* No system call instruction is where a thread may be cancelled, and libc's calls are. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (is_ours((uintptr_t)regs[REG_RIP]))
		regs[REG_RAX] = serve(regs[REG_RAX], regs);
	else
		regs[REG_RAX] =
			raw_call(regs[REG_RAX], regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
				 (const long[]){ regs[REG_R10], regs[REG_R8], regs[REG_R9] });
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
}

/*
 * Begins with the struct in rdi, on its stack. In the end rcx and r11 alone are other than they
 * were, as the kernel leaves them; the stack is another call's when nothing of it is
 * needed any more. The thread's own alternate stack can be set once it is on it: a signal in
 * between comes to ours, of which the struct alone is still needed.
 */
void trap_enter(void);
/* clang-format off */
__asm__(".text\n"
	".type trap_enter,@function\n"
	".globl trap_enter\n"
	".hidden trap_enter\n"
	"trap_enter:\n"
	"	.cfi_startproc\n"
	"	.cfi_undefined rip\n"
	"	mov %rdi, %rbx\n"
	"	mov trap_state_parts(%rip), %eax\n"
	"	xor %edx, %edx\n"
	"	xsave64 256(%rbx)\n"
	"	call trap_run\n"
	"	mov trap_state_parts(%rip), %eax\n"
	"	xor %edx, %edx\n"
	"	xrstor64 256(%rbx)\n"
	"	pushq 136(%rbx)\n"
	"	popfq\n"
	"	mov 120(%rbx), %rsp\n"
	"	mov 216(%rbx), %rcx\n"
	"	jrcxz 1f\n"
	"	lea 200(%rbx), %rdi\n"
	"	mov $0, %esi\n" /* which keeps the flags */
	"	mov $131, %eax\n"
	"	syscall\n"
	"1:	mov %rbx, %r11\n"
	"	mov 0(%r11), %r8\n"
	"	mov 8(%r11), %r9\n"
	"	mov 16(%r11), %r10\n"
	"	mov 32(%r11), %r12\n"
	"	mov 40(%r11), %r13\n"
	"	mov 48(%r11), %r14\n"
	"	mov 56(%r11), %r15\n"
	"	mov 64(%r11), %rdi\n"
	"	mov 72(%r11), %rsi\n"
	"	mov 80(%r11), %rbp\n"
	"	mov 88(%r11), %rbx\n"
	"	mov 96(%r11), %rdx\n"
	"	mov 104(%r11), %rax\n"
	"	mov 128(%r11), %rcx\n"
	"	movl $0, 184(%r11)\n"
	"	jmp *%rcx\n"
	"	.cfi_endproc\n"
	".size trap_enter, . - trap_enter\n");
/* clang-format on */

/* ---- the signal ---- */

static struct stack *new_stack(void)
{
	struct stack *stack;
	char *memory;
	long at;

	if (atomic_fetch_add(&stack_count, 1) >= STACKS_MAX) {
		atomic_fetch_sub(&stack_count, 1);
		return NULL;
	}
	at = raw_syscall(SYS_mmap, NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (at == -1) {
		atomic_fetch_sub(&stack_count, 1);
		return NULL;
	}
	memory = (char *)at;
	raw_syscall(SYS_mprotect, memory, GUARD_BYTES, PROT_NONE);
	stack = (struct stack *)(memory + GUARD_BYTES + STACK_BYTES) - 1;
	atomic_store(&stack->is_busy, 1);
	stack->next = atomic_load(&stacks);
	while (!atomic_compare_exchange_weak(&stacks, &stack->next, stack))
		;
	return stack;
}

static struct stack *take_stack(void)
{
	int expected;

	for (struct stack *stack = atomic_load(&stacks); stack; stack = stack->next) {
		expected = 0;
		if (atomic_compare_exchange_strong(&stack->is_busy, &expected, 1))
			return stack;
	}
	return new_stack();
}

/* Somebody else's signal. */
static void pass_on(int signal, siginfo_t *info, void *context)
{
	struct sigaction behind = programs[atomic_load(&programs_at)];
	struct sigaction end = { .sa_handler = SIG_DFL };

	if (behind.sa_flags & SA_SIGINFO) {
		behind.sa_sigaction(signal, info, context);
	} else if (behind.sa_handler != SIG_DFL && behind.sa_handler != SIG_IGN) {
		behind.sa_handler(signal);
	} else if (behind.sa_handler == SIG_DFL || info->si_code > 0) {
		libc.sigaction(signal, &end, NULL);
		raw_syscall(SYS_tgkill, getpid(), raw_syscall(SYS_gettid), signal);
	}
}

/* Is the thread on its alternate stack, as the kernel sees it? */
static bool is_on(const stack_t *alternate, uintptr_t sp)
{
	uintptr_t from = (uintptr_t)alternate->ss_sp;

	return !((unsigned)alternate->ss_flags & AUTODISARM) && sp > from &&
	       sp - from <= alternate->ss_size;
}

/* As it stands, for what is no library's, or cannot be taken care of. */
static void start_plainly(ucontext_t *before)
{
	greg_t *regs = before->uc_mcontext.gregs;
	uint64_t ours;

	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before->uc_sigmask, &ours, sizeof(ours));
	regs[REG_RAX] = raw_call(regs[REG_RAX], regs[REG_RDI], regs[REG_RSI], regs[REG_RDX],
				 (const long[]){ regs[REG_R10], regs[REG_R8], 0 });
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &ours, NULL, sizeof(ours));
}

static void trapped(int signal, siginfo_t *info, void *context)
{
	ucontext_t *before = context;
	greg_t *regs = before->uc_mcontext.gregs;
	int saved = errno;
	struct stack *stack;

	if (info->si_code != 1 /* SYS_SECCOMP */ || info->si_errno != TRAP_MARK) {
		pass_on(signal, info, context);
		return;
	}
	if (info->si_arch != AUDIT_ARCH_X86_64) {
		regs[REG_RAX] = -ENETUNREACH; /* of 32-bit programs, from our code */
		return;
	}
	if (starts_program(regs[REG_RAX]) &&
	    !(has_tid_address && is_ours((uintptr_t)regs[REG_RIP]))) {
		start_plainly(before);
		errno = saved;
		return;
	}
	stack = take_stack();
	errno = saved;
	if (!stack) {
		regs[REG_RAX] = -ENOMEM;
		return;
	}
	memcpy(stack->regs, regs, sizeof(stack->regs));
	stack->alternate.ss_size = 0;
	if (is_on(&before->uc_stack, (uintptr_t)regs[REG_RSP])) {
		stack->alternate = before->uc_stack;
		memcpy(&stack->mask, &before->uc_sigmask, sizeof(stack->mask));
		memset(&before->uc_sigmask, 0xff, sizeof(stack->mask)); /* until it has moved */
	}
	regs[REG_RIP] = (greg_t)trap_enter;
	regs[REG_RDI] = (greg_t)stack;
	regs[REG_RSP] = (greg_t)stack & ~(greg_t)15;
	regs[REG_EFL] &= ~(greg_t)0x400; /* as functions expect it */
}

/* ---- before it ---- */

/* Which parts of the processor's state functions of C may change; 0: it cannot save them. */
static uint32_t state_parts(void)
{
	unsigned a, b, c = 0, d;
	uint32_t low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low & STATE_PARTS;
}

static int set_handler(void)
{
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	int *clears;
	sigset_t unblocked;

	has_tid_address = prctl(PR_GET_TID_ADDRESS, &clears) == 0;
	trap_state_parts = state_parts();
	if (!trap_state_parts)
		return -ENOSYS;
	sigfillset(&action.sa_mask);
	if (!atomic_load(&has_handler) && libc.sigaction(SIGSYS, &action, &programs[0]) < 0)
		return -errno;
	atomic_store(&has_handler, true);
	sigemptyset(&unblocked);
	sigaddset(&unblocked, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &unblocked, NULL);
	return 0;
}

/* Is what lies at an address in one program elsewhere in the next? */
static bool is_random(void)
{
	char digit = '0';
	int fd, now = personality(0xffffffff);

	if (now >= 0 && (now & ADDR_NO_RANDOMIZE))
		return false;
	fd = (int)raw_syscall(SYS_openat, AT_FDCWD, "/proc/sys/kernel/randomize_va_space",
			      O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return true; /* the kernel's default */
	if (raw_syscall(SYS_read, fd, &digit, 1) != 1)
		digit = '2';
	raw_syscall(SYS_close, fd);
	return digit != '0';
}

static int install(const struct sock_fprog *filter)
{
	long result = raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
				  filter);

	if (result < 0 && errno == EACCES) {
		/* Without privilege only who can gain none may have a filter. */
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
			return -errno;
		result = raw_syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				     SECCOMP_FILTER_FLAG_TSYNC, filter);
	}
	/* A positive one is a thread that has another filter than we. */
	return result < 0 ? -errno : result > 0 ? -EBUSY : 0;
}

/* For addresses with the same upper half, as the filter sees them. */
static int install_for(uintptr_t from, uintptr_t to)
{
	struct sock_filter words[TRACE_FILTER_MAX];
	struct sock_fprog filter = { .filter = words };

	filter.len = (unsigned short)trace_filter_for_code(words, from, to,
							   SECCOMP_RET_TRAP | TRAP_MARK);
	return install(&filter);
}

int trap_arm(uintptr_t from, uintptr_t to)
{
	unsigned n = atomic_load(&code_count);
	int err;

	if (is_known(from, to))
		return 0;
	if (n == CODE_MAX)
		return -ENOBUFS;
	if (!is_random())
		return -ENOTSUP;
	err = set_handler();
	if (err)
		return err;
	code[n] = (struct code){ from, to };
	atomic_store_explicit(&code_count, n + 1, memory_order_release);
	while (!err && from < to) {
		uintptr_t end = MIN(to, from | UINT32_MAX);

		err = install_for(from, end);
		from = end + 1;
	}
	if (err)
		atomic_store(&code_count, n);
	else
		atomic_store(&is_armed, true);
	return err;
}

void trap_inherit(void)
{
	if (set_handler() == 0)
		atomic_store(&is_armed, true);
}

bool trap_is_armed(void)
{
	return atomic_load_explicit(&is_armed, memory_order_relaxed);
}

bool trap_is_possible(void)
{
	return true;
}

bool trap_has_handler(void)
{
	return atomic_load_explicit(&has_handler, memory_order_relaxed);
}

/* One thread at a time, and nothing interrupts it; one from before a fork may never end. */
void trap_put_behind(const struct sigaction *action, struct sigaction *old)
{
	const uint64_t all = UINT64_MAX;
	struct sigaction next = { 0 }, now;
	uint64_t mask;
	unsigned at;

	if (action)
		next = *action;
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
	for (int i = 0; i < PATIENCE && atomic_exchange(&is_changing, true); i++)
		raw_syscall(SYS_sched_yield);
	at = atomic_load(&programs_at);
	now = programs[at];
	if (action) {
		programs[!at] = next;
		atomic_store(&programs_at, !at);
	}
	atomic_store(&is_changing, false);
	raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
	if (old)
		*old = now;
}
#else
int trap_arm(uintptr_t from, uintptr_t to)
{
	(void)from;
	(void)to;
	return -ENOSYS;
}

void trap_inherit(void)
{
}

bool trap_is_armed(void)
{
	return false;
}

bool trap_is_possible(void)
{
	return false;
}

bool trap_has_handler(void)
{
	return false;
}

void trap_put_behind(const struct sigaction *action, struct sigaction *old)
{
	(void)action;
	(void)old;
}
#endif
