/*
 * Which parts of 127.0.0.0/8 are this daemon's, in blocks 127.n.0.0/16.
 *
 * Daemons of one network namespace agree by binding an abstract Unix socket
 * for each block; the kernel frees the names of a daemon that dies.
 */
#ifndef MESHWRAP_DAEMON_EDGE_CLAIMS_H
#define MESHWRAP_DAEMON_EDGE_CLAIMS_H

#define CLAIMS_FIRST 2   /* 127.0 is everybody's, 127.1 is used by names of hosts */
#define CLAIMS_LAST  254 /* 127.255 holds the broadcast address */

struct claims {
	int fd[CLAIMS_LAST + 1]; /* -1: not ours */
};

void claims_init(struct claims *claims);
void claims_finish(struct claims *claims);
/* 0, also if it is ours already; -EADDRINUSE: another daemon has it; -errno: nobody can tell. */
int claims_take(struct claims *claims, unsigned block);
void claims_give_back(struct claims *claims, unsigned block);

#endif
