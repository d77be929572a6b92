/* See patience.h. */
#include "tests/unit/edge/patience.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "shared/util.h"

#define TRIES 20000

/* After a call that returned this. */
static bool asks_again(int result, unsigned *tries)
{
	if (result >= 0 || errno != EMFILE || ++*tries > TRIES)
		return false;
	nanosleep(&(struct timespec){ 0, NS_PER_MS }, NULL);
	return true;
}

int patient_socket(int family, int type)
{
	unsigned tries = 0;
	int fd;

	do
		fd = socket(family, type | SOCK_CLOEXEC, 0);
	while (asks_again(fd, &tries));
	return fd;
}

int patient_accept(int listener)
{
	unsigned tries = 0;
	int fd;

	do
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (asks_again(fd, &tries));
	return fd;
}

int patient_pipe(int end[2])
{
	unsigned tries = 0;
	int err;

	do
		err = pipe2(end, O_CLOEXEC);
	while (asks_again(err, &tries));
	return err;
}
