/*
 * The auth key: where it comes from, and that it is nowhere else. In memory of
 * its own; overwritten wherever it was read from in this process.
 */
#ifndef MESHWRAP_DAEMON_OPTIONS_KEY_H
#define MESHWRAP_DAEMON_OPTIONS_KEY_H

#include <stddef.h>

struct options_key {
	char *text; /* secret_alloc()ed and zero-terminated, NULL: none */
	size_t len;
};

/*
 * Each replaces a key that was read before. 0, or a sentence for the user in
 * error and -errno; the sentence never holds a part of the key.
 */
int options_key_from_file(struct options_key *key, const char *path, char error[static 256]);
/* Reads to the end and closes fd. */
int options_key_from_fd(struct options_key *key, int fd, char error[static 256]);
/* "file:PATH" or the key itself, whose bytes are overwritten. "" is no key. */
int options_key_from_text(struct options_key *key, char *text, char error[static 256]);
void options_key_finish(struct options_key *key);

#endif
