/*
 * What was received lies in the program's memory, so it is fetched, completed
 * and put back. The beginning alone says whether that is worth while, as
 * all data that comes with an address passes here.
 *
 * musl's list comes by recv(), which has no address and does not stop; so who has
 * just opened such a socket is watched for some calls (trace_loop.c).
 */
#include "preload/trace_netlink.h"

#include <errno.h>
#include <stdlib.h>

#include <linux/netlink.h>

#include "preload/address.h"
#include "preload/libc.h"
#include "preload/meshif.h"
#include "preload/netlink.h"
#include "preload/shim.h"
#include "preload/trace_memory.h"
#include "shared/util.h"

#define LIST_MAX 262144u /* of one answer; the kernel's have at most 32 KiB */

static ssize_t complete(unsigned long data, size_t n, size_t room)
{
	char *list;

	room = MIN(room, LIST_MAX);
	list = n <= room ? malloc(room) : NULL;
	if (list && trace_read(data, list, n)) {
		size_t longer = netlink_show_mesh(shim_map(), list, n, room);

		/* Also of the same length: the source of a route. */
		if (trace_write(data, list, longer))
			n = longer;
	}
	free(list);
	return (ssize_t)n;
}

ssize_t trace_show_interface(int fd, const void *data, ssize_t n, size_t room)
{
	char name[MAP_IFNAME_MAX];
	struct nlmsghdr head;
	int saved = errno;

	if (n < (ssize_t)sizeof(head) || (size_t)n > room ||
	    !trace_read((unsigned long)data, &head, sizeof(head)) ||
	    !netlink_is_list(&head, (size_t)n) || !socket_lists_interfaces(fd) ||
	    !meshif_name(shim_map(), name) || libc.if_nametoindex(name))
		return n;
	errno = saved;
	return complete((unsigned long)data, (size_t)n, room);
}

struct iovec trace_first_buffer(const struct iovec *list, size_t count)
{
	struct iovec first = { NULL, 0 };

	if (count && !trace_read((unsigned long)list, &first, sizeof(first)))
		first.iov_len = 0;
	return first;
}
