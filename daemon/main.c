/*
 * meshd: one node of the mesh, in the foreground.
 *
 * What a user did wrong is told in one sentence on standard error, and nothing is
 * left behind: exit status 2 for the command line, 1 for everything else.
 * What is odd about the file is told only once the node is up, so that an error stands alone.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <event2/event.h>

#include "daemon/calls.h"
#include "daemon/config_file.h"
#include "daemon/mesh.h"
#include "daemon/options.h"
#include "daemon/trim.h"
#include "shared/log.h"
#include "shared/standard.h"
#include "shared/util.h"

/* No new privileges, and no way for keys to leave by a core file or a debugger. */
static void drop_privileges(void)
{
	const struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		log_debug("meshd: no_new_privs is refused here: %s", strerror(errno));
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		log_debug("meshd: it stays dumpable: %s", strerror(errno));
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		log_debug("meshd: core files stay possible: %s", strerror(errno));
	umask(077);
}

static void end_asked(evutil_socket_t number, short events, void *arg)
{
	(void)events;
	log_info("meshd: ending on signal %d", (int)number);
	mesh_stop(arg);
}

/* As nohup leaves the hang-up, for those who outlive their terminal. */
static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* Also at a hang-up it ends in order: peers hear that its streams are over. */
static int run(struct mesh *mesh)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
	struct event *signals[ARRAY_LEN(numbers)] = { NULL };
	char line[MESH_LINE_MAX];
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (numbers[i] == SIGHUP && is_ignored(SIGHUP))
			continue;
		signals[i] = evsignal_new(mesh_base(mesh), numbers[i], end_asked, mesh);
		if (!signals[i] || event_add(signals[i], NULL) != 0)
			err = -ENOMEM;
	}
	if (err == 0) {
		mesh_describe(mesh, line);
		log_info("meshd: %s", line);
		err = mesh_run(mesh);
	}
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		if (signals[i])
			event_free(signals[i]);
	}
	if (err < 0)
		log_err("meshd: the event loop failed: %s", strerror(-err));
	return err;
}

/* Why there is no node, whatever the level of the log. where: in which file, or NULL. */
static void complain(const char *where, const char *error)
{
	char time[LOG_TIME_MAX];

	fprintf(stderr, "%smeshd: %s%s%s\n", log_time(time), where ? where : "", where ? ": " : "",
		error);
}

/* What is wrong in a line of the file is told with its name. */
static struct mesh *create(struct config *config, const struct mesh_options *options)
{
	const char *path = options->config_path;
	struct mesh *mesh;
	char error[256];

	if (mesh_create(config, options, &mesh, error) == 0)
		return mesh;
	if (path && strncmp(error, "line ", 5) == 0)
		complain(path, error);
	else
		complain(NULL, error);
	return NULL;
}

static struct mesh *create_from_file(const char *path, const struct mesh_options *options)
{
	struct config config;
	char error[CONFIG_FILE_ERROR_MAX];

	if (config_file_read(path, false, &config, error) == 0)
		return create(&config, options);
	config_finish(&config);
	complain(NULL, error);
	return NULL;
}

static struct mesh *create_node(const struct options *o)
{
	struct mesh_options options = { .dir = o->dir,
					.allow_all_users = o->allow_all_users,
					.congestion = o->congestion,
					.workers = o->workers,
					.refuse_synhold = o->refuse_synhold,
					.socks5_listen = o->socks5_listen,
					.http_listen = o->http_listen };

	if (o->mode == OPTIONS_FILE) {
		options.config_path = o->config_path;
		return create_from_file(o->config_path, &options);
	}
	options.login = &o->login;
	return create(NULL, &options);
}

/* False after saying what the sandbox lacks. */
static bool may_make_calls(void)
{
	char error[256];

	if (calls_check(error) == 0)
		return true;
	complain(NULL, error);
	return false;
}

/* Whoever started us may have blocked those that are to end us. */
static void unblock_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int main(int argc, char **argv)
{
	struct options options;
	struct mesh *mesh;
	int status;

	if (!standard_files_open(0)) {
		fputs("meshd: cannot open /dev/null\n", stderr);
		return EXIT_FAILURE;
	}
	unblock_signals();
	log_tell_time();
	status = options_parse(argc, argv, &options);
	if (status >= 0) {
		options_finish(&options);
		return standard_output_end("meshd", status);
	}
	log_never_wait();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file beyond the limit is an error like others */
	drop_privileges();
	mesh = may_make_calls() ? create_node(&options) : NULL;
	status = EXIT_FAILURE;
	if (mesh) {
		mesh_log_warnings(mesh);
		trim_memory();
		status = run(mesh) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	mesh_destroy(mesh);
	options_finish(&options);
	return status;
}
