/* What meshrun must know of a program's file, and of the shim's. */
#ifndef MESHWRAP_PRELOAD_BINFMT_H
#define MESHWRAP_PRELOAD_BINFMT_H

#include <stdbool.h>
#include <stddef.h>

#define ELF_INTERPRETER_MAX 256

enum elf_kind {
	ELF_NONE,    /* no ELF file */
	ELF_FOREIGN, /* of another word size or machine than ours */
	ELF_STATIC,  /* no dynamic linker, so nothing can be preloaded */
	ELF_GO,      /* makes its own system calls, whatever it is linked with */
	ELF_DYNAMIC  /* interpreter is set */
};

/*
 * Looks at the first len bytes of a file. Broken headers count as ELF_NONE:
 * the kernel will say what it thinks of them. So do those whose interpreter's name lies
 * further on, and notes there are not looked at. Pure.
 */
enum elf_kind binfmt_elf(const void *bytes, size_t len,
			 char interpreter[static ELF_INTERPRETER_MAX]);

/*
 * The interpreter of a "#!" line, into interpreter; false when there is none
 * (or its line does not end within len). Pure.
 */
bool binfmt_script(const void *bytes, size_t len, char interpreter[static ELF_INTERPRETER_MAX]);

/* The same for all of the file of fd; what is no regular file is neither. */
enum elf_kind binfmt_elf_in(int fd, char interpreter[static ELF_INTERPRETER_MAX]);
bool binfmt_script_in(int fd, char interpreter[static ELF_INTERPRETER_MAX]);
/*
 * Will the dynamic linker of this machine load this library? Looked at are its headers, and whether
 * all that they tell of is there.
 */
bool binfmt_is_library_in(int fd);
/* Is there among these notes of an ELF file the build id that Go's linker writes? */
bool binfmt_has_go_note(const void *notes, size_t len);

#endif
