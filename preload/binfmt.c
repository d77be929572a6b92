/*
 * The two headers that decide how a file is run: ELF program headers and "#!".
 *
 * A program can be entered by LD_PRELOAD exactly when the kernel hands it to a
 * dynamic linker, which PT_INTERP names. All offsets come from the file and
 * are checked before use.
 */
#include "preload/binfmt.h"

#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "preload/program_file.h"
#include "shared/util.h"

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

#if __BYTE_ORDER == __LITTLE_ENDIAN
#define OUR_DATA ELFDATA2LSB
#else
#define OUR_DATA ELFDATA2MSB
#endif

#define GO_OWNER    "Go\0" /* four bytes with the one C adds */
#define GO_BUILD_ID 4
#define GO_SECTION  ".go.buildinfo"
#define LINE_BYTES  512 /* twice what the kernel looks at of a script */

static bool copy_text(const char *from, size_t len, char to[static ELF_INTERPRETER_MAX])
{
	size_t n = strnlen(from, len);

	if (n == 0 || n >= ELF_INTERPRETER_MAX)
		return false;
	memcpy(to, from, n);
	to[n] = '\0';
	return true;
}

/* room: as long as text */
static bool is_at(struct program_file *file, size_t at, const char *text, char *room, size_t len)
{
	return program_file_read(file, at, room, len) == len && memcmp(room, text, len) == 0;
}

static bool has_go_note(struct program_file *file, size_t at, size_t len)
{
	char owner[sizeof(GO_OWNER)];
	ElfW(Nhdr) note;
	size_t name, desc;

	while (len >= sizeof(note)) {
		if (program_file_read(file, at, &note, sizeof(note)) != sizeof(note))
			return false;
		at += sizeof(note);
		len -= sizeof(note);
		name = (note.n_namesz + (size_t)3) & ~(size_t)3;
		desc = (note.n_descsz + (size_t)3) & ~(size_t)3;
		if (name > len || desc > len - name)
			return false;
		if (note.n_type == GO_BUILD_ID && note.n_namesz == sizeof(GO_OWNER) &&
		    is_at(file, at, GO_OWNER, owner, sizeof(owner)))
			return true;
		at += name + desc;
		len -= name + desc;
	}
	return false;
}

bool binfmt_has_go_note(const void *bytes, size_t len)
{
	struct program_file file = program_file_of_bytes(bytes, len);

	return has_go_note(&file, 0, len);
}

/* Reproducible builds of Go's have no note (-ldflags=-buildid=), and this section like all others.
 */
static bool has_go_section(struct program_file *file, const ElfW(Ehdr) * head)
{
	char name[sizeof(GO_SECTION)];
	ElfW(Shdr) names, section;
	size_t at = head->e_shoff;

	if (head->e_shentsize != sizeof(section) || at > file->len ||
	    (file->len - at) / sizeof(section) < head->e_shnum ||
	    head->e_shstrndx >= head->e_shnum ||
	    program_file_read(file, at + head->e_shstrndx * sizeof(names), &names, sizeof(names)) !=
		    sizeof(names) ||
	    names.sh_offset > file->len)
		return false;
	for (unsigned i = 0; i < head->e_shnum; i++, at += sizeof(section)) {
		if (program_file_read(file, at, &section, sizeof(section)) != sizeof(section))
			return false;
		if (is_at(file, names.sh_offset + section.sh_name, GO_SECTION, name, sizeof(name)))
			return true;
	}
	return false;
}

/* Facts gathered from the program headers. */
struct parts {
	bool has_interpreter, is_go;
};

static bool look_at_part(struct program_file *file, const ElfW(Phdr) * part, struct parts *parts,
			 char interpreter[static ELF_INTERPRETER_MAX])
{
	char text[ELF_INTERPRETER_MAX];
	size_t len;

	if (part->p_type != PT_INTERP && part->p_type != PT_NOTE)
		return true;
	if (part->p_offset > file->len || part->p_filesz > file->len - part->p_offset)
		return part->p_type ==
		       PT_NOTE; /* notes may lie anywhere; the linker's name may not */
	if (part->p_type == PT_NOTE) {
		parts->is_go |= has_go_note(file, part->p_offset, part->p_filesz);
		return true;
	}
	parts->has_interpreter = true;
	len = program_file_read(file, part->p_offset, text, MIN(part->p_filesz, sizeof(text)));
	return copy_text(text, len, interpreter);
}

static enum elf_kind look(struct program_file *file, char interpreter[static ELF_INTERPRETER_MAX])
{
	struct parts parts = { false, false };
	ElfW(Ehdr) head;
	ElfW(Phdr) part;
	size_t len = program_file_read(file, 0, &head, sizeof(head));

	if (len < EI_NIDENT || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		return ELF_NONE;
	if (head.e_ident[EI_CLASS] != OUR_CLASS)
		return ELF_FOREIGN;
	if (len < sizeof(head))
		return ELF_NONE;
	if (head.e_machine != OUR_MACHINE)
		return ELF_FOREIGN;
	if (head.e_phentsize != sizeof(part) || head.e_phoff > file->len ||
	    (file->len - head.e_phoff) / sizeof(part) < head.e_phnum)
		return ELF_NONE;
	for (unsigned i = 0; i < head.e_phnum; i++)
		if (program_file_read(file, head.e_phoff + i * sizeof(part), &part, sizeof(part)) !=
			    sizeof(part) ||
		    !look_at_part(file, &part, &parts, interpreter))
			return ELF_NONE;
	if (parts.is_go || has_go_section(file, &head))
		return ELF_GO;
	return parts.has_interpreter ? ELF_DYNAMIC : ELF_STATIC;
}

enum elf_kind binfmt_elf(const void *bytes, size_t len,
			 char interpreter[static ELF_INTERPRETER_MAX])
{
	struct program_file file = program_file_of_bytes(bytes, len);

	return look(&file, interpreter);
}

enum elf_kind binfmt_elf_in(int fd, char interpreter[static ELF_INTERPRETER_MAX])
{
	struct program_file file;
	int saved = errno;
	enum elf_kind kind = program_file_open(fd, &file) ? look(&file, interpreter) : ELF_NONE;

	errno = saved;
	return kind;
}

/* False: the file ends before the part does. */
static bool is_inside(const struct program_file *file, size_t at, size_t len)
{
	return len == 0 || (at <= file->len && len <= file->len - at);
}

/* What the dynamic linker of this machine asks of a library's header. */
static bool is_library_head(const ElfW(Ehdr) * head)
{
	return memcmp(head->e_ident, ELFMAG, SELFMAG) == 0 &&
	       head->e_ident[EI_CLASS] == OUR_CLASS && head->e_ident[EI_DATA] == OUR_DATA &&
	       head->e_ident[EI_VERSION] == EV_CURRENT && head->e_version == EV_CURRENT &&
	       head->e_machine == OUR_MACHINE && head->e_type == ET_DYN &&
	       head->e_phentsize == sizeof(ElfW(Phdr));
}

static bool look_at_library(struct program_file *file)
{
	bool is_loaded = false, is_dynamic = false;
	ElfW(Ehdr) head;
	ElfW(Phdr) part;

	if (program_file_read(file, 0, &head, sizeof(head)) != sizeof(head) ||
	    !is_library_head(&head) ||
	    !is_inside(file, head.e_shoff, (size_t)head.e_shnum * head.e_shentsize) ||
	    !is_inside(file, head.e_phoff, (size_t)head.e_phnum * sizeof(part)))
		return false;
	for (unsigned i = 0; i < head.e_phnum; i++) {
		if (program_file_read(file, head.e_phoff + i * sizeof(part), &part, sizeof(part)) !=
			    sizeof(part) ||
		    !is_inside(file, part.p_offset, part.p_filesz))
			return false;
		is_loaded |= part.p_type == PT_LOAD;
		is_dynamic |= part.p_type == PT_DYNAMIC;
	}
	return is_loaded && is_dynamic;
}

bool binfmt_is_library_in(int fd)
{
	struct program_file file;
	int saved = errno;
	bool yes = program_file_open(fd, &file) && look_at_library(&file);

	errno = saved;
	return yes;
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

bool binfmt_script_in(int fd, char interpreter[static ELF_INTERPRETER_MAX])
{
	struct program_file file;
	char line[LINE_BYTES + 1];
	int saved = errno;
	size_t len = 0;

	if (program_file_open(fd, &file))
		len = program_file_read(&file, 0, line, LINE_BYTES);
	errno = saved;
	if (len == LINE_BYTES) /* the kernel looks no further, either */
		line[len++] = '\n';
	return binfmt_script(line, len, interpreter);
}
