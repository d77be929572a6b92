/*
 * Values out of JSON. The server is not trusted to send what fits: every list
 * and text is cut at a bound, what a terminal would act upon is replaced, and
 * what cannot be read is as if it were absent, which never grants anything.
 */
#include "daemon/netmap/read.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define LABEL_MAX 63

struct json_object *read_member(struct json_object *o, const char *name, enum json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(o, json_type_object) ||
	    !json_object_object_get_ex(o, name, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

bool read_has(struct json_object *o, const char *name)
{
	struct json_object *value;

	return json_object_is_type(o, json_type_object) &&
	       json_object_object_get_ex(o, name, &value) && value;
}

int64_t read_int(struct json_object *o, const char *name)
{
	struct json_object *value = read_member(o, name, json_type_int);

	return value ? json_object_get_int64(value) : 0;
}

int read_int_within(struct json_object *o, const char *name, int min, int max)
{
	int64_t value = read_int(o, name);

	return value < min || value > max ? 0 : (int)value;
}

bool read_bool(struct json_object *o, const char *name)
{
	struct json_object *value = read_member(o, name, json_type_boolean);

	return value && json_object_get_boolean(value);
}

bool read_id(const char *text, int64_t *id)
{
	char *end;

	if (*text != '-' && !isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*id = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0';
}

/* Cut at the bound, but not within a UTF-8 sequence. */
static size_t bounded(const char *text, size_t len)
{
	if (len <= READ_TEXT_MAX)
		return len;
	len = READ_TEXT_MAX;
	while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
		len--;
	return len;
}

const char *read_text_value(struct arena *a, struct json_object *value)
{
	const char *text;
	size_t len;
	char *copy;

	if (!json_object_is_type(value, json_type_string))
		return "";
	text = json_object_get_string(value);
	len = bounded(text, (size_t)json_object_get_string_len(value));
	if (len == 0)
		return "";
	copy = arena_text(a, text, len);
	if (!copy)
		return "";
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)copy[i];

		/* C0 and DEL; C1 in UTF-8 is c2 80 to c2 9f. */
		if (c < 0x20 || c == 0x7f)
			copy[i] = '?';
		else if (c == 0xc2 && i + 1 < len && (unsigned char)copy[i + 1] < 0xa0)
			copy[i] = copy[i + 1] = '?';
	}
	return copy;
}

const char *read_text(struct arena *a, struct json_object *o, const char *name)
{
	return read_text_value(a, read_member(o, name, json_type_string));
}

bool read_is_localhost(const char *name)
{
	static const char reserved[] = "localhost";
	const char *last = strrchr(name, '.');

	return strcmp(last ? last + 1 : name, reserved) == 0 ||
	       (strncmp(name, reserved, strlen(reserved)) == 0 && name[strlen(reserved)] == '.');
}

static bool is_host_char(unsigned char c)
{
	return isalnum(c) || c == '-' || c == '_';
}

bool read_name(const char *text, size_t len, bool is_host, char out[static READ_NAME_MAX + 1])
{
	size_t label = 0;

	if (len > 0 && text[len - 1] == '.')
		len--;
	if (len == 0 || len > READ_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c <= ' ' || c >= 0x7f || (c == '.' && label == 0) ||
		    (is_host && c != '.' && !is_host_char(c)))
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > LABEL_MAX)
			return false;
		out[i] = (char)tolower(c);
	}
	out[len] = '\0';
	return label > 0;
}

const char *read_name_value(struct arena *a, struct json_object *value)
{
	char name[READ_NAME_MAX + 1];
	const char *copy;

	if (!json_object_is_type(value, json_type_string) ||
	    !read_name(json_object_get_string(value), (size_t)json_object_get_string_len(value),
		       true, name))
		return "";
	copy = arena_text(a, name, strlen(name));
	return copy ? copy : "";
}

/* ---- times ---- */

static bool digits(const char **at, int count, int *value)
{
	*value = 0;
	for (; count > 0; count--, (*at)++) {
		if (!isdigit((unsigned char)**at))
			return false;
		*value = *value * 10 + (**at - '0');
	}
	return true;
}

static bool take(const char **at, char c)
{
	return **at == c && *(*at)++;
}

/* Days since 1970 of a date of the Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year, m = month <= 2 ? month + 9 : month - 3;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

static bool zone_of(const char **at, int64_t *offset_s)
{
	int hours, minutes;
	char sign = **at;

	*offset_s = 0;
	if (take(at, 'Z'))
		return true;
	if ((sign != '+' && sign != '-') || !take(at, sign) || !digits(at, 2, &hours) ||
	    !take(at, ':') || !digits(at, 2, &minutes))
		return false;
	*offset_s = (hours * 3600 + minutes * 60) * (sign == '-' ? -1 : 1);
	return true;
}

int64_t read_time(struct json_object *o, const char *name)
{
	struct json_object *value = read_member(o, name, json_type_string);
	const char *at = value ? json_object_get_string(value) : "";
	int year, month, day, hour, minute, second;
	int64_t offset_s, time_s;

	if (!digits(&at, 4, &year) || !take(&at, '-') || !digits(&at, 2, &month) ||
	    !take(&at, '-') || !digits(&at, 2, &day) || !take(&at, 'T') || !digits(&at, 2, &hour) ||
	    !take(&at, ':') || !digits(&at, 2, &minute) || !take(&at, ':') ||
	    !digits(&at, 2, &second))
		return 0;
	if (take(&at, '.'))
		at += strspn(at, "0123456789");
	if (!zone_of(&at, &offset_s) || *at != '\0' || month < 1 || month > 12 || day < 1 ||
	    day > 31 || hour > 24 || minute > 60 || second > 60)
		return 0;
	time_s = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_s;
	if (year <= 1)
		return 0;               /* the zero time of the server */
	return MAX(time_s, INT64_C(1)); /* set, whatever it says */
}

bool read_key(struct json_object *o, const char *name, enum keytext_kind kind,
	      uint8_t key[static NETMAP_KEY_LEN])
{
	struct json_object *value = read_member(o, name, json_type_string);

	memset(key, 0, NETMAP_KEY_LEN);
	return value && keytext_parse(kind, json_object_get_string(value),
				      (size_t)json_object_get_string_len(value), key);
}

/* ---- addresses ---- */

bool read_addr(const char *text, struct ip_addr *addr)
{
	return ip_parse(text, addr) == 0 && !(ip_is_v4(addr) && strchr(text, ':'));
}

bool read_prefix(const char *text, struct ip_prefix *prefix)
{
	char addr[IP_TEXT_MAX];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : 0;
	int64_t bits;
	unsigned offset;

	if (!slash || len >= sizeof(addr) || !isdigit((unsigned char)slash[1]) ||
	    !read_id(slash + 1, &bits))
		return false;
	memcpy(addr, text, len);
	addr[len] = '\0';
	if (!read_addr(addr, &prefix->addr))
		return false;
	offset = ip_is_v4(&prefix->addr) ? 96 : 0;
	if (bits > 128 - (int64_t)offset)
		return false;
	prefix->len = (uint8_t)bits;
	for (unsigned bit = offset + prefix->len; bit < 128; bit++)
		prefix->addr.byte[bit / 8] &= (uint8_t) ~(0x80u >> bit % 8);
	return true;
}

/* ---- lists ---- */

unsigned read_length(struct json_object *list, unsigned max)
{
	size_t len = json_object_is_type(list, json_type_array) ? json_object_array_length(list)
								: 0;

	return (unsigned)MIN(len, (size_t)max);
}

const char *const *read_texts(struct arena *a, struct json_object *list, read_cleaner *clean,
			      unsigned *count)
{
	unsigned len = read_length(list, READ_LIST_MAX);
	const char **texts = len ? arena_alloc(a, len, sizeof(*texts)) : NULL;

	*count = 0;
	for (unsigned i = 0; texts && i < len; i++) {
		texts[*count] = clean(a, json_object_array_get_idx(list, i));
		if (*texts[*count])
			(*count)++;
	}
	return texts;
}
