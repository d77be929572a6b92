/*
 * The same for a file. It is mapped, not read, since who asks may be a child of vfork(), which
 * has no memory of its own: all of it, as far as there is room. Linkers put the dynamic
 * linker's name and the notes behind the headers, but tools that change them (patchelf)
 * put them at the end.
 */
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/binfmt.h"
#include "shared/util.h"

#define HEAD_BYTES ((size_t)65536) /* where headers are, and lines end */

struct mapping {
	void *bytes;
	size_t len;
};

static bool map(int fd, size_t most, struct mapping *m)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return false;
	m->len = MIN((size_t)st.st_size, most);
	m->bytes = mmap(NULL, m->len, PROT_READ, MAP_PRIVATE, fd, 0);
	return m->bytes != MAP_FAILED;
}

enum elf_kind binfmt_elf_in(int fd, char interpreter[static ELF_INTERPRETER_MAX])
{
	enum elf_kind kind;
	struct mapping m;

	if (!map(fd, SIZE_MAX, &m) && !map(fd, HEAD_BYTES, &m))
		return ELF_NONE;
	kind = binfmt_elf(m.bytes, m.len, interpreter);
	munmap(m.bytes, m.len);
	return kind;
}

bool binfmt_script_in(int fd, char interpreter[static ELF_INTERPRETER_MAX])
{
	struct mapping m;
	bool is_script;

	if (!map(fd, HEAD_BYTES, &m))
		return false;
	is_script = binfmt_script(m.bytes, m.len, interpreter);
	munmap(m.bytes, m.len);
	return is_script;
}
