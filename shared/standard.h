/*
 * The standard descriptors, which whoever starts a program may have closed. Then the next file
 * or socket would get their numbers, and what is meant for a person would go into it.
 */
#ifndef MESHWRAP_SHARED_STANDARD_H
#define MESHWRAP_SHARED_STANDARD_H

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

/*
 * First of all in main(): opens /dev/null for each that is closed, with flags besides. False:
 * it cannot be opened.
 */
static inline bool standard_files_open(int flags)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		/* The lowest number that is free is given out. */
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR | flags) != fd)
			return false;
	return true;
}

#endif
