/* What the server wants its user to read: Health, then DisplayMessages as "title: text". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/read.h"
#include "daemon/netmap/sections.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

static const char *message_text(struct arena *a, struct json_object *message)
{
	const char *title = read_text(a, message, "Title"), *text = read_text(a, message, "Text");
	size_t room = strlen(title) + strlen(text) + 3;
	char *both;

	if (!*title || !*text)
		return *title ? title : text;
	both = arena_alloc(a, room, 1);
	if (!both)
		return "";
	snprintf(both, room, "%s: %s", title, text);
	return both;
}

static void derive(struct section_health *s, struct json_object *o)
{
	struct json_object *list = read_member(o, "Health", json_type_array);
	struct json_object *messages = read_member(o, "DisplayMessages", json_type_object);
	unsigned len = read_length(list, SECTION_TEXTS_MAX);
	const char **texts = arena_alloc(&s->arena, SECTION_TEXTS_MAX, sizeof(*texts));

	if (!texts)
		return;
	s->texts = texts;
	for (unsigned i = 0; i < len; i++) {
		const char *text = read_text_value(&s->arena, json_object_array_get_idx(list, i));

		if (*text)
			texts[s->count++] = text;
	}
	if (!messages)
		return;
	json_object_object_foreach(messages, id, message)
	{
		(void)id;
		if (s->count < SECTION_TEXTS_MAX) {
			const char *text = message_text(&s->arena, message);

			if (*text)
				texts[s->count++] = text;
		}
	}
}

struct section_health *section_health_create(struct json_object *o)
{
	struct section_health *s = calloc(1, sizeof(*s));
	const char *text = o ? json_object_to_json_string_ext(o, TEXT_FLAGS) : "{}";

	if (!s)
		return NULL;
	if (text)
		s->json = arena_text(&s->arena, text, strlen(text));
	derive(s, o);
	if (!s->json || s->arena.failed) {
		section_health_destroy(s);
		return NULL;
	}
	return s;
}

void section_health_destroy(struct section_health *s)
{
	if (!s)
		return;
	arena_finish(&s->arena);
	free(s);
}
