/*
 * One table says for each option its name, its variable in the environment and
 * how its value is taken. Three sources are read in this order, and the later
 * one wins: the environment, TS_EXTRA_ARGS (the options of the stock client that
 * people hand to its container), and the command line.
 *
 * A file (--config) and a server exclude each other. On the command line that
 * is an error; otherwise the command line decides, and where it names neither,
 * MESHWRAP_CONFIG does before the variables of a login. What only a login uses is
 * an error on the command line of a file's node, since the user meant something by
 * it; in the environment it may be there for other programs.
 *
 * The auth key is refused on the command line: every user of the machine can
 * read that. In the environment its bytes are overwritten, so that
 * /proc/PID/environ does not show them any more either.
 */
#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "daemon/crypto/keys.h"
#include "daemon/crypto/workers.h"
#include "daemon/options_key.h"
#include "daemon/options_proxy.h"
#include "daemon/options_unused.h"
#include "daemon/options_value.h"
#include "shared/log.h"
#include "shared/util.h"

#define EXIT_USAGE     2
#define EXTRA_MAX      8192
#define CAPABILITY_MAX 10000

struct options_memory {
	struct options_key key;
	char url[2048], hostname[VALUE_HOSTNAME_MAX + 1], tags[4096];
	char state_dir[PATH_MAX], extra[EXTRA_MAX];
	struct outproxies proxies;
};

static const char usage_text[] =
	"usage: meshd --config FILE [OPTIONS]\n"
	"       meshd --login-server URL [--auth-key-file FILE] [--state DIR] [OPTIONS]\n"
	"       meshd --help | --version\n"
	"\n"
	"Runs one mesh node in the foreground: from a WireGuard file, or as a member of a\n"
	"tailnet. Programs join it with meshrun; meshctl shows it. The variable beside an\n"
	"option sets it, too; the command line wins.\n"
	"\n"
	"  --config FILE          wg-quick's keys, plus '# Name = node-a'; 'meshctl reload' has\n"
	"                         it read again                               MESHWRAP_CONFIG\n"
	"\n"
	"  --login-server URL     the coordination server; default\n"
	"                         " LOGIN_DEFAULT_SERVER "            TS_LOGIN_SERVER\n"
	"  --auth-key-file FILE   holds the key that registers this node; without one a URL to\n"
	"                         visit is printed       TS_AUTHKEY=KEY or TS_AUTHKEY=file:FILE\n"
	"  --auth-key-fd N        the same, from an open descriptor\n"
	"  --hostname NAME        default: the machine's                          TS_HOSTNAME\n"
	"  --state DIR            where identity and map are kept; without it they are in\n"
	"                         memory, and the node is ephemeral              TS_STATE_DIR\n"
	"  --ca FILE              a CA to trust besides the system's              MESHWRAP_CA\n"
	"  --accept-routes[=BOOL] use the subnets of other nodes; no       TS_ACCEPT_ROUTES\n"
	"  --accept-dns[=BOOL]    use the tailnet's names; yes                TS_ACCEPT_DNS\n"
	"  --shields-up[=BOOL]    refuse all that comes in; no                TS_SHIELDS_UP\n"
	"  --advertise-tags LIST  tag:a,tag:b                              TS_ADVERTISE_TAGS\n"
	"  --port N               UDP port; default 41641, or any where that is taken  TS_PORT\n"
	"  --trust-new-server-key the server was set up anew: take its new key, this once\n"
	"  --capability-version N what to claim to the server    TS_CAPABILITY_VERSION\n"
	"\n"
	"  --socks5-server ADDR                                             TS_SOCKS5_SERVER\n"
	"  --outbound-http-proxy-listen ADDR                   TS_OUTBOUND_HTTP_PROXY_LISTEN\n"
	"                         a proxy there, as in 127.0.0.1:1055; both may be the same\n"
	"  --dir DIR              the runtime folder (default $XDG_RUNTIME_DIR/meshwrap, else\n"
	"                         /run/meshwrap for root, else /tmp/meshwrap-UID) MESHWRAP_DIR\n"
	"  --log-level LEVEL      error, warning, info or debug; info      MESHWRAP_LOG_LEVEL\n"
	"  --allow-all-users      programs of every user of this machine may use the mesh;\n"
	"                         otherwise those of this user and root\n"
	"  --congestion NAME      what sets a stream's speed: cubic (default) or rate\n"
	"                                                              MESHWRAP_CONGESTION\n"
	"  --workers N            threads that encrypt, 1 to 16 (4), but 1 with up to two\n"
	"                         processors and never more than all but one MESHWRAP_WORKERS\n"
	"  --no-syn-hold          dial first, then let programs connect, as where the kernel\n"
	"                         does not support holding a SYN\n"
	"\n"
	"TS_EXTRA_ARGS may hold --login-server and others of these, as for the stock client.\n"
	"HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, or in lower case, name the proxy that\n"
	"leads to the server and the relays, as http://user:password@proxy:3128.\n";

enum id {
	CONFIG = 1,
	LOGIN_SERVER,
	AUTH_KEY,
	AUTH_KEY_FILE,
	AUTH_KEY_FD,
	HOSTNAME,
	STATE,
	CA,
	ACCEPT_ROUTES,
	ACCEPT_DNS,
	SHIELDS_UP,
	TAGS,
	PORT,
	TRUST_NEW_KEY,
	CAPABILITY_VERSION,
	SOCKS5,
	HTTP_PROXY,
	DIR_,
	LEVEL,
	ALL_USERS,
	CONGESTION,
	WORKERS,
	NO_SYN_HOLD,
	HELP,
	VERSION
};

static const struct option known[] = {
	{ "config", required_argument, NULL, CONFIG },
	{ "login-server", required_argument, NULL, LOGIN_SERVER },
	{ "auth-key", required_argument, NULL, AUTH_KEY },
	{ "authkey", required_argument, NULL, AUTH_KEY },
	{ "auth-key-file", required_argument, NULL, AUTH_KEY_FILE },
	{ "auth-key-fd", required_argument, NULL, AUTH_KEY_FD },
	{ "hostname", required_argument, NULL, HOSTNAME },
	{ "state", required_argument, NULL, STATE },
	{ "statedir", required_argument, NULL, STATE },
	{ "ca", required_argument, NULL, CA },
	{ "accept-routes", optional_argument, NULL, ACCEPT_ROUTES },
	{ "accept-dns", optional_argument, NULL, ACCEPT_DNS },
	{ "shields-up", optional_argument, NULL, SHIELDS_UP },
	{ "advertise-tags", required_argument, NULL, TAGS },
	{ "port", required_argument, NULL, PORT },
	{ "trust-new-server-key", no_argument, NULL, TRUST_NEW_KEY },
	{ "capability-version", required_argument, NULL, CAPABILITY_VERSION },
	{ "socks5-server", required_argument, NULL, SOCKS5 },
	{ "outbound-http-proxy-listen", required_argument, NULL, HTTP_PROXY },
	{ "dir", required_argument, NULL, DIR_ },
	{ "log-level", required_argument, NULL, LEVEL },
	{ "allow-all-users", no_argument, NULL, ALL_USERS },
	{ "congestion", required_argument, NULL, CONGESTION },
	{ "workers", required_argument, NULL, WORKERS },
	{ "no-syn-hold", no_argument, NULL, NO_SYN_HOLD },
	{ "help", no_argument, NULL, HELP },
	{ "version", no_argument, NULL, VERSION },
	{ NULL, 0, NULL, 0 },
};

/* TS_AUTHKEY apart, which is not only read. */
static const struct variable {
	const char *name;
	enum id id;
} variables[] = {
	{ "MESHWRAP_CONFIG", CONFIG },
	{ "TS_LOGIN_SERVER", LOGIN_SERVER },
	{ "TS_HOSTNAME", HOSTNAME },
	{ "TS_STATE_DIR", STATE },
	{ "MESHWRAP_CA", CA },
	{ "TS_ACCEPT_ROUTES", ACCEPT_ROUTES },
	{ "TS_ACCEPT_DNS", ACCEPT_DNS },
	{ "TS_SHIELDS_UP", SHIELDS_UP },
	{ "TS_ADVERTISE_TAGS", TAGS },
	{ "TS_PORT", PORT },
	{ "TS_CAPABILITY_VERSION", CAPABILITY_VERSION },
	{ "TS_SOCKS5_SERVER", SOCKS5 },
	{ "TS_OUTBOUND_HTTP_PROXY_LISTEN", HTTP_PROXY },
	{ "MESHWRAP_DIR", DIR_ },
	{ "MESHWRAP_LOG_LEVEL", LEVEL },
	{ "MESHWRAP_CONGESTION", CONGESTION },
	{ "MESHWRAP_WORKERS", WORKERS },
};

static const char *const key_variables[] = { "TS_AUTH_KEY", "TS_AUTHKEY" };

/* What one source has named. */
struct seen {
	bool file, login;
	enum id for_login; /* an option that the node of a file does not use; 0: none */
};

/* What is being read; error says what is wrong with it. */
struct reading {
	struct options *o;
	const char *dir;
	struct seen seen;
	bool is_command_line;
	char error[256];
};

/* ---- values ---- */

static bool bad(struct reading *r, const char *sentence)
{
	snprintf(r->error, sizeof(r->error), "%s", sentence);
	return false;
}

/* What value_...() said. */
static bool fits(struct reading *r, const char *sentence)
{
	return !sentence || bad(r, sentence);
}

static bool take_number(struct reading *r, const char *text, unsigned max, unsigned *number)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > max) {
		snprintf(r->error, sizeof(r->error), "takes a number up to %u", max);
		return false;
	}
	*number = (unsigned)n;
	return true;
}

static bool take_level(struct reading *r, const char *text)
{
	enum log_level level;

	if (!fits(r, value_level(text, &level)))
		return false;
	log_set_level(level);
	return true;
}

static bool take_congestion(struct reading *r, const char *name)
{
	if (strcmp(name, "cubic") == 0)
		r->o->congestion = TCP_CUBIC;
	else if (strcmp(name, "rate") == 0)
		r->o->congestion = TCP_RATE;
	else
		return bad(r, "is one of rate, cubic");
	return true;
}

static bool take_state(struct reading *r, const char *text)
{
	struct options_memory *m = r->o->memory;

	if (!fits(r, value_state(text, m->state_dir, sizeof(m->state_dir))))
		return false;
	r->o->login.state_dir = m->state_dir[0] ? m->state_dir : NULL;
	return true;
}

static bool take_key(struct reading *r, enum id id, char *value)
{
	struct options_key *key = &r->o->memory->key;
	unsigned fd;

	if (id == AUTH_KEY_FILE)
		return options_key_from_file(key, value, r->error) == 0;
	if (id == AUTH_KEY_FD)
		return take_number(r, value, INT_MAX, &fd) &&
		       options_key_from_fd(key, (int)fd, r->error) == 0;
	if (r->is_command_line && strncmp(value, "file:", 5) != 0) {
		secret_wipe(value, strlen(value));
		return bad(r, "would show the key to every user of this machine; set TS_AUTHKEY, "
			      "or give --auth-key-file FILE");
	}
	return options_key_from_text(key, value, r->error) == 0;
}

/* False with r->error: "takes ...", to follow the option's name. value may be NULL if optional. */
static bool take_login(struct reading *r, enum id id, char *value)
{
	struct options_memory *m = r->o->memory;
	struct login_setup *login = &r->o->login;
	unsigned number;

	switch (id) {
	case LOGIN_SERVER:
		r->seen.login = true;
		login->server_url = m->url;
		return fits(r, value_url(value, m->url, sizeof(m->url)));
	case AUTH_KEY:
	case AUTH_KEY_FILE:
	case AUTH_KEY_FD:
		r->seen.login = true;
		return take_key(r, id, value);
	case HOSTNAME:
		return fits(r, value_hostname(value, m->hostname));
	case STATE:
		r->seen.login = true;
		return take_state(r, value);
	case CA:
		login->ca_file = value;
		return true;
	case ACCEPT_ROUTES:
		return fits(r, value_flag(value, &login->accept_routes));
	case ACCEPT_DNS:
		return fits(r, value_flag(value, &login->accept_dns));
	case SHIELDS_UP:
		return fits(r, value_flag(value, &login->shields_up));
	case TAGS:
		return fits(r, value_tags(value, m->tags, sizeof(m->tags), login->tags,
					  LOGIN_TAGS_MAX, &login->tag_count));
	case PORT:
		if (!take_number(r, value, UINT16_MAX, &number))
			return false;
		login->port = (uint16_t)number;
		return true;
	case TRUST_NEW_KEY:
		login->trusts_new_server_key = true;
		return true;
	case CAPABILITY_VERSION:
		return take_number(r, value, CAPABILITY_MAX, &login->capability_version);
	default:
		return bad(r, "is not known");
	}
}

static bool take(struct reading *r, enum id id, char *value)
{
	struct options *o = r->o;

	switch (id) {
	case CONFIG:
		r->seen.file = true;
		o->config_path = value;
		return true;
	case SOCKS5:
		o->socks5_listen = *value ? value : NULL;
		return true;
	case HTTP_PROXY:
		o->http_listen = *value ? value : NULL;
		return true;
	case DIR_:
		r->dir = value;
		return true;
	case LEVEL:
		return take_level(r, value);
	case CONGESTION:
		return take_congestion(r, value);
	case WORKERS:
		return take_number(r, value, WORKERS_MAX, &o->workers);
	case ALL_USERS:
		o->allow_all_users = true;
		return true;
	case NO_SYN_HOLD:
		o->refuse_synhold = true;
		return true;
	default:
		r->seen.for_login = id;
		return take_login(r, id, value);
	}
}

/* ---- sources ---- */

static int complain(const char *source, const char *error)
{
	fprintf(stderr, "meshd: %s%s%s; see meshd --help\n", source, *source ? " " : "", error);
	return EXIT_USAGE;
}

static void unset_wiped(const char *name)
{
	char *value = getenv(name);

	if (!value)
		return;
	secret_wipe(value, strlen(value));
	unsetenv(name);
}

/* -1 or the exit status; the key has left the environment in either case. */
static int read_key_variables(struct reading *r)
{
	int status = -1;

	for (size_t i = 0; i < ARRAY_LEN(key_variables); i++) {
		char *value = getenv(key_variables[i]);

		if (value && *value && status < 0) {
			r->seen.login = true;
			if (options_key_from_text(&r->o->memory->key, value, r->error) != 0)
				status = complain("", r->error);
		}
		unset_wiped(key_variables[i]);
	}
	return status;
}

static int read_environment(struct reading *r)
{
	int status = read_key_variables(r);

	for (size_t i = 0; i < ARRAY_LEN(variables) && status < 0; i++) {
		char *value = getenv(variables[i].name);

		if (value && *value && !take(r, variables[i].id, value))
			status = complain(variables[i].name, r->error);
	}
	return status;
}

/* The option of that name ("--name" up to '=' or its end) and its value in the word, if any. */
static const struct option *find_known(char *word, char **value)
{
	char *equals = strchr(word, '=');
	size_t len;

	word += strspn(word, "-");
	len = equals ? (size_t)(equals - word) : strlen(word);
	*value = equals ? equals + 1 : NULL;
	for (const struct option *k = known; k->name; k++)
		if (strlen(k->name) == len && strncmp(k->name, word, len) == 0)
			return k;
	return NULL;
}

/* What the stock client's `up` knows and this node has no use for is said once and left out. */
static int read_extra_words(struct reading *r, char *text)
{
	char *rest = NULL, *value, *word = strtok_r(text, " \t\r\n", &rest);

	for (; word; word = strtok_r(NULL, " \t\r\n", &rest)) {
		const struct option *k = word[0] == '-' ? find_known(word, &value) : NULL;

		if (!k || k->val == HELP || k->val == VERSION) {
			if (word[0] == '-')
				log_warn("meshd: TS_EXTRA_ARGS: %.*s has no meaning here and is "
					 "left out",
					 (int)strcspn(word, "="), word);
			continue;
		}
		if (!value && k->has_arg == required_argument)
			value = strtok_r(NULL, " \t\r\n", &rest);
		if (!value && k->has_arg == required_argument)
			return complain(k->name, "in TS_EXTRA_ARGS has no value");
		if (!take(r, (enum id)k->val, value))
			return complain(k->name, r->error);
	}
	return -1;
}

static int read_extra(struct reading *r)
{
	char *value = getenv("TS_EXTRA_ARGS"), *copy = r->o->memory->extra;
	size_t len = value ? strlen(value) : 0;

	if (!value)
		return -1;
	if (len >= EXTRA_MAX)
		return complain("TS_EXTRA_ARGS", "is too long");
	memcpy(copy, value, len + 1);
	/* It may hold the key, too; options_key_from_text() wipes it in our copy. */
	if (strstr(value, "authkey") || strstr(value, "auth-key"))
		unset_wiped("TS_EXTRA_ARGS");
	return read_extra_words(r, copy);
}

static const char *name_of(int id)
{
	for (const struct option *k = known; k->name; k++)
		if (k->val == id)
			return k->name;
	return "";
}

/* word: shown without its value, which may be a key. */
static int complain_option(int c, const char *word)
{
	size_t len = strcspn(word, "=");
	char name[64] = "";

	if (c == '?' && optopt > VERSION) {
		snprintf(name, sizeof(name), "-%c", optopt);
		return complain(name, "is no option of meshd");
	}
	memcpy(name, word, MIN(len, sizeof(name) - 1));
	return complain(name,
			c == ':' ? "needs a value" : "is no option of meshd, or not used as one");
}

static int read_command_line(struct reading *r, int argc, char **argv)
{
	char name[64];
	int c;

	optind = 1;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", known, NULL)) != -1) {
		if (c == HELP || c == 'h')
			return fputs(usage_text, stdout) < 0;
		if (c == VERSION)
			return printf("meshd %s\n", MESHWRAP_VERSION) < 0;
		if (c == '?' || c == ':')
			return complain_option(c, argv[optind - 1]);
		if (!take(r, (enum id)c, optarg)) {
			bool is_sentence = strstr(r->error, "the auth key") != NULL;

			snprintf(name, sizeof(name), "--%s", name_of(c));
			return complain(is_sentence ? "" : name, r->error);
		}
	}
	return optind < argc ? complain("", "there are only options") : -1;
}

/* ---- what follows from them ---- */

static int complain_useless(const struct reading *r)
{
	enum id id = r->seen.for_login;
	char name[64], error[512];

	snprintf(name, sizeof(name), "--%s", name_of(id));
	snprintf(error, sizeof(error), "is of no use with the WireGuard file %.300s%s",
		 r->o->config_path,
		 id == HOSTNAME ? ", where it is \"# Name = NAME\""
		 : id == PORT   ? ", where it is \"ListenPort = N\""
				: "");
	return complain(name, error);
}

static int choose_mode(struct reading *r, struct seen environment)
{
	struct options *o = r->o;
	struct seen seen = r->seen.file || r->seen.login ? r->seen : environment;

	if (r->seen.file && r->seen.login)
		return complain("", "--config and a login exclude each other");
	if (!seen.file && !seen.login)
		return complain("", "--config FILE or --login-server URL is missing");
	o->mode = seen.file ? OPTIONS_FILE : OPTIONS_LOGIN;
	return seen.file && r->seen.for_login ? complain_useless(r) : -1;
}

static int finish_reading(struct reading *r, struct seen environment)
{
	struct options *o = r->o;
	int status = choose_mode(r, environment);

	if (status >= 0)
		return status;
	if (paths_runtime_dir(r->dir, getenv("XDG_RUNTIME_DIR"), getuid(), o->dir) < 0)
		return complain("",
				"the runtime folder's name is too long; choose another with --dir");
	if (o->mode == OPTIONS_FILE) {
		options_key_finish(&o->memory->key);
		return -1;
	}
	if (!r->o->memory->hostname[0])
		value_own_hostname(r->o->memory->hostname);
	r->o->login.hostname = r->o->memory->hostname;
	if (!o->login.server_url)
		o->login.server_url = LOGIN_DEFAULT_SERVER;
	o->login.ephemeral = !o->login.state_dir;
	o->login.auth_key = o->memory->key.text;
	o->login.auth_key_len = o->memory->key.len;
	options_read_proxies(&o->memory->proxies, o);
	o->login.proxies = &o->memory->proxies;
	options_note_unused();
	return -1;
}

int options_parse(int argc, char **argv, struct options *options)
{
	struct reading r = { .o = options };
	struct seen environment;
	int status;

	*options = (struct options){ .login = { .accept_dns = true } };
	options->memory = calloc(1, sizeof(*options->memory));
	if (!options->memory || crypto_init() != 0) {
		fputs("meshd: out of memory, or libsodium does not work here\n", stderr);
		return EXIT_FAILURE;
	}
	status = read_environment(&r);
	if (status < 0)
		status = read_extra(&r);
	environment = r.seen;
	r.seen = (struct seen){ 0 };
	r.is_command_line = true;
	if (status < 0)
		status = read_command_line(&r, argc, argv);
	if (status < 0)
		status = finish_reading(&r, environment);
	return status;
}

void options_finish(struct options *options)
{
	if (options->memory) {
		options_key_finish(&options->memory->key);
		secret_wipe(&options->memory->proxies, sizeof(options->memory->proxies));
	}
	free(options->memory);
	options->memory = NULL;
	options->login.auth_key = NULL;
}
