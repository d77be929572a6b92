/*
 * The environment says whether the dynamic linker was asked to load the shim (which must
 * be where it looks), and the ELF file whether there is a dynamic linker, and whether all network
 * calls go by way of libc. Where they do not, the shim keeps out of it (traced.c). Whose libc the
 * shim was built for makes no difference here: it works in either. When neither can be read (no
 * /proc), the process is served: a program with the shim inside then finds its mesh closed, and
 * none is left outside it.
 */
#include "preload/trace_program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/openat2.h>

#include "preload/binfmt.h"
#include "preload/libraries.h"
#include "preload/own_calls.h"
#include "shared/util.h"

#define MAX_ENVIRONMENT ((size_t)4 << 20)
#define STATUS_BYTES    4096

/* At most max bytes of a file of /proc/PID, with a zero behind; NULL: unreadable. */
static char *read_file(pid_t pid, const char *name, size_t max, size_t *len)
{
	char path[64], *text = malloc(max + 1);
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	for (*len = 0; text && fd >= 0 && *len < max; *len += (size_t)n) {
		n = read(fd, text + *len, max - *len);
		if (n <= 0)
			break;
	}
	if (fd >= 0)
		close(fd);
	if (!text || fd < 0 || n < 0) {
		free(text);
		return NULL;
	}
	text[*len] = '\0';
	return text;
}

struct wishes {
	bool is_off, has_shim;
	bool is_ours; /* no other tracer or mesh than this is asked for */
};

/* The value of a variable in text, of len bytes; NULL: it is not there. */
static const char *value_in(const char *text, size_t len, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = text; text && at < text + len; at += strlen(at) + 1)
		if (strncmp(at, name, n) == 0 && at[n] == '=')
			return at + n + 1;
	return NULL;
}

static bool is_same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/*
 * Can the dynamic linker find it where the program is? In another root it may be missing, and the
 * linker goes on without. What cannot be asked is believed.
 */
static bool is_there(pid_t pid, const char *library, size_t len)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	char root[64], path[PATH_MAX];
	int folder, fd;
	bool is_missing;

	/* With a $ in it only the linker knows. */
	if (*library != '/' || len >= sizeof(path) || memchr(library, '$', len))
		return true;
	memcpy(path, library, len);
	path[len] = '\0';
	snprintf(root, sizeof(root), "/proc/%d/root", (int)pid);
	folder = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return true;
	fd = (int)syscall(SYS_openat2, folder, path, &how, sizeof(how));
	is_missing = fd < 0 && (errno == ENOENT || errno == ENOTDIR);
	if (fd >= 0)
		close(fd);
	close(folder);
	return !is_missing;
}

static bool has_shim(pid_t pid, const char *preload)
{
	size_t len;
	const char *library = libraries_first(preload, &len);

	return library && is_there(pid, library, len);
}

static struct wishes read_wishes(pid_t pid)
{
	size_t len = 0;
	char *text = read_file(pid, "environ", MAX_ENVIRONMENT, &len);
	const char *preload = value_in(text, len, "LD_PRELOAD");
	const char *traced = value_in(text, len, "MESHWRAP_TRACED");
	struct wishes w = {
		.is_off = is_same(value_in(text, len, "MESHWRAP_OFF"), "1"),
		.has_shim = has_shim(pid, preload),
		.is_ours = traced && *traced &&
			   is_same(traced, value_in(text, len, "MESHWRAP_DIR")) &&
			   !is_same(value_in(text, len, "MESHWRAP_TRACE"), "0"),
	};

	free(text);
	return w;
}

static bool is_own_tool(pid_t pid)
{
	static const char *const tools[] = { "meshd", "meshctl", "meshrun" };
	char link[64], exe[PATH_MAX];
	const char *base;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
	n = readlink(link, exe, sizeof(exe) - 1);
	if (n <= 0)
		return false;
	exe[n] = '\0';
	base = strrchr(exe, '/');
	base = base ? base + 1 : exe;
	for (size_t i = 0; i < ARRAY_LEN(tools); i++)
		if (strcmp(base, tools[i]) == 0)
			return true;
	return false;
}

static int open_program(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static bool has_linker(pid_t pid)
{
	char interpreter[ELF_INTERPRETER_MAX];
	int fd = open_program(pid);
	bool yes = fd >= 0 && binfmt_elf_in(fd, interpreter) == ELF_DYNAMIC;

	if (fd >= 0)
		close(fd);
	return yes;
}

static bool has_own_calls(pid_t pid)
{
	int fd = open_program(pid);
	bool yes = fd >= 0 && own_calls_in(fd);

	if (fd >= 0)
		close(fd);
	return yes;
}

bool trace_program_is_passed(pid_t pid)
{
	struct wishes wishes = read_wishes(pid);

	/* Ours have a linker; others have programs of these names, too, in Go. */
	return wishes.is_off ||
	       (has_linker(pid) &&
		(is_own_tool(pid) || (wishes.has_shim && !(wishes.is_ours && has_own_calls(pid)))));
}

pid_t trace_program_of(pid_t tid)
{
	static const char name[] = "\nTgid:";
	size_t len = 0;
	char *text = read_file(tid, "status", STATUS_BYTES, &len);
	const char *at = text ? strstr(text, name) : NULL;
	pid_t pid = at ? (pid_t)atoi(at + sizeof(name) - 1) : 0;

	free(text);
	return pid > 0 ? pid : tid;
}
