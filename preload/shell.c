/*
 * system() and popen(). libc starts the shell itself, with the program's own environment, and
 * nobody can step between. Where the mesh was taken out of that (PHP's FPM clears its
 * environment, for one), the line is changed: the shell that libc starts puts back what is
 * missing, and becomes the one that was asked for.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preload/follow.h"
#include "preload/libc.h"
#include "preload/shim.h"

#define SHELL "/bin/sh"

extern char **environ;

/* A line as it grows; at NULL: only how long it gets. */
struct line {
	char *at;
	size_t len;
};

static void put(struct line *line, const char *bytes, size_t n)
{
	if (line->at)
		memcpy(line->at + line->len, bytes, n);
	line->len += n;
}

static void put_text(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

/* As one word of a shell's. */
static void put_quoted(struct line *line, const char *text)
{
	put_text(line, "'");
	for (; *text; text++)
		put(line, *text == '\'' ? "'\\''" : text, *text == '\'' ? 4 : 1);
	put_text(line, "'");
}

static bool is_there(const char *variable)
{
	for (char **v = environ; v && *v; v++)
		if (*v == variable)
			return true;
	return false;
}

/* Would it be off the mesh? Where the shim is in the environment, the rest is as it was given. */
static bool is_to_be_changed(const struct follow *f)
{
	static const char preload[] = "LD_PRELOAD=";

	for (char *const *v = f->envp; v && *v; v++)
		if (strncmp(*v, preload, sizeof(preload) - 1) == 0 && !is_there(*v))
			return true;
	return f->has_other_path;
}

static void put_variables(struct line *line, char *const *variables)
{
	put_text(line, "export");
	for (; variables && *variables; variables++) {
		size_t name = strcspn(*variables, "=");

		if (is_there(*variables) || !(*variables)[name])
			continue;
		put_text(line, " ");
		put(line, *variables, name + 1);
		put_quoted(line, *variables + name + 1);
	}
}

static void put_program(struct line *line, const struct follow *f)
{
	put_text(line, "; exec ");
	put_quoted(line, f->path);
	for (char *const *word = f->argv + 1; *word; word++) {
		put_text(line, " ");
		put_quoted(line, *word);
	}
	put(line, "", 1);
}

/* What libc is to be given in place of given, of malloc(); NULL: that itself. False: no memory. */
static bool change(const char *given, char **changed)
{
	char *const words[] = { "sh", "-c", (char *)given, "sh", NULL };
	struct follow f = { .folder = AT_FDCWD, .path = SHELL, .argv = words, .envp = environ };
	struct line line = { 0 };

	*changed = NULL;
	if (!shim_is_on() || !given)
		return true;
	FOLLOW(&f, false);
	if (!is_to_be_changed(&f))
		return true;
	put_variables(&line, f.envp);
	put_program(&line, &f);
	line.at = *changed = malloc(line.len);
	line.len = 0;
	if (!line.at)
		return false;
	put_variables(&line, f.envp);
	put_program(&line, &f);
	return true;
}

SHIM_EXPORT(int, system, (const char *line))
{
	char *changed;
	int status;

	if (!change(line, &changed))
		return -1;
	status = libc.system(changed ? changed : line);
	free(changed);
	return status;
}

SHIM_EXPORT(FILE *, popen, (const char *line, const char *type))
{
	char *changed;
	FILE *end;

	if (!change(line, &changed))
		return NULL;
	end = libc.popen(changed ? changed : line, type);
	free(changed);
	return end;
}
