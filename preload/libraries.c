/*
 * Which shim a program needs, and LD_PRELOAD with that one.
 *
 * Each libc is given its own. Where the other gets in all the same (a shell that
 * system() starts), it must do no harm: the one for musl names no libc as needed,
 * which glibc's loader would end the program for, and what differs at run time
 * is asked of libc_is_glibc. Both loaders take a list with colons or spaces.
 *
 * Rejected: one value for all programs by way of "$LIB", which glibc's loader
 * replaces and musl's does not: shells replace it, too.
 */
#include "preload/libraries.h"

#include <string.h>

static const char *const names[] = { "libmeshwrap.so", "libmeshwrap-musl.so",
				     "libmeshwrap-gnu.so" };

bool libraries_is_our_libc(const char *interpreter)
{
	bool is_musl = strstr(interpreter, "/ld-musl-") != NULL;

#ifdef __GLIBC__
	return !is_musl;
#else
	return is_musl;
#endif
}

/* A word of the list, and its length; NULL at its end. */
static const char *next_word(const char **at, size_t *len)
{
	const char *word = *at + strspn(*at, ": ");

	*len = strcspn(word, ": ");
	*at = word + *len;
	return *len ? word : NULL;
}

static bool is_named(const char *word, size_t len, const char *name)
{
	size_t n = strlen(name);

	return len >= n && memcmp(word + len - n, name, n) == 0 &&
	       (len == n || word[len - n - 1] == '/');
}

static bool is_shim(const char *word, size_t len)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (is_named(word, len, names[i]))
			return true;
	return false;
}

const char *libraries_first(const char *preload, size_t *len)
{
	const char *word;

	while (preload && (word = next_word(&preload, len)))
		if (is_shim(word, *len))
			return word;
	return NULL;
}

static bool add(char *out, size_t room, const char *word, size_t len)
{
	size_t used = strlen(out);

	if (used + len + 2 > room)
		return false;
	if (used)
		out[used++] = ':';
	memcpy(out + used, word, len);
	out[used + len] = '\0';
	return true;
}

bool libraries_replace(const char *preload, const char *library, char *out, size_t room)
{
	const char *word;
	size_t len;

	if (room == 0)
		return false;
	*out = '\0';
	while (preload && (word = next_word(&preload, &len))) {
		if (is_shim(word, len)) {
			if (!library)
				continue;
			word = library;
			len = strlen(library);
			library = NULL;
		}
		if (!add(out, room, word, len))
			return false;
	}
	return !library || add(out, room, library, strlen(library));
}
