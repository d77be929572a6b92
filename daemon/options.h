/*
 * What meshd is told: its command line, and for everything that is not there
 * the environment, under the names that people already use.
 */
#ifndef MESHWRAP_DAEMON_OPTIONS_H
#define MESHWRAP_DAEMON_OPTIONS_H

#include <stdbool.h>

#include "daemon/login.h"
#include "daemon/tcp/endpoint.h"
#include "shared/paths.h"

enum options_mode {
	OPTIONS_FILE, /* config_path: a WireGuard file */
	OPTIONS_LOGIN /* login: a coordination server */
};

struct options {
	enum options_mode mode;
	const char *config_path;
	struct login_setup login;
	/* "ADDRESS:PORT" each, NULL: no proxy; both may name the same. */
	const char *socks5_listen, *http_listen;
	char dir[PATHS_MAX]; /* the runtime folder */
	bool allow_all_users, refuse_synhold;
	enum tcp_congestion congestion;
	unsigned workers;              /* 0: as many as are worth it here */
	struct options_memory *memory; /* what the texts above point into */
};

/*
 * Reads argv and the environment. The auth key is taken out of the environment:
 * its bytes there are overwritten, and the variable is gone. -1: go on; else
 * the exit status, after the user was told. Sets the log level, too. To be called
 * once, before there are threads, after sodium_init().
 */
int options_parse(int argc, char **argv, struct options *options);
/* Wipes the key and frees all. */
void options_finish(struct options *options);

#endif
