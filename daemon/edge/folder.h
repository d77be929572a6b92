/* The runtime folder: whose it is, and the lock that says that a daemon runs in it. */
#ifndef MESHWRAP_DAEMON_EDGE_FOLDER_H
#define MESHWRAP_DAEMON_EDGE_FOLDER_H

#include <stdbool.h>

/*
 * Makes the folder when it is missing and locks it. *lock_fd holds the lock
 * until it is closed. 0, -EEXIST when another daemon has it, or -errno; error
 * then holds a sentence.
 */
int folder_lock(const char *dir, bool allow_all_users, int *lock_fd, char error[static 256]);

/*
 * As long as the descriptor is open, those who clean /tmp of what is old leave the folder alone
 * (systemd-tmpfiles skips what is locked). fd or -errno.
 */
int folder_keep(const char *dir);

/*
 * A listening Unix socket DIR/file in place of one that a dead daemon left.
 * type: SOCK_SEQPACKET, SOCK_STREAM or SOCK_DGRAM. fd or -errno. Holds the lock: nobody else
 * listens.
 */
int folder_listen(const char *dir, const char *file, int type, bool allow_all_users);
/* Who is at the other end: our own uid, root, or anybody where all users are allowed? */
bool folder_may_ask(int fd, bool allow_all_users);
/* The same of who has sent something. */
struct ucred;
bool folder_may_tell(const struct ucred *who, bool allow_all_users);

#endif
