/*
 * Claims are names in the abstract namespace: they need no folder that all
 * daemons share, no clean-up after a crash, and hold in exactly the network
 * namespace that the loopback addresses live in.
 */
#include "daemon/edge/claims.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/util.h"

void claims_init(struct claims *claims)
{
	for (unsigned i = 0; i < ARRAY_LEN(claims->fd); i++)
		claims->fd[i] = -1;
}

void claims_finish(struct claims *claims)
{
	for (unsigned i = 0; i < ARRAY_LEN(claims->fd); i++)
		claims_give_back(claims, i);
}

int claims_take(struct claims *claims, unsigned block)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd, len, err;

	assert(block >= CLAIMS_FIRST && block <= CLAIMS_LAST);
	if (claims->fd[block] >= 0)
		return 0;
	len = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "meshwrap.mirror.127.%u",
		       block);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&name,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) != 0) {
		err = -errno;
		close(fd);
		return err;
	}
	claims->fd[block] = fd;
	return 0;
}

void claims_give_back(struct claims *claims, unsigned block)
{
	if (claims->fd[block] >= 0)
		close(claims->fd[block]);
	claims->fd[block] = -1;
}
