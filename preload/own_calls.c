/*
 * System call instructions are rare in dynamic programs: calls are libc's. Rust's
 * rustix makes its own, and through it smol and async-std; so do Zig, and C with inline
 * assembly. Three shapes are recognised:
 *
 *  1. "mov $42, %eax" and, within the few instructions that load the arguments,
 *     "syscall". That is what compilers make of every inlined call; without optimisation
 *     the number goes by way of the stack.
 *  2. "mov $42, %edi; call f", where f begins with a system call whose number is
 *     not to be seen there: a function that takes the number, not inlined.
 *  3. The same where f does nothing but return its argument, and there are system calls
 *     with a number from memory or another function: rustix without optimisation.
 *
 * Bytes are not decoded into instructions from a function's start, which nobody knows in a
 * stripped file: code is searched for the call's own bytes, and looked at backwards
 * from there. The shapes are long enough to meet none by chance (not one of a
 * thousand ordinary programs was one, with 6,000 of the two bytes of "syscall" among
 * them). The number's last load counts, so a call of another number is no network call.
 *
 * Calls count that begin a conversation. Who makes no others than sendmsg() and recvmsg() hands
 * descriptors to other processes (uv does), and libc's connect() and bind() are replaced.
 *
 * Rejected: tracing whatever has a system call instruction (cargo, git's and gcc's tools
 * would be traced for a futex); names of symbols (programs are stripped); a trap on system calls
 * from outside libc at run time (it lets through one range of addresses only, and
 * costs every call of a program that has two).
 */
#include "preload/own_calls.h"

#include <elf.h>
#include <stdint.h>
#include <string.h>

#include "shared/util.h"

/* Code of one segment. Calls within it are relative, so no address is needed. */
struct segment {
	struct program_file *file;
	uint8_t *room;      /* where it is not in memory */
	size_t offset, len; /* in the file */
};

/* As much of it as there is room for. */
struct code {
	const uint8_t *bytes;
	size_t len;
	const struct segment *segment;
	size_t at; /* in that */
};

/* What has been seen that matters only if there is something else, too. */
struct seen {
	bool has_taken, has_general;   /* a call whose number comes from elsewhere */
	bool has_handed, has_returned; /* a number on its way, as in shape 2, and in 3 */
	size_t rest; /* the latter was not looked for up to here; at first nowhere at all */
};

/* Says whether a network call is in code, between from and to; around them there is more to see. */
typedef bool looker(const struct code *code, size_t from, size_t to, struct seen *seen);

#define NO_NUMBER    (-1)
#define BEHIND       512 /* what is looked at before a call, and more; all three are whole words */
#define AHEAD        128 /* and behind it */
#define FUNCTION_LEN 176 /* what is looked at of another function, and of what is before it */
#define LEAD         4   /* the latter */

/* The code from here on, in the segment's room if it is not in memory. False: there is none. */
static bool code_at(const struct segment *segment, size_t at, struct code *code)
{
	struct program_file *file = segment->file;
	size_t len = segment->len - at;

	*code = (struct code){ .segment = segment, .at = at };
	if (file->bytes) {
		code->bytes = (const uint8_t *)file->bytes + segment->offset + at;
		code->len = len;
	} else {
		code->bytes = segment->room;
		code->len = program_file_read(file, segment->offset + at, segment->room,
					      MIN(len, OWN_CALLS_ROOM));
	}
	return code->len > 0;
}

/* All of it up to end, piece by piece. A file that has become shorter meanwhile ends there. */
static bool look_through(const struct segment *segment, size_t end, looker *look, struct seen *seen)
{
	size_t at = 0, from = 0, to;
	struct code code;
	bool is_last = false;

	while (!is_last && at + from < end && code_at(segment, at, &code)) {
		is_last = code.len == segment->len - at || code.len <= BEHIND + AHEAD;
		to = is_last ? code.len : code.len - AHEAD;
		if (look(&code, from, to, seen))
			return true;
		at += to - BEHIND;
		from = BEHIND;
	}
	return false;
}

/* The function at start, in room. Where it begins there. */
static size_t function_at(const struct code *code, size_t start, uint8_t room[static FUNCTION_LEN],
			  struct code *function)
{
	const struct segment *segment = code->segment;
	size_t lead = MIN(start, (size_t)LEAD), from = start - lead;

	function->bytes = room;
	function->len = program_file_read(segment->file, segment->offset + from, room,
					  MIN(segment->len - from, (size_t)FUNCTION_LEN));
	return MIN(lead, function->len);
}

/* ---- x86-64 ---- */

#define X86_LOADS_LEN    64 /* from the number's load to the call, with six arguments from memory */
#define X86_ARGS_LEN     48 /* from "mov $42, %edi" to "call", the same */
#define X86_BEGINNING    160 /* of a function that takes the number */
#define X86_IDENTITY_LEN 16  /* of one that returns its argument */
#define X86_NUMBER_TAKEN 40  /* from its load to the call, in such a function */
#define X86_LAST_LOAD    8   /* the same, where it is the last argument loaded */
#define X86_PUT_LEN      192 /* from a number's way into a variable to its load */
#define X86_NUMBERS      1024

static bool x86_is_network(int number)
{
	switch (number) {
	case 42:  /* connect */
	case 43:  /* accept */
	case 44:  /* sendto */
	case 49:  /* bind */
	case 288: /* accept4 */
	case 299: /* recvmmsg */
	case 307: /* sendmmsg */
		return true;
	default:
		return false;
	}
}

/* A number of a system call in four bytes; NO_NUMBER: another. */
static int x86_immediate(const uint8_t *at)
{
	uint32_t n = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;

	return n < X86_NUMBERS ? (int)n : NO_NUMBER;
}

/* The number that these bytes load into eax; there is a byte before them. */
static int x86_loaded(const uint8_t *at, size_t len)
{
	/* mov $n, %eax; with a prefix before it, it is another register's. */
	if (len >= 5 && at[0] == 0xb8 && (at[-1] & 0xf1) != 0x41)
		return x86_immediate(at + 1);
	/* mov $n, %rax */
	if (len >= 7 && at[0] == 0x48 && at[1] == 0xc7 && at[2] == 0xc0)
		return x86_immediate(at + 3);
	/* push $n; pop %rax */
	if (len >= 3 && at[0] == 0x6a && at[1] < 0x80 && at[2] == 0x58)
		return at[1];
	return NO_NUMBER;
}

/* mov d(%rbp), %eax, at at: the number that was put there, mov $n, d(%rbp), not before first. */
static int x86_put(const struct code *code, size_t first, size_t at)
{
	const uint8_t *b = code->bytes;

	for (size_t i = MAX(first, at > X86_PUT_LEN ? at - X86_PUT_LEN : 0); i + 7 <= at; i++)
		if (b[i] == 0xc7 && b[i + 1] == 0x45 && b[i + 2] == b[at + 2] &&
		    x86_immediate(b + i + 3) != NO_NUMBER)
			return x86_immediate(b + i + 3);
	return NO_NUMBER;
}

/* The number of the call at call, if it is there to be seen, not before first. */
static int x86_number(const struct code *code, size_t first, size_t call)
{
	size_t end = call > X86_LOADS_LEN ? call - X86_LOADS_LEN : 0;
	const uint8_t *b = code->bytes;
	int number = NO_NUMBER;

	end = MAX(MAX(end, first), 1);
	for (size_t at = call; at > end && number == NO_NUMBER; at--) {
		number = x86_loaded(b + at - 1, call - (at - 1));
		if (number == NO_NUMBER && call - (at - 1) >= 3 &&
		    (b[at - 1] == 0x8b || b[at - 1] == 0x63) && b[at] == 0x45)
			number = x86_put(code, first, at - 1);
	}
	return number;
}

/* Does an instruction of these bytes give eax a number out of memory, or its function's argument?
 */
static bool x86_takes(const uint8_t *at)
{
	switch (at[0]) {
	case 0x63:                 /* movslq: the same with a sign, and */
		if (at[1] == 0xc7) /* %edi, %rax */
			return true;
		/* fall through */
	case 0x8b: /* mov n(%rbp), %eax; mov n(%rsp), %eax; both with a byte or a word for n */
		return at[1] == 0x45 || at[1] == 0x85 ||
		       ((at[1] == 0x44 || at[1] == 0x84) && at[2] == 0x24);
	case 0x89: /* mov %edi, %eax */
		return at[1] == 0xf8;
	default:
		return false;
	}
}

/* Not before first, and at most most bytes before the call? */
static bool x86_is_taken(const struct code *code, size_t first, size_t call, size_t most)
{
	size_t at = MAX(first, call > most ? call - most : 0);

	for (; at + 3 <= call; at++)
		if (x86_takes(code->bytes + at))
			return true;
	return false;
}

/* Does the number of the call at call come from the stack, or from the function just called? */
static bool x86_is_general(const struct code *code, size_t call)
{
	return x86_is_taken(code, 0, call, X86_LAST_LOAD) ||
	       (call >= 5 && code->bytes[call - 5] == 0xe8);
}

/*
 * "syscall", and not the two low bytes of a distance, which a third one follows: no
 * compiler begins an instruction with 0.
 */
static bool x86_is_syscall(const uint8_t *at, size_t len)
{
	return len >= 2 && at[0] == 0x0f && at[1] == 0x05 && (len < 3 || at[2] != 0x00) &&
	       (len < 4 || at[2] != 0xff || at[3] != 0xff);
}

/* Many bytes at once, of which hardly any hold what is looked for. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

static bytes16 x86_syscalls_in_16(const uint8_t *at)
{
	bytes16 here, next;

	memcpy(&here, at, sizeof(here));
	memcpy(&next, at + 1, sizeof(next));
	return (here == 0x0f) & (next == 0x05);
}

static bool x86_has_syscall_in_64(const uint8_t *at)
{
	words2 any = (words2)(x86_syscalls_in_16(at) | x86_syscalls_in_16(at + 16) |
			      x86_syscalls_in_16(at + 32) | x86_syscalls_in_16(at + 48));

	return any[0] | any[1];
}

/* Where the next "syscall" begins, from at on; end: there is none. */
static size_t x86_next_syscall(const struct code *code, size_t at, size_t end)
{
	while (at < end) {
		while (end - at > 64 && !x86_has_syscall_in_64(code->bytes + at))
			at += 64;
		for (size_t i = 0; i < 64 && at < end; i++, at++)
			if (x86_is_syscall(code->bytes + at, end - at))
				return at;
	}
	return end;
}

/* Is the function at start one that makes the system call whose number it is given? */
static bool x86_takes_number(const struct code *code, size_t start)
{
	size_t end = start + MIN(code->len - start, (size_t)X86_BEGINNING), at;

	at = x86_next_syscall(code, start, end);
	return at < end && x86_number(code, start, at) == NO_NUMBER &&
	       x86_is_taken(code, start, at, X86_NUMBER_TAKEN);
}

/* mov %edi, %eax; (pop %rbp;) ret */
static bool x86_returns_argument(const struct code *code, size_t start)
{
	size_t end = start + MIN(code->len - start, (size_t)X86_IDENTITY_LEN);
	const uint8_t *b = code->bytes;

	for (size_t at = start; at + 4 <= end; at++)
		if (b[at] == 0x89 && b[at + 1] == 0xf8)
			return b[at + 2] == 0xc3 || (b[at + 2] == 0x5d && b[at + 3] == 0xc3);
	return false;
}

/* Where in the segment the "call" at at leads to; its length: out of it. */
static size_t x86_target(const struct code *code, size_t at)
{
	const uint8_t *b = code->bytes + at + 1;
	int32_t way =
		(int32_t)(b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24);
	int64_t to = (int64_t)(code->at + at) + 5 + way;

	return to >= 0 && to < (int64_t)code->segment->len ? (size_t)to : code->segment->len;
}

/* The number in edi, loaded up to at: is it handed to a function that makes a call of it? */
static void x86_hand_on(const struct code *code, size_t at, struct seen *seen)
{
	size_t end = at + MIN(code->len - at, (size_t)X86_ARGS_LEN), target, start;
	uint8_t room[FUNCTION_LEN];
	struct code function;

	for (size_t call = at; call + 5 <= end; call++) {
		if (code->bytes[call] != 0xe8)
			continue;
		target = x86_target(code, call);
		if (target == code->segment->len)
			continue;
		start = function_at(code, target, room, &function);
		seen->has_handed |= x86_takes_number(&function, start);
		seen->has_returned |= call == at && x86_returns_argument(&function, start);
		return;
	}
}

/* mov $n, %edi */
static bool x86_handed_on(const struct code *code, size_t at, size_t to, struct seen *seen)
{
	size_t end = MIN(to, code->len > 9 ? code->len - 9 : 0);
	const uint8_t *b = code->bytes, *found;

	while (at < end && (found = memchr(b + at, 0xbf, end - at))) {
		at = (size_t)(found - b);
		if (x86_is_network(x86_immediate(found + 1)))
			x86_hand_on(code, at + 5, seen);
		at++;
	}
	return seen->has_handed || (seen->has_general && seen->has_returned);
}

static bool x86_calls(const struct code *code, size_t from, size_t to, struct seen *seen)
{
	int number;

	for (size_t at = x86_next_syscall(code, from, code->len); at < to;
	     at = x86_next_syscall(code, at + 2, code->len)) {
		number = x86_number(code, 0, at);
		if (x86_is_network(number))
			return true;
		if (number != NO_NUMBER)
			continue;
		seen->has_taken |= x86_is_taken(code, 0, at, X86_NUMBER_TAKEN);
		seen->has_general |= x86_is_general(code, at);
	}
	if (!seen->has_taken && !seen->has_general)
		return false;
	seen->rest = MIN(seen->rest, code->at + from);
	return x86_handed_on(code, from, to, seen);
}

static bool x86_look(const struct segment *segment)
{
	struct seen seen = { .rest = SIZE_MAX };

	return look_through(segment, SIZE_MAX, x86_calls, &seen) ||
	       (seen.rest != SIZE_MAX && look_through(segment, seen.rest, x86_handed_on, &seen));
}

/* ---- arm64 ---- */

#define ARM_SVC       0xd4000001u /* svc #0 */
#define ARM_LOADS     24          /* instructions from the number's load to the call */
#define ARM_ARGS      12
#define ARM_BEGINNING 40
#define ARM_W8        8
#define ARM_W0        0

static bool arm_is_network(int number)
{
	switch (number) {
	case 200: /* bind */
	case 202: /* accept */
	case 203: /* connect */
	case 206: /* sendto */
	case 242: /* accept4 */
	case 243: /* recvmmsg */
	case 269: /* sendmmsg */
		return true;
	default:
		return false;
	}
}

static uint32_t arm_instruction(const struct code *code, size_t i)
{
	const uint8_t *at = code->bytes + 4 * i;

	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* The number that mov loads into this register, of 32 or 64 bits. */
static int arm_loaded(uint32_t instruction, unsigned reg)
{
	return (instruction & 0x7fe0001f) == (0x52800000 | reg) ? (int)(instruction >> 5 & 0xffff)
								: NO_NUMBER;
}

static int arm_number(const struct code *code, size_t first, size_t call)
{
	size_t end = call > ARM_LOADS ? call - ARM_LOADS : 0;
	int number = NO_NUMBER;

	for (size_t i = call; i > MAX(end, first) && number == NO_NUMBER; i--)
		number = arm_loaded(arm_instruction(code, i - 1), ARM_W8);
	return number;
}

static bool arm_takes_number(const struct code *code, size_t start)
{
	size_t end = MIN(start + ARM_BEGINNING, code->len / 4);

	for (size_t i = start; i < end; i++)
		if (arm_instruction(code, i) == ARM_SVC)
			return arm_number(code, start, i) == NO_NUMBER;
	return false;
}

/* The number in w0, loaded before at. */
static bool arm_is_handed_on(const struct code *code, size_t at)
{
	size_t end = MIN(at + ARM_ARGS, code->len / 4), start;
	uint8_t room[FUNCTION_LEN];
	struct code function;
	uint32_t instruction;
	int64_t target;

	for (size_t i = at; i < end; i++) {
		instruction = arm_instruction(code, i);
		if (instruction >> 26 != 0x25) /* bl */
			continue;
		target = (int64_t)(code->at / 4 + i) + ((int32_t)(instruction << 6) >> 6);
		if (target < 0 || target >= (int64_t)(code->segment->len / 4))
			return false;
		start = function_at(code, 4 * (size_t)target, room, &function);
		return arm_takes_number(&function, start / 4);
	}
	return false;
}

static bool arm_calls(const struct code *code, size_t from, size_t to, struct seen *seen)
{
	int number;

	for (size_t i = from / 4; i < to / 4; i++) {
		if (arm_instruction(code, i) != ARM_SVC)
			continue;
		number = arm_number(code, 0, i);
		if (arm_is_network(number))
			return true;
		seen->has_taken |= number == NO_NUMBER;
	}
	return false;
}

static bool arm_handed_on(const struct code *code, size_t from, size_t to, struct seen *seen)
{
	(void)seen;
	for (size_t i = from / 4; i < to / 4; i++)
		if (arm_is_network(arm_loaded(arm_instruction(code, i), ARM_W0)) &&
		    arm_is_handed_on(code, i + 1))
			return true;
	return false;
}

static bool arm_look(const struct segment *segment)
{
	struct seen seen = { .rest = SIZE_MAX };

	return look_through(segment, SIZE_MAX, arm_calls, &seen) ||
	       (seen.has_taken && look_through(segment, SIZE_MAX, arm_handed_on, &seen));
}

/* ---- the file ---- */

static bool look(unsigned machine, const struct segment *segment)
{
	return machine == EM_X86_64    ? x86_look(segment)
	       : machine == EM_AARCH64 ? arm_look(segment)
				       : false;
}

bool own_calls_in_code(const void *bytes, size_t len)
{
	struct program_file file = program_file_of_bytes(bytes, len);
	const struct segment segment = { &file, NULL, 0, len };

#if defined(__x86_64__)
	return x86_look(&segment);
#elif defined(__aarch64__)
	return arm_look(&segment);
#else
	(void)segment;
	return false;
#endif
}

bool own_calls_in_file(struct program_file *file, uint8_t *room)
{
	size_t left = OWN_CALLS_CODE_MAX;
	struct segment segment;
	Elf64_Ehdr head;
	Elf64_Phdr part;

	if (program_file_read(file, 0, &head, sizeof(head)) != sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_ident[EI_DATA] != ELFDATA2LSB)
		return false;
	if (head.e_phentsize != sizeof(part) || head.e_phoff > file->len ||
	    (file->len - head.e_phoff) / sizeof(part) < head.e_phnum)
		return false;
	for (unsigned i = 0; i < head.e_phnum && left > 0; i++) {
		if (program_file_read(file, head.e_phoff + i * sizeof(part), &part, sizeof(part)) !=
		    sizeof(part))
			return false;
		if (part.p_type != PT_LOAD || !(part.p_flags & PF_X) || part.p_offset >= file->len)
			continue;
		segment = (struct segment){ file, room, part.p_offset,
					    MIN(MIN(part.p_filesz, file->len - part.p_offset),
						left) };
		left -= segment.len;
		if (look(head.e_machine, &segment))
			return true;
	}
	return false;
}

bool own_calls_found(const void *bytes, size_t len)
{
	struct program_file file = program_file_of_bytes(bytes, len);

	return own_calls_in_file(&file, NULL);
}
