/* Which options meshd has: names, variables in the environment, and the help that shows them. */
#ifndef MESHWRAP_DAEMON_OPTIONS_TABLE_H
#define MESHWRAP_DAEMON_OPTIONS_TABLE_H

#include <getopt.h>

enum option_id {
	OPTION_CONFIG = 1,
	OPTION_LOGIN_SERVER,
	OPTION_AUTH_KEY,
	OPTION_AUTH_KEY_FILE,
	OPTION_AUTH_KEY_FD,
	OPTION_HOSTNAME,
	OPTION_STATE,
	OPTION_CA,
	OPTION_ACCEPT_ROUTES,
	OPTION_ACCEPT_DNS,
	OPTION_SHIELDS_UP,
	OPTION_TAGS,
	OPTION_PORT,
	OPTION_TRUST_NEW_KEY,
	OPTION_CAPABILITY_VERSION,
	OPTION_SOCKS5,
	OPTION_HTTP_PROXY,
	OPTION_DIR,
	OPTION_LEVEL,
	OPTION_ALL_USERS,
	OPTION_CONGESTION,
	OPTION_WORKERS,
	OPTION_NO_SYN_HOLD,
	OPTION_HELP,
	OPTION_VERSION
};

/* For getopt_long(): val is the id. */
extern const struct option options_known[];

/* Not those of the auth key, which are not only read. The last one has no name. */
extern const struct options_variable {
	const char *name;
	enum option_id id;
} options_variables[];

extern const char options_usage[];

/* The option of that name ("--name" up to '=' or its end) and its value in the word, if any. */
const struct option *options_find(char *word, char **value);
/* Its name, the usual one where there are several; "": none has this id. */
const char *options_name(int id);

#endif
