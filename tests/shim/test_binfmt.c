/* The two parsers that decide whether a program can be entered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/binfmt.h"

/* A file of two program headers, an interpreter's name and a note. */
struct file {
	ElfW(Ehdr) head;
	ElfW(Phdr) part[2];
	char interpreter[32];
	struct {
		ElfW(Nhdr) head;
		char owner[4], id[8];
	} note;
};

static struct file dynamic_file(void)
{
	struct file f = { .interpreter = "/lib64/ld-linux-x86-64.so.2" }, own;
	FILE *self = fopen("/proc/self/exe", "rb");

	assert_non_null(self);
	assert_int_equal(fread(&own, sizeof(own.head), 1, self), 1);
	fclose(self);
	memcpy(f.head.e_ident, own.head.e_ident, EI_NIDENT);
	f.head.e_machine = own.head.e_machine;
	f.head.e_phoff = offsetof(struct file, part);
	f.head.e_phentsize = sizeof(f.part[0]);
	f.head.e_phnum = 2;
	f.part[0].p_type = PT_INTERP;
	f.part[0].p_offset = offsetof(struct file, interpreter);
	f.part[0].p_filesz = strlen(f.interpreter) + 1;
	f.part[1].p_type = PT_NOTE;
	f.part[1].p_offset = offsetof(struct file, note);
	f.part[1].p_filesz = sizeof(f.note);
	f.note.head.n_namesz = 4;
	f.note.head.n_descsz = 8;
	f.note.head.n_type = 3;
	memcpy(f.note.owner, "GNU", 4);
	return f;
}

static enum elf_kind look(const struct file *f, size_t len)
{
	char interpreter[ELF_INTERPRETER_MAX];

	return binfmt_elf(f, len, interpreter);
}

static void test_a_dynamic_program_names_its_interpreter(void **state)
{
	struct file f = dynamic_file();
	char interpreter[ELF_INTERPRETER_MAX];

	(void)state;
	assert_int_equal(binfmt_elf(&f, sizeof(f), interpreter), ELF_DYNAMIC);
	assert_string_equal(interpreter, "/lib64/ld-linux-x86-64.so.2");
}

static void test_static_go_and_foreign_programs_are_told_apart(void **state)
{
	struct file f = dynamic_file();

	(void)state;
	f.part[0].p_type = PT_LOAD;
	assert_int_equal(look(&f, sizeof(f)), ELF_STATIC);
	f = dynamic_file();
	memcpy(f.note.owner, "Go\0", 4);
	f.note.head.n_type = 4;
	assert_int_equal(look(&f, sizeof(f)), ELF_GO);
	f = dynamic_file();
	f.head.e_machine ^= 1;
	assert_int_equal(look(&f, sizeof(f)), ELF_FOREIGN);
	f = dynamic_file();
	f.head.e_ident[EI_CLASS] ^= 3;
	assert_int_equal(look(&f, sizeof(f)), ELF_FOREIGN);
	assert_int_equal(look((const struct file *)"#!/bin/sh\n", 10), ELF_NONE);
}

static void test_broken_headers_are_no_program(void **state)
{
	struct file f = dynamic_file();

	(void)state;
	for (size_t len = EI_NIDENT; len < f.part[0].p_offset + f.part[0].p_filesz; len++)
		assert_int_equal(look(&f, len), ELF_NONE);
	f.head.e_phoff = SIZE_MAX - 8;
	assert_int_equal(look(&f, sizeof(f)), ELF_NONE);
	f = dynamic_file();
	f.head.e_phentsize = 1;
	assert_int_equal(look(&f, sizeof(f)), ELF_NONE);
	f = dynamic_file();
	f.part[0].p_filesz = SIZE_MAX;
	assert_int_equal(look(&f, sizeof(f)), ELF_NONE);
	f = dynamic_file();
	f.interpreter[0] = '\0';
	assert_int_equal(look(&f, sizeof(f)), ELF_NONE);
	f = dynamic_file();
	f.note.head.n_namesz = UINT32_MAX;
	assert_int_equal(look(&f, sizeof(f)), ELF_DYNAMIC); /* a broken note says nothing */
	f.part[1].p_offset = SIZE_MAX;
	assert_int_equal(look(&f, sizeof(f)), ELF_DYNAMIC);
}

static void test_go_is_known_by_a_section_where_it_has_no_note(void **state)
{
	struct {
		struct file f;
		ElfW(Shdr) section[2];
		char names[32];
	} g = { .f = dynamic_file(), .names = "\0.go.buildinfo" }, whole;
	size_t end = offsetof(__typeof__(g), names) + 1 + sizeof(".go.buildinfo");

	(void)state;
	g.f.head.e_shoff = offsetof(__typeof__(g), section);
	g.f.head.e_shentsize = sizeof(g.section[0]);
	g.f.head.e_shnum = 2;
	g.section[0].sh_offset = offsetof(__typeof__(g), names);
	g.section[1].sh_name = 1;
	whole = g;
	assert_int_equal(look((const void *)&g, end), ELF_GO);
	for (size_t len = sizeof(g.f); len < end; len++)
		assert_int_equal(look((const void *)&g, len), ELF_DYNAMIC);
	g.names[sizeof(".go.buildinfo")] = 's';
	assert_int_equal(look((const void *)&g, sizeof(g)), ELF_DYNAMIC);
	g = whole;
	g.section[1].sh_name = UINT32_MAX;
	assert_int_equal(look((const void *)&g, sizeof(g)), ELF_DYNAMIC);
	g = whole;
	g.section[0].sh_offset = SIZE_MAX;
	assert_int_equal(look((const void *)&g, sizeof(g)), ELF_DYNAMIC);
	g = whole;
	g.f.head.e_shoff = SIZE_MAX - 8;
	assert_int_equal(look((const void *)&g, sizeof(g)), ELF_DYNAMIC);
	g = whole;
	g.f.head.e_shentsize = 1;
	assert_int_equal(look((const void *)&g, sizeof(g)), ELF_DYNAMIC);
	g = whole;
	g.f.head.e_shstrndx = 2;
	assert_int_equal(look((const void *)&g, sizeof(g)), ELF_DYNAMIC);
}

static bool script(const char *text, char interpreter[static ELF_INTERPRETER_MAX])
{
	return binfmt_script(text, strlen(text), interpreter);
}

static void test_scripts_name_their_interpreter(void **state)
{
	char interpreter[ELF_INTERPRETER_MAX], text[ELF_INTERPRETER_MAX + 8];

	(void)state;
	assert_true(script("#!/bin/sh\necho", interpreter));
	assert_string_equal(interpreter, "/bin/sh");
	assert_true(script("#! \t/usr/bin/env python3\n", interpreter));
	assert_string_equal(interpreter, "/usr/bin/env");
	assert_false(script("#!/bin/sh", interpreter));
	assert_false(script("#!  \n", interpreter));
	assert_false(script("#", interpreter));
	assert_false(script("echo\n", interpreter));
	memset(text, 'a', sizeof(text));
	memcpy(text, "#!", 2);
	text[sizeof(text) - 1] = '\n';
	assert_false(binfmt_script(text, sizeof(text), interpreter));
}

/* A file with f at its beginning and the rest, from more on, far behind. */
static int file_with(const struct file *f, const void *more, size_t len, off_t at)
{
	char path[] = "/tmp/binfmt-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(pwrite(fd, f, sizeof(*f), 0), sizeof(*f));
	assert_int_equal(pwrite(fd, more, len, at), len);
	return fd;
}

/* As patchelf leaves them. */
static void test_what_headers_name_may_lie_at_the_end_of_a_file(void **state)
{
	const off_t far = 1 << 20;
	char interpreter[ELF_INTERPRETER_MAX];
	struct file f = dynamic_file();
	int fd;

	(void)state;
	f.part[0].p_offset = (size_t)far;
	fd = file_with(&f, f.interpreter, sizeof(f.interpreter), far);
	assert_int_equal(look(&f, sizeof(f)), ELF_NONE);
	assert_int_equal(binfmt_elf_in(fd, interpreter), ELF_DYNAMIC);
	assert_string_equal(interpreter, f.interpreter);
	assert_int_equal(ftruncate(fd, far), 0);
	assert_int_equal(binfmt_elf_in(fd, interpreter), ELF_NONE);
	close(fd);
	f = dynamic_file();
	f.part[1].p_offset = (size_t)far;
	memcpy(f.note.owner, "Go\0", 4);
	f.note.head.n_type = 4;
	fd = file_with(&f, &f.note, sizeof(f.note), far);
	assert_int_equal(look(&f, sizeof(f)), ELF_DYNAMIC);
	assert_int_equal(binfmt_elf_in(fd, interpreter), ELF_GO);
	assert_false(binfmt_script_in(fd, interpreter));
	assert_int_equal(pwrite(fd, "#! /bin/sh\n", 11, 0), 11);
	assert_int_equal(binfmt_elf_in(fd, interpreter), ELF_NONE);
	assert_true(binfmt_script_in(fd, interpreter));
	assert_string_equal(interpreter, "/bin/sh");
	close(fd);
}

/* As when "cp" writes over a tool that another process starts. */
static void test_a_file_may_become_shorter_meanwhile(void **state)
{
	const off_t far = 1 << 20;
	char interpreter[ELF_INTERPRETER_MAX], line[1024];
	struct file f = dynamic_file();
	int fd, status;
	pid_t pid;

	(void)state;
	f.part[0].p_offset = (size_t)far;
	fd = file_with(&f, f.interpreter, sizeof(f.interpreter), far);
	pid = fork();
	if (pid == 0)
		for (;;) {
			binfmt_elf_in(fd, interpreter);
			binfmt_script_in(fd, interpreter);
		}
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(ftruncate(fd, i % 2 ? 0 : far), 0);
		usleep(50);
		assert_int_equal(pwrite(fd, &f, sizeof(f), 0), sizeof(f));
		assert_int_equal(ftruncate(fd, far + 4096), 0);
		usleep(50);
	}
	assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* A line that is longer than the kernel reads: who is to run it stands at its beginning. */
	memset(line, 'x', sizeof(line));
	memcpy(line, "#!/bin/sh ", 10);
	assert_int_equal(pwrite(fd, line, sizeof(line), 0), sizeof(line));
	assert_true(binfmt_script_in(fd, interpreter));
	assert_string_equal(interpreter, "/bin/sh");
	close(fd);
}

/* A library's headers, and no more than they tell of. */
struct library {
	ElfW(Ehdr) head;
	ElfW(Phdr) part[2];
	ElfW(Dyn) dynamic;
	ElfW(Shdr) section;
};

static struct library whole_library(void)
{
	struct file program = dynamic_file();
	struct library l = { .head = program.head };

	l.head.e_type = ET_DYN;
	l.head.e_version = EV_CURRENT;
	l.head.e_phoff = offsetof(struct library, part);
	l.head.e_shoff = offsetof(struct library, section);
	l.head.e_shentsize = sizeof(l.section);
	l.head.e_shnum = 1;
	l.part[0].p_type = PT_LOAD;
	l.part[0].p_filesz = offsetof(struct library, section);
	l.part[1].p_type = PT_DYNAMIC;
	l.part[1].p_offset = offsetof(struct library, dynamic);
	l.part[1].p_filesz = sizeof(l.dynamic);
	return l;
}

static bool is_library(const struct library *l, size_t len)
{
	int fd = memfd_create("library", MFD_CLOEXEC);
	bool yes;

	assert_int_equal(write(fd, l, len), len);
	errno = ENOTTY;
	yes = binfmt_is_library_in(fd);
	assert_int_equal(errno, ENOTTY);
	close(fd);
	return yes;
}

static void test_a_library_that_was_cut_is_none(void **state)
{
	struct library l = whole_library();

	(void)state;
	assert_true(is_library(&l, sizeof(l)));
	for (size_t len = 0; len < sizeof(l); len++)
		assert_false(is_library(&l, len));
	/* Without sections, which the dynamic linker does not need. */
	l.head.e_shoff = l.head.e_shnum = 0;
	assert_true(is_library(&l, offsetof(struct library, section)));
	assert_false(is_library(&l, offsetof(struct library, section) - 1));
	l.part[1].p_offset = SIZE_MAX;
	assert_false(is_library(&l, sizeof(l)));
	l.part[1].p_filesz = 0; /* as a stack's: nothing of it is in the file */
	assert_true(is_library(&l, sizeof(l)));
	assert_false(binfmt_is_library_in(-1));
}

static void test_what_the_dynamic_linker_refuses_is_no_library(void **state)
{
	static const size_t at[] = { 0,
				     EI_CLASS,
				     EI_DATA,
				     EI_VERSION,
				     offsetof(ElfW(Ehdr), e_type),
				     offsetof(ElfW(Ehdr), e_machine),
				     offsetof(ElfW(Ehdr), e_version),
				     offsetof(ElfW(Ehdr), e_phentsize),
				     offsetof(struct library, part[0].p_type),
				     offsetof(struct library, part[1].p_type) };

	(void)state;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct library l = whole_library();

		((char *)&l)[at[i]] ^= 0x40;
		assert_false(is_library(&l, sizeof(l)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_dynamic_program_names_its_interpreter),
		cmocka_unit_test(test_static_go_and_foreign_programs_are_told_apart),
		cmocka_unit_test(test_broken_headers_are_no_program),
		cmocka_unit_test(test_go_is_known_by_a_section_where_it_has_no_note),
		cmocka_unit_test(test_scripts_name_their_interpreter),
		cmocka_unit_test(test_what_headers_name_may_lie_at_the_end_of_a_file),
		cmocka_unit_test(test_a_file_may_become_shorter_meanwhile),
		cmocka_unit_test(test_a_library_that_was_cut_is_none),
		cmocka_unit_test(test_what_the_dynamic_linker_refuses_is_no_library),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
