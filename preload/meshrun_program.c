/*
 * How is this program put on the mesh?
 *
 * The dynamic linker loads the shim that was built for the program's libc. Where
 * there is none (static programs, Go, a libc we have no shim for) the program is traced, and so is
 * one with network calls of its own, which go past libc; where no tracer is allowed, such a
 * one has the shim for its other calls, and a sentence says so. Programs that gain another user's
 * rights can be entered by nobody; running them silently off the mesh is no answer, so they are
 * refused in one sentence. Scripts are judged by their interpreter.
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
#include "preload/explain.h"
#include "preload/libraries.h"
#include "preload/meshrun.h"
#include "preload/own_calls.h"
#include "preload/trace.h"
#include "preload/trace_filter.h"

#define MAX_SCRIPTS 4 /* as the kernel follows them */

/* False: errno says why not. */
static bool is_program(const char *path)
{
	struct stat st;

	if (access(path, X_OK) < 0 || stat(path, &st) < 0)
		return false;
	if (!S_ISREG(st.st_mode))
		errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
	return S_ISREG(st.st_mode);
}

/* The file execvp() would take; false: errno says why not. */
static bool find_program(const char *name, char path[static PATH_MAX])
{
	const char *dirs = getenv("PATH"), *end;
	int error = ENOENT;
	struct stat st;

	if (strchr(name, '/')) {
		if (snprintf(path, PATH_MAX, "%s", name) < PATH_MAX)
			return is_program(path);
		errno = ENAMETOOLONG;
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

static int open_regular(const char *path, struct stat *st)
{
	/* An interpreter may be a pipe, which would wait for a writer, or a terminal. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))) {
		close(fd);
		return -1;
	}
	return fd;
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

struct judgement {
	enum way way, otherwise; /* if tracing is refused: WAY_TRACE, there is no other */
	const char *why;         /* it is traced */
};

static const struct judgement by_shim = { WAY_SHIM, WAY_SHIM, NULL };
static const char damaged[] = "of another libc, whose library is damaged";

static struct judgement by_trace(const char *why)
{
	return (struct judgement){ WAY_TRACE, WAY_TRACE, why };
}

static int refuse(const char *program, const char *why)
{
	complain("%s %s, so it cannot be put on the mesh", program, why);
	return EXIT_NOT_OURS;
}

static int refuse_rights(const char *program)
{
	return refuse(program, "runs with other rights than yours (set-uid or file capabilities)");
}

/* What MESHWRAP_TRACE says of tracing. */
static bool is_wished(const char *answer)
{
	const char *wish = getenv("MESHWRAP_TRACE");

	return wish && strcmp(wish, answer) == 0;
}

/* Meshrun makes such calls, too, on behalf of others. */
static bool is_self(int fd)
{
	struct stat file, self;

	return fstat(fd, &file) == 0 && stat("/proc/self/exe", &self) == 0 &&
	       file.st_dev == self.st_dev && file.st_ino == self.st_ino;
}

/* A program with a dynamic linker. */
static struct judgement judge_dynamic(int fd, const char *interpreter)
{
	static char library[PATH_MAX];
	struct judgement j = by_shim;

	if (!libraries_is_our_libc(interpreter)) {
		if (!library_find(LIBRARY_OTHER, library))
			return by_trace(errno == ELIBBAD ? damaged : "of another libc");
		j.way = j.otherwise = WAY_OTHER_SHIM;
	}
	if (!is_wished("0") && !is_self(fd) && own_calls_in(fd)) {
		j.way = WAY_TRACE;
		j.why = "makes network calls of its own, past libc";
	}
	return j;
}

/* An exit status; script is the interpreter's path where it is one, else empty. */
static int judge_file(const char *program, const char *path, int fd, const struct stat *st,
		      struct judgement *j, char script[static ELF_INTERPRETER_MAX])
{
	char interpreter[ELF_INTERPRETER_MAX];

	*script = '\0';
	if (gains_rights(path, st))
		return refuse_rights(program);
	switch (binfmt_elf_in(fd, interpreter)) {
	case ELF_STATIC:
		*j = by_trace("static");
		break;
	case ELF_GO:
		*j = by_trace("made by Go");
		break;
	case ELF_FOREIGN:
		return refuse(program, "is made for another kind of machine");
	case ELF_DYNAMIC:
		*j = judge_dynamic(fd, interpreter);
		break;
	case ELF_NONE:
		if (!binfmt_script_in(fd, script))
			*script = '\0';
		break;
	}
	return 0;
}

static int judge(const char *program, const char *path, struct judgement *j)
{
	char script[ELF_INTERPRETER_MAX], next[ELF_INTERPRETER_MAX];
	int status = 0, fd;
	struct stat st;

	*j = by_shim;
	for (int i = 0; status == 0 && *path && i <= MAX_SCRIPTS; i++) {
		fd = open_regular(path, &st);
		if (fd < 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode) &&
		    gains_rights(path, &st))
			return refuse_rights(program); /* sudo is not readable everywhere */
		if (fd < 0)
			break; /* exec will tell */
		status = judge_file(program, path, fd, &st, j, next);
		close(fd);
		memcpy(script, next, sizeof(script));
		path = script;
	}
	if (j->otherwise != WAY_TRACE && is_wished("1"))
		*j = by_trace("asked for by MESHWRAP_TRACE=1");
	return status;
}

int program_check(const char *program)
{
	static char path[PATH_MAX];
	struct judgement j;

	if (!find_program(program, path)) {
		complain("%s: %s", program, errno == ENOENT ? "no such program" : strerror(errno));
		return errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_NOT_OURS;
	}
	return judge(program, path, &j);
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

	return dir && *dir && trace_filter_is_here() ? dir : NULL;
}

static bool is_dynamic(const char *path)
{
	char interpreter[ELF_INTERPRETER_MAX];
	struct stat st;
	int fd = open_regular(path, &st);
	bool yes = fd >= 0 && binfmt_elf_in(fd, interpreter) == ELF_DYNAMIC;

	if (fd >= 0)
		close(fd);
	return yes;
}

static void explain_why(const char *path, const char *why)
{
	const char *wanted = getenv("MESHWRAP_EXPLAIN"), *level = getenv("MESHWRAP_LOG");
	struct explain e;

	explain_start(wanted ? wanted : level && strcmp(level, "debug") == 0 ? "1" : NULL);
	if (!explain_is_on())
		return;
	explain_begin(&e, "exec ", -1);
	explain_text(&e, path);
	explain_text(&e, ": by the tracer (");
	explain_text(&e, why);
	explain_text(&e, ")");
	explain_end(&e);
}

/* Tracing is refused. 0: go on without; else the exit status. */
static int do_without(const struct judgement *j, const char *path, const char *refused, int err)
{
	if (j->otherwise == WAY_TRACE) {
		complain("%s can only be put on the mesh by %s, which this system refuses: %s",
			 path, refused, strerror(err));
		return EXIT_NOT_OURS;
	}
	complain("%s makes network calls of its own, past libc. They can only be put on the mesh "
		 "by %s, which this system refuses: %s",
		 path, refused, strerror(err));
	return j->otherwise == WAY_OTHER_SHIM ? set_other_shim() : 0;
}

/* This process's next exec is that of a traced program. 0, or the exit status. */
static int trace(const struct judgement *j, const char *path)
{
	const char *dir = getenv("MESHWRAP_DIR"), *traced = traced_for(), *refused;
	int err = 0;

	if (traced && (!dir || strcmp(traced, dir) != 0))
		return do_without(j, path, "a second tracer, for another mesh", EPERM);
	explain_why(path, j->why);
	if (j->why == damaged)
		complain(LIBRARY_OTHER " beside meshrun is damaged, or made for another kind of "
				       "machine; install meshwrap again. Until then %s is traced",
			 path);
	if (!traced)
		err = trace_begin(&refused);
	if (err)
		return do_without(j, path, refused, err);
	/*
	 * A traced program must not have the shim inside as well. A static one passes the
	 * variable on to its children, who can have it; so does one with calls of its own,
	 * out of which the shim keeps by itself.
	 */
	if (j->otherwise == WAY_OTHER_SHIM && set_other_shim() != 0)
		return EXIT_NO_MESH;
	if ((j->otherwise == WAY_TRACE && is_dynamic(path) && !preload_set(NULL)) ||
	    (dir && !traced && setenv("MESHWRAP_TRACED", dir, 1) < 0)) {
		complain("out of memory");
		return EXIT_NO_MESH;
	}
	return 0;
}

static int run(const char *path, char **argv)
{
	struct judgement j;
	int status, error;

	status = judge(argv[0], path, &j);
	if (!status && j.way == WAY_OTHER_SHIM)
		status = set_other_shim();
	if (!status && j.way == WAY_TRACE)
		status = trace(&j, path);
	if (status)
		return status;
	execv(path, argv);
	error = errno;
	if (error == ENOEXEC)
		return -1;
	if (error == ENOENT && access(path, F_OK) == 0)
		complain(
			"%s is there, but not what is to run it: the program of its \"#!\" line, or "
			"its dynamic linker",
			argv[0]);
	else
		complain("%s: %s", argv[0], strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_OURS;
}

int program_exec(char **argv)
{
	static char path[PATH_MAX];
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
	static char path[PATH_MAX];
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
