/*
 * Half of what a small daemon has resident is code of libraries that ran once: the
 * linker's relocation, OpenSSL's set-up, the reading of the configuration. Linux maps
 * sixteen pages around each that is touched, and never takes them back while memory is
 * plentiful. Here they are let go; what is run again comes back from the page cache
 * within a microsecond. Only segments that are not writable are: nobody's data.
 *
 * The heap keeps pages that are free between others that are not; they go, too.
 */
#include "daemon/trim.h"

#include <link.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static int drop_code(struct dl_phdr_info *object, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)arg;
	for (unsigned i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &object->dlpi_phdr[i];
		uintptr_t start = object->dlpi_addr + p->p_vaddr, end = start + p->p_memsz;

		if (p->p_type != PT_LOAD || p->p_flags & PF_W)
			continue;
		start &= ~(page - 1);
		/* A hint; a mapping that does not take it (the vDSO) stays as it is. */
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

void trim_memory(void)
{
	dl_iterate_phdr(drop_code, NULL);
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}
