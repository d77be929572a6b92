/* Preloaded into a daemon: a disk that takes as many ms for each fsync() as the file SLOW_DISK
 * says. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long slowness_ms(void)
{
	int file = open(getenv("SLOW_DISK"), O_RDONLY | O_CLOEXEC);
	char text[16] = "";
	ssize_t n = file >= 0 ? read(file, text, sizeof(text) - 1) : -1;

	if (file >= 0)
		close(file);
	return n > 0 ? strtol(text, NULL, 10) : 0;
}

int fsync(int fd)
{
	long ms = slowness_ms();
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&left, &left) != 0)
		;
	return (int)syscall(SYS_fsync, fd);
}
