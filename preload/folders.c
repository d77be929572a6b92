/*
 * What posix_spawn's file actions say of folders is remembered beside them, by their address, from
 * the first change of folder until they are destroyed or begun anew: a descriptor to begin from,
 * and the steps from there, which are taken when a child is started, as the child will take them.
 * Actions are one thread's at a time, as libc demands; so is what belongs to them here.
 *
 * Where no place is free, and where a descriptor is one that the actions themselves open, the
 * path is taken from the parent's folder.
 *
 * Rejected: reading libc's own list (its form is nobody's business); a look at the program by the
 * child (posix_spawn could not say any more that there is none).
 */
#include "preload/folders.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>

#include "preload/libc.h"
#include "preload/raw.h"
#include "preload/shim.h"

#define FOLDERS_MAX 64

struct folder {
	_Atomic(const void *) actions; /* NULL: the place is free */
	int base;                      /* the caller's descriptor, or AT_FDCWD */
	char steps[PATH_MAX];          /* "": the base itself */
};

static struct folder folders[FOLDERS_MAX];
static _Atomic unsigned folder_count; /* places that are taken: mostly none */

static struct folder *find(const void *actions)
{
	if (!actions || atomic_load(&folder_count) == 0)
		return NULL;
	for (unsigned i = 0; i < FOLDERS_MAX; i++)
		if (atomic_load(&folders[i].actions) == actions)
			return &folders[i];
	return NULL;
}

static void forget(const void *actions)
{
	struct folder *folder = find(actions);

	if (!folder)
		return;
	atomic_store(&folder->actions, NULL);
	atomic_fetch_sub(&folder_count, 1);
}

/* The one of these actions, or a free one; NULL: there is none. */
static struct folder *take(const void *actions)
{
	struct folder *folder = find(actions);

	for (unsigned i = 0; !folder && i < FOLDERS_MAX; i++) {
		const void *none = NULL;

		if (!atomic_compare_exchange_strong(&folders[i].actions, &none, actions))
			continue;
		atomic_fetch_add(&folder_count, 1);
		folder = &folders[i];
		folder->base = AT_FDCWD;
		*folder->steps = '\0';
	}
	return folder;
}

static void add_step(const void *actions, const char *path)
{
	struct folder *folder = take(actions);
	size_t len = strlen(path), before;

	if (!folder)
		return;
	before = *path == '/' ? 0 : strlen(folder->steps);
	if (before + 1 + len >= sizeof(folder->steps)) {
		forget(actions);
		return;
	}
	if (before > 0)
		folder->steps[before++] = '/';
	memcpy(folder->steps + before, path, len + 1);
}

static void begin_from(const void *actions, int fd)
{
	struct folder *folder = take(actions);

	if (!folder)
		return;
	folder->base = fd;
	*folder->steps = '\0';
}

int folders_open(const posix_spawn_file_actions_t *actions)
{
	struct folder *folder = find(actions);
	int saved = errno, fd;

	if (!folder)
		return AT_FDCWD;
	fd = (int)raw_syscall(SYS_openat, folder->base, *folder->steps ? folder->steps : ".",
			      O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	errno = saved;
	return fd < 0 ? AT_FDCWD : fd;
}

void folders_close(int folder)
{
	int saved = errno;

	if (folder != AT_FDCWD)
		raw_syscall(SYS_close, folder);
	errno = saved;
}

SHIM_EXPORT(int, posix_spawn_file_actions_init, (posix_spawn_file_actions_t * actions))
{
	if (shim_is_on())
		forget(actions);
	return libc.posix_spawn_file_actions_init(actions);
}

SHIM_EXPORT(int, posix_spawn_file_actions_destroy, (posix_spawn_file_actions_t * actions))
{
	if (shim_is_on())
		forget(actions);
	return libc.posix_spawn_file_actions_destroy(actions);
}

static int add_path(int (*real)(posix_spawn_file_actions_t *, const char *),
		    posix_spawn_file_actions_t *actions, const char *path)
{
	int err = real ? real(actions, path) : ENOSYS;

	if (err == 0 && shim_is_on())
		add_step(actions, path);
	return err;
}

static int add_descriptor(int (*real)(posix_spawn_file_actions_t *, int),
			  posix_spawn_file_actions_t *actions, int fd)
{
	int err = real ? real(actions, fd) : ENOSYS;

	if (err == 0 && shim_is_on())
		begin_from(actions, fd);
	return err;
}

SHIM_EXPORT(int, posix_spawn_file_actions_addchdir_np,
	    (posix_spawn_file_actions_t * actions, const char *path))
{
	return add_path(libc.posix_spawn_file_actions_addchdir_np, actions, path);
}

SHIM_EXPORT(int, posix_spawn_file_actions_addfchdir_np,
	    (posix_spawn_file_actions_t * actions, int fd))
{
	return add_descriptor(libc.posix_spawn_file_actions_addfchdir_np, actions, fd);
}

/* POSIX has them since 2024; a libc that has not yet the names has the functions. */
SHIM_EXPORT(int, posix_spawn_file_actions_addchdir,
	    (posix_spawn_file_actions_t * actions, const char *path))
{
	return add_path(libc.posix_spawn_file_actions_addchdir_np, actions, path);
}

SHIM_EXPORT(int, posix_spawn_file_actions_addfchdir, (posix_spawn_file_actions_t * actions, int fd))
{
	return add_descriptor(libc.posix_spawn_file_actions_addfchdir_np, actions, fd);
}
