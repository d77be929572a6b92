/* Copies and scripts in a folder of the test's own; nothing of it outlives the test. */
#include "tests/shim/stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STAGE_WORDS_MAX 64

char stage_output[STAGE_OUTPUT_MAX];

void stage_copy(const char *from, const char *to)
{
	char command[512];

	assert_non_null(from);
	snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
	assert_int_equal(system(command), 0);
}

int stage_set_up(void **state)
{
	struct stage *s = calloc(1, sizeof(*s));
	char library[96];
	FILE *f;

	strcpy(s->root, "/tmp/meshwrap-run-XXXXXX");
	assert_non_null(mkdtemp(s->root));
	snprintf(s->meshrun, sizeof(s->meshrun), "%s/meshrun", s->root);
	snprintf(s->meshd, sizeof(s->meshd), "%s/meshd", s->root);
	snprintf(s->dir, sizeof(s->dir), "%s/dir", s->root);
	snprintf(s->config, sizeof(s->config), "%s/wg.conf", s->root);
	snprintf(library, sizeof(library), "%s/libmeshwrap.so", s->root);
	stage_copy(getenv("MESHRUN"), s->meshrun);
	stage_copy(getenv("LIBMESHWRAP"), library);
	if (getenv("LIBMESHWRAP_OWN"))
		stage_copy(getenv("LIBMESHWRAP_OWN"), s->root);
	f = fopen(s->config, "w");
	assert_non_null(f);
	fclose(f);
	*state = s;
	return 0;
}

int stage_tear_down(void **state)
{
	struct stage *s = *state;
	char command[512];
	int r;

	/* A daemon that was started says its pid. */
	snprintf(command, sizeof(command),
		 "[ ! -s %s/pid ] || kill -9 $(cat %s/pid) 2>/dev/null; rm -rf %s", s->dir, s->dir,
		 s->root);
	r = system(command);
	free(s);
	return r == -1;
}

void stage_write_meshd(const struct stage *s, const char *body)
{
	FILE *f = fopen(s->meshd, "w");

	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", body);
	fclose(f);
	assert_int_equal(chmod(s->meshd, 0755), 0);
}

void stage_write_good_meshd(const struct stage *s)
{
	char body[512];

	snprintf(body, sizeof(body), "exec '%s' \"$MESHWRAP_DIR\" 9 9>/dev/null",
		 getenv("FAKEMESH"));
	stage_write_meshd(s, body);
}

pid_t stage_start(const struct stage *s, const char *const *argv, int *out)
{
	char *words[STAGE_WORDS_MAX] = { (char *)s->meshrun, "--dir", (char *)s->dir };
	int pipes[2], n = 3;
	pid_t pid;

	while (*argv && n < STAGE_WORDS_MAX - 1)
		words[n++] = (char *)*argv++;
	assert_null(*argv);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(pipes[1], 1);
		dup2(pipes[1], 2);
		unsetenv("MESHWRAP_CONFIG");
		execv(s->meshrun, words);
		_exit(99);
	}
	close(pipes[1]);
	*out = pipes[0];
	return pid;
}

int stage_end(pid_t pid, int out)
{
	size_t len = 0;
	ssize_t n;
	int status;

	while ((n = read(out, stage_output + len, sizeof(stage_output) - 1 - len)) > 0)
		len += (size_t)n;
	stage_output[len] = '\0';
	close(out);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int stage_run_words(const struct stage *s, const char *const *words)
{
	int out;
	pid_t pid = stage_start(s, words, &out);

	return stage_end(pid, out);
}

void stage_assert_sentence(const char *wanted)
{
	if (!strstr(stage_output, wanted))
		fail_msg("not said: \"%s\" in \"%s\"", wanted, stage_output);
	assert_ptr_equal(strchr(stage_output, '\n'),
			 stage_output + strlen(stage_output) - 1); /* one line */
}
