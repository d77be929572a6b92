/*
 * The same for a file. It is read piece by piece: mapped, a file that is made shorter meanwhile,
 * as by "cp" over it, would end the program that looks at it (SIGBUS). Pieces stay in the
 * processor's cache, so that this takes no longer; larger ones do not, and larger memory has to
 * be made first. It is mapped for this: who asks may be a child of vfork(), which has no memory of
 * its own, or a thread with a short stack.
 */
#include "preload/own_calls.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "preload/raw.h"

static size_t read_fd(const struct own_calls_file *file, size_t at, void *to, size_t len)
{
	size_t done = 0;
	long n;

	while (done < len) {
		n = raw_syscall(SYS_pread64, file->fd, (char *)to + done, len - done, at + done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

bool own_calls_in(int fd)
{
	struct own_calls_file file = { .fd = fd, .read = read_fd };
	int saved = errno;
	bool found = false;
	struct stat st;
	void *room;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return false;
	room = mmap(NULL, OWN_CALLS_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (room != MAP_FAILED) {
		file.len = (size_t)st.st_size;
		file.room = room;
		found = own_calls_in_file(&file);
		munmap(room, OWN_CALLS_ROOM);
	}
	errno = saved;
	return found;
}
