/* What a user says of one of meshd's options: on our command line or in the environment. */
#ifndef MESHWRAP_PRELOAD_MESHRUN_GIVEN_H
#define MESHWRAP_PRELOAD_MESHRUN_GIVEN_H

#include <limits.h>
#include <stdbool.h>

struct login;

/* How its values are compared. PORT: 0 is any. */
enum given_kind {
	GIVEN_TEXT,
	GIVEN_FLAG,
	GIVEN_NUMBER,
	GIVEN_PORT,
	GIVEN_LIST,
	GIVEN_FILE,
	GIVEN_FOLDER
};

struct given_option {
	const char *name, *variable; /* NULL: it has none */
	enum given_kind kind;
	const char *other_name; /* of the stock client, in TS_EXTRA_ARGS; NULL: none */
};

struct given {
	char value[PATH_MAX]; /* of a flag alone "true"; cut to what fits */
	char source[64];      /* "--hostname", "TS_HOSTNAME", "--hostname in TS_EXTRA_ARGS" */
	bool is_command_line;
};

/* What meshd would take. False: nothing is said of it; a variable that is empty says nothing. */
bool given_find(const struct login *login, const struct given_option *option, struct given *given);

#endif
