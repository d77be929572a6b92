/*
 * meshctl: the command for people and scripts. It asks the daemon of the runtime
 * folder over its API socket; words, options, JSON and exit statuses are those of the
 * stock client, so that what was written for that runs with the name changed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/flags.h"
#include "daemon/ctl/http.h"
#include "shared/standard.h"
#include "shared/util.h"

#define EXIT_USAGE 2

static void usage(FILE *to)
{
	fputs("usage: meshctl [--dir DIR] COMMAND [OPTIONS]\n"
	      "  status [--json] [--active] [--peers=false] [--self=false]\n"
	      "                      this node, its peers, and how they are reached\n"
	      "  ip [-1|-4|-6] [--assert IP] [--json] [NODE]\n"
	      "                      the mesh addresses of this node, or of NODE\n"
	      "  ping [-c N] [--timeout 5s] [--until-direct=false] [--tsmp|--icmp] [--json] NODE\n"
	      "                      asks NODE (name or mesh address) to answer; says by which way\n"
	      "  whois [--json] IP[:PORT]\n"
	      "                      which node, and whose, that is\n"
	      "  netcheck [--format json|json-line]\n"
	      "                      what the network here allows, and the way to the relays\n"
	      "  up [--timeout 30s] [--json]\n"
	      "                      joins again after down, logs in where that is needed\n"
	      "  down                leaves the mesh, stays logged in\n"
	      "  logout              leaves the mesh and forgets this node's key\n"
	      "  reload [--json]     reads the WireGuard file of this node again: other peers, and\n"
	      "                      what else it says of them; programs and flows go on\n"
	      "  version             of this program\n"
	      "  help                this text\n"
	      "--dir, or the variable MESHWRAP_DIR, names the daemon's runtime folder.\n",
	      to);
}

static int run_help(const struct ctl *ctl, int argc, char **argv)
{
	(void)ctl;
	(void)argc;
	(void)argv;
	usage(stdout);
	return 0;
}

int ctl_version(const struct ctl *ctl, int argc, char **argv)
{
	bool json = ctl->json;
	const struct flag flags[] = { { "json", FLAG_BOOL, { .is_set = &json } },
				      { NULL, FLAG_BOOL, { NULL } } };
	char error[FLAGS_ERROR_MAX];
	int words = flags_take(flags, argc, argv, error);

	if (words != 0) {
		fprintf(stderr, "%s\n", words < 0 ? error : "too many non-flag arguments");
		return words < 0 ? EXIT_USAGE : 1;
	}
	if (json)
		puts("{\n  \"majorMinorPatch\": \"" MESHWRAP_VERSION "\",\n"
		     "  \"short\": \"" MESHWRAP_VERSION "\",\n"
		     "  \"long\": \"" MESHWRAP_VERSION "-meshwrap\"\n}");
	else
		puts(MESHWRAP_VERSION);
	return 0;
}

static const struct command {
	const char *name;
	int (*run)(const struct ctl *ctl, int argc, char **argv);
} commands[] = {
	{ "status", ctl_status },     { "ip", ctl_ip },
	{ "ping", ctl_ping },         { "whois", ctl_whois },
	{ "netcheck", ctl_netcheck }, { "up", ctl_up },
	{ "login", ctl_up },          { "down", ctl_down },
	{ "logout", ctl_logout },     { "reload", ctl_reload },
	{ "version", ctl_version },   { "help", run_help },
};

/* 0 or -ENAMETOOLONG. */
static int set_dir(struct ctl *ctl, const char *dir)
{
	int err = paths_runtime_dir(dir, getenv("XDG_RUNTIME_DIR"), getuid(), ctl->dir);

	return err ? err : paths_join(ctl->dir, PATHS_API, ctl->socket, sizeof(ctl->socket));
}

/* Nobody is in our own folder: is the daemon of the whole container there? */
static void look_for_common(struct ctl *ctl)
{
	struct ctl common = { .json = ctl->json };

	if (!http_is_served(ctl->socket) && set_dir(&common, PATHS_COMMON_DIR) == 0 &&
	    http_is_served(common.socket))
		*ctl = common;
}

/* The options before the command: how many words they are, or -1 after complaining. */
static int take_globals(struct ctl *ctl, int argc, char **argv)
{
	const char *dir = getenv("MESHWRAP_DIR"), *socket = NULL;
	bool help = false, version = false;
	const struct flag flags[] = { { "dir", FLAG_TEXT, { .text = &dir } },
				      { "socket", FLAG_TEXT, { .text = &socket } },
				      { "json", FLAG_BOOL, { .is_set = &ctl->json } },
				      { "help", FLAG_BOOL, { .is_set = &help } },
				      { "h", FLAG_BOOL, { .is_set = &help } },
				      { "version", FLAG_BOOL, { .is_set = &version } },
				      { NULL, FLAG_BOOL, { NULL } } };
	char error[FLAGS_ERROR_MAX];
	int n = 0;

	while (n < argc && argv[n][0] == '-') {
		/* One word, or two where its value is a word of its own. */
		int len = n + 1 < argc && !strchr(argv[n], '=') &&
					  (strstr(argv[n], "-dir") || strstr(argv[n], "-socket"))
				  ? 2
				  : 1;

		if (flags_take(flags, len, argv + n, error) != 0) {
			fprintf(stderr, "meshctl: %s; see meshctl help\n", error);
			return -1;
		}
		n += len;
	}
	if (help || version)
		argv[n] = help ? (char *)"help" : (char *)"version";
	if (set_dir(ctl, dir) < 0) {
		fputs("meshctl: the runtime folder's name is too long; choose another with "
		      "--dir\n",
		      stderr);
		return -1;
	}
	if (socket &&
	    snprintf(ctl->socket, sizeof(ctl->socket), "%s", socket) >= (int)sizeof(ctl->socket)) {
		fputs("meshctl: the socket's name is too long\n", stderr);
		return -1;
	}
	if (!socket && (!dir || !*dir))
		look_for_common(ctl);
	ctl->where = socket ? ctl->socket : ctl->dir;
	return n;
}

static bool asks_for_help(char **words)
{
	for (; *words && strcmp(*words, "--") != 0; words++)
		if (strcmp(*words, "--help") == 0 || strcmp(*words, "-help") == 0 ||
		    strcmp(*words, "-h") == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static struct ctl ctl;
	int n = take_globals(&ctl, argc - 1, argv + 1);

	if (n < 0)
		return EXIT_USAGE;
	argv += n + 1;
	argc -= n + 1;
	if (!argv[0]) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (asks_for_help(argv + 1))
		argv[0] = (char *)"help";
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(argv[0], commands[i].name) == 0)
			return standard_output_end(
				"meshctl",
				commands[i].run(&ctl, argc > 0 ? argc - 1 : 0, argv + 1));
	fprintf(stderr, "meshctl: unknown command \"%s\"; see meshctl help\n", argv[0]);
	return EXIT_USAGE;
}
