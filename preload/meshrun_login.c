/*
 * Joining by a coordination server: what meshd is to be told, and the auth key's
 * way to it.
 *
 * meshd reads the variables itself; we only look whether there are any. The key is
 * the exception: the program that we become must not have it, and neither may
 * anybody find it where our environment was. So it is moved out of there at
 * once, its bytes overwritten, and handed to meshd by a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/meshrun.h"

static const char file_prefix[] = "file:";

static void add_word(struct login *login, const char *word)
{
	if (login->count < LOGIN_WORDS_MAX)
		login->words[login->count++] = word;
}

void login_add(struct login *login, const char *name, const char *value)
{
	add_word(login, name);
	if (value)
		add_word(login, value);
}

bool login_add_key(struct login *login, char *value)
{
	if (strncmp(value, file_prefix, sizeof(file_prefix) - 1) == 0) {
		if (login->count + 2 > LOGIN_WORDS_MAX) {
			complain("too many options");
			return false;
		}
		login_add(login, "--auth-key-file", value + sizeof(file_prefix) - 1);
		return true;
	}
	explicit_bzero(value, strlen(value));
	complain("--auth-key would show the key to every user of this machine; set TS_AUTHKEY, or "
		 "give --auth-key-file FILE");
	return false;
}

static void unset_wiped(const char *name)
{
	char *value = getenv(name);

	if (!value)
		return;
	explicit_bzero(value, strlen(value));
	unsetenv(name);
}

static bool is_set(const char *name)
{
	const char *value = getenv(name);

	return value && *value;
}

static bool take_key(struct login *login, const char *variable)
{
	char *value = getenv(variable);
	size_t len = value ? strlen(value) : 0;
	bool fits = len <= LOGIN_KEY_MAX;

	if (len && fits) {
		memcpy(login->key, value, len + 1);
		login->key_len = len;
		login->is_wanted_by_environment = true;
	}
	unset_wiped(variable);
	if (!fits)
		complain("%s is too long to be a key", variable);
	return fits;
}

bool login_read_environment(struct login *login)
{
	const char *extra = getenv("TS_EXTRA_ARGS");

	if (!take_key(login, "TS_AUTH_KEY") || !take_key(login, "TS_AUTHKEY"))
		return false;
	if (is_set("TS_LOGIN_SERVER") || is_set("TS_STATE_DIR") ||
	    (extra && strstr(extra, "-login-server")))
		login->is_wanted_by_environment = true;
	if (!extra || !(strstr(extra, "authkey") || strstr(extra, "auth-key")))
		return true;
	/* meshd finds the key in there, and overwrites it. */
	login->is_wanted_by_environment = true;
	login->extra = strdup(extra);
	unset_wiped("TS_EXTRA_ARGS");
	if (!login->extra)
		complain("out of memory");
	return login->extra != NULL;
}

const char *login_key_file(const struct login *login)
{
	size_t prefix = sizeof(file_prefix) - 1;

	return strncmp(login->key, file_prefix, prefix) == 0 ? login->key + prefix : NULL;
}

/* A pipe's end that is none of the standard descriptors. */
static int moved(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	close(fd);
	return high;
}

int login_key_pipe(struct login *login)
{
	int pipes[2];
	ssize_t n;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	/* No more than a pipe takes at once. */
	n = write(pipes[1], login->key, login->key_len);
	explicit_bzero(login->key, sizeof(login->key));
	close(pipes[1]);
	pipes[0] = moved(pipes[0]);
	if (pipes[0] < 0)
		return -errno;
	if (n == (ssize_t)login->key_len)
		return pipes[0];
	close(pipes[0]);
	return -EIO;
}

void login_finish(struct login *login)
{
	explicit_bzero(login->key, sizeof(login->key));
	if (login->extra)
		explicit_bzero(login->extra, strlen(login->extra));
	free(login->extra);
	login->extra = NULL;
}
