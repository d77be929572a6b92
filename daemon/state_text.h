/* The state itself, its text, and what is wrong with that: what the files state*.c share. */
#ifndef MESHWRAP_DAEMON_STATE_TEXT_H
#define MESHWRAP_DAEMON_STATE_TEXT_H

#include "daemon/state.h"

struct json_object;

#define STATE_FILE_MAX (2u * STATE_NETMAP_MAX)
#define STATE_HEAD_MAX 1024 /* the part with the keys */

#define STATE_FILE_NAME "state.json"
#define STATE_TMP_NAME  "state.tmp"

struct state_save;

struct state {
	struct state_data *data;
	char *netmap;
	size_t netmap_len;
	char *folder; /* NULL: in memory */
	int folder_fd;
	/* See state_save_begin(). */
	struct state_save *save; /* NULL: none is under way */
	int saved_err;           /* how the last one went, until it is asked for */
	int done_fd;             /* an eventfd; -1: none */
};

/* The sentence into error; returns err. */
int state_fail(char error[static STATE_ERROR_MAX], int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* '{' and the members with secrets, each followed by a comma: their length. */
size_t state_make_head(const struct state_data *data, char head[static STATE_HEAD_MAX]);
/* The members that are no secret. NULL: -ENOMEM. */
struct json_object *state_make_rest(const struct state *state);
/* Waits for a save that is under way; state_save_end() still tells of it. */
void state_save_settle(struct state *state);

#endif
