/*
 * A key is printable ASCII without spaces and quotes; white space around it, as an editor
 * or a secret store leaves it, does not belong to it. A file with anything else is more
 * likely the wrong file, and its content must not travel to a server. Quotes come from
 * files of variables that no shell reads (docker run --env-file).
 */
#include "daemon/options_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "daemon/crypto/keys.h"
#include "daemon/login.h"

static const char file_prefix[] = "file:";

static int fail(char *error, int err, const char *where, const char *what)
{
	snprintf(error, 256, "the auth key in %.150s %s", where, what);
	return err;
}

/* Takes len bytes of room, which holds LOGIN_KEY_MAX + 1, as the key, or frees it. */
static int take(struct options_key *key, char *room, size_t len, const char *where, char *error)
{
	size_t start = 0;

	while (len > start && strchr(" \t\r\n", room[len - 1]))
		len--;
	while (start < len && strchr(" \t\r\n", room[start]))
		start++;
	len -= start;
	memmove(room, room + start, len);
	secret_wipe(room + len, LOGIN_KEY_MAX + 1 - len);
	for (size_t i = 0; i < len; i++) {
		if (room[i] > ' ' && room[i] < 0x7f && !strchr("\"'\\", room[i]))
			continue;
		secret_free(room);
		return fail(error, -EINVAL, where,
			    "is no key: it must be one word, without quotes");
	}
	if (len == 0) {
		secret_free(room);
		return fail(error, -ENODATA, where, "is empty");
	}
	options_key_finish(key);
	*key = (struct options_key){ room, len };
	return 0;
}

static int read_key(struct options_key *key, int fd, const char *where, char *error)
{
	char *room = secret_alloc(LOGIN_KEY_MAX + 1);
	size_t len = 0;
	ssize_t n = 1;
	int err;

	if (!room)
		return fail(error, -ENOMEM, where, "cannot be kept: no locked memory is left");
	while (len <= LOGIN_KEY_MAX && n != 0) {
		n = read(fd, room + len, LOGIN_KEY_MAX + 1 - len);
		if (n < 0 && errno != EINTR) {
			err = errno;
			secret_free(room);
			snprintf(error, 256, "cannot read the auth key from %.120s: %s", where,
				 strerror(err));
			return -err;
		}
		if (n > 0)
			len += (size_t)n;
	}
	if (len > LOGIN_KEY_MAX) {
		secret_free(room);
		return fail(error, -E2BIG, where, "is too long to be one");
	}
	return take(key, room, len, where, error);
}

int options_key_from_fd(struct options_key *key, int fd, char error[static 256])
{
	char where[40];
	int err;

	/* By the one meshrun hands over what was in the other. */
	snprintf(where, sizeof(where), "TS_AUTHKEY or descriptor %d", fd);
	err = read_key(key, fd, where, error);
	close(fd);
	return err;
}

int options_key_from_file(struct options_key *key, const char *path, char error[static 256])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0) {
		err = errno;
		snprintf(error, 256, "cannot read the auth key from %.150s: %s", path,
			 strerror(err));
		return -err;
	}
	err = read_key(key, fd, path, error);
	close(fd);
	return err;
}

int options_key_from_text(struct options_key *key, char *text, char error[static 256])
{
	size_t len = strlen(text);
	char *room;
	int err;

	if (len == 0)
		return 0;
	if (strncmp(text, file_prefix, sizeof(file_prefix) - 1) == 0)
		return options_key_from_file(key, text + sizeof(file_prefix) - 1, error);
	room = len > LOGIN_KEY_MAX ? NULL : secret_alloc(LOGIN_KEY_MAX + 1);
	if (room) {
		memcpy(room, text, len);
		err = take(key, room, len, "the environment", error);
	} else if (len > LOGIN_KEY_MAX) {
		err = fail(error, -E2BIG, "the environment", "is too long to be one");
	} else {
		err = fail(error, -ENOMEM, "the environment",
			   "cannot be kept: no locked memory is left");
	}
	secret_wipe(text, len);
	return err;
}

void options_key_finish(struct options_key *key)
{
	secret_free(key->text);
	*key = (struct options_key){ NULL, 0 };
}
