/*
 * What the node must remember: one file, or memory alone.
 *
 * state_data() may be changed freely; state_save() makes it last. Each save
 * replaces the whole file, "state.json", atomically. What is to be on disk before something else
 * happens is saved by state_save(), and what is only to be there some time by state_save_begin().
 */
#ifndef MESHWRAP_DAEMON_STATE_H
#define MESHWRAP_DAEMON_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/crypto/keys.h"

struct state;

#define STATE_ERROR_MAX 512

struct state_prefs {
	char host_name[256]; /* as the user gave it; "" none */
	bool wants_running;  /* false after "down" */
	bool accepts_routes, accepts_dns, shields_up;
};

/* In secret memory. Texts are terminated. */
struct state_data {
	struct private_key machine_key;            /* made by state_open() */
	struct private_key node_key, old_node_key; /* old: while rotating */
	bool has_node_key, has_old_node_key;
	bool is_registered; /* the server has accepted node_key */
	char server_url[1024];
	struct public_key server_key; /* pinned */
	bool has_server_key;
	char login_name[256], tailnet[256];
	struct state_prefs prefs;
	uint64_t tai64n_s; /* second of the last WireGuard timestamp that may have been used */
};

/*
 * folder: made (0700) when it is missing; NULL: in memory, forgotten at the end.
 * Locks it against a second daemon. NULL with a sentence in error: no access,
 * in use, or a file that cannot be understood (it is never reset). warning: ""
 * or why it could not be locked.
 */
struct state *state_open(const char *folder, char error[static STATE_ERROR_MAX],
			 char warning[static STATE_ERROR_MAX]);
/* Does not save, but waits for a save that is under way. Wipes. NULL is fine. */
void state_close(struct state *state);

struct state_data *state_data(struct state *state);
bool state_is_in_memory(const struct state *state);
/*
 * Waits for the disk, after a save that is under way. 0, or -errno with a sentence in error. The
 * file on disk is whole either way.
 */
int state_save(struct state *state, char error[static STATE_ERROR_MAX]);

/*
 * Has what the state is now written by a thread, for whom nothing waits: state_save_fd() is
 * readable when that is over, and then state_save_end() is to be called before another one begins.
 * False: there is no thread or no memory for it, or one is under way; state_save() does it.
 */
bool state_save_begin(struct state *state);
int state_save_fd(const struct state *state); /* -1: state_save_begin() never works */
/* Waits for what was begun, if it was, and is to it as state_save(). */
int state_save_end(struct state *state, char error[static STATE_ERROR_MAX]);

/* The last full map as JSON text, for a start without the server; NULL: none. Lives until it is set
 * again. */
const char *state_netmap(const struct state *state, size_t *len);
/* Copies; written by the next save. NULL: forget it. 0, -ENOMEM, -EMSGSIZE
 * (STATE_NETMAP_MAX). */
int state_set_netmap(struct state *state, const char *json, size_t len);
#define STATE_NETMAP_MAX (64u << 20)

/* Reads the text of a state file. 0 or -EBADMSG with a sentence in error. For tests and fuzzing. */
int state_parse(struct state *state, const char *text, size_t len,
		char error[static STATE_ERROR_MAX]);

#endif
