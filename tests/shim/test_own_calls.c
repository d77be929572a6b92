/* Programs that make network calls of their own, as compilers write them, and ones that do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/own_calls.h"

#define CODE_MAX 1024
#define BYTES(x) (x), sizeof(x) - 1

struct file {
	Elf64_Ehdr head;
	Elf64_Phdr part[2];
	uint8_t code[CODE_MAX];
};

static struct file program(unsigned machine, const void *code, size_t len)
{
	struct file f = { .head = { .e_machine = (Elf64_Half)machine,
				    .e_phoff = offsetof(struct file, part),
				    .e_phentsize = sizeof(Elf64_Phdr),
				    .e_phnum = 2 },
			  .part = { { .p_type = PT_INTERP },
				    { .p_type = PT_LOAD,
				      .p_flags = PF_R | PF_X,
				      .p_offset = offsetof(struct file, code),
				      .p_filesz = len } } };

	memcpy(f.head.e_ident, ELFMAG, SELFMAG);
	f.head.e_ident[EI_CLASS] = ELFCLASS64;
	f.head.e_ident[EI_DATA] = ELFDATA2LSB;
	assert_true(len <= CODE_MAX);
	memcpy(f.code, code, len);
	return f;
}

/* Behind some other code, at each place relative to blocks of 64 bytes; the verdict must be the
 * same. */
static bool is_found(unsigned machine, const void *code, size_t len)
{
	size_t step = machine == EM_X86_64 ? 1 : 4, found = 0, tries = 0;
	uint8_t bytes[CODE_MAX];
	struct file f;

	for (size_t before = step; before < 160; before += step, tries++) {
		memset(bytes, machine == EM_X86_64 ? 0x90 : 0, sizeof(bytes));
		memcpy(bytes + before, code, len);
		f = program(machine, bytes, before + len);
		found += own_calls_found(&f, offsetof(struct file, code) + before + len);
	}
	assert_true(found == 0 || found == tries);
	return found;
}

/* 42 is connect, 1 write. */
static void test_an_inlined_call_is_seen(void **state)
{
	(void)state;
	/* mov $42, %eax; mov %rbx, %rsi; syscall: rustix, optimised */
	assert_true(is_found(EM_X86_64, BYTES("\xb8\x2a\0\0\0\x48\x89\xde\x0f\x05")));
	/* mov $288, %eax; syscall */
	assert_true(is_found(EM_X86_64, BYTES("\xb8\x20\x01\0\0\x0f\x05\xc3")));
	/* mov $49, %rax; syscall */
	assert_true(is_found(EM_X86_64, BYTES("\x48\xc7\xc0\x31\0\0\0\x0f\x05")));
	/* push $44; pop %rax; syscall: for size */
	assert_true(is_found(EM_X86_64, BYTES("\x6a\x2c\x58\x0f\x05")));
	/* mov $42, %eax; mov $16, %r8d; syscall: that other number is another register's */
	assert_true(is_found(EM_X86_64, BYTES("\xb8\x2a\0\0\0\x41\xb8\x10\0\0\0\x0f\x05")));
	/* movq $42, -8(%rbp); mov -8(%rbp), %rax; mov -16(%rbp), %rdi; syscall: not optimised */
	assert_true(is_found(EM_X86_64, BYTES("\x48\xc7\x45\xf8\x2a\0\0\0\x48\x8b\x45\xf8"
					      "\x48\x8b\x7d\xf0\x0f\x05\x48\x89\x45\xe8")));
}

static void test_other_calls_are_nobodys_business(void **state)
{
	(void)state;
	assert_false(is_found(EM_X86_64, BYTES("\xb8\x01\0\0\0\x0f\x05\xc3")));
	/* mov $46, %eax; syscall: sendmsg, which hands on descriptors */
	assert_false(is_found(EM_X86_64, BYTES("\xb8\x2e\0\0\0\x0f\x05\xc3")));
	/* mov $42, %eax; ret; mov $202, %eax; syscall */
	assert_false(is_found(EM_X86_64, BYTES("\xb8\x2a\0\0\0\xc3\xb8\xca\0\0\0\x0f\x05")));
	/* mov $42, %eax; lea 0x50fc1(%rip), %rdi: there the bytes are a distance */
	assert_false(is_found(EM_X86_64, BYTES("\xb8\x2a\0\0\0\x48\x8d\x3d\xc1\x0f\x05\x00\xc3")));
	assert_false(is_found(EM_X86_64, BYTES("\xb8\x2a\0\0\0\xe8\x0f\x05\xff\xff")));
	/* mov $42, %r8d; syscall */
	assert_false(is_found(EM_X86_64, BYTES("\x41\xb8\x2a\0\0\0\x0f\x05")));
	assert_false(is_found(EM_X86_64, BYTES("\x0f\x05")));
	/* movq $42, -8(%rbp); mov -16(%rbp), %rax; syscall */
	assert_false(
		is_found(EM_X86_64, BYTES("\x48\xc7\x45\xf8\x2a\0\0\0\x48\x8b\x45\xf0\x0f\x05")));
}

static void test_a_number_far_from_its_call_is_not_the_calls(void **state)
{
	uint8_t code[128];

	(void)state;
	memset(code, 0x90, sizeof(code));
	memcpy(code, "\xb8\x2a\0\0\0", 5);
	memcpy(code + sizeof(code) - 2, "\x0f\x05", 2);
	assert_false(is_found(EM_X86_64, code, sizeof(code)));
}

/* mov $42, %edi; (mov %rsi, %rdx;) call +1; ret; and the function. */
#define HANDED_ON(number, function) "\xbf" number "\0\0\0\x48\x89\xf2\xe8\x01\0\0\0\xc3" function

static void test_a_number_that_is_handed_to_a_function_is_seen(void **state)
{
	(void)state;
	/* mov %rdi, %rax; mov %rsi, %rdi; syscall */
	assert_true(is_found(EM_X86_64,
			     BYTES(HANDED_ON("\x2a", "\x48\x89\xf8\x48\x89\xf7\x0f\x05\xc3"))));
	assert_false(is_found(EM_X86_64,
			      BYTES(HANDED_ON("\x01", "\x48\x89\xf8\x48\x89\xf7\x0f\x05\xc3"))));
	/* mov %edi, -4(%rbp); movslq -4(%rbp), %rax; syscall */
	assert_true(is_found(EM_X86_64,
			     BYTES(HANDED_ON("\x2a", "\x89\x7d\xfc\x48\x63\x45\xfc\x0f\x05\xc3"))));
	/* A function that is given 42 and makes calls of its own: mov $202, %eax; syscall */
	assert_false(is_found(EM_X86_64, BYTES(HANDED_ON("\x2a", "\xb8\xca\0\0\0\x0f\x05\xc3"))));
	/* The call leads out of the code. */
	assert_false(
		is_found(EM_X86_64, BYTES("\xbf\x2a\0\0\0\xe8\0\0\0\x7f\x48\x89\xf8\x0f\x05\xc3")));
	assert_false(
		is_found(EM_X86_64, BYTES("\xbf\x2a\0\0\0\xe8\0\0\0\x80\x48\x89\xf8\x0f\x05\xc3")));
}

/* rustix not optimised: mov $42, %edi; call f; ret; f: mov %edi, %eax; ret; and elsewhere a call.
 */
#define RETURNED "\xbf\x2a\0\0\0\xe8\x01\0\0\0\xc3\x89\x7c\x24\xfc\x89\xf8\xc3"

static void test_a_number_in_a_type_of_its_own_is_seen(void **state)
{
	(void)state;
	/* mov 40(%rsp), %rax; syscall */
	assert_true(is_found(EM_X86_64, BYTES(RETURNED "\x48\x8b\x44\x24\x28\x0f\x05")));
	/* call f; syscall */
	assert_true(is_found(EM_X86_64, BYTES(RETURNED "\xe8\0\0\0\0\x0f\x05")));
	/* mov $202, %eax; syscall */
	assert_false(is_found(EM_X86_64, BYTES(RETURNED "\xb8\xca\0\0\0\x0f\x05")));
	assert_false(is_found(EM_X86_64, BYTES(RETURNED)));
}

/* mov x8, #203; mov x1, x19; svc #0, and the like. */
static void test_the_same_on_arm64(void **state)
{
	static const uint32_t call[] = { 0xd2801968, 0xaa1303e1, 0xd4000001 };
	static const uint32_t call_32[] = { 0x52801908, 0xd4000001 };             /* w8, #200 */
	static const uint32_t write[] = { 0xd2801968, 0x52800808, 0xd4000001 };   /* w8, #64 last */
	static const uint32_t other[] = { 0xd2801967, 0xd4000001 };               /* x7, #203 */
	static const uint32_t handed_on[] = { 0x52801960, 0x94000002, 0xd65f03c0, /* w0; bl; ret */
					      0xaa0003e8, 0xd4000001, 0xd65f03c0 };
	static const uint32_t handed_out[] = { 0x52801960, 0x96000002, 0xaa0003e8, 0xd4000001 };

	(void)state;
	assert_true(is_found(EM_AARCH64, call, sizeof(call)));
	assert_true(is_found(EM_AARCH64, call_32, sizeof(call_32)));
	assert_true(is_found(EM_AARCH64, handed_on, sizeof(handed_on)));
	assert_false(is_found(EM_AARCH64, write, sizeof(write)));
	assert_false(is_found(EM_AARCH64, other, sizeof(other)));
	assert_false(is_found(EM_AARCH64, handed_out, sizeof(handed_out)));
	assert_false(is_found(EM_RISCV, call, sizeof(call)));
}

static const char connect_call[] = "\x90\xb8\x2a\0\0\0\x0f\x05";

static void test_only_code_is_looked_at(void **state)
{
	struct file f = program(EM_X86_64, BYTES(connect_call));

	(void)state;
	assert_true(own_calls_found(&f, sizeof(f)));
	f.part[1].p_flags = PF_R;
	assert_false(own_calls_found(&f, sizeof(f)));
	f = program(EM_X86_64, BYTES(connect_call));
	f.part[1].p_type = PT_NOTE;
	assert_false(own_calls_found(&f, sizeof(f)));
}

static void test_broken_files_have_no_calls(void **state)
{
	size_t whole = offsetof(struct file, code) + sizeof(connect_call) - 1;
	struct file f = program(EM_X86_64, BYTES(connect_call));

	(void)state;
	for (size_t len = 0; len < whole; len++)
		assert_false(own_calls_found(&f, len));
	assert_true(own_calls_found(&f, whole));
	f.part[1].p_filesz = SIZE_MAX;
	assert_true(own_calls_found(&f, whole));
	f.part[1].p_offset = SIZE_MAX;
	assert_false(own_calls_found(&f, whole));
	f = program(EM_X86_64, BYTES(connect_call));
	f.head.e_phoff = SIZE_MAX - 8;
	assert_false(own_calls_found(&f, whole));
	f = program(EM_X86_64, BYTES(connect_call));
	f.head.e_phentsize = 1;
	assert_false(own_calls_found(&f, whole));
	f = program(EM_X86_64, BYTES(connect_call));
	f.head.e_ident[EI_CLASS] = ELFCLASS32;
	assert_false(own_calls_found(&f, whole));
}

static void test_what_lies_behind_very_much_code_is_not_looked_at(void **state)
{
	size_t before = OWN_CALLS_CODE_MAX - 4, len = sizeof(struct file) + OWN_CALLS_CODE_MAX;
	struct file head = program(EM_X86_64, "", 0);
	uint8_t *file = calloc(1, len);

	(void)state;
	assert_non_null(file);
	head.part[1].p_filesz = len - head.part[1].p_offset;
	memcpy(file, &head, sizeof(head));
	memcpy(file + head.part[1].p_offset + before, BYTES(connect_call));
	assert_false(own_calls_found(file, len));
	memcpy(file + head.part[1].p_offset + before - 4, BYTES(connect_call));
	assert_true(own_calls_found(file, len));
	free(file);
}

static void test_a_file_is_looked_at_by_its_descriptor(void **state)
{
	struct file f = program(EM_X86_64, BYTES(connect_call));
	char path[] = "/tmp/own-calls-XXXXXX";
	int fd = mkstemp(path), pipes[2];

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, &f, sizeof(f)), sizeof(f));
	assert_true(own_calls_in(fd));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_false(own_calls_in(fd));
	close(fd);
	unlink(path);
	assert_int_equal(pipe(pipes), 0);
	assert_false(own_calls_in(pipes[0]));
	close(pipes[0]);
	close(pipes[1]);
	assert_false(own_calls_in(-1));
}

/* Code in a file of its own, before bytes behind the segment's beginning. */
static bool is_found_in(int fd, unsigned machine, size_t before, const void *code, size_t len)
{
	struct file f = program(machine, "", 0);

	f.part[1].p_filesz = before + len;
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, &f, offsetof(struct file, code), 0),
			 offsetof(struct file, code));
	assert_int_equal(pwrite(fd, code, len, (off_t)(offsetof(struct file, code) + before)), len);
	return own_calls_in(fd);
}

/* Where one piece of the file ends and the next begins the verdict is the same as elsewhere. */
static void test_a_file_is_looked_at_as_a_whole(void **state)
{
	static const char far_call[] = "\x48\xc7\x45\xf8\x2a\0\0\0";
	static const uint32_t call[] = { 0xd2801968, 0xaa1303e1, 0xd4000001 };
	uint8_t far[256], apart[OWN_CALLS_ROOM + 64] = { 0 };
	char path[] = "/tmp/own-calls-XXXXXX";
	int fd = mkstemp(path);

	(void)state;
	/* What is put far before it is loaded, which is far before its call. */
	memset(far, 0x90, sizeof(far));
	memcpy(far, BYTES(far_call));
	memcpy(far + 180, "\x48\x8b\x45\xf8", 4);
	memcpy(far + 240, "\x0f\x05\x90", 3);
	/* Its function is in another piece. */
	memcpy(apart, BYTES("\xbf\x2a\0\0\0\xe8\0\0\x01\0\xc3"));
	memcpy(apart + OWN_CALLS_ROOM + 10, BYTES("\x48\x89\xf8\x48\x89\xf7\x0f\x05\xc3"));
	assert_true(fd >= 0);
	for (size_t i = 0; i < 800; i++) {
		size_t before = OWN_CALLS_ROOM - 700 + i;

		assert_true(is_found_in(fd, EM_X86_64, before, BYTES(connect_call)));
		assert_true(is_found_in(fd, EM_X86_64, before, far, sizeof(far)));
		assert_false(is_found_in(fd, EM_X86_64, before,
					 BYTES("\xb8\x2a\0\0\0\xe8\x0f\x05\xff\xff")));
		if (i % 8 == 0)
			assert_true(is_found_in(fd, EM_X86_64, before, apart, sizeof(apart)));
		if (i % 4 == 0)
			assert_true(is_found_in(fd, EM_AARCH64, before, call, sizeof(call)));
	}
	close(fd);
	unlink(path);
}

/* As when "cp" writes over a tool that another process starts. */
static void test_a_file_may_become_shorter_meanwhile(void **state)
{
	const off_t len = (off_t)sizeof(struct file) + (8 << 20);
	struct file f = program(EM_X86_64, "", 0);
	char path[] = "/tmp/own-calls-XXXXXX";
	int fd = mkstemp(path), status = 0;
	pid_t pid;

	(void)state;
	f.part[1].p_filesz = (Elf64_Xword)len;
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &f, sizeof(f), 0), sizeof(f));
	assert_int_equal(ftruncate(fd, len), 0);
	pid = fork();
	if (pid == 0)
		for (;;)
			own_calls_in(fd);
	for (int i = 0; i < 500; i++) {
		assert_int_equal(ftruncate(fd, i % 3 ? 4096 : (off_t)sizeof(f)), 0);
		usleep(100);
		assert_int_equal(ftruncate(fd, len), 0);
		usleep(200);
	}
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(fd);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_inlined_call_is_seen),
		cmocka_unit_test(test_other_calls_are_nobodys_business),
		cmocka_unit_test(test_a_number_far_from_its_call_is_not_the_calls),
		cmocka_unit_test(test_a_number_that_is_handed_to_a_function_is_seen),
		cmocka_unit_test(test_a_number_in_a_type_of_its_own_is_seen),
		cmocka_unit_test(test_the_same_on_arm64),
		cmocka_unit_test(test_only_code_is_looked_at),
		cmocka_unit_test(test_broken_files_have_no_calls),
		cmocka_unit_test(test_what_lies_behind_very_much_code_is_not_looked_at),
		cmocka_unit_test(test_a_file_is_looked_at_by_its_descriptor),
		cmocka_unit_test(test_a_file_is_looked_at_as_a_whole),
		cmocka_unit_test(test_a_file_may_become_shorter_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
