/* What the daemon says of its login while the mesh is not usable yet. */
#ifndef MESHWRAP_PRELOAD_MESHRUN_STATUS_H
#define MESHWRAP_PRELOAD_MESHRUN_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define STATUS_TEXT_MAX 1024

struct login_status {
	char state[64];              /* "NeedsLogin", "Starting", ...; "": not known */
	char url[STATUS_TEXT_MAX];   /* where a person logs this node in */
	char error[STATUS_TEXT_MAX]; /* why the login has failed for good */
};

/* What the daemon was started with. */
struct daemon_origin {
	/* What made it a node: one of them, the other is "". */
	char config[STATUS_TEXT_MAX * 4]; /* absolute, as it was named */
	char server[STATUS_TEXT_MAX * 2]; /* URL */
	/* The object of options by name, for status_find(); "": not told. */
	char options[STATUS_TEXT_MAX * 16];
};

/* Asks the daemon of dir: clean texts. False: it does not answer, nothing is known. */
bool status_ask(const char *dir, struct login_status *status);
/* The same, as the texts are; what it does not tell is "". */
bool status_ask_origin(const char *dir, struct daemon_origin *origin);
/* What the daemon has on its way. */
struct traffic {
	pid_t daemon; /* 0: not among our processes */
	long connections, bytes;
};

/* False: it does not tell. */
bool status_ask_traffic(const char *dir, struct traffic *traffic);
/*
 * Pure: the text of the string under key at the top level of a JSON object, cut to what fits; ""
 * and false when there is none. json need not be well formed.
 */
bool status_find(const char *json, size_t len, const char *key, char *text, size_t room);
/* For a terminal: control characters become spaces. Returns text. */
char *status_clean(char *text);

#endif
