/* The kernel's lists of interfaces, in a traced program's own memory. Only inside a call. */
#ifndef MESHWRAP_PRELOAD_TRACE_NETLINK_H
#define MESHWRAP_PRELOAD_TRACE_NETLINK_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* n bytes were received into the program's room bytes at data; how many they are now. */
ssize_t trace_show_interface(int fd, const void *data, ssize_t n, size_t room);
/* The first buffer of a list in the program's memory; none is one of no length. */
struct iovec trace_first_buffer(const struct iovec *list, size_t count);

#endif
