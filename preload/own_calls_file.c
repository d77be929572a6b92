/*
 * The same for a file. It is read piece by piece. Pieces stay in the processor's cache, so that
 * this takes no longer than if it were mapped; larger ones do not, and larger memory has to be made
 * first. It is mapped for this: who asks may be a child of vfork(), which has no memory of its own,
 * or a thread with a short stack.
 */
#include <errno.h>
#include <sys/mman.h>

#include "preload/own_calls.h"

bool own_calls_in(int fd)
{
	struct program_file file;
	int saved = errno;
	bool found = false;
	void *room;

	if (!program_file_open(fd, &file))
		return false;
	room = mmap(NULL, OWN_CALLS_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (room != MAP_FAILED) {
		found = own_calls_in_file(&file, room);
		munmap(room, OWN_CALLS_ROOM);
	}
	errno = saved;
	return found;
}
