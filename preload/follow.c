/*
 * Children of a wrapped program.
 *
 * A dynamic one needs LD_PRELOAD and MESHWRAP_DIR, which "env -i", sshd and
 * many a supervisor drop, and the shim of its own libc, which need not be ours. A
 * static or Go one is started by meshrun, which has it traced, unless this process
 * is traced itself: then all its children are. So is one of a libc we have no shim for,
 * and one that makes network calls of its own.
 * A set-uid one is left alone, since the dynamic linker would not load the shim; that is
 * said once, for all the processes a program forks.
 *
 * A user who wants his children off the mesh says MESHWRAP_FOLLOW=0 (to
 * the parent, or in the environment the child is given), or MESHWRAP_OFF=1.
 *
 * The file is mapped, not read: a child of vfork() has the stack and the
 * memory of its parent, which may be short and must not change. For the same
 * reason the new words lie on the stack of whoever calls exec, in as much room
 * as they need and no more: buffers for the longest would be 44 KB, which is
 * more than some runtimes give a thread. Memory that is mapped for them would stay
 * with the parent of a vfork().
 */
#include "preload/follow.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/address.h"
#include "preload/binfmt.h"
#include "preload/explain.h"
#include "preload/libraries.h"
#include "preload/own_calls.h"
#include "preload/primary.h"
#include "preload/raw.h"
#include "preload/shim.h"
#include "preload/trace_filter.h"
#include "preload/trap.h"
#include "shared/util.h"

#define MAX_SCRIPTS 4

static char library[PATH_MAX];       /* ourselves */
static char other_library[PATH_MAX]; /* for the other libc; "": there is none */
static char meshrun[PATH_MAX];
static char traced_for[PATH_MAX];           /* MESHWRAP_TRACED of our own environment, if so */
static char explain_setting[PATH_MAX + 32]; /* MESHWRAP_EXPLAIN=, as we were told; or "" */
static const char *primary_setting;         /* the same, NULL: nothing was said */
static bool is_turned_off;
static _Atomic bool told_here, *has_told_set_uid = &told_here;

static bool copy(char *to, size_t room, const char *from)
{
	size_t len = strlen(from);

	if (len >= room)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

static bool append(char *to, size_t room, const char *from)
{
	size_t len = strlen(to);

	return copy(to + len, room - len, from);
}

/* to = a + b; false: too long. */
static bool join(char *to, size_t room, const char *a, const char *b)
{
	return copy(to, room, a) && append(to, room, b);
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
	if (traced && *traced && trace_filter_is_here())
		copy(traced_for, sizeof(traced_for), traced);
	if (dladdr((void *)follow_start, &info) && info.dli_fname && *info.dli_fname == '/' &&
	    copy(library, sizeof(library), info.dli_fname))
		find_neighbours();
	errno = saved;
}

/* fd negative: its owner lets nobody read it, as sudo's does at times. */
static bool gains_rights(int fd, const struct stat *st)
{
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	if (fd >= 0 && geteuid() != 0 &&
	    raw_syscall(SYS_fgetxattr, fd, "security.capability", NULL, 0) > 0)
		return true;
	return ((st->st_mode & S_ISUID) && st->st_uid != geteuid()) ||
	       ((st->st_mode & S_ISGID) && (st->st_mode & S_IXGRP) && st->st_gid != getegid());
}

/* musl's dynamic linker says nothing of a library that is damaged, and goes on without it. */
static bool has_other_library(void)
{
	int fd = *other_library ? (int)raw_syscall(SYS_openat, AT_FDCWD, other_library,
						   O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0)
				: -1;
	bool yes = fd >= 0 && binfmt_is_library_in(fd);

	if (fd >= 0)
		raw_syscall(SYS_close, fd);
	return yes;
}

static enum follow_kind kind_of_dynamic(const char *linker)
{
	if (libraries_is_our_libc(linker))
		return FOLLOW_SHIM;
	return has_other_library() ? FOLLOW_OTHER_SHIM : FOLLOW_FOREIGN;
}

/* Our own, which makes such calls on behalf of others. */
static bool is_meshrun(const struct stat *st)
{
	struct stat own;

	return stat(meshrun, &own) == 0 && own.st_dev == st->st_dev && own.st_ino == st->st_ino;
}

/* Does it make network calls of its own? A tracer that is there already looks itself. */
static bool has_own_calls(int fd, const struct stat *st)
{
	return *meshrun && !*traced_for && !is_meshrun(st) && own_calls_in(fd);
}

/*
 * The kind of the file, or, for a script, the interpreter's path. is_searched: its code
 * is to be looked at, too.
 */
static enum follow_kind look(const struct follow *f, const char *path,
			     char interpreter[static ELF_INTERPRETER_MAX], bool *script,
			     bool is_searched)
{
	/* It may be a pipe, which would wait for a writer, or a terminal. */
	int fd = (int)raw_syscall(SYS_openat, f->folder, path,
				  O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	enum follow_kind kind = FOLLOW_OTHER;
	char linker[ELF_INTERPRETER_MAX];
	bool is_set_uid;
	struct stat st;

	*script = false;
	if (fd < 0)
		return fstatat(f->folder, path, &st, 0) == 0 && S_ISREG(st.st_mode) &&
				       gains_rights(fd, &st)
			       ? FOLLOW_SET_UID
			       : FOLLOW_OTHER;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
		raw_syscall(SYS_close, fd);
		return FOLLOW_OTHER;
	}
	is_set_uid = gains_rights(fd, &st);
	switch (binfmt_elf_in(fd, linker)) {
	case ELF_STATIC:
	case ELF_GO:
		kind = FOLLOW_TRACE;
		break;
	case ELF_DYNAMIC:
		kind = is_searched && !is_set_uid && has_own_calls(fd, &st)
			       ? FOLLOW_OWN_CALLS
			       : kind_of_dynamic(linker);
		break;
	case ELF_FOREIGN:
		break;
	case ELF_NONE:
		*script = binfmt_script_in(fd, interpreter);
		break;
	}
	raw_syscall(SYS_close, fd);
	return kind != FOLLOW_OTHER && is_set_uid ? FOLLOW_SET_UID : kind;
}

static enum follow_kind kind_of(const struct follow *f, bool is_searched)
{
	const char *path = f->path;
	char interpreter[ELF_INTERPRETER_MAX], next[ELF_INTERPRETER_MAX];
	bool is_script = true;
	enum follow_kind kind = FOLLOW_OTHER;

	for (int i = 0; is_script && i <= MAX_SCRIPTS; i++) {
		kind = look(f, path, next, &is_script, is_searched);
		memcpy(interpreter, next, sizeof(next));
		path = interpreter;
	}
	/* What cannot be read may still be run: give it the environment. */
	return kind == FOLLOW_OTHER ? FOLLOW_SHIM : kind;
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

static bool is_searched(char *const envp[])
{
	const char *wish = find(envp, "MESHWRAP_TRACE");

	return !(wish && strcmp(wish, "0") == 0);
}

static size_t count_words(char *const words[])
{
	size_t n = 0;

	while (words && words[n])
		n++;
	return n;
}

/* The shim for a child; NULL: none. */
static const char *library_for(enum follow_kind kind)
{
	if (kind == FOLLOW_OTHER_SHIM)
		return other_library;
	if (kind == FOLLOW_FOREIGN && *traced_for)
		return NULL;
#ifdef MESHWRAP_GUEST
	/* What runs is meshrun, or what a traced program starts: neither has our libc. */
	if (kind == FOLLOW_FOREIGN || kind == FOLLOW_TRACE || kind == FOLLOW_OWN_CALLS)
		return *other_library ? other_library : NULL;
#endif
	return library;
}

struct list {
	char **word;
	size_t count, room; /* one more, for the NULL */
};

static bool add(struct list *list, char *word)
{
	if (list->count == list->room)
		return false;
	list->word[list->count++] = word;
	list->word[list->count] = NULL;
	return true;
}

/* What is left of the room. */
struct rest {
	char *at;
	size_t len;
};

/*
 * The next piece of it. NULL: there is none, though room_for() left enough: another thread
 * changes the environment meanwhile.
 */
static void *take(struct rest *rest, size_t len)
{
	void *piece = rest->at;

	if (len > rest->len)
		return NULL;
	rest->at += len;
	rest->len -= len;
	return piece;
}

/* Adds one variable, of its name with "=" and its value. */
static bool add_variable(struct list *list, struct rest *rest, const char *name, const char *value)
{
	size_t len = strlen(name) + strlen(value) + 1;
	char *to = take(rest, len);

	return to && join(to, len, name, value) && add(list, to);
}

static const char preload_prefix[] = "LD_PRELOAD=", dir_prefix[] = "MESHWRAP_DIR=",
		  traced_prefix[] = "MESHWRAP_TRACED=", file_prefix[] = "MESHWRAP_EXEC=",
		  trapped_setting[] = "MESHWRAP_TRAPPED=1",
		  asan_prefix[] = LIBRARIES_ASAN_VARIABLE "=";

#define MORE_VARIABLES 8 /* than there were */
#define MORE_WORDS     1

static size_t length(const char *text)
{
	return text ? strlen(text) : 0;
}

/* How long LD_PRELOAD may become: what was there, a colon, and a shim. */
static size_t preload_room(char *const envp[])
{
	return sizeof(preload_prefix) + length(find(envp, "LD_PRELOAD")) + 1 +
	       MAX(strlen(library), strlen(other_library));
}

static size_t asan_room(char *const envp[])
{
	return sizeof(asan_prefix) + length(find(envp, LIBRARIES_ASAN_VARIABLE)) + 1 +
	       strlen(LIBRARIES_ASAN_OPTION);
}

/* At most what follow_change() takes; pointers first, so that they are aligned. */
static size_t room_for(const struct follow *f)
{
	size_t words = f->variable_count + MORE_VARIABLES + 1;
	size_t texts = preload_room(f->envp) + asan_room(f->envp) + sizeof(dir_prefix) +
		       strlen(shim_dir()) + sizeof(traced_prefix) + strlen(traced_for);

	if (f->has_other_path) {
		words += f->word_count + MORE_WORDS + 1;
		texts += sizeof(file_prefix) + strlen(f->path);
	}
	return words * sizeof(char *) + texts;
}

static bool take_list(struct list *list, struct rest *rest, size_t room)
{
	*list = (struct list){ .word = take(rest, (room + 1) * sizeof(*list->word)), .room = room };
	if (list->word)
		*list->word = NULL;
	return list->word;
}

/* The options of AddressSanitizer, with which it lets a preloaded library pass. */
static bool allow_preload(struct list *variables, struct rest *rest, char *const envp[])
{
	const char *options = find(envp, LIBRARIES_ASAN_VARIABLE);
	const char *colon = options && *options ? ":" : "";
	size_t len = asan_room(envp);
	char *to;

	if (options && strstr(options, LIBRARIES_ASAN_ORDER))
		return true;
	to = take(rest, len);
	if (!to || !join(to, len, asan_prefix, options ? options : "") || !append(to, len, colon) ||
	    !append(to, len, LIBRARIES_ASAN_OPTION))
		return false;
	for (size_t i = 0; i < variables->count; i++) {
		if (!value_of(variables->word[i], LIBRARIES_ASAN_VARIABLE))
			continue;
		variables->word[i] = to;
		return true;
	}
	return add(variables, to);
}

/* LD_PRELOAD and all other variables of the environment. */
static bool add_preload(struct list *variables, struct rest *rest, const struct follow *f,
			bool *has_any)
{
	size_t prefix_len = sizeof(preload_prefix) - 1, len = preload_room(f->envp);
	const char *given = find(f->envp, "LD_PRELOAD");
	char *preload = take(rest, len), *value = preload + prefix_len;
	bool is_same, fits = true;

	if (!preload)
		return false;
	memcpy(preload, preload_prefix, prefix_len);
	/* Ours comes last: a sanitizer's library insists on being first. */
	if (!libraries_replace(given, library_for(f->kind), value, len - prefix_len))
		return false;
	is_same = given && strcmp(given, value) == 0;
	for (size_t i = 0; fits && f->envp && f->envp[i]; i++)
		if (is_same || !value_of(f->envp[i], "LD_PRELOAD"))
			fits = add(variables, f->envp[i]);
	*has_any = *value;
	return fits && (is_same || !*value || add(variables, preload));
}

/* The environment with what is missing. */
static bool complete(struct follow *f, struct list *variables, struct rest *rest)
{
	bool has_preload;

	return add_preload(variables, rest, f, &has_preload) &&
	       (!*shim_dir() || find(f->envp, "MESHWRAP_DIR") ||
		add_variable(variables, rest, dir_prefix, shim_dir())) &&
	       (!*traced_for || find(f->envp, "MESHWRAP_TRACED") ||
		add_variable(variables, rest, traced_prefix, traced_for)) &&
	       (!*explain_setting || find(f->envp, "MESHWRAP_EXPLAIN") ||
		add(variables, explain_setting)) &&
	       (!trap_is_armed() || find(f->envp, "MESHWRAP_TRAPPED") ||
		add(variables, (char *)trapped_setting)) &&
	       (!primary_setting || find(f->envp, "MESHWRAP_PRIMARY") ||
		add(variables, (char *)primary_setting)) &&
	       (!has_preload || allow_preload(variables, rest, f->envp));
}

/* By way of meshrun: "meshrun" and then all words of the child's own. */
static bool by_meshrun(const struct follow *f, struct list *words, struct list *variables,
		       struct rest *rest)
{
	bool fits = add_variable(variables, rest, file_prefix, f->path) && add(words, meshrun);

	for (size_t i = 0; fits && f->argv && f->argv[i]; i++)
		fits = add(words, f->argv[i]);
	return fits;
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

/* By the tracer, if it may have another path. */
static bool wants_tracer(const struct follow *f)
{
	return (f->kind == FOLLOW_TRACE || f->kind == FOLLOW_FOREIGN ||
		f->kind == FOLLOW_OWN_CALLS) &&
	       !*traced_for;
}

/* NULL: an empty one. */
static bool is_list(const void *given)
{
	return !given || is_plausible(given);
}

void follow_look(struct follow *f, bool needs_path)
{
	const char *path = f->path;
	int saved = errno;

	if (!shim_is_on() || !*library || !is_plausible(f->path) || !is_list(f->argv) ||
	    !is_list(f->envp))
		return;
	if (is_turned_off || is_unwanted(f->envp)) {
		explain_child(path, ": left alone (asked for by the environment)");
		return;
	}
	f->kind = kind_of(f, is_searched(f->envp) && !needs_path);
	if (f->kind == FOLLOW_SET_UID) {
		tell_set_uid(path);
		explain_child(path, ": left alone (set-uid)");
	} else {
		f->has_other_path = wants_tracer(f) && !needs_path && *meshrun;
		f->variable_count = count_words(f->envp);
		f->word_count = count_words(f->argv);
		f->room = room_for(f);
		if (f->room > FOLLOW_ROOM_MAX) {
			f->room = 0;
			f->has_other_path = false;
			explain_child(path, ": left alone (its environment is too long)");
		}
	}
	errno = saved;
}

void follow_change(struct follow *f, void *room)
{
	struct rest rest = { room, f->room };
	struct list variables, words = { 0 };
	int saved = errno;
	bool fits;

	if (f->room == 0)
		return;
	fits = take_list(&variables, &rest, f->variable_count + MORE_VARIABLES) &&
	       (!f->has_other_path || take_list(&words, &rest, f->word_count + MORE_WORDS)) &&
	       complete(f, &variables, &rest) &&
	       (!f->has_other_path || by_meshrun(f, &words, &variables, &rest));
	explain_child(f->path, !fits                ? ": left alone (its environment changes)"
			       : !wants_tracer(f)   ? ": keeps the mesh"
			       : !f->has_other_path ? ": left alone (no tracer)"
			       : f->kind == FOLLOW_OWN_CALLS
				       ? ": by the tracer (it makes network calls of its own)"
				       : ": by the tracer");
	f->has_other_path = f->has_other_path && fits;
	if (f->has_other_path) {
		f->path = meshrun;
		f->argv = words.word;
	}
	if (fits)
		f->envp = variables.word;
	errno = saved;
}

/* A folder may be searched, which is no execution: the kernel goes on to the next. */
static bool is_program(int folder, const char *path)
{
	struct stat st;

	return fstatat(folder, path, &st, 0) == 0 && S_ISREG(st.st_mode) &&
	       faccessat(folder, path, X_OK, 0) == 0;
}

static const char *search_path(void)
{
	const char *dirs = getenv("PATH");

	return dirs ? dirs : "/bin:/usr/bin";
}

size_t follow_find_room(const char *name)
{
	const char *dirs = search_path(), *end;
	size_t longest = 0;

	if (!shim_is_on())
		return 0;
	if (strchr(name, '/'))
		return MIN(strlen(name) + 1, (size_t)PATH_MAX);
	for (; dirs; dirs = *end ? end + 1 : NULL) {
		end = strchrnul(dirs, ':');
		longest = MAX(longest, (size_t)(end - dirs));
	}
	return MIN(longest + strlen(name) + 2, (size_t)PATH_MAX);
}

bool follow_find(int folder, const char *name, char *path, size_t room)
{
	const char *dirs = search_path(), *end;
	size_t len, name_size = strlen(name) + 1;
	int saved = errno;
	bool found = false;

	if (strchr(name, '/'))
		return copy(path, room, name);
	for (; dirs && !found; dirs = *end ? end + 1 : NULL) {
		end = strchrnul(dirs, ':');
		len = (size_t)(end - dirs);
		if (len + 1 + name_size > room)
			continue;
		memcpy(path, dirs, len);
		path[len] = '/';
		memcpy(path + (len ? len + 1 : 0), name, name_size);
		found = is_program(folder, path);
	}
	errno = saved;
	return found;
}
