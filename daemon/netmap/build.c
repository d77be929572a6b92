/* Thin: the library's calls, and one flag. */
#include "daemon/netmap/build.h"

#include <stdio.h>

#include "daemon/netmap/text.h"

void build_add_null(struct build *b, struct json_object *o, const char *name)
{
	if (!o || json_object_object_add(o, name, NULL) < 0)
		b->failed = true;
}

void build_add(struct build *b, struct json_object *o, const char *name, struct json_object *value)
{
	if (value && o && json_object_object_add(o, name, value) == 0)
		return;
	json_object_put(value);
	b->failed = true;
}

void build_text(struct build *b, struct json_object *o, const char *name, const char *text)
{
	build_add(b, o, name, json_object_new_string(text));
}

void build_bool(struct build *b, struct json_object *o, const char *name, bool value)
{
	build_add(b, o, name, json_object_new_boolean(value));
}

void build_int(struct build *b, struct json_object *o, const char *name, int64_t value)
{
	build_add(b, o, name, json_object_new_int64(value));
}

void build_time(struct build *b, struct json_object *o, const char *name, int64_t time_s)
{
	char text[TEXT_TIME_MAX];

	build_text(b, o, name, text_time(time_s, text));
}

void build_append(struct build *b, struct json_object *list, struct json_object *value)
{
	if (value && list && json_object_array_add(list, value) == 0)
		return;
	json_object_put(value);
	b->failed = true;
}

static struct json_object *checked(struct build *b, struct json_object *o)
{
	b->failed |= !o;
	return o;
}

struct json_object *build_object(struct build *b)
{
	return checked(b, json_object_new_object());
}

struct json_object *build_list(struct build *b)
{
	return checked(b, json_object_new_array());
}

struct json_object *build_string(struct build *b, const char *text)
{
	return checked(b, json_object_new_string(text));
}

struct json_object *build_texts(struct build *b, const char *const *texts, unsigned count)
{
	struct json_object *list = build_list(b);

	for (unsigned i = 0; i < count; i++)
		build_append(b, list, build_string(b, texts[i]));
	return list;
}

struct json_object *build_prefix(struct build *b, const struct ip_prefix *prefix)
{
	char addr[IP_TEXT_MAX], text[IP_TEXT_MAX + 4];

	snprintf(text, sizeof(text), "%s/%u", ip_format(&prefix->addr, addr), prefix->len);
	return build_string(b, text);
}

void build_copy(struct build *b, struct json_object *o, struct json_object *from, const char *name,
		enum json_type type)
{
	struct json_object *value;

	if (!json_object_is_type(from, json_type_object) ||
	    !json_object_object_get_ex(from, name, &value) || !json_object_is_type(value, type))
		return;
	if ((type == json_type_object && json_object_object_length(value) == 0) ||
	    (type == json_type_array && json_object_array_length(value) == 0))
		return;
	build_add(b, o, name, json_object_get(value));
}

struct json_object *build_result(const struct build *b, struct json_object *o)
{
	if (!b->failed)
		return o;
	json_object_put(o);
	return NULL;
}
