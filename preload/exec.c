/*
 * exec, posix_spawn and pidfd_spawn: the real ones, with what follow.c makes of their words.
 *
 * libc's variants call one another inside libc, where nobody can step between,
 * so each is replaced. For system() and popen() see shell.c.
 *
 * New words lie on the stack, as libc's own do: see follow.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/folders.h"
#include "preload/follow.h"
#include "preload/libc.h"
#include "preload/raw.h"
#include "preload/shim.h"

/* What was asked for, in whose words all functions here have it. */
#define ASKED(at, name)                                                    \
	{                                                                  \
		.folder = (at), .path = (name), .argv = argv, .envp = envp \
	}

extern char **environ;

SHIM_EXPORT(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
	struct follow f = ASKED(AT_FDCWD, path);

	FOLLOW(&f, false);
	return libc.execve(f.path, f.argv, f.envp);
}

SHIM_EXPORT(int, execv, (const char *path, char *const argv[]))
{
	return shim_execve(path, argv, environ);
}

/* The search is libc's own, unless its result needs meshrun. */
SHIM_EXPORT(int, execvpe, (const char *name, char *const argv[], char *const envp[]))
{
	size_t room = follow_find_room(name);
	char *path = __builtin_alloca(room);
	struct follow f = ASKED(AT_FDCWD, path);

	if (!room || !follow_find(AT_FDCWD, name, path, room))
		return libc.execvpe(name, argv, envp);
	FOLLOW(&f, false);
	if (f.has_other_path)
		return libc.execve(f.path, f.argv, f.envp);
	return libc.execvpe(name, argv, f.envp);
}

SHIM_EXPORT(int, execvp, (const char *name, char *const argv[]))
{
	return shim_execvpe(name, argv, environ);
}

/* How many there are before the NULL. */
static size_t count_args(va_list *args)
{
	size_t n = 0;

	while (va_arg(*args, char *))
		n++;
	return n;
}

static void take_args(char **words, va_list *args)
{
	do
		*words = va_arg(*args, char *);
	while (*words++);
}

/* words = arg and what follows it, with the NULL, in the frame of whoever says it. */
#define TAKE_WORDS(words, args, arg)                                     \
	do {                                                             \
		size_t count_ = 0;                                       \
		va_start(args, arg);                                     \
		if (arg)                                                 \
			count_ = 1 + count_args(&args);                  \
		va_end(args);                                            \
		words = __builtin_alloca((count_ + 1) * sizeof(*words)); \
		words[0] = (char *)arg;                                  \
		va_start(args, arg);                                     \
		if (arg)                                                 \
			take_args(words + 1, &args);                     \
	} while (0)

SHIM_EXPORT(int, execl, (const char *path, const char *arg, ...))
{
	char **words;
	va_list args;

	TAKE_WORDS(words, args, arg);
	va_end(args);
	return shim_execve(path, words, environ);
}

SHIM_EXPORT(int, execle, (const char *path, const char *arg, ...))
{
	char **words, **envp;
	va_list args;

	TAKE_WORDS(words, args, arg);
	envp = va_arg(args, char **);
	va_end(args);
	return shim_execve(path, words, envp);
}

SHIM_EXPORT(int, execlp, (const char *name, const char *arg, ...))
{
	char **words;
	va_list args;

	TAKE_WORDS(words, args, arg);
	va_end(args);
	return shim_execvpe(name, words, environ);
}

/* A name for a look at the file, as long as the descriptor is open. */
static void name_descriptor(int fd, char name[static 32])
{
	char digits[12], *at = digits + sizeof(digits);
	unsigned n = fd < 0 ? 0 : (unsigned)fd;

	*--at = '\0';
	do {
		*--at = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	memcpy(name, "/proc/self/fd/", 14);
	memcpy(name + 14, at, (size_t)(digits + sizeof(digits) - at));
}

/*
 * What the file is called, if it is called anything: meshrun, which starts it in our place,
 * would not have the descriptor. False: only a name for a look at it.
 */
static bool name_file(int fd, char name[static PATH_MAX])
{
	char link[32];
	struct stat file, named;
	int saved = errno;
	ssize_t n;

	name_descriptor(fd, link);
	n = readlink(link, name, PATH_MAX - 1);
	if (n > 0) {
		name[n] = '\0';
		if (fstat(fd, &file) == 0 && stat(name, &named) == 0 &&
		    file.st_dev == named.st_dev && file.st_ino == named.st_ino)
			return true;
	}
	memcpy(name, link, sizeof(link));
	errno = saved;
	return false;
}

SHIM_EXPORT(int, fexecve, (int fd, char *const argv[], char *const envp[]))
{
	char name[PATH_MAX];
	struct follow f = ASKED(AT_FDCWD, name);
	bool has_name;

	if (!shim_is_on())
		return libc.fexecve(fd, argv, envp);
	has_name = name_file(fd, name);
	FOLLOW(&f, !has_name);
	if (f.has_other_path)
		return libc.execve(f.path, f.argv, f.envp);
	return libc.fexecve(fd, argv, f.envp);
}

/* Not every libc has it. A symbolic link that is not to be followed is the kernel's to refuse. */
SHIM_EXPORT(int, execveat,
	    (int folder, const char *path, char *const argv[], char *const envp[], int flags))
{
	char name[PATH_MAX];
	struct follow f = ASKED(AT_FDCWD, name);
	bool has_name;
	int fd;

	fd = shim_is_on() ? (int)raw_syscall(SYS_openat, folder, path, O_PATH | O_CLOEXEC, 0) : -1;
	if (fd < 0 && shim_is_on() && (flags & AT_EMPTY_PATH))
		fd = (int)raw_syscall(SYS_fcntl, folder, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return (int)raw_syscall(SYS_execveat, folder, path, argv, envp, flags);
	has_name = name_file(fd, name);
	FOLLOW(&f, !has_name || (flags & ~AT_EMPTY_PATH));
	raw_syscall(SYS_close, fd);
	if (f.has_other_path)
		return libc.execve(f.path, f.argv, f.envp);
	return (int)raw_syscall(SYS_execveat, folder, path, argv, f.envp, flags);
}

SHIM_EXPORT(int, posix_spawn,
	    (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]))
{
	struct follow f = ASKED(folders_open(actions), path);

	FOLLOW(&f, false);
	folders_close(f.folder);
	return libc.posix_spawn(pid, f.path, actions, attributes, f.argv, f.envp);
}

SHIM_EXPORT(int, posix_spawnp,
	    (pid_t * pid, const char *name, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]))
{
	size_t room = follow_find_room(name);
	char *path = __builtin_alloca(room);
	struct follow f = ASKED(folders_open(actions), path);
	bool is_found = room && follow_find(f.folder, name, path, room);

	if (is_found)
		FOLLOW(&f, false);
	folders_close(f.folder);
	if (!is_found)
		return libc.posix_spawnp(pid, name, actions, attributes, argv, envp);
	if (f.has_other_path)
		return libc.posix_spawn(pid, f.path, actions, attributes, f.argv, f.envp);
	return libc.posix_spawnp(pid, name, actions, attributes, argv, f.envp);
}

/*
 * glibc's since 2.39, whatever libc we were built with. Where it has none, the answer is the
 * one it gives on a kernel that cannot do it.
 */
SHIM_EXPORT(int, pidfd_spawn,
	    (int *pidfd, const char *path, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]))
{
	struct follow f = ASKED(folders_open(actions), path);

	FOLLOW(&f, false);
	folders_close(f.folder);
	if (!libc.pidfd_spawn)
		return ENOSYS;
	return libc.pidfd_spawn(pidfd, f.path, actions, attributes, f.argv, f.envp);
}

SHIM_EXPORT(int, pidfd_spawnp,
	    (int *pidfd, const char *name, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]))
{
	size_t room = follow_find_room(name);
	char *path = __builtin_alloca(room);
	struct follow f = ASKED(folders_open(actions), path);
	bool is_found = room && follow_find(f.folder, name, path, room);

	if (is_found)
		FOLLOW(&f, false);
	folders_close(f.folder);
	if (!libc.pidfd_spawnp)
		return ENOSYS;
	if (!is_found)
		return libc.pidfd_spawnp(pidfd, name, actions, attributes, argv, envp);
	if (f.has_other_path)
		return libc.pidfd_spawn(pidfd, f.path, actions, attributes, f.argv, f.envp);
	return libc.pidfd_spawnp(pidfd, name, actions, attributes, argv, f.envp);
}
