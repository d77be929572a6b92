/*
 * The same for a file. It is mapped: who asks may be a child of vfork(), which has no
 * memory of its own, and only the pages that hold code are looked at.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "preload/own_calls.h"

bool own_calls_in(int fd)
{
	int saved = errno;
	bool found = false;
	struct stat st;
	void *file;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return false;
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file != MAP_FAILED) {
		found = own_calls_found(file, (size_t)st.st_size);
		munmap(file, (size_t)st.st_size);
	}
	errno = saved;
	return found;
}
