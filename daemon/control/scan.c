/*
 * A look at a JSON object's members.
 *
 * A map of thousands of peers is parsed once, by the map itself. What the
 * client needs of it (is it a mere sign of life? is a ping wanted? has our key
 * expired?) stands in few members at the top, so they are found by stepping
 * over the others: quotes and brackets are matched, nothing is stored, no
 * recursion. The whole is checked by the parser that takes it.
 */
#include "daemon/control/scan.h"

#include <errno.h>
#include <string.h>

struct cursor {
	const char *at, *end;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_space(struct cursor *c)
{
	while (c->at < c->end && is_space(*c->at))
		c->at++;
}

static bool take(struct cursor *c, char wanted)
{
	skip_space(c);
	if (c->at == c->end || *c->at != wanted)
		return false;
	c->at++;
	return true;
}

/* From the opening quote to behind the closing one. */
static bool skip_string(struct cursor *c)
{
	for (c->at++; c->at < c->end; c->at++) {
		if (*c->at == '"') {
			c->at++;
			return true;
		}
		if (*c->at == '\\' && ++c->at == c->end)
			return false;
	}
	return false;
}

static bool skip_nested(struct cursor *c)
{
	size_t depth = 0;

	while (c->at < c->end) {
		if (*c->at == '"') {
			if (!skip_string(c))
				return false;
			continue;
		}
		if (*c->at == '{' || *c->at == '[')
			depth++;
		else if ((*c->at == '}' || *c->at == ']') && --depth == 0) {
			c->at++;
			return true;
		}
		c->at++;
	}
	return false;
}

static bool skip_value(struct cursor *c)
{
	const char *start = c->at;

	if (c->at == c->end)
		return false;
	if (*c->at == '"')
		return skip_string(c);
	if (*c->at == '{' || *c->at == '[')
		return skip_nested(c);
	while (c->at < c->end && !strchr(",}] \t\r\n\"{[:", *c->at))
		c->at++;
	return c->at > start;
}

static void note(const struct scan_text *key, const struct scan_text *value,
		 const char *const *keys, struct scan_text *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strlen(keys[i]) == key->len && memcmp(keys[i], key->at, key->len) == 0)
			values[i] = *value;
}

static bool scan_member(struct cursor *c, const char *const *keys, struct scan_text *values,
			size_t count)
{
	struct scan_text key, value;

	skip_space(c);
	if (c->at == c->end || *c->at != '"')
		return false;
	key.at = c->at + 1;
	if (!skip_string(c))
		return false;
	key.len = (size_t)(c->at - 1 - key.at);
	if (!take(c, ':'))
		return false;
	skip_space(c);
	value.at = c->at;
	if (!skip_value(c))
		return false;
	value.len = (size_t)(c->at - value.at);
	note(&key, &value, keys, values, count);
	return true;
}

int scan_object(const char *text, size_t len, const char *const *keys, struct scan_text *values,
		size_t count)
{
	struct cursor c = { text, text + len };

	for (size_t i = 0; i < count; i++)
		values[i] = (struct scan_text){ NULL, 0 };
	if (!take(&c, '{'))
		return -EBADMSG;
	if (!take(&c, '}')) {
		do {
			if (!scan_member(&c, keys, values, count))
				return -EBADMSG;
		} while (take(&c, ','));
		if (!take(&c, '}'))
			return -EBADMSG;
	}
	skip_space(&c);
	return c.at == c.end ? 0 : -EBADMSG;
}

bool scan_has(const struct scan_text *value)
{
	return value->at && !(value->len == 4 && memcmp(value->at, "null", 4) == 0);
}

bool scan_is_true(const struct scan_text *value)
{
	return value->at && value->len == 4 && memcmp(value->at, "true", 4) == 0;
}
