/*
 * Coroutines.
 *
 * A trapped call is answered by the shim's own functions, which make several
 * system calls, each of which is a round trip through the traced program. On a
 * stack of its own such a function can be left in the middle, so that one thread
 * serves all programs (only the tracing thread may use ptrace) and the
 * translation is written once, as straight code.
 *
 * Rejected: ucontext, which musl lacks and which makes a system call a switch;
 * a thread a call, which costs two more context switches a system call.
 */
#include "preload/trace_stack.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#define STACK_BYTES ((size_t)256 * 1024)
#define GUARD_BYTES ((size_t)65536) /* a multiple of every page size */
#define MAX_SPARE   64

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
void __asan_unpoison_memory_region(void const volatile *memory, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *size);
#endif

/* Lies at the top of its own stack. */
struct trace_stack {
	void (*run)(void *arg);
	void *arg;
	void *pointer; /* of the stack, while it does not run */
	char *memory;
	bool is_done;
	struct trace_stack *next_spare;
};

static struct trace_stack *entered; /* the one that runs; NULL: we are outside */
static void *outside;               /* the stack pointer to come back to */
static struct trace_stack *spare;
static unsigned spare_count;
#ifdef WITH_ASAN
static const void *outside_bottom;
static size_t outside_size;
#endif

/* Saves what a call must keep, changes the stack, and returns on the other one. */
void trace_stack_switch(void **from, void *to) __asm__("trace_stack_switch");
#if defined(__x86_64__)
__asm__(".text\n.type trace_stack_switch,@function\n.hidden trace_stack_switch\n"
	".globl trace_stack_switch\n"
	"trace_stack_switch:\n"
	"push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
	"mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
	"pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
	"ret\n"
	".size trace_stack_switch,.-trace_stack_switch\n");
#define SAVED_WORDS 7 /* the return address comes last */
#define RETURN_WORD 6
#define ENTRY_WORDS 8 /* a function begins with its stack 8 past a multiple of 16 */
#elif defined(__aarch64__)
__asm__(".text\n.type trace_stack_switch,%function\n.hidden trace_stack_switch\n"
	".globl trace_stack_switch\n"
	"trace_stack_switch:\n"
	"sub sp,sp,#160\n"
	"stp x19,x20,[sp,#0]\n stp x21,x22,[sp,#16]\n stp x23,x24,[sp,#32]\n"
	"stp x25,x26,[sp,#48]\n stp x27,x28,[sp,#64]\n stp x29,x30,[sp,#80]\n"
	"stp d8,d9,[sp,#96]\n stp d10,d11,[sp,#112]\n stp d12,d13,[sp,#128]\n"
	"stp d14,d15,[sp,#144]\n"
	"mov x9,sp\n str x9,[x0]\n mov sp,x1\n"
	"ldp x19,x20,[sp,#0]\n ldp x21,x22,[sp,#16]\n ldp x23,x24,[sp,#32]\n"
	"ldp x25,x26,[sp,#48]\n ldp x27,x28,[sp,#64]\n ldp x29,x30,[sp,#80]\n"
	"ldp d8,d9,[sp,#96]\n ldp d10,d11,[sp,#112]\n ldp d12,d13,[sp,#128]\n"
	"ldp d14,d15,[sp,#144]\n"
	"add sp,sp,#160\n ret\n"
	".size trace_stack_switch,.-trace_stack_switch\n");
#define SAVED_WORDS 20
#define RETURN_WORD 11
#define ENTRY_WORDS 20
#else
#error "write trace_stack_switch() for this machine, or build without tracing"
#endif

static void switch_out(void)
{
	struct trace_stack *self = entered;
#ifdef WITH_ASAN
	void *fake;

	__sanitizer_start_switch_fiber(self->is_done ? NULL : &fake, outside_bottom, outside_size);
#endif
	trace_stack_switch(&self->pointer, outside);
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(fake, &outside_bottom, &outside_size);
#endif
}

static void begin(void)
{
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(NULL, &outside_bottom, &outside_size);
#endif
	entered->run(entered->arg);
	entered->is_done = true;
	switch_out();
	__builtin_unreachable();
}

static char *map_memory(void)
{
	char *memory = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	if (mprotect(memory + GUARD_BYTES, STACK_BYTES, PROT_READ | PROT_WRITE) == 0)
		return memory;
	munmap(memory, STACK_BYTES + GUARD_BYTES);
	return NULL;
}

static struct trace_stack *take_spare(void)
{
	struct trace_stack *stack = spare;

	if (stack) {
		spare = stack->next_spare;
		spare_count--;
	}
	return stack;
}

struct trace_stack *trace_stack_create(void (*run)(void *arg), void *arg)
{
	struct trace_stack *stack = take_spare();
	uintptr_t *words;
	char *memory;

	if (!stack) {
		memory = map_memory();
		if (!memory)
			return NULL;
		stack = (struct trace_stack *)(memory + GUARD_BYTES + STACK_BYTES) - 1;
		stack->memory = memory;
	}
#ifdef WITH_ASAN
	/* Frames that were left in the middle have not cleaned up after themselves. */
	__asan_unpoison_memory_region(stack->memory + GUARD_BYTES, STACK_BYTES);
#endif
	stack->run = run;
	stack->arg = arg;
	stack->is_done = false;
	/* Below us, and so that begin() finds the stack aligned as after a call. */
	words = (uintptr_t *)(((uintptr_t)stack - 64) & ~(uintptr_t)15) - ENTRY_WORDS;
	for (int i = 0; i < SAVED_WORDS; i++)
		words[i] = 0;
	words[RETURN_WORD] = (uintptr_t)begin;
	stack->pointer = words;
	return stack;
}

bool trace_stack_enter(struct trace_stack *stack)
{
#ifdef WITH_ASAN
	void *fake;

	__sanitizer_start_switch_fiber(&fake, stack->memory + GUARD_BYTES, STACK_BYTES);
#endif
	entered = stack;
	trace_stack_switch(&outside, stack->pointer);
	entered = NULL;
#ifdef WITH_ASAN
	__sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
	return stack->is_done;
}

void trace_stack_leave(void)
{
	int saved = errno;

	switch_out();
	errno = saved;
}

void trace_stack_destroy(struct trace_stack *stack)
{
	if (!stack)
		return;
	if (spare_count < MAX_SPARE) {
		stack->next_spare = spare;
		spare = stack;
		spare_count++;
		return;
	}
	munmap(stack->memory, STACK_BYTES + GUARD_BYTES);
}
