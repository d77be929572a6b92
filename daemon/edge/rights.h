/* Descriptors in flight: one message with some of them waits in a pair of Unix sockets. */
#ifndef MESHWRAP_DAEMON_EDGE_RIGHTS_H
#define MESHWRAP_DAEMON_EDGE_RIGHTS_H

#define RIGHTS_MAX 32

/* end[0] is written to, end[1] read from. 0 or -errno. */
int rights_open(int end[2]);
/* 0 or -errno; -ETOOMANYREFS: the user has too many in flight. The caller keeps its descriptors. */
int rights_send(const int end[2], const int *fds, unsigned count);
/* Second descriptors of all in the first message, in their order: how many, or -errno and none. */
int rights_look(const int end[2], int fds[RIGHTS_MAX]);
/* Drops the first message, which must be there. */
void rights_drop(const int end[2]);

#endif
