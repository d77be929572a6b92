/*
 * Writing the state file.
 *
 * A save writes "state.tmp" anew, syncs it, renames it over the file and syncs the folder: at
 * every moment there is one whole file, and when a save is over it is the new one. No older one
 * is kept: it would hold keys that were given up.
 *
 * A disk that others write to may keep us waiting for a fifth of a second, a bad one for many, and
 * in the loop all packets would wait with us. So what nobody waits for is written by a thread,
 * from a copy of everything, while the state may change. There is one copy and one thread at most.
 * A save that is waited for (a key that the server may hear of only when it is on disk) lets
 * that end first: an older state never takes the place of a newer one.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <json-c/json.h>

#include "daemon/state_text.h"
#include "shared/thread.h"

#define THREAD_STACK (256 * 1024)

struct state_save {
	pthread_t thread;
	struct state copy; /* its folder is the state's */
	int done_fd;
	int err; /* the thread's until it was waited for */
};

/* ---- the file ---- */

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_file(const struct state *state, int fd)
{
	struct json_object *rest = state_make_rest(state);
	char head[STATE_HEAD_MAX];
	const char *text;
	size_t len;
	int err = -ENOMEM;

	text = rest ? json_object_to_json_string_length(
			      rest, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len)
		    : NULL;
	if (text) {
		err = write_all(fd, head, state_make_head(state->data, head));
		if (err == 0)
			err = write_all(fd, text + 1, len - 1);
		if (err == 0)
			err = write_all(fd, "\n", 1);
		if (err == 0 && fsync(fd) != 0)
			err = -errno;
	}
	secret_wipe(head, sizeof(head));
	json_object_put(rest);
	return err;
}

static int replace_file(const struct state *state)
{
	int fd, err;

	if (unlinkat(state->folder_fd, STATE_TMP_NAME, 0) != 0 && errno != ENOENT)
		return -errno;
	fd = openat(state->folder_fd, STATE_TMP_NAME, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -errno;
	err = write_file(state, fd);
	if (close(fd) != 0 && err == 0)
		err = -errno;
	if (err == 0 &&
	    renameat(state->folder_fd, STATE_TMP_NAME, state->folder_fd, STATE_FILE_NAME) != 0)
		err = -errno;
	if (err != 0) {
		unlinkat(state->folder_fd, STATE_TMP_NAME, 0);
		return err;
	}
	/* Where a file system has no such thing, all is done that can be. */
	return fsync(state->folder_fd) == 0 || errno == EINVAL ? 0 : -errno;
}

static int tell(const struct state *state, int err, char error[static STATE_ERROR_MAX])
{
	error[0] = '\0';
	if (err != 0)
		state_fail(error, err, "the state cannot be written to %.300s: %s", state->folder,
			   strerror(-err));
	return err;
}

/* ---- beside the loop ---- */

static void free_copy(struct state_save *save)
{
	secret_free(save->copy.data);
	free(save->copy.netmap);
	free(save);
}

/* NULL: -ENOMEM. */
static struct state_save *copy_state(const struct state *state)
{
	struct state_save *save = calloc(1, sizeof(*save));
	struct state *copy;

	if (!save)
		return NULL;
	copy = &save->copy;
	copy->folder_fd = state->folder_fd;
	save->done_fd = state->done_fd;
	copy->data = secret_alloc(sizeof(*copy->data));
	if (!copy->data || state_set_netmap(copy, state->netmap, state->netmap_len) != 0) {
		free_copy(save);
		return NULL;
	}
	*copy->data = *state->data;
	return save;
}

static void *run_save(void *arg)
{
	struct state_save *save = arg;
	uint64_t one = 1;

	save->err = replace_file(&save->copy);
	/* Cannot fail: an eventfd with room for it, and ours. */
	while (write(save->done_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	return NULL;
}

void state_save_settle(struct state *state)
{
	struct state_save *save = state->save;

	if (!save)
		return;
	pthread_join(save->thread, NULL);
	state->saved_err = save->err;
	state->save = NULL;
	free_copy(save);
}

/* ---- the front door ---- */

bool state_save_begin(struct state *state)
{
	struct state_save *save;

	if (state->done_fd < 0 || state->save)
		return false;
	save = copy_state(state);
	if (!save)
		return false;
	if (thread_start(&save->thread, THREAD_STACK, run_save, save) != 0) {
		free_copy(save);
		return false;
	}
	state->save = save;
	return true;
}

int state_save_fd(const struct state *state)
{
	return state->done_fd;
}

int state_save_end(struct state *state, char error[static STATE_ERROR_MAX])
{
	uint64_t count;
	int err;

	state_save_settle(state);
	/* EAGAIN: none was begun. */
	if (state->done_fd >= 0)
		(void)!read(state->done_fd, &count, sizeof(count));
	err = state->saved_err;
	state->saved_err = 0;
	return tell(state, err, error);
}

int state_save(struct state *state, char error[static STATE_ERROR_MAX])
{
	error[0] = '\0';
	if (!state->folder)
		return 0;
	state_save_settle(state);
	state->saved_err = 0; /* what was begun is nobody's concern any more: this is newer */
	return tell(state, replace_file(state), error);
}
