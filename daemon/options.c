/*
 * Three sources are read in this order, and the later one wins: the environment,
 * TS_EXTRA_ARGS (the options of the stock client that people hand to its container),
 * and the command line. options_table.c says what there is to be named in them,
 * options_take.c takes a value; here is what was named where, and what follows from it.
 *
 * A file (--config) and a server exclude each other. On the command line that
 * is an error; otherwise the command line decides, and where it names neither,
 * MESHWRAP_CONFIG does before the variables of a login. What only a login uses is
 * an error on the command line of a file's node, since the user meant something by
 * it; in the environment it may be there for other programs.
 *
 * The auth key's bytes in the environment are overwritten, so that
 * /proc/PID/environ does not show them any more either.
 */
#include "daemon/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/crypto/keys.h"
#include "daemon/options_proxy.h"
#include "daemon/options_take.h"
#include "daemon/options_unused.h"
#include "shared/log.h"
#include "shared/util.h"

#define EXIT_USAGE 2

static const char *const key_variables[] = { "TS_AUTH_KEY", "TS_AUTHKEY" };

/* ---- sources ---- */

static int complain(const char *source, const char *error)
{
	char time[LOG_TIME_MAX];

	fprintf(stderr, "%smeshd: %s%s%s; see meshd --help\n", log_time(time), source,
		*source ? " " : "", error);
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
static int read_key_variables(struct options_reading *r)
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

static int read_environment(struct options_reading *r)
{
	int status = read_key_variables(r);

	for (const struct options_variable *v = options_variables; v->name && status < 0; v++) {
		char *value = getenv(v->name);

		if (value && *value && !options_take(r, v->id, value))
			status = complain(v->name, r->error);
	}
	return status;
}

/* What the stock client's `up` knows and this node has no use for is said once and left out. */
static int read_extra_words(struct options_reading *r, char *text)
{
	char *rest = NULL, *value, *word = strtok_r(text, " \t\r\n", &rest);

	for (; word; word = strtok_r(NULL, " \t\r\n", &rest)) {
		const struct option *k = word[0] == '-' ? options_find(word, &value) : NULL;

		if (!k || k->val == OPTION_HELP || k->val == OPTION_VERSION) {
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
		if (!options_take(r, (enum option_id)k->val, value))
			return complain(k->name, r->error);
	}
	return -1;
}

static int read_extra(struct options_reading *r)
{
	char *value = getenv("TS_EXTRA_ARGS"), *copy = r->o->memory->extra;
	size_t len = value ? strlen(value) : 0;

	if (!value)
		return -1;
	if (len >= OPTIONS_EXTRA_MAX)
		return complain("TS_EXTRA_ARGS", "is too long");
	memcpy(copy, value, len + 1);
	/* It may hold the key, too; options_key_from_text() wipes it in our copy. */
	if (strstr(value, "authkey") || strstr(value, "auth-key"))
		unset_wiped("TS_EXTRA_ARGS");
	return read_extra_words(r, copy);
}

/* word: shown without its value, which may be a key. */
static int complain_option(int c, const char *word)
{
	size_t len = strcspn(word, "=");
	char name[64] = "";

	if (c == '?' && optopt > OPTION_VERSION) {
		snprintf(name, sizeof(name), "-%c", optopt);
		return complain(name, "is no option of meshd");
	}
	memcpy(name, word, MIN(len, sizeof(name) - 1));
	return complain(name,
			c == ':' ? "needs a value" : "is no option of meshd, or not used as one");
}

static int read_command_line(struct options_reading *r, int argc, char **argv)
{
	char name[64];
	int c;

	optind = 1;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":h", options_known, NULL)) != -1) {
		if (c == OPTION_HELP || c == 'h')
			return fputs(options_usage, stdout) < 0;
		if (c == OPTION_VERSION)
			return printf("meshd %s\n", MESHWRAP_VERSION) < 0;
		if (c == '?' || c == ':')
			return complain_option(c, argv[optind - 1]);
		if (!options_take(r, (enum option_id)c, optarg)) {
			bool is_sentence = strstr(r->error, "the auth key") != NULL;

			snprintf(name, sizeof(name), "--%s", options_name(c));
			return complain(is_sentence ? "" : name, r->error);
		}
	}
	return optind < argc ? complain("", "there are only options") : -1;
}

/* ---- what follows from them ---- */

static int complain_useless(const struct options_reading *r)
{
	enum option_id id = r->seen.for_login;
	char name[64], error[512];

	snprintf(name, sizeof(name), "--%s", options_name(id));
	snprintf(error, sizeof(error), "is of no use with the WireGuard file %.300s%s",
		 r->o->config_path,
		 id == OPTION_HOSTNAME ? ", where it is \"# Name = NAME\""
		 : id == OPTION_PORT   ? ", where it is \"ListenPort = N\""
				       : "");
	return complain(name, error);
}

static int choose_mode(struct options_reading *r, struct options_seen environment)
{
	struct options *o = r->o;
	struct options_seen seen = r->seen.file || r->seen.login ? r->seen : environment;

	if (r->seen.file && r->seen.login)
		return complain("", "--config and a login exclude each other");
	if (!seen.file && !seen.login)
		return complain("", "--config FILE or --login-server URL is missing");
	o->mode = seen.file ? OPTIONS_FILE : OPTIONS_LOGIN;
	return seen.file && r->seen.for_login ? complain_useless(r) : -1;
}

static int finish_reading(struct options_reading *r, struct options_seen environment)
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
	struct options_reading r = { .o = options };
	struct options_seen environment;
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
	r.seen = (struct options_seen){ 0 };
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
