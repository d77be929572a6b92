/*
 * Is the daemon that runs the one that was asked for, and as it was asked for?
 *
 * It may have been started from another WireGuard file, or for another server, than the user names
 * now, and the program would be another node than he thinks, on another mesh. On our command
 * line that is an error. In the environment, which is there for many programs, it is a
 * sentence. What the daemon does not tell is taken as right.
 *
 * One that was started before meshwrap was installed anew may write a map that the shim of now does
 * not read: every mesh address would be unreachable, and nobody would say why.
 *
 * Other options of meshd make it no other node, but have no effect any more: a sentence each, where
 * the daemon has another value. It has all of them by name (daemon/mesh_status_options.c), but
 * those of a login only where it is one. On our command line such an option was meant for this
 * node. The auth key is nobody's concern here: the daemon has joined.
 *
 * A file is the same one by its name, also when it has been replaced since (a secret of
 * Kubernetes is a link that moves), or by what it is, under another name. What is no ordinary
 * file, as the shell's <(...), has no name that would tell.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/meshrun.h"
#include "preload/meshrun_given.h"
#include "preload/meshrun_status.h"
#include "shared/flag.h"
#include "shared/map.h"
#include "shared/util.h"

/* Under which name ever. */
static bool is_same_place(const char *path, const char *of_daemon)
{
	char absolute[PATH_MAX];
	struct stat ours, its;

	if (paths_absolute(path, absolute, sizeof(absolute)) < 0 ||
	    strcmp(absolute, of_daemon) == 0)
		return true;
	return stat(path, &ours) == 0 && stat(of_daemon, &its) == 0 && ours.st_dev == its.st_dev &&
	       ours.st_ino == its.st_ino;
}

static bool is_same_file(const char *path, const char *of_daemon)
{
	struct stat ours;

	return is_same_place(path, of_daemon) || (stat(path, &ours) == 0 && !S_ISREG(ours.st_mode));
}

/* As meshd understands it: what is before the path in any case, and no slash at the end. */
static bool is_same_server(const char *url, const char *of_daemon)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return strlen(of_daemon) == len && strncasecmp(url, of_daemon, len) == 0;
}

/* Items in the same order; an empty one is none. */
static bool is_same_list(const char *list, const char *of_daemon)
{
	for (;;) {
		size_t len;

		list += strspn(list, ",");
		of_daemon += strspn(of_daemon, ",");
		len = strcspn(list, ",");
		if (len != strcspn(of_daemon, ",") || strncmp(list, of_daemon, len) != 0)
			return false;
		if (len == 0)
			return true;
		list += len;
		of_daemon += len;
	}
}

static bool is_same_flag(const char *text, const char *of_daemon)
{
	bool ours, its;

	return flag_read(text, &ours) && flag_read(of_daemon, &its) && ours == its;
}

static bool is_same_number(const char *text, const char *of_daemon)
{
	return strtoul(text, NULL, 10) == strtoul(of_daemon, NULL, 10);
}

static bool is_same_path(enum given_kind kind, const char *path, const char *of_daemon)
{
	if (!*path || !*of_daemon)
		return !*path && !*of_daemon;
	return kind == GIVEN_FILE ? is_same_file(path, of_daemon) : is_same_place(path, of_daemon);
}

static bool is_same(enum given_kind kind, const char *value, const char *of_daemon)
{
	switch (kind) {
	case GIVEN_FLAG:
		return is_same_flag(value, of_daemon);
	case GIVEN_NUMBER:
		return is_same_number(value, of_daemon);
	case GIVEN_PORT:
		return is_same_number(value, "0") || is_same_number(value, of_daemon);
	case GIVEN_LIST:
		return is_same_list(value, of_daemon);
	case GIVEN_FILE:
		return is_same_path(kind, value, of_daemon);
	case GIVEN_FOLDER:
		return is_same_path(kind, strcmp(value, "mem:") == 0 ? "" : value, of_daemon);
	default:
		return strcmp(value, of_daemon) == 0;
	}
}

/* Those that a user would expect to take effect. */
static const struct given_option options[] = {
	{ "hostname", "TS_HOSTNAME", GIVEN_TEXT, NULL },
	{ "state", "TS_STATE_DIR", GIVEN_FOLDER, "statedir" },
	{ "ca", "MESHWRAP_CA", GIVEN_FILE, NULL },
	{ "accept-routes", "TS_ACCEPT_ROUTES", GIVEN_FLAG, NULL },
	{ "accept-dns", "TS_ACCEPT_DNS", GIVEN_FLAG, NULL },
	{ "shields-up", "TS_SHIELDS_UP", GIVEN_FLAG, NULL },
	{ "advertise-tags", "TS_ADVERTISE_TAGS", GIVEN_LIST, NULL },
	{ "port", "TS_PORT", GIVEN_PORT, NULL },
	{ "trust-new-server-key", NULL, GIVEN_FLAG, NULL },
	{ "capability-version", "TS_CAPABILITY_VERSION", GIVEN_NUMBER, NULL },
	{ "socks5-server", "TS_SOCKS5_SERVER", GIVEN_TEXT, NULL },
	{ "outbound-http-proxy-listen", "TS_OUTBOUND_HTTP_PROXY_LISTEN", GIVEN_TEXT, NULL },
	{ "allow-all-users", NULL, GIVEN_FLAG, NULL },
	{ "congestion", "MESHWRAP_CONGESTION", GIVEN_TEXT, NULL },
	{ "workers", "MESHWRAP_WORKERS", GIVEN_NUMBER, NULL },
	{ "log-level", "MESHWRAP_LOG_LEVEL", GIVEN_TEXT, NULL },
};

/* The file or the server that is wanted. False: neither is named. */
static bool find_wanted(const struct daemon_options *o, struct given *wanted, bool *is_file)
{
	static const struct given_option server = { .name = "login-server",
						    .variable = "TS_LOGIN_SERVER" };

	*is_file = o->config != NULL;
	if (!o->config)
		return given_find(o->given, &server, wanted);
	snprintf(wanted->value, sizeof(wanted->value), "%s", o->config);
	snprintf(wanted->source, sizeof(wanted->source), "%s",
		 o->config_is_chosen ? "--config" : "MESHWRAP_CONFIG");
	wanted->is_command_line = o->config_is_chosen;
	return true;
}

/* What makes the daemon a node, after "the daemon"; its texts are only to be shown from here. */
static void describe(struct daemon_origin *origin, const char **from, const char **its)
{
	*from = origin->config[0] ? "was started from" : "is a node of";
	*its = status_clean(origin->config[0] ? origin->config : origin->server);
}

/* -1: it is that node; else what comes of it, after the user was told. */
static int compare_node(const char *dir, const struct daemon_options *o,
			struct daemon_origin *origin)
{
	bool is_file, its_is_file = origin->config[0] != '\0';
	const char *its, *from, *but;
	struct given wanted;

	if (!find_wanted(o, &wanted, &is_file) || !(its_is_file || origin->server[0]) ||
	    (is_file && its_is_file && is_same_file(wanted.value, origin->config)) ||
	    (!is_file && !its_is_file && is_same_server(wanted.value, origin->server)))
		return -1;
	describe(origin, &from, &its);
	if (!wanted.is_command_line) {
		complain("%s is %s, but the daemon of %s runs already, and %s %s", wanted.source,
			 wanted.value, dir, from, its);
		return 0;
	}
	if (is_file == its_is_file)
		but = is_file ? "not from" : "not of";
	else
		but = its_is_file ? "and is no node of" : "and was not started from";
	complain("the daemon of %s %s %s, %s %s: end it, or choose another folder with --dir", dir,
		 from, its, but, wanted.value);
	return EXIT_NO_MESH;
}

static void compare_option(const char *dir, const struct given_option *option,
			   const struct given *given, struct daemon_origin *origin)
{
	const char *value = given->value[0] ? given->value : "empty", *with = "with ", *its, *from;
	char has[PATH_MAX];
	bool is_on;

	if (!status_find(origin->options, strlen(origin->options), option->name, has,
			 sizeof(has))) {
		describe(origin, &from, &its);
		if (origin->options[0] && origin->config[0] && given->is_command_line)
			complain("%s is %s, but the daemon of %s runs already, and %s %s",
				 given->source, value, dir, from, its);
		return;
	}
	if (is_same(option->kind, given->value, has))
		return;
	if (!has[0] || (option->kind == GIVEN_FLAG && flag_read(has, &is_on) && !is_on)) {
		with = "without it";
		has[0] = '\0';
	}
	complain("%s is %s, but the daemon of %s runs already, %s%s", given->source, value, dir,
		 with, status_clean(has));
}

/* Is there anything that the daemon is to be asked for? */
static bool is_anything_given(const struct daemon_options *o)
{
	struct given given;
	bool is_file;

	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (given_find(o->given, &options[i], &given))
			return true;
	return find_wanted(o, &given, &is_file);
}

/* Of its map: no shim of ours reads it. */
static bool is_of_another_version(const char *dir)
{
	char path[PATHS_MAX + 8];
	uint32_t head[2]; /* struct map: magic, version */
	ssize_t n;
	int fd;

	if (paths_join(dir, PATHS_MAP, path, sizeof(path)) < 0)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	n = read(fd, head, sizeof(head));
	close(fd);
	return n == sizeof(head) && head[0] == MAP_MAGIC && head[1] != MAP_VERSION;
}

int daemon_check_wanted(const char *dir, const struct daemon_options *o)
{
	static struct daemon_origin origin; /* the stack may be small */
	static struct given given;
	int status;

	if (is_of_another_version(dir)) {
		complain("the daemon of %s is of another version than this meshrun: end it and "
			 "start it again, or choose another folder with --dir",
			 dir);
		return EXIT_NO_MESH;
	}
	if (!is_anything_given(o) || !status_ask_origin(dir, &origin))
		return 0;
	status = compare_node(dir, o, &origin);
	if (status >= 0)
		return status;
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (given_find(o->given, &options[i], &given))
			compare_option(dir, &options[i], &given, &origin);
	return 0;
}
