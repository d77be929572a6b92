/*
 * The WireGuard file on disk.
 *
 * It holds a private key: what was read is wiped, and who else may read it is noted, for a
 * warning. At start it may be a pipe. Read again it may not be, since there is nothing more in
 * it, and opening one would wait for whoever writes to it.
 */
#include "daemon/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

struct file {
	char *text;
	size_t len;
	mode_t mode;
};

static int read_text(int fd, struct file *file)
{
	ssize_t n;

	/* One byte more than allowed, so that the parser sees it is too long; also for a pipe. */
	file->text = malloc(CONFIG_MAX_BYTES + 1);
	if (!file->text)
		return -ENOMEM;
	while (file->len <= CONFIG_MAX_BYTES) {
		n = read(fd, file->text + file->len, CONFIG_MAX_BYTES + 1 - file->len);
		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			file->len += (size_t)n;
	}
	return 0;
}

static int read_fd(int fd, bool again, struct file *file)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (again && !S_ISREG(st.st_mode))
		return -ESPIPE;
	file->mode = st.st_mode;
	return read_text(fd, file);
}

static int read_file(const char *path, bool again, struct file *file)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | (again ? O_NONBLOCK : 0)), err;

	if (fd < 0)
		return -errno;
	err = read_fd(fd, again, file);
	close(fd);
	return err;
}

static void finish(struct file *file)
{
	if (file->text)
		sodium_memzero(file->text, file->len);
	free(file->text);
}

int config_file_read(const char *path, bool again, struct config *config,
		     char error[static CONFIG_FILE_ERROR_MAX])
{
	struct file file = { 0 };
	char why[256];
	int err = read_file(path, again, &file);

	memset(config, 0, sizeof(*config));
	error[0] = '\0';
	if (err == -ESPIPE) {
		snprintf(error, CONFIG_FILE_ERROR_MAX,
			 "%s is no ordinary file, which could be read a second time; restart meshd",
			 path);
	} else if (err < 0) {
		snprintf(error, CONFIG_FILE_ERROR_MAX,
			 "cannot read %s: %s; give the path of a WireGuard file", path,
			 strerror(-err));
	} else {
		err = config_parse(file.text, file.len, config, why);
		config->is_exposed = S_ISREG(file.mode) &&
				     file.mode & (S_IRGRP | S_IROTH | S_IWGRP | S_IWOTH);
		if (err < 0)
			snprintf(error, CONFIG_FILE_ERROR_MAX, "%s: %s", path, why);
	}
	finish(&file);
	return err;
}
