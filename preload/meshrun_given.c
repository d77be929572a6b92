/*
 * As meshd reads it (daemon/options.c): the environment, then TS_EXTRA_ARGS, then the command line,
 * and what comes later wins.
 */
#include "preload/meshrun_given.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preload/meshrun.h"
#include "shared/util.h"

#define SPACE " \t\r\n"

static void take(struct given *given, const char *value, size_t len)
{
	len = MIN(len, sizeof(given->value) - 1);
	memcpy(given->value, value, len);
	given->value[len] = '\0';
}

/* What is behind the name in "--name=value" or "--name value". NULL: it is another word. */
static const char *behind(const char *word, const char *name)
{
	size_t len = name ? strlen(name) : 0;

	if (*word != '-' || !name)
		return NULL;
	word += strspn(word, "-");
	return strncmp(word, name, len) == 0 && strchr("=" SPACE, word[len]) ? word + len : NULL;
}

static bool find_variable(const struct given_option *option, struct given *given)
{
	const char *value = option->variable ? getenv(option->variable) : NULL;

	if (!value || !*value)
		return false;
	take(given, value, strlen(value));
	snprintf(given->source, sizeof(given->source), "%s", option->variable);
	return true;
}

static bool find_extra(const char *text, const struct given_option *option, struct given *given)
{
	const char *word, *at, *value;
	bool is_found = false;

	for (word = text + strspn(text, SPACE); *word; word += strspn(word, SPACE)) {
		at = behind(word, option->name);
		if (!at)
			at = behind(word, option->other_name);
		word += strcspn(word, SPACE);
		if (!at)
			continue;
		is_found = true;
		value = *at == '=' ? at + 1 : at + strspn(at, SPACE);
		if (*at != '=' && option->kind == GIVEN_FLAG)
			take(given, "true", 4);
		else
			take(given, value, strcspn(value, SPACE));
	}
	if (is_found)
		snprintf(given->source, sizeof(given->source), "--%s in TS_EXTRA_ARGS",
			 option->name);
	return is_found;
}

/* One word each, as meshrun.c hands them on. */
static bool find_word(const struct login *login, const struct given_option *option,
		      struct given *given)
{
	const char *at;

	for (unsigned i = 0; i < login->count; i++) {
		at = behind(login->words[i], option->name);
		if (!at)
			continue;
		given->is_command_line = true;
		at = *at == '=' ? at + 1 : "true";
		take(given, at, strlen(at));
	}
	if (given->is_command_line)
		snprintf(given->source, sizeof(given->source), "--%s", option->name);
	return given->is_command_line;
}

bool given_find(const struct login *login, const struct given_option *option, struct given *given)
{
	const char *extra = login->extra ? login->extra : getenv("TS_EXTRA_ARGS");
	bool is_found;

	given->is_command_line = false;
	is_found = find_variable(option, given);
	is_found = (extra && find_extra(extra, option, given)) || is_found;
	return find_word(login, option, given) || is_found;
}
