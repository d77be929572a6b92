/* meshrun's parts: the program's file, the daemon, being PID 1. Each says what is wrong itself. */
#ifndef MESHWRAP_PRELOAD_MESHRUN_H
#define MESHWRAP_PRELOAD_MESHRUN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/paths.h"

#define EXIT_USAGE     2
#define EXIT_NOT_OURS  126 /* found, but cannot be run or entered */
#define EXIT_NOT_FOUND 127
#define EXIT_NO_MESH   1

/* "meshrun: ..." on standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t now_ms(void);

/*
 * The absolute path of a shim that is installed with us, by its file name. False with errno:
 * ENOENT where there is none, ELIBBAD where the dynamic linker would not load it, else it cannot be
 * read.
 */
bool library_find(const char *name, char path[static PATH_MAX]);
/* LD_PRELOAD with this shim instead of any other; NULL: with none. False: out of memory. */
bool preload_set(const char *library);

/* Folder of this executable, without a trailing slash. 0 or -errno. */
int own_folder(char folder[static PATH_MAX]);

/* Can this program be put on the mesh? 0, or the exit status after having complained. */
int program_check(const char *program);

#define LOGIN_WORDS_MAX 64
#define LOGIN_KEY_MAX   4096

/* A daemon that joins by a server: meshd's options, and the key besides them. */
struct login {
	const char *words[LOGIN_WORDS_MAX]; /* of our command line */
	unsigned count;
	bool is_wanted_by_environment;
	char key[LOGIN_KEY_MAX + 1]; /* or file:PATH; "": meshd finds it itself or does without */
	size_t key_len;
	char *extra; /* TS_EXTRA_ARGS where it holds the key, else NULL */
};

/* An option for meshd; value NULL for a flag. The texts must stay. */
void login_add(struct login *login, const char *name, const char *value);
/* --auth-key VALUE: false after refusing (and wiping) what is no file:PATH. */
bool login_add_key(struct login *login, char *value);
/* Takes what is secret out of the environment. False after complaining. */
bool login_read_environment(struct login *login);
/* The PATH of a key given as file:PATH, which is no secret; valid as long as login. Else NULL. */
const char *login_key_file(const struct login *login);
/* The key, to be read from a descriptor above 2; it is wiped here. The descriptor or -errno. */
int login_key_pipe(struct login *login);
void login_finish(struct login *login);

struct daemon_options {
	const char *config;        /* NULL: not by a file */
	bool config_is_chosen;     /* on the command line */
	struct login *login;       /* with a file: just the words; both NULL: do not start one */
	const struct login *given; /* what is said, whether one is to be started or not */
	bool dir_is_chosen;        /* dir was named by the user: look nowhere else */
	unsigned timeout_s;
	bool timeout_is_chosen; /* else waiting for a person has no limit */
};
/*
 * Waits until the daemon of dir is usable, having started one if need be; dir
 * may become the folder of the whole container. 0, or the exit status after having complained.
 */
int daemon_wait(char dir[static PATHS_MAX], const struct daemon_options *options);

/*
 * Whether the daemon that runs in dir writes a map that the shim reads, and is of the file or the
 * server that is asked for. 0, or the exit status; where they differ the user was told. So he was
 * of options that it does not have.
 */
int daemon_check_wanted(const char *dir, const struct daemon_options *options);

/* As PID 1: runs the program as a child, reaps all, forwards signals; the exit status. */
int init_run(char **argv, const char *dir);

/* exec, traced if need be, and what it means that it came back. */
int program_exec(char **argv);
/* The same for a child of a wrapped program, whose environment is complete. */
int program_continue(const char *file, char **argv);

#endif
