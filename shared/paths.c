/* The runtime folder's name, decided in one place for shim, daemon and tools. */
#include "shared/paths.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* Appends text at *len; -ENAMETOOLONG leaves out as it was. */
static int append(char *out, size_t out_len, size_t *len, const char *text)
{
	size_t n = strlen(text);

	if (n >= out_len - *len)
		return -ENAMETOOLONG;
	memcpy(out + *len, text, n + 1);
	*len += n;
	return 0;
}

static void format_uid(uid_t uid, char text[static 12])
{
	char digits[12];
	size_t n = 0, i;

	do {
		digits[n++] = (char)('0' + uid % 10);
		uid /= 10;
	} while (uid);
	for (i = 0; i < n; i++)
		text[i] = digits[n - 1 - i];
	text[n] = '\0';
}

int paths_runtime_dir(const char *meshwrap_dir, const char *xdg_runtime_dir, uid_t uid,
		      char dir[static PATHS_MAX])
{
	char number[12];
	size_t len = 0;
	int err;

	if (meshwrap_dir && *meshwrap_dir)
		return append(dir, PATHS_MAX, &len, meshwrap_dir);
	/* A relative one means nothing to a program that goes to another folder. */
	if (xdg_runtime_dir && *xdg_runtime_dir == '/') {
		err = append(dir, PATHS_MAX, &len, xdg_runtime_dir);
		return err ? err : append(dir, PATHS_MAX, &len, "/meshwrap");
	}
	if (uid == 0)
		return append(dir, PATHS_MAX, &len, PATHS_COMMON_DIR);
	format_uid(uid, number);
	err = append(dir, PATHS_MAX, &len, "/tmp/meshwrap-");
	return err ? err : append(dir, PATHS_MAX, &len, number);
}

int paths_join(const char *dir, const char *file, char *out, size_t out_len)
{
	size_t len = 0;
	int err;

	err = append(out, out_len, &len, dir);
	if (!err)
		err = append(out, out_len, &len, "/");
	return err ? err : append(out, out_len, &len, file);
}

int paths_absolute(const char *path, char *out, size_t out_len)
{
	char cwd[PATH_MAX];
	size_t len = 0;

	if (*path == '/')
		return append(out, out_len, &len, path);
	return getcwd(cwd, sizeof(cwd)) ? paths_join(cwd, path, out, out_len) : -errno;
}
