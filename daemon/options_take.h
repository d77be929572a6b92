/* One option's value to its place in struct options. */
#ifndef MESHWRAP_DAEMON_OPTIONS_TAKE_H
#define MESHWRAP_DAEMON_OPTIONS_TAKE_H

#include <limits.h>
#include <stdbool.h>

#include "daemon/options_key.h"
#include "daemon/options_table.h"
#include "daemon/options_value.h"
#include "daemon/outproxy.h"

struct options;

#define OPTIONS_EXTRA_MAX 8192

/* What the texts of struct options point into. */
struct options_memory {
	struct options_key key;
	char url[2048], hostname[VALUE_HOSTNAME_MAX + 1], tags[4096];
	char state_dir[PATH_MAX], extra[OPTIONS_EXTRA_MAX];
	struct outproxies proxies;
};

/* What one source has named. */
struct options_seen {
	bool file, login;
	enum option_id for_login; /* an option that the node of a file does not use; 0: none */
};

/* What is being read; error says what is wrong with it. */
struct options_reading {
	struct options *o;
	const char *dir;
	struct options_seen seen;
	bool is_command_line;
	char error[256];
};

/*
 * value is of the environment, of the command line or of memory->extra, and may be kept; that of a
 * key is overwritten. NULL: the option alone. False with r->error: "takes ...", to follow
 * the option's name.
 */
bool options_take(struct options_reading *r, enum option_id id, char *value);

#endif
