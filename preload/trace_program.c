/*
 * The environment says whether the dynamic linker was asked to load the shim,
 * and the ELF file whether there is a dynamic linker. Whose libc the shim was built
 * for makes no difference here: it works in either. When neither can
 * be read (no /proc), the process is served: a program with the shim inside
 * then finds its mesh closed, and none is left outside it.
 */
#include "preload/trace_program.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/binfmt.h"
#include "preload/libraries.h"
#include "shared/util.h"

#define MAX_ENVIRONMENT ((size_t)4 << 20)
#define HEAD_BYTES      65536
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
};

static struct wishes read_wishes(pid_t pid)
{
	struct wishes w = { false, false };
	size_t len = 0;
	char *text = read_file(pid, "environ", MAX_ENVIRONMENT, &len);

	for (const char *at = text; text && at < text + len; at += strlen(at) + 1) {
		w.is_off |= strcmp(at, "MESHWRAP_OFF=1") == 0;
		w.has_shim |= strncmp(at, "LD_PRELOAD=", 11) == 0 && libraries_has(at + 11, NULL);
	}
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

static bool has_linker(pid_t pid)
{
	char interpreter[ELF_INTERPRETER_MAX];
	size_t len = 0;
	char *head = read_file(pid, "exe", HEAD_BYTES, &len);
	bool yes = head && binfmt_elf(head, len, interpreter) == ELF_DYNAMIC;

	free(head);
	return yes;
}

bool trace_program_is_passed(pid_t pid)
{
	struct wishes wishes = read_wishes(pid);

	return wishes.is_off || is_own_tool(pid) || (wishes.has_shim && has_linker(pid));
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
