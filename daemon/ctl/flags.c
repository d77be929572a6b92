/*
 * A flag with a value takes the next word unless the value is attached; a bool
 * takes only an attached one, so `--json ip` is a flag and a word.
 */
#include "daemon/ctl/flags.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define DIGITS          "0123456789"
#define DURATION_MAX_MS (INT64_C(86400) * 1000 * 365)

/* Digits, with a point or without: strtod() alone would take 0x10 and 1e5, too. */
static bool read_decimal(const char *text, double *n, char **end)
{
	size_t len = strspn(text, DIGITS);

	if (text[len] == '.')
		len += 1 + strspn(text + len + 1, DIGITS);
	*n = strtod(text, end);
	return len > 0 && *end == text + len;
}

bool flags_parse_duration(const char *text, int64_t *ms)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = { { "ms", 1 },  { "us", 1e-3 }, { "ns", 1e-6 },
		      { "s", 1e3 }, { "m", 6e4 },   { "h", 3.6e6 } };
	double sum = 0;
	size_t i;
	char *end;

	if (strcmp(text, "0") == 0) {
		*ms = 0;
		return true;
	}
	if (!*text)
		return false;
	while (*text) {
		double n;

		if (!read_decimal(text, &n, &end))
			return false;
		for (i = 0; i < ARRAY_LEN(units); i++)
			if (strncmp(end, units[i].name, strlen(units[i].name)) == 0)
				break;
		if (i == ARRAY_LEN(units))
			return false;
		sum += n * units[i].ms;
		if (!(sum <= (double)DURATION_MAX_MS))
			return false;
		text = end + strlen(units[i].name);
	}
	*ms = (int64_t)sum;
	return true;
}

static bool parse_bool(const char *text, bool *value)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False" };

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		*value = strcmp(text, yes[i]) == 0;
		if (*value || strcmp(text, no[i]) == 0)
			return true;
	}
	return false;
}

/* What a value that was refused lacks. */
static const char *wanted(enum flag_kind kind)
{
	switch (kind) {
	case FLAG_BOOL:
		return ": it takes true or false";
	case FLAG_NUMBER:
		return ": it takes a whole number, at most 2147483647";
	case FLAG_DURATION:
		return ": a time has a unit, as in 5s";
	case FLAG_TEXT:
		break;
	}
	return "";
}

static bool set(const struct flag *f, const char *value)
{
	char *end;
	long n;

	switch (f->kind) {
	case FLAG_BOOL:
		return parse_bool(value, f->to.is_set);
	case FLAG_NUMBER:
		n = strtol(value, &end, 10);
		if (*value < '0' || *value > '9' || *end || n > INT_MAX)
			return false;
		*f->to.number = (int)n;
		return true;
	case FLAG_DURATION:
		return flags_parse_duration(value, f->to.ms);
	case FLAG_TEXT:
		break;
	}
	*f->to.text = value;
	return true;
}

static const struct flag *find(const struct flag *flags, const char *name, size_t len)
{
	for (; flags->name; flags++)
		if (strlen(flags->name) == len && memcmp(flags->name, name, len) == 0)
			return flags;
	return NULL;
}

int flags_take(const struct flag *flags, int argc, char **argv, char error[static FLAGS_ERROR_MAX])
{
	int words = 0;

	for (int i = 0; i < argc; i++) {
		const char *name = argv[i], *value = strchr(name, '=');
		size_t len;
		const struct flag *f;

		if (strcmp(name, "--") == 0) {
			while (++i < argc)
				argv[words++] = argv[i];
			break;
		}
		if (name[0] != '-' || !name[1]) {
			argv[words++] = argv[i];
			continue;
		}
		name += name[1] == '-' ? 2 : 1;
		len = value ? (size_t)(value - name) : strlen(name);
		f = find(flags, name, len);
		if (!f) {
			snprintf(error, FLAGS_ERROR_MAX, FLAGS_UNKNOWN "-%.*s", (int)MIN(len, 60u),
				 name);
			return -1;
		}
		if (value)
			value++;
		else if (f->kind == FLAG_BOOL)
			value = "true";
		else
			value = ++i < argc ? argv[i] : NULL;
		if (!value || !set(f, value)) {
			snprintf(error, FLAGS_ERROR_MAX,
				 value ? "invalid value \"%.60s\" for flag -%s%s"
				       : "flag needs an argument: %.0s-%s%.0s",
				 value ? value : "", f->name, wanted(f->kind));
			return -1;
		}
	}
	return words;
}
