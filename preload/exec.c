/*
 * exec and posix_spawn: the real ones, with what follow.c makes of their words.
 *
 * libc's variants call one another inside libc, where nobody can step between,
 * so each is replaced. system() and popen() start a shell with the program's
 * own environment, and what that shell starts comes by here again.
 */
#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "preload/follow.h"
#include "preload/libc.h"
#include "preload/shim.h"

#define MAX_WORDS 1024 /* of execl() and its like */

extern char **environ;

SHIM_EXPORT(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
	struct follow f;
	bool changed;

	follow_prepare(&f, path, argv, envp, &changed);
	return libc.execve(f.path, f.argv, f.envp);
}

SHIM_EXPORT(int, execv, (const char *path, char *const argv[]))
{
	return shim_execve(path, argv, environ);
}

/* The search is libc's own, unless its result needs meshrun. */
SHIM_EXPORT(int, execvpe, (const char *name, char *const argv[], char *const envp[]))
{
	char path[PATH_MAX];
	struct follow f;
	bool changed;

	if (!shim_is_on() || !follow_find(name, path))
		return libc.execvpe(name, argv, envp);
	follow_prepare(&f, path, argv, envp, &changed);
	if (changed)
		return libc.execve(f.path, f.argv, f.envp);
	return libc.execvpe(name, argv, f.envp);
}

SHIM_EXPORT(int, execvp, (const char *name, char *const argv[]))
{
	return shim_execvpe(name, argv, environ);
}

/* words[0] is set; the rest, with NULL at its end, comes from args. False: too many. */
static bool take_words(char *words[static MAX_WORDS], va_list args)
{
	for (size_t i = 1; i < MAX_WORDS; i++)
		if (!(words[i] = va_arg(args, char *)))
			return true;
	errno = E2BIG;
	return false;
}

SHIM_EXPORT(int, execl, (const char *path, const char *arg, ...))
{
	char *words[MAX_WORDS] = { (char *)arg };
	bool fits = true;
	va_list args;

	va_start(args, arg);
	if (arg)
		fits = take_words(words, args);
	va_end(args);
	return fits ? shim_execve(path, words, environ) : -1;
}

SHIM_EXPORT(int, execle, (const char *path, const char *arg, ...))
{
	char *words[MAX_WORDS] = { (char *)arg }, **envp = NULL;
	bool fits = true;
	va_list args;

	va_start(args, arg);
	if (arg)
		fits = take_words(words, args);
	if (fits)
		envp = va_arg(args, char **);
	va_end(args);
	return fits ? shim_execve(path, words, envp) : -1;
}

SHIM_EXPORT(int, execlp, (const char *name, const char *arg, ...))
{
	char *words[MAX_WORDS] = { (char *)arg };
	bool fits = true;
	va_list args;

	va_start(args, arg);
	if (arg)
		fits = take_words(words, args);
	va_end(args);
	return fits ? shim_execvpe(name, words, environ) : -1;
}

/* The file's name for a look at it, as long as the descriptor is open. */
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

/* The program may be known by a descriptor alone, which meshrun would not have. */
SHIM_EXPORT(int, fexecve, (int fd, char *const argv[], char *const envp[]))
{
	struct follow f;
	char name[32];

	name_descriptor(fd, name);
	follow_prepare(&f, name, argv, envp, NULL);
	return libc.fexecve(fd, argv, f.envp);
}

SHIM_EXPORT(int, posix_spawn,
	    (pid_t * pid, const char *path, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]))
{
	struct follow f;
	bool changed;

	follow_prepare(&f, path, argv, envp, &changed);
	return libc.posix_spawn(pid, f.path, actions, attributes, f.argv, f.envp);
}

SHIM_EXPORT(int, posix_spawnp,
	    (pid_t * pid, const char *name, const posix_spawn_file_actions_t *actions,
	     const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]))
{
	char path[PATH_MAX];
	struct follow f;
	bool changed;

	if (!shim_is_on() || !follow_find(name, path))
		return libc.posix_spawnp(pid, name, actions, attributes, argv, envp);
	follow_prepare(&f, path, argv, envp, &changed);
	if (changed)
		return libc.posix_spawn(pid, f.path, actions, attributes, f.argv, f.envp);
	return libc.posix_spawnp(pid, name, actions, attributes, argv, f.envp);
}
