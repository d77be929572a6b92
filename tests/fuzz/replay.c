/*
 * Replays a fuzz target's corpus without libFuzzer, so that any compiler's
 * `meson test` runs every input ever found interesting.
 *
 *     replay PATH...     each a file or a folder of files (one level)
 *
 * The empty input is always run first. Every input lies in memory of exactly
 * its own length, so that a sanitizer sees a read of one byte too many.
 */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned count;

static void run_bytes(const uint8_t *data, size_t size)
{
	LLVMFuzzerTestOneInput(data, size);
	count++;
}

static int run_file(const char *path, size_t size)
{
	uint8_t *data = malloc(size ? size : 1);
	FILE *file = fopen(path, "rb");
	int err = -1;

	if (!data || !file || fread(data, 1, size, file) != size)
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
	else {
		/* Shown first, so that a crash names its input. */
		printf("%s\n", path);
		fflush(stdout);
		run_bytes(data, size);
		err = 0;
	}
	if (file)
		fclose(file);
	free(data);
	return err;
}

static int run_path(const char *path, bool is_nested)
{
	struct dirent *entry;
	struct stat st;
	char name[4096];
	int err = 0;
	DIR *dir;

	if (stat(path, &st) < 0) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	if (S_ISREG(st.st_mode))
		return run_file(path, (size_t)st.st_size);
	if (!S_ISDIR(st.st_mode) || is_nested)
		return 0;
	dir = opendir(path);
	if (!dir) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		return -1;
	}
	while (!err && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		err = run_path(name, true);
	}
	closedir(dir);
	return err;
}

int main(int argc, char **argv)
{
	uint8_t *nothing = calloc(1, 1);
	int err = 0;

	if (nothing)
		run_bytes(nothing, 0);
	free(nothing);
	for (int i = 1; i < argc && !err; i++)
		err = run_path(argv[i], false);
	printf("%u inputs\n", count);
	return err ? 1 : 0;
}
