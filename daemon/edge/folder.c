/*
 * The runtime folder may lie in /tmp, where anybody can make a folder of our
 * name first. So it must be ours and writable for nobody else before anything
 * in it is believed. Which daemon has it is told by flock, not by a pid file:
 * a lock cannot outlive its holder.
 */
#include "daemon/edge/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/paths.h"

#define LISTEN_BACKLOG 1024

static int check_folder(const char *dir, bool allow_all_users, char *error)
{
	struct stat st;

	if (lstat(dir, &st) != 0) {
		int err = errno;

		snprintf(error, 256, "cannot look at the runtime folder %.150s: %s", dir,
			 strerror(err));
		return -err;
	}
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022)) {
		snprintf(error, 256,
			 "the runtime folder %.100s must be a folder of your own that "
			 "nobody else can write to; choose another with --dir",
			 dir);
		return -EPERM;
	}
	if (allow_all_users && (st.st_mode & 0111) != 0111 &&
	    chmod(dir, (st.st_mode & 07777) | 0111) != 0) {
		int err = errno;

		snprintf(error, 256, "cannot open the runtime folder %.150s to all users: %s", dir,
			 strerror(err));
		return -err;
	}
	return 0;
}

int folder_lock(const char *dir, bool allow_all_users, int *lock_fd, char error[static 256])
{
	char path[PATHS_MAX + 8];
	int err, fd;

	if (mkdir(dir, allow_all_users ? 0755 : 0700) != 0 && errno != EEXIST) {
		err = errno;
		snprintf(error, 256,
			 "cannot make the runtime folder %.150s: %s; choose another with --dir",
			 dir, strerror(err));
		return -err;
	}
	err = check_folder(dir, allow_all_users, error);
	if (err)
		return err;
	if (paths_join(dir, PATHS_LOCK, path, sizeof(path)) != 0) {
		snprintf(error, 256, "the runtime folder's name is longer than %d bytes",
			 PATHS_MAX - 1);
		return -ENAMETOOLONG;
	}
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		err = errno;
		snprintf(error, 256, "cannot open %.150s: %s", path, strerror(err));
		return -err;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		err = errno;
		close(fd);
		if (err == EWOULDBLOCK) {
			snprintf(
				error, 256,
				"a daemon already runs in %.150s; end it, or choose another folder "
				"with --dir",
				dir);
			return -EEXIST;
		}
		snprintf(error, 256, "cannot lock %.150s: %s", path, strerror(err));
		return -err;
	}
	*lock_fd = fd;
	return 0;
}

int folder_keep(const char *dir)
{
	int err, fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_SH | LOCK_NB) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

int folder_listen(const char *dir, const char *file, int type, bool allow_all_users)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int err, fd;

	err = paths_join(dir, file, name.sun_path, sizeof(name.sun_path));
	if (err)
		return err;
	if (unlink(name.sun_path) != 0 && errno != ENOENT)
		return -errno;
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/*
	 * Nobody can connect before listen(), so the mode is right from the first moment. Of
	 * datagrams the sender is looked at.
	 */
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) != 0 ||
	    chmod(name.sun_path, allow_all_users ? 0666 : 0600) != 0 ||
	    (type != SOCK_DGRAM && listen(fd, LISTEN_BACKLOG) != 0)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

bool folder_may_tell(const struct ucred *who, bool allow_all_users)
{
	return allow_all_users || who->uid == 0 || who->uid == geteuid();
}

bool folder_may_ask(int fd, bool allow_all_users)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0)
		return false;
	return folder_may_tell(&who, allow_all_users);
}
