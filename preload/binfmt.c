/*
 * The two headers that decide how a file is run: ELF program headers and "#!".
 *
 * A program can be entered by LD_PRELOAD exactly when the kernel hands it to a
 * dynamic linker, which PT_INTERP names. All offsets come from the file and
 * are checked before use.
 */
#include "preload/binfmt.h"

#include <elf.h>
#include <link.h>
#include <string.h>

#if __SIZEOF_POINTER__ == 8
#define OUR_CLASS ELFCLASS64
#else
#define OUR_CLASS ELFCLASS32
#endif

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#elif defined(__riscv)
#define OUR_MACHINE EM_RISCV
#elif defined(__i386__)
#define OUR_MACHINE EM_386
#elif defined(__arm__)
#define OUR_MACHINE EM_ARM
#else
#error "name this machine's EM_ constant here"
#endif

#define GO_OWNER    "Go\0" /* four bytes with the one C adds */
#define GO_BUILD_ID 4
#define GO_SECTION  ".go.buildinfo"

static bool copy_text(const char *from, size_t len, char to[static ELF_INTERPRETER_MAX])
{
	size_t n = strnlen(from, len);

	if (n == 0 || n >= ELF_INTERPRETER_MAX)
		return false;
	memcpy(to, from, n);
	to[n] = '\0';
	return true;
}

bool binfmt_has_go_note(const void *bytes, size_t len)
{
	const char *notes = bytes;
	ElfW(Nhdr) note;
	size_t at = 0, name, desc;

	while (len - at >= sizeof(note)) {
		memcpy(&note, notes + at, sizeof(note));
		at += sizeof(note);
		name = (note.n_namesz + (size_t)3) & ~(size_t)3;
		desc = (note.n_descsz + (size_t)3) & ~(size_t)3;
		if (name > len - at || desc > len - at - name)
			return false;
		if (note.n_type == GO_BUILD_ID && note.n_namesz == sizeof(GO_OWNER) &&
		    memcmp(notes + at, GO_OWNER, sizeof(GO_OWNER)) == 0)
			return true;
		at += name + desc;
	}
	return false;
}

static bool is_at(const char *file, size_t len, size_t at, const char *text, size_t text_len)
{
	return at <= len && text_len <= len - at && memcmp(file + at, text, text_len) == 0;
}

/* Reproducible builds of Go's have no note (-ldflags=-buildid=), and this section like all others.
 */
static bool has_go_section(const char *file, size_t len, const ElfW(Ehdr) * head)
{
	ElfW(Shdr) names, section;

	if (head->e_shentsize != sizeof(section) || head->e_shoff > len ||
	    (len - head->e_shoff) / sizeof(section) < head->e_shnum ||
	    head->e_shstrndx >= head->e_shnum)
		return false;
	memcpy(&names, file + head->e_shoff + head->e_shstrndx * sizeof(names), sizeof(names));
	if (names.sh_offset > len)
		return false;
	for (unsigned i = 0; i < head->e_shnum; i++) {
		memcpy(&section, file + head->e_shoff + i * sizeof(section), sizeof(section));
		if (is_at(file, len, names.sh_offset + section.sh_name, GO_SECTION,
			  sizeof(GO_SECTION)))
			return true;
	}
	return false;
}

/* Facts gathered from the program headers. */
struct parts {
	bool has_interpreter, is_go;
};

static bool look_at_part(const char *file, size_t len, const ElfW(Phdr) * part, struct parts *parts,
			 char interpreter[static ELF_INTERPRETER_MAX])
{
	if (part->p_type != PT_INTERP && part->p_type != PT_NOTE)
		return true;
	if (part->p_offset > len || part->p_filesz > len - part->p_offset)
		return part->p_type ==
		       PT_NOTE; /* notes may lie anywhere; the linker's name may not */
	if (part->p_type == PT_NOTE) {
		parts->is_go |= binfmt_has_go_note(file + part->p_offset, part->p_filesz);
		return true;
	}
	parts->has_interpreter = true;
	return copy_text(file + part->p_offset, part->p_filesz, interpreter);
}

enum elf_kind binfmt_elf(const void *bytes, size_t len,
			 char interpreter[static ELF_INTERPRETER_MAX])
{
	struct parts parts = { false, false };
	const char *file = bytes;
	ElfW(Ehdr) head;
	ElfW(Phdr) part;

	if (len < EI_NIDENT || memcmp(file, ELFMAG, SELFMAG) != 0)
		return ELF_NONE;
	if (file[EI_CLASS] != OUR_CLASS)
		return ELF_FOREIGN;
	if (len < sizeof(head))
		return ELF_NONE;
	memcpy(&head, file, sizeof(head));
	if (head.e_machine != OUR_MACHINE)
		return ELF_FOREIGN;
	if (head.e_phentsize != sizeof(part) || head.e_phoff > len ||
	    (len - head.e_phoff) / sizeof(part) < head.e_phnum)
		return ELF_NONE;
	for (unsigned i = 0; i < head.e_phnum; i++) {
		memcpy(&part, file + head.e_phoff + i * sizeof(part), sizeof(part));
		if (!look_at_part(file, len, &part, &parts, interpreter))
			return ELF_NONE;
	}
	if (parts.is_go || has_go_section(file, len, &head))
		return ELF_GO;
	return parts.has_interpreter ? ELF_DYNAMIC : ELF_STATIC;
}

bool binfmt_script(const void *bytes, size_t len, char interpreter[static ELF_INTERPRETER_MAX])
{
	const char *file = bytes, *end;
	size_t i = 2, n;

	if (len < 2 || file[0] != '#' || file[1] != '!')
		return false;
	end = memchr(file, '\n', len);
	if (!end)
		return false;
	while (file + i < end && (file[i] == ' ' || file[i] == '\t'))
		i++;
	n = 0;
	while (file + i + n < end && file[i + n] != ' ' && file[i + n] != '\t')
		n++;
	return copy_text(file + i, n, interpreter);
}
