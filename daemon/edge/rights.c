/*
 * To look (MSG_PEEK) and then to drop is what makes it safe to get descriptors back: a
 * message that is received without enough descriptors free loses those that found none.
 */
#include "daemon/edge/rights.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	struct cmsghdr align;
	uint8_t bytes[CMSG_SPACE(RIGHTS_MAX * sizeof(int))];
};

int rights_open(int end[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, end) == 0 ? 0 : -errno;
}

int rights_send(const int end[2], const int *fds, unsigned count)
{
	size_t len = count * sizeof(int);
	union control control = { 0 };
	uint8_t byte = 0;
	struct iovec data = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &data,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = CMSG_SPACE(len) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), fds, len);
	return sendmsg(end[0], &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

int rights_look(const int end[2], int fds[RIGHTS_MAX])
{
	union control control;
	uint8_t byte;
	struct iovec data = { &byte, 1 };
	struct msghdr msg = { .msg_iov = &data,
			      .msg_iovlen = 1,
			      .msg_control = control.bytes,
			      .msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int count = 0;

	if (recvmsg(end[1], &msg, MSG_PEEK | MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != 1)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c) {
		count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)count * sizeof(int));
	}
	if (!(msg.msg_flags & MSG_CTRUNC))
		return count;
	while (count > 0)
		close(fds[--count]);
	return -EMFILE;
}

void rights_drop(const int end[2])
{
	uint8_t byte;
	ssize_t n = recv(end[1], &byte, 1, MSG_DONTWAIT);

	assert(n == 1);
	(void)n;
}
