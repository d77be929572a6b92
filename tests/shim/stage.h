/*
 * What a test of meshrun stands on: a folder with a copy of it, the library
 * beside it, and a "meshd" that is a script.
 *
 * MESHRUN, FAKEMESH and LIBMESHWRAP in the environment say where those are, and
 * LIBMESHWRAP_OWN the shim of meshrun's own libc if that is another one.
 */
#ifndef MESHWRAP_TESTS_SHIM_STAGE_H
#define MESHWRAP_TESTS_SHIM_STAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#define STAGE_OUTPUT_MAX (256 * 1024) /* environments can be long, and be told twice */

/* meshrun, meshd and the config lie in root; dir is the daemon's folder. */
struct stage {
	char root[64], meshrun[96], meshd[96], dir[96], config[96];
};

/* What the program of the latest stage_end() or stage_run() wrote to stdout and stderr. */
extern char stage_output[STAGE_OUTPUT_MAX];

#define meshrun_test(f) cmocka_unit_test_setup_teardown(f, stage_set_up, stage_tear_down)
int stage_set_up(void **state);
int stage_tear_down(void **state);

void stage_copy(const char *from, const char *to);
/* The script that plays meshd; $MESHWRAP_DIR is what meshrun gave it. */
void stage_write_meshd(const struct stage *s, const char *body);
/* One that is fakemesh. */
void stage_write_good_meshd(const struct stage *s);

/* meshrun --dir DIR words... in a child; out gets the end to read its output from. */
pid_t stage_start(const struct stage *s, const char *const *words, int *out);
/* Reads to the end and reaps: the status, or 1000 and the signal. */
int stage_end(pid_t pid, int out);
/* Both: stage_run(s, "--timeout", "1", "true") is a status. */
#define stage_run(s, ...) stage_run_words(s, (const char *const[]){ __VA_ARGS__, NULL })
int stage_run_words(const struct stage *s, const char *const *words);
/* The output is one line with these words. */
void stage_assert_sentence(const char *wanted);

#endif
