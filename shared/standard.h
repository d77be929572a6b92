/*
 * The standard descriptors. Whoever starts a program may have closed them: then the next file or
 * socket would get their numbers, and what is meant for a person would go into it. Or they lead
 * to what takes no more.
 */
#ifndef MESHWRAP_SHARED_STANDARD_H
#define MESHWRAP_SHARED_STANDARD_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/*
 * Last of all in main(): the exit status, which says failure, as one sentence does, when what
 * was written to standard output did not get there.
 */
static inline int standard_output_end(const char *program, int status)
{
	errno = EIO; /* when an earlier write has failed */
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "%s: cannot write to standard output: %s\n", program, strerror(errno));
	return status ? status : EXIT_FAILURE;
}

#endif
