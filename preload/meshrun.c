/*
 * meshrun: puts a program on the mesh, and becomes it.
 *
 *     meshrun [--config FILE | --login-server URL] [OPTIONS] [--] PROGRAM ARGS
 *
 * After the daemon has answered, all that is left to do is some variables and
 * exec: the program keeps our process id, terminal and signals, and its exit
 * status is nobody's but its own. So is its limit of the stack (ulimit -s), which is ours until
 * then: what is large and lies deep is static.
 */
#include "preload/meshrun.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "preload/binfmt.h"
#include "preload/libraries.h"
#include "shared/standard.h"
#include "shared/util.h"

#define DEFAULT_TIMEOUT_S 30
#define MAX_TIMEOUT_S     86400

static const char usage_text[] =
	"usage: meshrun [OPTIONS] [--] PROGRAM [ARG...]\n"
	"\n"
	"Runs PROGRAM on the mesh of the daemon that runs in DIR. If none runs, meshd is started\n"
	"with a WireGuard file or to join a tailnet; PROGRAM begins as soon as the mesh is usable.\n"
	"\n"
	"  --config FILE        WireGuard file of this node                (MESHWRAP_CONFIG)\n"
	"  --login-server URL   coordination server to join by             (TS_LOGIN_SERVER)\n"
	"                       the key: TS_AUTHKEY=KEY or TS_AUTHKEY=file:PATH; PROGRAM does\n"
	"                       not see it. Without a key a URL to visit is shown\n"
	"  --auth-key-file FILE --hostname NAME --state DIR --ca FILE --accept-routes\n"
	"  --accept-dns=BOOL --shields-up --advertise-tags LIST --port N\n"
	"  --trust-new-server-key --capability-version N\n"
	"                       for meshd and a login, see there\n"
	"  --socks5-server ADDR --outbound-http-proxy-listen ADDR --allow-all-users\n"
	"  --congestion NAME --workers N --log-level LEVEL\n"
	"                       for meshd in either case, see there; all of meshd's options count\n"
	"                       only where it is started, and are told where it runs otherwise\n"
	"  --dir DIR            runtime folder of the daemon               (MESHWRAP_DIR)\n"
	"  --timeout SECONDS    how long to wait for the mesh; 30 unless told, and without\n"
	"                       limit while a person is to log this node in\n"
	"  --no-primary         PROGRAM's own host name, and its address towards the internet, stay\n"
	"                       what they are without a mesh               (MESHWRAP_PRIMARY=0)\n"
	"  --explain[=FILE]     say of every network call what became of it, on standard error or\n"
	"                       appended to FILE                           (MESHWRAP_EXPLAIN=1|FILE)\n"
	"  --help, --version\n"
	"\n"
	"MESHWRAP_TRACE=1 has PROGRAM traced as a static one is, whatever it is; 0: no program or\n"
	"library is looked at for network calls past libc. MESHWRAP_FOLLOW=0: children that PROGRAM\n"
	"starts without LD_PRELOAD, and static ones, stay off the mesh; with MESHWRAP_OFF=1 a child\n"
	"does in any case. MESHWRAP_LOG=info has each program that is on the mesh say so at its\n"
	"start; debug is as MESHWRAP_EXPLAIN=1.\n";

struct options {
	const char *config, *dir;
	struct login login;
	const char *for_login; /* the first option that only a login uses */
	unsigned timeout_s;
	bool timeout_is_chosen;
	int program; /* index into argv */
};

enum id {
	CONFIG = 1,
	DIR_,
	TIMEOUT,
	AUTH_KEY,
	FOR_LOGIN,
	FOR_MESHD,
	NO_PRIMARY,
	EXPLAIN,
	HELP,
	VERSION
};

static const struct option known[] = {
	{ "config", required_argument, NULL, CONFIG },
	{ "dir", required_argument, NULL, DIR_ },
	{ "timeout", required_argument, NULL, TIMEOUT },
	{ "auth-key", required_argument, NULL, AUTH_KEY },
	{ "authkey", required_argument, NULL, AUTH_KEY },
	{ "login-server", required_argument, NULL, FOR_LOGIN },
	{ "auth-key-file", required_argument, NULL, FOR_LOGIN },
	{ "hostname", required_argument, NULL, FOR_LOGIN },
	{ "state", required_argument, NULL, FOR_LOGIN },
	{ "ca", required_argument, NULL, FOR_LOGIN },
	{ "accept-routes", optional_argument, NULL, FOR_LOGIN },
	{ "accept-dns", optional_argument, NULL, FOR_LOGIN },
	{ "shields-up", optional_argument, NULL, FOR_LOGIN },
	{ "advertise-tags", required_argument, NULL, FOR_LOGIN },
	{ "port", required_argument, NULL, FOR_LOGIN },
	{ "trust-new-server-key", no_argument, NULL, FOR_LOGIN },
	{ "capability-version", required_argument, NULL, FOR_LOGIN },
	{ "socks5-server", required_argument, NULL, FOR_MESHD },
	{ "outbound-http-proxy-listen", required_argument, NULL, FOR_MESHD },
	{ "allow-all-users", no_argument, NULL, FOR_MESHD },
	{ "congestion", required_argument, NULL, FOR_MESHD },
	{ "workers", required_argument, NULL, FOR_MESHD },
	{ "log-level", required_argument, NULL, FOR_MESHD },
	{ "no-primary", no_argument, NULL, NO_PRIMARY },
	{ "explain", optional_argument, NULL, EXPLAIN },
	{ "help", no_argument, NULL, HELP },
	{ "version", no_argument, NULL, VERSION },
	{ NULL, 0, NULL, 0 },
};

void complain(const char *format, ...)
{
	va_list args;

	fputs("meshrun: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / NS_PER_MS;
}

int own_folder(char folder[static PATH_MAX])
{
	static char path[PATH_MAX];
	char *slash;
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	/* Without /proc: the kernel's note of what was executed, as it was named. */
	if (n < 0 && !realpath((const char *)getauxval(AT_EXECFN), path))
		return -errno;
	if (n >= 0)
		path[n] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	memcpy(folder, path, (size_t)(slash - path) + 1);
	return 0;
}

static bool parse_seconds(const char *text, unsigned *seconds)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > MAX_TIMEOUT_S)
		return false;
	*seconds = (unsigned)n;
	return true;
}

/* meshd's option as it was given. 0 or the exit status. */
static int pass_on(struct login *login, const char *name, const char *value)
{
	char *word;

	if (login->count + 2 > LOGIN_WORDS_MAX) {
		complain("too many options");
		return EXIT_USAGE;
	}
	/* Words live as long as we do. */
	if (asprintf(&word, "--%s%s%s", name, value ? "=" : "", value ? value : "") < 0) {
		complain("out of memory");
		return EXIT_NO_MESH;
	}
	login_add(login, word, NULL);
	return 0;
}

/* For PROGRAM. -1: go on; else the exit status. */
static int set(const char *variable, const char *value)
{
	if (setenv(variable, value, 1) == 0)
		return -1;
	complain("out of memory");
	return EXIT_NO_MESH;
}

/*
 * A file, which PROGRAM may open from another folder. It could not say that it cannot be written. A
 * pipe that nobody reads yet may have a reader by then.
 */
static int set_explain_file(const char *file)
{
	static const char variable[] = "MESHWRAP_EXPLAIN";
	char absolute[PATH_MAX];
	int fd =
		open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);

	if (fd < 0 && errno != ENXIO) {
		complain("--explain cannot write %s: %s", file, strerror(errno));
		return EXIT_USAGE;
	}
	if (fd >= 0)
		close(fd);
	if (paths_absolute(file, absolute, sizeof(absolute)) < 0) {
		complain("%s: %s", file, strerror(ENAMETOOLONG));
		return EXIT_USAGE;
	}
	return set(variable, absolute);
}

static void note_login(struct options *o, const char *name)
{
	if (!o->for_login)
		o->for_login = name;
}

/* Of a variable that is not set nothing is left, and would mean another file, or another daemon. */
static int take_path(const char **path, const char *name)
{
	*path = optarg;
	if (*optarg)
		return -1;
	complain("--%s needs a value; see meshrun --help", name);
	return EXIT_USAGE;
}

/* -1: go on; else the exit status. */
static int take(struct options *o, int id, const char *name)
{
	int status;

	switch (id) {
	case CONFIG:
		return take_path(&o->config, name);
	case DIR_:
		return take_path(&o->dir, name);
	case TIMEOUT:
		o->timeout_is_chosen = true;
		if (parse_seconds(optarg, &o->timeout_s))
			return -1;
		complain("--timeout takes whole seconds, at most %d, not \"%s\"", MAX_TIMEOUT_S,
			 optarg);
		return EXIT_USAGE;
	case AUTH_KEY:
		note_login(o, name);
		return login_add_key(&o->login, optarg) ? -1 : EXIT_USAGE;
	case FOR_LOGIN:
	case FOR_MESHD:
		if (id == FOR_LOGIN)
			note_login(o, name);
		status = pass_on(&o->login, name, optarg);
		return status ? status : -1;
	case NO_PRIMARY:
		return set("MESHWRAP_PRIMARY", "0");
	case EXPLAIN:
		return optarg ? set_explain_file(optarg) : set("MESHWRAP_EXPLAIN", "1");
	case 'h':
	case HELP:
		fputs(usage_text, stdout);
		return 0;
	case VERSION:
		puts("meshrun " MESHWRAP_VERSION);
		return 0;
	default:
		return EXIT_USAGE; /* parse_options() has said what is wrong */
	}
}

/* Of a word with a value only its name is shown: the value may be a key. */
static void complain_option(int id, char **argv)
{
	const char *word = argv[optind - 1];
	int len = (int)strcspn(word, "=");

	if (id == ':')
		complain("%.*s needs a value; see meshrun --help", len, word);
	else if (optopt > VERSION)
		complain("-%c is no option of meshrun; see meshrun --help", optopt);
	else
		complain("%.*s is no option of meshrun, or not used as one; see meshrun --help",
			 len, word);
}

/* -1: go on; else the exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	int id, at = 0, status;

	o->timeout_s = DEFAULT_TIMEOUT_S;
	opterr = 0;
	while ((id = getopt_long(argc, argv, "+:h", known, &at)) != -1) {
		if (id == ':' || id == '?')
			complain_option(id, argv);
		status = take(o, id, known[at].name);
		if (status >= 0)
			return status;
	}
	if (optind == argc) {
		complain("no program given; see meshrun --help");
		return EXIT_USAGE;
	}
	if (o->config && o->for_login) {
		complain("--config and --%s exclude each other: the one makes the node of a "
			 "WireGuard file, the other is for a login",
			 o->for_login);
		return EXIT_USAGE;
	}
	o->program = optind;
	return -1;
}

/* The command line says how a daemon is to be started, else the environment. */
static void choose_daemon(struct options *o, struct daemon_options *daemon)
{
	const char *config = getenv("MESHWRAP_CONFIG");

	daemon->timeout_s = o->timeout_s;
	daemon->timeout_is_chosen = o->timeout_is_chosen;
	if (!o->for_login && (o->config || (config && *config)))
		daemon->config = o->config ? o->config : config;
	daemon->config_is_chosen = o->config != NULL;
	daemon->given = &o->login;
	if (daemon->config || o->login.count || o->login.is_wanted_by_environment)
		daemon->login = &o->login;
}

/* The daemon's folder, absolute: the program may change its own. */
static int choose_dir(const struct options *o, char dir[static PATHS_MAX], bool *chosen)
{
	const char *named = o->dir ? o->dir : getenv("MESHWRAP_DIR");
	char absolute[PATHS_MAX] = "";

	*chosen = named && *named;
	if ((*chosen && paths_absolute(named, absolute, sizeof(absolute)) < 0) ||
	    paths_runtime_dir(absolute, getenv("XDG_RUNTIME_DIR"), geteuid(), dir) < 0) {
		complain("the runtime folder's name is too long; choose another with --dir");
		return EXIT_NO_MESH;
	}
	return 0;
}

/* False: errno says why not. */
static bool is_loadable(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bool yes = fd >= 0 && binfmt_is_library_in(fd);

	if (fd >= 0) {
		close(fd);
		errno = ELIBBAD;
	}
	return yes;
}

bool library_find(const char *name, char path[static PATH_MAX])
{
	static const char *const places[] = { ".", MESHWRAP_LIBRARY_PLACE, "../lib/meshwrap" };
	static char folder[PATH_MAX], candidate[PATH_MAX];

	if (own_folder(folder) < 0) {
		errno = ENOENT;
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (snprintf(candidate, sizeof(candidate), "%s/%s/%s", folder, places[i], name) <
			    (int)sizeof(candidate) &&
		    realpath(candidate, path))
			return is_loadable(path);
	errno = ENOENT;
	return false;
}

static bool allow_preload(void)
{
	const char *old = getenv(LIBRARIES_ASAN_VARIABLE);
	size_t room = (old ? strlen(old) : 0) + sizeof(LIBRARIES_ASAN_OPTION) + 1;
	char *value;
	bool is_done;

	if (old && strstr(old, LIBRARIES_ASAN_ORDER))
		return true;
	value = malloc(room);
	if (!value)
		return false;
	snprintf(value, room, "%s%s%s", old ? old : "", old && *old ? ":" : "",
		 LIBRARIES_ASAN_OPTION);
	is_done = setenv(LIBRARIES_ASAN_VARIABLE, value, 1) == 0;
	free(value);
	return is_done;
}

/* The dynamic linker would go on without it, and PROGRAM past the mesh. */
static void complain_library(const char *library, int err)
{
	if (err == ENOENT)
		complain(LIBRARY_OURS " is not installed beside meshrun; install meshwrap again");
	else if (err == ELIBBAD)
		complain("%s is damaged, or made for another kind of machine; install meshwrap "
			 "again",
			 library);
	else
		complain("cannot read %s: %s; give this user the right to", library, strerror(err));
}

static int set_environment(const char *dir)
{
	char library[PATH_MAX];

	if (!library_find(LIBRARY_OURS, library)) {
		complain_library(library, errno);
		return EXIT_NO_MESH;
	}
	if (strpbrk(library, " :")) {
		complain("the dynamic linker cannot load from a path with spaces or colons: %s",
			 library);
		return EXIT_NO_MESH;
	}
	/* Ray's daemons drop LD_PRELOAD for their workers unless told not to. */
	if (!preload_set(library) || !allow_preload() || setenv("MESHWRAP_DIR", dir, 1) < 0 ||
	    setenv("RAY_LD_PRELOAD_ON_WORKERS", "1", 1) < 0) {
		complain("out of memory");
		return EXIT_NO_MESH;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct daemon_options daemon = { 0 };
	const char *child = getenv("MESHWRAP_EXEC");
	static struct options o;
	char dir[PATHS_MAX];
	int status;

	/* For us alone: PROGRAM finds closed what we found closed. */
	if (!standard_files_open(O_CLOEXEC)) {
		complain("cannot open /dev/null");
		return EXIT_NO_MESH;
	}
	/* A child of a wrapped program that the shim cannot enter: all words are its own. */
	if (child && *child)
		return program_continue(child, argv + 1);
	/* First of all, so that the key is gone from the environment whatever follows. */
	if (!login_read_environment(&o.login))
		return EXIT_USAGE;
	status = parse_options(argc, argv, &o);
	if (status >= 0)
		return standard_output_end("meshrun", status);
	status = choose_dir(&o, dir, &daemon.dir_is_chosen);
	if (!status)
		status = program_check(argv[o.program]);
	if (status)
		return status;
	choose_daemon(&o, &daemon);
	status = daemon_wait(dir, &daemon);
	if (!status)
		status = daemon_check_wanted(dir, &daemon);
	login_finish(&o.login);
	if (!status)
		status = set_environment(dir);
	if (status)
		return status;
	return getpid() == 1 ? init_run(argv + o.program, dir) : program_exec(argv + o.program);
}
