/*
 * Tells when this host's addresses or default routes changed: netlink where it is
 * allowed, else a look every few seconds.
 */
#ifndef MESHWRAP_DAEMON_PATH_NETWATCH_H
#define MESHWRAP_DAEMON_PATH_NETWATCH_H

struct loop;
struct netwatch;

/* changed: from the loop, after the changes have been quiet for a moment. NULL on -ENOMEM. */
struct netwatch *netwatch_create(struct loop *loop, void (*changed)(void *owner), void *owner);
void netwatch_destroy(struct netwatch *watch);

#endif
