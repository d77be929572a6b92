/*
 * How is this program put on the mesh?
 *
 * The dynamic linker loads the shim that was built for the program's libc. Where
 * there is none (static programs, Go, a libc we have no shim for) the program is traced. Programs
 * that gain another user's rights can be entered by nobody; running them
 * silently off the mesh is no answer, so they are refused in one sentence.
 * Scripts are judged by their interpreter.
 *
 * The shim itself starts static children by us: with MESHWRAP_EXEC naming the
 * file, all arguments are the child's own, its argv[0] too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "preload/binfmt.h"
#include "preload/libraries.h"
#include "preload/meshrun.h"
#include "preload/trace.h"

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
	/* An interpreter may be a pipe, which would wait for a writer, or a terminal. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
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
static bool gains_rights(const char *path, const struct stat *st)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	if (geteuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0)
		return true;
	return ((st->st_mode & S_ISUID) && st->st_uid != getuid()) ||
	       ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) && st->st_gid != getgid());
}

enum way { WAY_SHIM, WAY_OTHER_SHIM, WAY_TRACE };

static int refuse(const char *program, const char *why)
{
	complain("%s %s, so it cannot be put on the mesh", program, why);
	return EXIT_NOT_OURS;
}

/* A program with a dynamic linker. */
static enum way way_into(const char *interpreter)
{
	char library[PATH_MAX];

	if (libraries_is_our_libc(interpreter))
		return WAY_SHIM;
	return library_find(LIBRARY_OTHER, library) ? WAY_OTHER_SHIM : WAY_TRACE;
}

static int judge_file(const char *program, const char *path, char *head, enum way *way)
{
	char interpreter[ELF_INTERPRETER_MAX], script[ELF_INTERPRETER_MAX];
	struct stat st;
	ssize_t n;

	for (int i = 0; i <= MAX_SCRIPTS; i++) {
		n = read_head(path, head, &st);
		if (n < 0)
			return 0; /* not readable: exec will tell */
		if (gains_rights(path, &st))
			return refuse(
				program,
				"runs with other rights than yours (set-uid or file capabilities)");
		switch (binfmt_elf(head, (size_t)n, interpreter)) {
		case ELF_STATIC:
		case ELF_GO:
			*way = WAY_TRACE;
			return 0;
		case ELF_FOREIGN:
			return refuse(program, "is made for another kind of machine");
		case ELF_DYNAMIC:
			*way = way_into(interpreter);
			return 0;
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

static int judge(const char *program, const char *path, enum way *way)
{
	const char *wish = getenv("MESHWRAP_TRACE");
	char *head = malloc(HEAD_BYTES);
	int status;

	if (!head) {
		complain("out of memory");
		return EXIT_NO_MESH;
	}
	*way = WAY_SHIM;
	status = judge_file(program, path, head, way);
	free(head);
	if (wish && strcmp(wish, "1") == 0)
		*way = WAY_TRACE;
	return status;
}

int program_check(const char *program)
{
	char path[PATH_MAX];
	enum way way;

	if (!find_program(program, path)) {
		complain("%s: %s", program, errno == ENOENT ? "no such program" : strerror(errno));
		return errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_NOT_OURS;
	}
	return judge(program, path, &way);
}

bool preload_set(const char *library)
{
	const char *old = getenv("LD_PRELOAD");
	size_t room = (old ? strlen(old) : 0) + (library ? strlen(library) : 0) + 2;
	char *value = malloc(room);
	bool is_done = value && libraries_replace(old, library, value, room);

	if (is_done)
		is_done = (*value ? setenv("LD_PRELOAD", value, 1) : unsetenv("LD_PRELOAD")) == 0;
	free(value);
	return is_done;
}

static int set_other_shim(void)
{
	char library[PATH_MAX];

	if (library_find(LIBRARY_OTHER, library) && preload_set(library))
		return 0;
	complain("out of memory");
	return EXIT_NO_MESH;
}

/* The folder of the mesh we are traced for already; NULL: we are not. */
static const char *traced_for(void)
{
	const char *dir = getenv("MESHWRAP_TRACED");
	char line[256];
	FILE *f = dir && *dir ? fopen("/proc/self/status", "re") : NULL;
	bool is_traced = false;

	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "TracerPid:", 10) == 0)
			is_traced = atoi(line + 10) != 0;
	if (f)
		fclose(f);
	return is_traced ? dir : NULL;
}

static bool is_dynamic(const char *path)
{
	char interpreter[ELF_INTERPRETER_MAX], *head = malloc(HEAD_BYTES);
	struct stat st;
	ssize_t n = head ? read_head(path, head, &st) : -1;
	bool yes = n >= 0 && binfmt_elf(head, (size_t)n, interpreter) == ELF_DYNAMIC;

	free(head);
	return yes;
}

static int trace_file(const char *path, char **argv)
{
	const char *dir = getenv("MESHWRAP_DIR"), *traced = traced_for();

	/*
	 * A traced program must not have the shim inside as well. A static one
	 * passes the variable on to its children, who can have it.
	 */
	if (is_dynamic(path) && !preload_set(NULL)) {
		complain("out of memory");
		return EXIT_NO_MESH;
	}
	if (traced && dir && strcmp(traced, dir) == 0)
		return -1;
	if (traced)
		return refuse(argv[0], "would need a second tracer, for another mesh");
	if (dir && setenv("MESHWRAP_TRACED", dir, 1) < 0) {
		complain("out of memory");
		return EXIT_NO_MESH;
	}
	return trace_exec(path, argv);
}

static int run(const char *path, char **argv)
{
	int status, error;
	enum way way;

	status = judge(argv[0], path, &way);
	if (!status && way == WAY_OTHER_SHIM)
		status = set_other_shim();
	if (status)
		return status;
	if (way == WAY_TRACE) {
		status = trace_file(path, argv);
		if (status >= 0)
			return status;
	}
	execv(path, argv);
	error = errno;
	if (error == ENOEXEC)
		return -1;
	complain("%s: %s", argv[0], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_OURS;
}

int program_exec(char **argv)
{
	char path[PATH_MAX];
	int status;

	if (find_program(argv[0], path)) {
		status = run(path, argv);
		if (status >= 0)
			return status;
	}
	execvp(argv[0], argv); /* a script without "#!" is for the shell */
	complain("%s: %s", argv[0], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_OURS;
}

int program_continue(const char *file, char **argv)
{
	char path[PATH_MAX];
	int status;

	if (snprintf(path, sizeof(path), "%s", file) >= (int)sizeof(path)) {
		complain("%s: %s", file, strerror(ENAMETOOLONG));
		return EXIT_NOT_OURS;
	}
	unsetenv("MESHWRAP_EXEC");
	status = run(path, argv);
	if (status >= 0)
		return status;
	complain("%s: %s", file, strerror(ENOEXEC));
	return EXIT_NOT_OURS;
}
