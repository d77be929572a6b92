/*
 * The state file: opened and read. How it is written is state_save.c's business.
 *
 * One JSON object in "state.json". The folder itself is what is locked, so that there is
 * no file but this one.
 *
 * What cannot be read is never reset: a node that silently becomes another
 * one is worse than a node that does not start.
 */
#include "daemon/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/state_text.h"
#include "shared/util.h"

/* ---- reading ---- */

/* The whole file, freed by secret wiping of *len bytes. NULL with *err. */
static char *read_all(int fd, size_t size, size_t *len, int *err)
{
	char *text = malloc(size + 1);

	*len = 0;
	if (!text) {
		*err = -ENOMEM;
		return NULL;
	}
	while (*len < size) {
		ssize_t n = read(fd, text + *len, size - *len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			*err = -errno;
			secret_wipe(text, size);
			free(text);
			return NULL;
		}
		if (n == 0)
			break;
		*len += (size_t)n;
	}
	return text;
}

/* 0; -ENOENT; -errno with a sentence. */
static int load(struct state *state, const char *name, char error[STATE_ERROR_MAX])
{
	int fd = openat(state->folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	size_t len = 0;
	char *text;
	int err;

	if (fd < 0)
		return errno == ENOENT ? -ENOENT
				       : state_fail(error, -errno, "it cannot be opened: %m");
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid()) {
		close(fd);
		return state_fail(error, -EPERM, "it is no file of this user");
	}
	if ((uint64_t)st.st_size > STATE_FILE_MAX) {
		close(fd);
		return state_fail(error, -EBADMSG, "it is too large");
	}
	text = read_all(fd, (size_t)st.st_size, &len, &err);
	close(fd);
	if (!text)
		return state_fail(error, err, "it cannot be read: %s", strerror(-err));
	err = state_parse(state, text, len, error);
	secret_wipe(text, len);
	free(text);
	return err;
}

/* ---- opening ---- */

static int make_folder(const char *path)
{
	char *copy = strdup(path);
	int err = copy ? 0 : -ENOMEM;

	for (char *at = copy ? copy + 1 : NULL; err == 0 && at; at++) {
		at = strchr(at, '/');
		if (at)
			*at = '\0';
		if (mkdir(copy, 0700) != 0 && errno != EEXIST)
			err = -errno;
		if (!at)
			break;
		*at = '/';
	}
	free(copy);
	return err;
}

static int open_folder(struct state *state, const char *folder, char error[STATE_ERROR_MAX],
		       char warning[STATE_ERROR_MAX])
{
	int err;

	state->folder = strdup(folder);
	if (!state->folder)
		return state_fail(error, -ENOMEM, "no memory for the state");
	state->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (state->folder_fd < 0 && errno == ENOENT) {
		err = make_folder(folder);
		if (err != 0)
			return state_fail(error, err, "the state folder %.300s cannot be made: %s",
					  folder, strerror(-err));
		state->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (state->folder_fd < 0)
		return state_fail(error, -errno, "the state folder %.300s cannot be opened: %m",
				  folder);
	if (flock(state->folder_fd, LOCK_EX | LOCK_NB) == 0) {
		unlinkat(state->folder_fd, STATE_TMP_NAME, 0); /* of one that was killed */
		return 0;
	}
	if (errno == EWOULDBLOCK)
		return state_fail(error, -errno,
				  "the state folder %.300s is in use by another daemon", folder);
	/* Some network file systems lock no folders. */
	snprintf(warning, STATE_ERROR_MAX,
		 "the state folder %.300s cannot be locked (%m): let no other daemon use it",
		 folder);
	return 0;
}

static int load_or_begin(struct state *state, char error[STATE_ERROR_MAX])
{
	char why[STATE_ERROR_MAX];
	int err = load(state, STATE_FILE_NAME, why);

	if (err == -ENOENT) {
		private_key_generate(&state->data->machine_key);
		return 0;
	}
	if (err != 0)
		return state_fail(error, err,
				  "%.200s/" STATE_FILE_NAME
				  ": %.200s; not touching it: repair it, or remove "
				  "it to log in anew",
				  state->folder, why);
	return 0;
}

struct state *state_open(const char *folder, char error[static STATE_ERROR_MAX],
			 char warning[static STATE_ERROR_MAX])
{
	struct state *state = calloc(1, sizeof(*state));

	error[0] = warning[0] = '\0';
	if (!state) {
		state_fail(error, -ENOMEM, "no memory for the state");
		return NULL;
	}
	state->folder_fd = state->done_fd = -1;
	state->data = secret_alloc(sizeof(*state->data));
	if (!state->data) {
		state_fail(error, -ENOMEM, "no memory for the state");
		goto out;
	}
	state->data->prefs.wants_running = true;
	if (!folder) {
		private_key_generate(&state->data->machine_key);
		return state;
	}
	if (open_folder(state, folder, error, warning) == 0 && load_or_begin(state, error) == 0) {
		state->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		return state;
	}
out:
	state_close(state);
	return NULL;
}

void state_close(struct state *state)
{
	if (!state)
		return;
	state_save_settle(state);
	if (state->done_fd >= 0)
		close(state->done_fd);
	if (state->folder_fd >= 0)
		close(state->folder_fd);
	secret_free(state->data);
	free(state->netmap);
	free(state->folder);
	free(state);
}

struct state_data *state_data(struct state *state)
{
	return state->data;
}

bool state_is_in_memory(const struct state *state)
{
	return !state->folder;
}

const char *state_netmap(const struct state *state, size_t *len)
{
	*len = state->netmap_len;
	return state->netmap;
}

int state_set_netmap(struct state *state, const char *json, size_t len)
{
	char *copy = NULL;

	if (json) {
		if (len > STATE_NETMAP_MAX)
			return -EMSGSIZE;
		copy = malloc(len + 1);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, json, len);
		copy[len] = '\0';
	}
	free(state->netmap);
	state->netmap = copy;
	state->netmap_len = copy ? len : 0;
	return 0;
}
