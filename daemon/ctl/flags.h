/* Flags as the stock client takes them: -name, --name, --name=value, in any place. Pure. */
#ifndef MESHWRAP_DAEMON_CTL_FLAGS_H
#define MESHWRAP_DAEMON_CTL_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

enum flag_kind { FLAG_BOOL, FLAG_NUMBER, FLAG_DURATION, FLAG_TEXT };

struct flag {
	const char *name;
	enum flag_kind kind;
	union {
		bool *is_set;
		int *number;
		int64_t *ms;
		const char **text;
	} to;
};

#define FLAGS_ERROR_MAX 160
#define FLAGS_UNKNOWN   "flag provided but not defined: " /* a sentence that begins so is of one */

/*
 * Takes the flags out of argv (the list ends with a name of NULL) and leaves the
 * other words at its front. How many these are, or -1 with a sentence in error.
 * "--" ends the flags.
 */
int flags_take(const struct flag *flags, int argc, char **argv, char error[static FLAGS_ERROR_MAX]);
/* "5s", "1m30s", "500ms", "0". False: it is none, or absurdly long. */
bool flags_parse_duration(const char *text, int64_t *ms);

#endif
