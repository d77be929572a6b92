/* Texts of a user and of the environment: everything is checked, and copied where it must be
 * changed. */
#include "daemon/options_value.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "shared/flag.h"
#include "shared/paths.h"
#include "shared/util.h"

#define LABEL_MAX 63

const char *value_flag(const char *text, bool *flag)
{
	*flag = true;
	return !text || flag_read(text, flag) ? NULL : "takes true or false";
}

const char *value_level(const char *text, enum log_level *level)
{
	for (*level = LOG_ERR; *level <= LOG_DEBUG; (*level)++)
		if (strcmp(log_level_name(*level), text) == 0)
			return NULL;
	return "is one of error, warning, info, debug";
}

const char *value_url(const char *text, char *url, size_t room)
{
	size_t len = strlen(text), scheme = 0;

	if (strncasecmp(text, "http://", 7) == 0)
		scheme = 7;
	else if (strncasecmp(text, "https://", 8) == 0)
		scheme = 8;
	while (len > scheme && text[len - 1] == '/')
		len--;
	if (scheme == 0 || len == scheme || text[scheme] == '/' || len >= room)
		return "takes a URL, as in https://headscale.example.com";
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] >= 0x7f || strchr("\"<>@?#\\", text[i]))
			return "takes a URL of just scheme, host, port and path";
	memcpy(url, text, len);
	url[len] = '\0';
	for (size_t i = 0; i < scheme; i++)
		url[i] = (char)tolower((unsigned char)url[i]);
	return NULL;
}

static bool is_name_char(char c)
{
	return isalnum((unsigned char)c) || c == '-';
}

const char *value_hostname(const char *text, char name[static VALUE_HOSTNAME_MAX + 1])
{
	size_t len = strlen(text), label = 0;

	if (len == 0 || len > VALUE_HOSTNAME_MAX)
		return "takes a name of at most 253 characters";
	for (size_t i = 0; i <= len; i++) {
		bool is_end = text[i] == '.' || text[i] == '\0';

		if (is_end && (i == label || i - label > LABEL_MAX || text[i - 1] == '-'))
			return "takes a name whose parts have 1 to 63 characters";
		if ((!is_end && !is_name_char(text[i])) || (i == label && text[i] == '-'))
			return "takes letters, digits and hyphens";
		if (is_end)
			label = i + 1;
	}
	memcpy(name, text, len + 1);
	return NULL;
}

void value_own_hostname(char name[static VALUE_HOSTNAME_MAX + 1])
{
	char own[VALUE_HOSTNAME_MAX + 1] = "";
	size_t len = 0;

	if (gethostname(own, sizeof(own) - 1) != 0)
		own[0] = '\0';
	own[strcspn(own, ".")] = '\0';
	/* What a host name cannot hold becomes a hyphen, except at its start. */
	for (const char *c = own; *c && len < LABEL_MAX; c++)
		if (is_name_char(*c) || len > 0)
			own[len++] = is_name_char(*c) ? *c : '-';
	while (len > 0 && own[len - 1] == '-')
		len--;
	own[len] = '\0';
	if (value_hostname(own, name))
		snprintf(name, VALUE_HOSTNAME_MAX + 1, "meshwrap");
}

const char *value_state(const char *text, char *path, size_t room)
{
	int err = 0;

	path[0] = '\0';
	if (text[0] && strcmp(text, "mem:") != 0)
		err = paths_absolute(text, path, room);
	if (err == -ENAMETOOLONG)
		return "is too long";
	return err ? "must be an absolute path here" : NULL;
}

static bool is_tag(const char *text)
{
	static const char prefix[] = "tag:";

	if (strncmp(text, prefix, sizeof(prefix) - 1) != 0)
		return false;
	text += sizeof(prefix) - 1;
	if (!isalpha((unsigned char)*text))
		return false;
	while (is_name_char(*text))
		text++;
	return *text == '\0';
}

const char *value_tags(const char *text, char *room, size_t size, const char **tags, unsigned max,
		       unsigned *count)
{
	char *rest = room, *tag;

	if ((size_t)snprintf(room, size, "%s", text) >= size)
		return "has too many tags";
	*count = 0;
	while ((tag = strsep(&rest, ",")) != NULL) {
		if (*tag == '\0')
			continue;
		if (!is_tag(tag))
			return "takes tags as in tag:web,tag:host";
		if (*count == max)
			return "has too many tags";
		tags[(*count)++] = tag;
	}
	return NULL;
}
