/*
 * A new file in place of one that was removed while the daemon runs.
 *
 * It has the same content, so nothing else of the daemon sees a difference. Programs that have the
 * old one mapped are told to look for the new one as those of an old version are: it is retired,
 * and its life ends, once the new one is in its place.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/edge/mapfile_private.h"
#include "shared/paths.h"
#include "shared/util.h"

#define PIECE 4096

/* What is nought stays a hole. By write(), which says so where the file system is full. */
static int copy(int from, int to)
{
	static const char nought[PIECE];
	char piece[PIECE];

	for (off_t at = 0; at < (off_t)sizeof(struct map); at += PIECE) {
		ssize_t n = pread(from, piece, sizeof(piece), at);

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		if (memcmp(piece, nought, (size_t)n) == 0)
			continue;
		if (pwrite(to, piece, (size_t)n, at) != n)
			return errno ? -errno : -ENOSPC;
	}
	return 0;
}

int mapfile_renew(struct mapfile *mf, const char *dir, bool world_readable)
{
	char path[PATHS_MAX + 8], fresh[PATHS_MAX + 16];
	struct map *map = NULL;
	bool is_locked = false;
	int err, fd = -1;

	err = paths_join(dir, PATHS_MAP, path, sizeof(path));
	if (err == 0)
		err = paths_join(dir, PATHS_MAP ".new", fresh, sizeof(fresh));
	if (err)
		return err;
	if (unlink(fresh) != 0 && errno != ENOENT)
		return -errno;
	err = mapfile_make(fresh, world_readable ? 0644 : 0600, &map, &fd);
	if (err)
		goto fail;
	err = copy(mf->fd, fd);
	if (err)
		goto fail;
	err = mapfile_lock_life(map);
	if (err)
		goto fail;
	is_locked = true;
	if (rename(fresh, path) != 0) {
		err = -errno;
		goto fail;
	}
	atomic_store(&mf->map->retired, 1);
	mapfile_end_life(mf->map);
	munmap(mf->map, sizeof(*mf->map));
	close(mf->fd);
	mf->map = map;
	mf->fd = fd;
	return 0;
fail:
	unlink(fresh);
	if (is_locked)
		mapfile_end_life(map);
	if (map)
		munmap(map, sizeof(*map));
	if (fd >= 0)
		close(fd);
	return err;
}

int mapfile_fd(const struct mapfile *mf)
{
	return mf->fd;
}
