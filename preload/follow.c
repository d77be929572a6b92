/*
 * Children of a wrapped program.
 *
 * A dynamic one needs LD_PRELOAD and MESHWRAP_DIR, which "env -i", sshd and
 * many a supervisor drop, and the shim of its own libc, which need not be ours. A
 * static or Go one is started by meshrun, which has it traced, unless this process
 * is traced itself: then all its children are. So is one of a libc we have no shim for.
 * A set-uid one is left alone, since the dynamic linker would not load the shim; that is
 * said once, for all the processes a program forks.
 *
 * A user who wants his children off the mesh says MESHWRAP_FOLLOW=0 (to
 * the parent, or in the environment the child is given), or MESHWRAP_OFF=1.
 *
 * The file is mapped, not read: a child of vfork() has the stack and the
 * memory of its parent, which may be short and must not change.
 */
#include "preload/follow.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/binfmt.h"
#include "preload/explain.h"
#include "preload/libraries.h"
#include "preload/primary.h"
#include "preload/shim.h"
#include "shared/util.h"

#define HEAD_BYTES  65536
#define MAX_SCRIPTS 4

static char library[PATH_MAX];       /* ourselves */
static char other_library[PATH_MAX]; /* for the other libc; "": there is none */
static char meshrun[PATH_MAX];
static char traced_for[PATH_MAX];           /* MESHWRAP_TRACED of our own environment */
static char explain_setting[PATH_MAX + 32]; /* MESHWRAP_EXPLAIN=, as we were told; or "" */
static const char *primary_setting;         /* the same, NULL: nothing was said */
static bool is_turned_off;
static _Atomic bool told_here, *has_told_set_uid = &told_here;

enum kind {
	KIND_OTHER,
	KIND_SHIM,       /* linked with our libc */
	KIND_OTHER_SHIM, /* with the other, which we have a shim for */
	KIND_FOREIGN,    /* with the other, which we have none for */
	KIND_TRACE,      /* not dynamic */
	KIND_SET_UID
};

static bool copy(char *to, size_t room, const char *from)
{
	size_t len = strlen(from);

	if (len >= room)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

/* to = a + b; false: too long. */
static bool join(char *to, size_t room, const char *a, const char *b)
{
	size_t len = strlen(a);

	return copy(to, room, a) && copy(to + len, room - len, b);
}

static void find_neighbours(void)
{
	static const char *const places[] = { "/meshrun", "/../../bin/meshrun",
					      "/../../../bin/meshrun" };
	char folder[PATH_MAX];

	if (!copy(folder, sizeof(folder), library))
		return;
	*strrchr(folder, '/') = '\0';
	if (!join(other_library, sizeof(other_library), folder, "/" LIBRARY_OTHER) ||
	    access(other_library, R_OK) < 0)
		*other_library = '\0';
	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (join(meshrun, sizeof(meshrun), folder, places[i]) && access(meshrun, X_OK) == 0)
			return;
	*meshrun = '\0';
}

void follow_start(void)
{
	const char *follow = getenv("MESHWRAP_FOLLOW"), *traced = getenv("MESHWRAP_TRACED");
	const char *explain = getenv("MESHWRAP_EXPLAIN");
	_Atomic bool *told;
	int saved = errno;
	Dl_info info;

	told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told != MAP_FAILED)
		has_told_set_uid = told;
	is_turned_off = follow && strcmp(follow, "0") == 0;
	if (!explain ||
	    !join(explain_setting, sizeof(explain_setting), "MESHWRAP_EXPLAIN=", explain))
		*explain_setting = '\0';
	primary_setting = primary_is_on() ? NULL : "MESHWRAP_PRIMARY=0";
	if (traced)
		copy(traced_for, sizeof(traced_for), traced);
	if (dladdr((void *)follow_start, &info) && info.dli_fname && *info.dli_fname == '/' &&
	    copy(library, sizeof(library), info.dli_fname))
		find_neighbours();
	errno = saved;
}

static bool gains_rights(int fd, const struct stat *st)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	if (geteuid() != 0 && syscall(SYS_fgetxattr, fd, "security.capability", NULL, 0) > 0)
		return true;
	return ((st->st_mode & S_ISUID) && st->st_uid != geteuid()) ||
	       ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) && st->st_gid != getegid());
}

static enum kind kind_of_dynamic(const char *linker)
{
	if (libraries_is_our_libc(linker))
		return KIND_SHIM;
	return *other_library ? KIND_OTHER_SHIM : KIND_FOREIGN;
}

/* The kind of the file, or, for a script, the interpreter's path. */
static enum kind look(const char *path, char interpreter[static ELF_INTERPRETER_MAX], bool *script)
{
	/* It may be a pipe, which would wait for a writer, or a terminal. */
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path,
			      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	enum kind kind = KIND_OTHER;
	char linker[ELF_INTERPRETER_MAX];
	bool is_set_uid;
	struct stat st;
	void *head;
	size_t len;

	*script = false;
	if (fd < 0)
		return KIND_OTHER;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
		syscall(SYS_close, fd);
		return KIND_OTHER;
	}
	len = MIN((size_t)st.st_size, HEAD_BYTES);
	head = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
	is_set_uid = gains_rights(fd, &st);
	syscall(SYS_close, fd);
	if (head == MAP_FAILED)
		return KIND_OTHER;
	switch (binfmt_elf(head, len, linker)) {
	case ELF_STATIC:
	case ELF_GO:
		kind = KIND_TRACE;
		break;
	case ELF_DYNAMIC:
		kind = kind_of_dynamic(linker);
		break;
	case ELF_FOREIGN:
		break;
	case ELF_NONE:
		*script = binfmt_script(head, len, interpreter);
		break;
	}
	munmap(head, len);
	return kind != KIND_OTHER && is_set_uid ? KIND_SET_UID : kind;
}

static enum kind kind_of(const char *path)
{
	char interpreter[ELF_INTERPRETER_MAX], next[ELF_INTERPRETER_MAX];
	bool is_script = true;
	enum kind kind = KIND_OTHER;

	for (int i = 0; is_script && i <= MAX_SCRIPTS; i++) {
		kind = look(path, next, &is_script);
		memcpy(interpreter, next, sizeof(next));
		path = interpreter;
	}
	/* What cannot be read may still be run: give it the environment. */
	return kind == KIND_OTHER ? KIND_SHIM : kind;
}

static const char *value_of(const char *variable, const char *name)
{
	size_t len = strlen(name);

	return strncmp(variable, name, len) == 0 && variable[len] == '=' ? variable + len + 1
									 : NULL;
}

static const char *find(char *const envp[], const char *name)
{
	const char *value;

	for (size_t i = 0; envp && envp[i]; i++)
		if ((value = value_of(envp[i], name)))
			return value;
	return NULL;
}

static bool is_unwanted(char *const envp[])
{
	const char *follow = find(envp, "MESHWRAP_FOLLOW"), *off = find(envp, "MESHWRAP_OFF");

	return (follow && strcmp(follow, "0") == 0) || (off && strcmp(off, "1") == 0);
}

static size_t count_words(char *const words[])
{
	size_t n = 0;

	while (words && words[n])
		n++;
	return n;
}

/* The shim for a child; NULL: none. */
static const char *library_for(enum kind kind)
{
	if (kind == KIND_OTHER_SHIM)
		return other_library;
	if (kind == KIND_FOREIGN && *traced_for)
		return NULL;
#ifdef MESHWRAP_GUEST
	/* What runs is meshrun, or what a traced program starts: neither has our libc. */
	if (kind == KIND_FOREIGN || kind == KIND_TRACE)
		return *other_library ? other_library : NULL;
#endif
	return library;
}

/* The options of AddressSanitizer, with which it lets a preloaded library pass. */
static void allow_preload(struct follow *f, char *const envp[], size_t *kept)
{
	static const char prefix[] = LIBRARIES_ASAN_VARIABLE "=";
	const char *options = find(envp, LIBRARIES_ASAN_VARIABLE);
	size_t at = 0;

	if (options && strstr(options, LIBRARIES_ASAN_ORDER))
		return;
	if (!join(f->asan, sizeof(f->asan), prefix, options ? options : "") ||
	    (options && *options &&
	     !copy(f->asan + strlen(f->asan), sizeof(f->asan) - strlen(f->asan), ":")) ||
	    !copy(f->asan + strlen(f->asan), sizeof(f->asan) - strlen(f->asan),
		  LIBRARIES_ASAN_OPTION))
		return; /* they do not fit, and stay as they are */
	while (at < *kept && !value_of(f->variables[at], LIBRARIES_ASAN_VARIABLE))
		at++;
	f->variables[at] = f->asan;
	*kept += at == *kept;
}

/* The environment with what is missing; false: it does not fit, and stays as it is. */
static bool complete(struct follow *f, char *const envp[], enum kind kind)
{
	static const char name[] = "LD_PRELOAD=";
	const char *preload = find(envp, "LD_PRELOAD");
	size_t n = count_words(envp), kept = 0, name_len = sizeof(name) - 1;
	bool has_shim;

	memcpy(f->preload, name, sizeof(name));
	/* Ours comes last: a sanitizer's library insists on being first. */
	if (n > FOLLOW_WORDS ||
	    !libraries_replace(preload, library_for(kind), f->preload + name_len,
			       sizeof(f->preload) - name_len))
		return false;
	has_shim = preload && strcmp(preload, f->preload + name_len) == 0;
	for (size_t i = 0; i < n; i++)
		if (has_shim || !value_of(envp[i], "LD_PRELOAD"))
			f->variables[kept++] = envp[i];
	if (!has_shim && f->preload[name_len])
		f->variables[kept++] = f->preload;
	if (*shim_dir() && !find(envp, "MESHWRAP_DIR")) {
		if (!join(f->dir, sizeof(f->dir), "MESHWRAP_DIR=", shim_dir()))
			return false;
		f->variables[kept++] = f->dir;
	}
	if (*traced_for && !find(envp, "MESHWRAP_TRACED")) {
		if (!join(f->traced, sizeof(f->traced), "MESHWRAP_TRACED=", traced_for))
			return false;
		f->variables[kept++] = f->traced;
	}
	if (*explain_setting && !find(envp, "MESHWRAP_EXPLAIN"))
		f->variables[kept++] = explain_setting;
	if (primary_setting && !find(envp, "MESHWRAP_PRIMARY"))
		f->variables[kept++] = (char *)primary_setting;
	if (f->preload[name_len])
		allow_preload(f, envp, &kept);
	f->variables[kept] = NULL;
	f->envp = f->variables;
	return true;
}

/* By way of meshrun: "meshrun" and then all words of the child's own. */
static bool by_meshrun(struct follow *f)
{
	size_t n = count_words(f->argv), variables = count_words(f->envp);

	if (!*meshrun || n > FOLLOW_WORDS || f->envp != f->variables ||
	    !join(f->file, sizeof(f->file), "MESHWRAP_EXEC=", f->path))
		return false;
	f->words[0] = meshrun;
	memcpy(f->words + 1, f->argv, n * sizeof(*f->argv));
	f->words[n + 1] = NULL;
	f->variables[variables] = f->file;
	f->variables[variables + 1] = NULL;
	f->path = meshrun;
	f->argv = f->words;
	return true;
}

static void tell_set_uid(const char *path)
{
	struct explain e;

	if (explain_is_on() || atomic_exchange(has_told_set_uid, true))
		return;
	explain_begin(&e, path, -1);
	explain_text(&e, " runs outside the mesh: it has other rights than its parent (set-uid)");
	explain_end(&e);
}

static void explain_child(const char *path, const char *what)
{
	struct explain e;

	if (!explain_is_on())
		return;
	explain_begin(&e, "exec ", -1);
	explain_text(&e, path);
	explain_text(&e, what);
	explain_end(&e);
}

void follow_prepare(struct follow *f, const char *path, char *const argv[], char *const envp[],
		    bool *changed_path)
{
	bool is_by_meshrun;
	int saved = errno;
	enum kind kind;

	f->path = path;
	f->argv = argv;
	f->envp = envp;
	if (changed_path)
		*changed_path = false;
	if (!shim_is_on() || !*library)
		return;
	if (is_turned_off || is_unwanted(envp)) {
		explain_child(path, ": left alone (asked for by the environment)");
		return;
	}
	kind = kind_of(path);
	if (kind == KIND_SET_UID) {
		tell_set_uid(path);
		explain_child(path, ": left alone (set-uid)");
	} else if (!complete(f, envp, kind)) {
		explain_child(path, ": left alone (its environment is too long)");
	} else if ((kind == KIND_TRACE || kind == KIND_FOREIGN) && !*traced_for) {
		is_by_meshrun = changed_path && by_meshrun(f);
		if (is_by_meshrun)
			*changed_path = true;
		explain_child(path, is_by_meshrun ? ": by the tracer" : ": left alone (no tracer)");
	} else {
		explain_child(path, ": keeps the mesh");
	}
	errno = saved;
}

bool follow_find(const char *name, char path[static PATH_MAX])
{
	const char *dirs = getenv("PATH"), *end;
	size_t len, name_size = strlen(name) + 1;
	int saved = errno;
	bool found = false;

	if (strchr(name, '/'))
		return copy(path, PATH_MAX, name);
	for (dirs = dirs ? dirs : "/bin:/usr/bin"; dirs && !found; dirs = *end ? end + 1 : NULL) {
		end = strchrnul(dirs, ':');
		len = (size_t)(end - dirs);
		if (len + 1 + name_size > PATH_MAX)
			continue;
		memcpy(path, dirs, len);
		path[len] = '/';
		memcpy(path + (len ? len + 1 : 0), name, name_size);
		found = access(path, X_OK) == 0;
	}
	errno = saved;
	return found;
}
