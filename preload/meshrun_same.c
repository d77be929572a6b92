/*
 * Is the daemon that runs the one that was asked for?
 *
 * It may have been started from another WireGuard file, or for another server, than the user names
 * now, and the program would be another node than he thinks, on another mesh. On our command
 * line that is an error. In the environment, which is there for many programs, it is a
 * sentence. What the daemon does not tell is taken as right.
 *
 * A file is the same one by its name, also when it has been replaced since (a secret of
 * Kubernetes is a link that moves), or by what it is, under another name. What is no ordinary
 * file, as the shell's <(...), has no name that would tell.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/meshrun.h"
#include "preload/meshrun_status.h"

bool make_absolute(const char *path, char absolute[static PATH_MAX])
{
	char cwd[PATH_MAX] = "";

	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return false;
	return snprintf(absolute, PATH_MAX, "%s%s%s", cwd, *path == '/' ? "" : "/", path) <
	       PATH_MAX;
}

static bool is_same_file(const char *path, const char *of_daemon)
{
	char absolute[PATH_MAX];
	struct stat ours, its;

	if (!make_absolute(path, absolute) || strcmp(absolute, of_daemon) == 0)
		return true;
	if (stat(path, &ours) < 0)
		return false;
	if (!S_ISREG(ours.st_mode))
		return true;
	return stat(of_daemon, &its) == 0 && ours.st_dev == its.st_dev && ours.st_ino == its.st_ino;
}

/* As meshd understands it: what is before the path in any case, and no slash at the end. */
static bool is_same_server(const char *url, const char *of_daemon)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return strlen(of_daemon) == len && strncasecmp(url, of_daemon, len) == 0;
}

/* The last one on the command line, which is meshd's; else NULL. */
static const char *named_server(const struct login *login)
{
	static const char option[] = "--login-server=";

	for (unsigned i = login ? login->count : 0; i > 0; i--)
		if (strncmp(login->words[i - 1], option, sizeof(option) - 1) == 0)
			return login->words[i - 1] + sizeof(option) - 1;
	return NULL;
}

/* What is wanted, and by which variable (NULL: by the command line). */
struct wanted {
	const char *name, *variable;
	bool is_file;
};

static struct wanted find_wanted(const struct daemon_options *o)
{
	const char *server = named_server(o->login);
	struct wanted w = { .name = o->config, .is_file = o->config != NULL };

	if (o->config) {
		w.variable = o->config_is_chosen ? NULL : "MESHWRAP_CONFIG";
	} else if (server) {
		w.name = server;
	} else {
		w.name = getenv("TS_LOGIN_SERVER");
		w.variable = "TS_LOGIN_SERVER";
	}
	return w;
}

int daemon_check_wanted(const char *dir, const struct daemon_options *o)
{
	struct wanted w = find_wanted(o);
	struct daemon_origin origin;
	const char *its, *from, *but;
	bool is_file;

	if (!w.name || !*w.name || !status_ask_origin(dir, &origin))
		return 0;
	is_file = origin.config[0] != '\0';
	its = is_file ? origin.config : origin.server;
	if (!*its || (w.is_file && is_file && is_same_file(w.name, its)) ||
	    (!w.is_file && !is_file && is_same_server(w.name, its)))
		return 0;
	from = is_file ? "was started from" : "is a node of";
	if (w.variable) {
		complain("%s is %s, but the daemon of %s runs already, and %s %s", w.variable,
			 w.name, dir, from, its);
		return 0;
	}
	if (w.is_file == is_file)
		but = is_file ? "not from" : "not of";
	else
		but = is_file ? "and is no node of" : "and was not started from";
	complain("the daemon of %s %s %s, %s %s: end it, or choose another folder with --dir", dir,
		 from, its, but, w.name);
	return EXIT_NO_MESH;
}
