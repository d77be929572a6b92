/*
 * meshd: one node of the mesh, in the foreground.
 *
 * What a user did wrong is told in one sentence on standard error, and nothing is
 * left behind: exit status 2 for the command line, 1 for everything else.
 * Warnings come only once the node is up, so that an error stands alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/mesh.h"
#include "shared/log.h"
#include "shared/paths.h"
#include "shared/util.h"

#define EXIT_USAGE 2

struct options {
	const char *config_path;
	char dir[PATHS_MAX];
	struct mesh_options mesh;
};

/* The file, and what the file system told of it. */
struct file {
	char *text;
	size_t len;
	mode_t mode;
};

static const char usage_text[] =
	"usage: meshd --config FILE [--dir DIR] [--log-level error|warning|info|debug]\n"
	"             [--allow-all-users] [--no-syn-hold]\n"
	"       meshd --help | --version\n"
	"\n"
	"Runs one mesh node from a WireGuard file, in the foreground. Programs join it with\n"
	"meshrun; meshctl shows it.\n"
	"\n"
	"  --config FILE      the WireGuard file: wg-quick's keys, plus '# Name = node-a'\n"
	"  --dir DIR          the runtime folder ($MESHWRAP_DIR, else $XDG_RUNTIME_DIR/meshwrap,\n"
	"                     else /run/meshwrap for root, else /tmp/meshwrap-UID)\n"
	"  --log-level LEVEL  what to tell on standard error; default info\n"
	"  --allow-all-users  programs of every user of this machine may use the mesh;\n"
	"                     otherwise those of this user and root\n"
	"  --no-syn-hold      dial first, then let programs connect, as where the kernel\n"
	"                     does not support holding a SYN\n";

static int usage_error(const char *sentence)
{
	fprintf(stderr, "meshd: %s; see meshd --help\n", sentence);
	return EXIT_USAGE;
}

static int set_level(const char *name)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = { { "error", LOG_ERR },
		       { "warning", LOG_WARN },
		       { "info", LOG_INFO },
		       { "debug", LOG_DEBUG } };

	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (strcmp(levels[i].name, name) == 0) {
			log_set_level(levels[i].level);
			return 0;
		}
	}
	return usage_error("--log-level is one of error, warning, info, debug");
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	enum { CONFIG = 1, DIR_, LEVEL, ALL_USERS, NO_SYN_HOLD, HELP, VERSION };
	static const struct option known[] = {
		{ "config", required_argument, NULL, CONFIG },
		{ "dir", required_argument, NULL, DIR_ },
		{ "log-level", required_argument, NULL, LEVEL },
		{ "allow-all-users", no_argument, NULL, ALL_USERS },
		{ "no-syn-hold", no_argument, NULL, NO_SYN_HOLD },
		{ "help", no_argument, NULL, HELP },
		{ "version", no_argument, NULL, VERSION },
		{ NULL, 0, NULL, 0 },
	};
	const char *dir = getenv("MESHWRAP_DIR");
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case CONFIG:
			o->config_path = optarg;
			break;
		case DIR_:
			dir = optarg;
			break;
		case LEVEL:
			if (set_level(optarg) != 0)
				return EXIT_USAGE;
			break;
		case ALL_USERS:
			o->mesh.allow_all_users = true;
			break;
		case NO_SYN_HOLD:
			o->mesh.refuse_synhold = true;
			break;
		case HELP:
			return fputs(usage_text, stdout) < 0;
		case VERSION:
			return printf("meshd %s\n", MESHWRAP_VERSION) < 0;
		default:
			return EXIT_USAGE; /* getopt has said why */
		}
	}
	if (optind < argc)
		return usage_error("there are only options");
	if (!o->config_path)
		return usage_error("--config FILE is missing");
	if (paths_runtime_dir(dir, getenv("XDG_RUNTIME_DIR"), getuid(), o->dir) < 0)
		return usage_error("the name of the runtime folder is too long");
	o->mesh.dir = o->dir;
	return -1;
}

static int read_fd(int fd, struct file *file)
{
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	file->mode = st.st_mode;
	/* One byte more than allowed, so that the parser sees it is too long; also for a pipe. */
	file->text = malloc(CONFIG_MAX_BYTES + 1);
	if (!file->text)
		return -ENOMEM;
	while (file->len <= CONFIG_MAX_BYTES) {
		n = read(fd, file->text + file->len, CONFIG_MAX_BYTES + 1 - file->len);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			file->len += (size_t)n;
	}
	return 0;
}

static void file_finish(struct file *file)
{
	if (file->text)
		sodium_memzero(file->text, file->len);
	free(file->text);
	file->text = NULL;
}

static int read_file(const char *path, struct file *file)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = read_fd(fd, file);
	close(fd);
	return err;
}

/* Reads and parses the file. False after saying what is wrong. */
static bool load_config(const char *path, struct config *config, mode_t *mode)
{
	struct file file = { 0 };
	char error[256];
	int err = read_file(path, &file);

	if (err < 0) {
		file_finish(&file);
		fprintf(stderr, "meshd: cannot read %s: %s; give the path of a WireGuard file\n",
			path, strerror(-err));
		return false;
	}
	*mode = file.mode;
	err = config_parse(file.text, file.len, config, error);
	file_finish(&file);
	if (err < 0) {
		config_finish(config);
		fprintf(stderr, "meshd: %s: %s\n", path, error);
		return false;
	}
	return true;
}

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

static int run(struct mesh *mesh)
{
	static const int numbers[] = { SIGTERM, SIGINT };
	struct event *signals[ARRAY_LEN(numbers)] = { NULL };
	char line[MESH_LINE_MAX];
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
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

int main(int argc, char **argv)
{
	struct options options = { 0 };
	struct config config;
	struct mesh *mesh;
	char error[256];
	mode_t mode;
	int status = parse_options(argc, argv, &options);

	if (status >= 0)
		return status;
	if (sodium_init() < 0) {
		fputs("meshd: libsodium does not work here; reinstall it\n", stderr);
		return EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN);
	drop_privileges();
	if (!load_config(options.config_path, &config, &mode))
		return EXIT_FAILURE;
	if (mesh_create(&config, &options.mesh, &mesh, error) < 0) {
		fprintf(stderr, "meshd: %s\n", error);
		return EXIT_FAILURE;
	}
	if (S_ISREG(mode) && mode & (S_IRGRP | S_IROTH | S_IWGRP | S_IWOTH))
		log_warn("meshd: %s holds a private key and others may read it; chmod 600 it",
			 options.config_path);
	mesh_log_warnings(mesh);
	status = run(mesh) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	mesh_destroy(mesh);
	return status;
}
