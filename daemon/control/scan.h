/* Looks at the members of one JSON object without building a tree. */
#ifndef MESHWRAP_DAEMON_CONTROL_SCAN_H
#define MESHWRAP_DAEMON_CONTROL_SCAN_H

#include <stdbool.h>
#include <stddef.h>

struct scan_text {
	const char *at; /* into the scanned text, not terminated; NULL: absent */
	size_t len;
};

/*
 * Finds the values of keys (as written, without escapes) among the members of
 * the object that text is: raw JSON, each to the place of its key, the last
 * one when a key comes twice. 0, or -EBADMSG: text is no object. Nested values are skipped by
 * their brackets and quotes alone: whoever uses one still has to parse it.
 */
int scan_object(const char *text, size_t len, const char *const *keys, struct scan_text *values,
		size_t count);
/* Whether a value is present and not null. */
bool scan_has(const struct scan_text *value);
bool scan_is_true(const struct scan_text *value);

#endif
