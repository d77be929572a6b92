/*
 * Can the shim be loaded into this program?
 *
 * The dynamic linker ignores LD_PRELOAD where it cannot work (static and
 * foreign programs) and where it must not (set-uid ones). Such a program would
 * run and silently be off the mesh, so meshrun refuses it in one sentence.
 * Scripts are judged by their interpreter.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/binfmt.h"
#include "preload/meshrun.h"

#define HEAD_BYTES  65536 /* where program headers and interpreters are in practice */
#define MAX_SCRIPTS 4     /* as the kernel follows them */

/* The file execvp() would take; false: errno says why not. */
static bool find_program(const char *name, char path[static PATH_MAX])
{
	const char *dirs = getenv("PATH"), *end;
	int error = ENOENT;

	struct stat st;

	if (strchr(name, '/')) {
		if (snprintf(path, PATH_MAX, "%s", name) >= PATH_MAX)
			errno = ENAMETOOLONG;
		else if (access(path, X_OK) == 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode))
			return true;
		else if (errno == 0)
			errno = EACCES;
		return false;
	}
	for (dirs = dirs ? dirs : "/bin:/usr/bin"; dirs; dirs = *end ? end + 1 : NULL) {
		end = strchrnul(dirs, ':');
		if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - dirs), dirs,
			     end == dirs ? "" : "/", name) >= PATH_MAX ||
		    stat(path, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (access(path, X_OK) == 0)
			return true;
		error = EACCES;
	}
	errno = error;
	return false;
}

static ssize_t read_head(const char *path, char *head, struct stat *st)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return -1;
	if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode)) {
		close(fd);
		return -1;
	}
	while (len < HEAD_BYTES && (n = read(fd, head + len, HEAD_BYTES - len)) > 0)
		len += (size_t)n;
	close(fd);
	return (ssize_t)len;
}

/* Will running it change who we are? Then the dynamic linker takes no LD_PRELOAD. */
static bool gains_rights(const struct stat *st)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	return ((st->st_mode & S_ISUID) && st->st_uid != getuid()) ||
	       ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) && st->st_gid != getgid());
}

static int refuse(const char *program, const char *why)
{
	complain("%s %s, so this version cannot put it on the mesh", program, why);
	return EXIT_NOT_OURS;
}

static int check_file(const char *program, const char *path, char *head)
{
	char interpreter[ELF_INTERPRETER_MAX], script[ELF_INTERPRETER_MAX];
	struct stat st;
	ssize_t n;

	for (int i = 0; i <= MAX_SCRIPTS; i++) {
		n = read_head(path, head, &st);
		if (n < 0)
			return 0; /* not readable: exec will tell */
		if (gains_rights(&st))
			return refuse(program, "runs with another user's rights (set-uid)");
		switch (binfmt_elf(head, (size_t)n, interpreter)) {
		case ELF_STATIC:
			return refuse(program, "is statically linked");
		case ELF_GO:
			return refuse(program, "is a Go program, which does not use libc");
		case ELF_FOREIGN:
			return refuse(program, "is made for another kind of machine");
		case ELF_DYNAMIC:
			return strstr(interpreter, "ld-musl")
				       ? refuse(program, "uses musl and not glibc")
				       : 0;
		case ELF_NONE:
			break;
		}
		if (!binfmt_script(head, (size_t)n, interpreter))
			return 0;
		memcpy(script, interpreter, sizeof(script));
		path = script;
	}
	return 0;
}

int program_check(const char *program)
{
	char path[PATH_MAX];
	char *head;
	int status;

	if (!find_program(program, path)) {
		complain("%s: %s", program, errno == ENOENT ? "no such program" : strerror(errno));
		return errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_NOT_OURS;
	}
	head = malloc(HEAD_BYTES);
	if (!head) {
		complain("out of memory");
		return EXIT_NO_MESH;
	}
	status = check_file(program, path, head);
	free(head);
	return status;
}

int program_exec(char **argv)
{
	int error;

	execvp(argv[0], argv);
	error = errno;
	complain("%s: %s", argv[0], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_OURS;
}
