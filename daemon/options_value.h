/*
 * What the values of meshd's options must look like.
 *
 * Each function gives NULL, or what is wrong with the text as the rest of a sentence that begins
 * with the option's name: "takes true or false".
 */
#ifndef MESHWRAP_DAEMON_OPTIONS_VALUE_H
#define MESHWRAP_DAEMON_OPTIONS_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "shared/log.h"

#define VALUE_HOSTNAME_MAX 253

/* text NULL: the option alone, which means true. */
const char *value_flag(const char *text, bool *flag);
const char *value_level(const char *text, enum log_level *level);
/* A server's URL: the scheme in lower case, no slash at its end. */
const char *value_url(const char *text, char *url, size_t room);
const char *value_hostname(const char *text, char name[static VALUE_HOSTNAME_MAX + 1]);
/* This machine's name as one label of at most 63 characters; "meshwrap" where it has none. */
void value_own_hostname(char name[static VALUE_HOSTNAME_MAX + 1]);
/* "mem:" gives "", a relative path an absolute one. */
const char *value_state(const char *text, char *path, size_t room);
/* "tag:a,tag:b" into tags, which point into room. */
const char *value_tags(const char *text, char *room, size_t size, const char **tags, unsigned max,
		       unsigned *count);

#endif
