/*
 * One MapResponse: read on the side, then put in place at once.
 *
 * Absent and null mean "as before" but in the first message of a stream, which
 * is the whole truth: what it leaves out is empty. Each part of the map is built
 * anew from its JSON only when the message speaks of it, and reported only when
 * its text differs from what it was.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/private.h"
#include "daemon/netmap/read.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

#define DEPTH_MAX     32 /* of nested JSON */
#define CLOCK_DELTA_S 60 /* up to this the clocks agree */
#define FILTERS_MAX   1024

struct stage {
	struct netmap *nm;
	struct json_object *message;
	struct netmap_changes *changes;
	struct node_item *self;
	struct peer_stage peers;
	struct user_stage users;
	struct section_derp *derp;
	struct section_dns *dns;
	struct section_filter *filter;
	struct section_health *health;
	char *domain;
};

/* Strictly: what is read leniently ("1e") is written as something else, and a delta would change
 * it. */
static struct json_object *parse(const char *json, size_t len)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	struct json_object *o;

	if (!tokener)
		return NULL;
	while (len > 0 && memchr(" \t\r\n", json[len - 1], 4))
		len--;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	o = json_tokener_parse_ex(tokener, json, (int)len);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(tokener);
	return o;
}

/* The old object of a section, for messages that change a part of it. NULL on -ENOMEM. */
static struct json_object *old_object(const struct stage *s, const char *json)
{
	return s->nm->is_fresh ? json_object_new_object() : json_tokener_parse(json);
}

/* Adds what other has under this name, if anything. */
static int inherit(struct json_object *o, struct json_object *other, const char *name)
{
	struct json_object *value = read_member(other, name, json_type_object);

	if (read_has(o, name) || !value)
		return 0;
	return json_object_object_add(o, name, json_object_get(value)) == 0 ? 0 : -ENOMEM;
}

/* ---- each part ---- */

static int stage_self(struct stage *s)
{
	struct json_object *o = read_member(s->message, "Node", json_type_object);
	bool is_invalid = false;

	if (!o)
		return s->nm->is_fresh ? -EINVAL : 0;
	s->self = node_create(o, &is_invalid);
	if (!s->self && !is_invalid)
		return -ENOMEM;
	if (!s->self && s->nm->is_fresh)
		return -EINVAL;
	if (!s->self)
		s->changes->ignored++;
	else
		s->changes->self = !s->nm->self ||
				   strcmp(s->nm->self->node.json, s->self->node.json) != 0;
	return 0;
}

static int stage_derp(struct stage *s)
{
	struct json_object *o = read_member(s->message, "DERPMap", json_type_object), *old;
	int err = 0;

	if (!o && !s->nm->is_fresh)
		return 0;
	if (o) {
		old = old_object(s, s->nm->derp->json);
		if (!old || inherit(o, old, "Regions") < 0 || inherit(o, old, "HomeParams") < 0)
			err = -ENOMEM;
		json_object_put(old);
	}
	if (err == 0)
		s->derp = section_derp_create(o, &s->changes->ignored);
	if (!s->derp)
		return -ENOMEM;
	s->changes->derp = strcmp(s->derp->json, s->nm->derp->json) != 0;
	return 0;
}

static int stage_dns(struct stage *s)
{
	struct json_object *o = read_member(s->message, "DNSConfig", json_type_object);

	if (!o && !s->nm->is_fresh)
		return 0;
	s->dns = section_dns_create(o, &s->changes->ignored);
	if (!s->dns)
		return -ENOMEM;
	s->changes->dns = strcmp(s->dns->json, s->nm->dns->json) != 0;
	return 0;
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* By name, so that equal filters have equal texts. NULL on -ENOMEM. */
static struct json_object *sorted(struct json_object *o)
{
	const char *name[FILTERS_MAX];
	struct json_object *out = json_object_new_object();
	unsigned count = 0;

	if (!out)
		return NULL;
	json_object_object_foreach(o, key, value)
	{
		(void)value;
		if (count < FILTERS_MAX)
			name[count++] = key;
	}
	qsort(name, count, sizeof(*name), compare_texts);
	for (unsigned i = 0; i < count; i++) {
		struct json_object *list = json_object_get(json_object_object_get(o, name[i]));

		if (json_object_object_add(out, name[i], list) < 0) {
			json_object_put(list);
			json_object_put(out);
			return NULL;
		}
	}
	return out;
}

/* What is not a list takes its name's rules away: nothing is let in by mistake. */
static int merge_named(struct stage *s, struct json_object *filters, struct json_object *named)
{
	json_object_object_foreach(named, name, list)
	{
		if (!json_object_is_type(list, json_type_array)) {
			s->changes->ignored += list != NULL;
			json_object_object_del(filters, name);
		} else if (json_object_object_length(filters) >= FILTERS_MAX) {
			s->changes->ignored++;
		} else if (json_object_object_add(filters, name, json_object_get(list)) < 0) {
			json_object_put(list);
			return -ENOMEM;
		}
	}
	return 0;
}

static int merge_filters(struct stage *s, struct json_object **filters)
{
	struct json_object *base = read_member(s->message, "PacketFilter", json_type_array);
	struct json_object *named = read_member(s->message, "PacketFilters", json_type_object);
	struct json_object *all;

	if (base && json_object_object_add(*filters, "base", json_object_get(base)) < 0) {
		json_object_put(base);
		return -ENOMEM;
	}
	if (!named)
		return 0;
	if (json_object_object_get_ex(named, "*", &all) && !all) {
		json_object_put(*filters);
		*filters = json_object_new_object();
		if (!*filters)
			return -ENOMEM;
	}
	return merge_named(s, *filters, named);
}

static int stage_filter(struct stage *s)
{
	struct json_object *filters, *in_order = NULL;

	if (!read_member(s->message, "PacketFilter", json_type_array) &&
	    !read_member(s->message, "PacketFilters", json_type_object) && !s->nm->is_fresh)
		return 0;
	filters = old_object(s, s->nm->filter->json);
	if (filters && merge_filters(s, &filters) == 0)
		in_order = sorted(filters);
	if (in_order)
		s->filter = section_filter_create(in_order, &s->changes->ignored);
	json_object_put(in_order);
	json_object_put(filters);
	if (!s->filter)
		return -ENOMEM;
	s->changes->filter = strcmp(s->filter->json, s->nm->filter->json) != 0;
	return 0;
}

static int merge_messages(struct json_object *health, struct json_object *changes)
{
	struct json_object *messages, *all;
	bool is_clear = json_object_object_get_ex(changes, "*", &all) && !all;

	messages =
		is_clear
			? NULL
			: json_object_get(read_member(health, "DisplayMessages", json_type_object));
	if (!messages)
		messages = json_object_new_object();
	if (!messages || json_object_object_add(health, "DisplayMessages", messages) < 0)
		return -ENOMEM;
	json_object_object_foreach(changes, id, message)
	{
		if (!message)
			json_object_object_del(messages, id);
		else if (json_object_object_length(messages) < SECTION_TEXTS_MAX &&
			 json_object_object_add(messages, id, json_object_get(message)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int stage_health(struct stage *s)
{
	struct json_object *list = read_member(s->message, "Health", json_type_array);
	struct json_object *messages = read_member(s->message, "DisplayMessages", json_type_object);
	struct json_object *o;
	int err = 0;

	if (!list && !messages && !s->nm->is_fresh)
		return 0;
	o = old_object(s, s->nm->health->json);
	if (!o || (list && json_object_object_add(o, "Health", json_object_get(list)) < 0))
		err = -ENOMEM;
	if (err == 0 && messages)
		err = merge_messages(o, messages);
	if (err == 0)
		s->health = section_health_create(o);
	json_object_put(o);
	if (!s->health)
		return -ENOMEM;
	s->changes->health = strcmp(s->health->json, s->nm->health->json) != 0;
	return 0;
}

static int stage_domain(struct stage *s)
{
	struct arena arena = { .chunk = NULL };
	const char *text = read_text(&arena, s->message, "Domain");

	if (*text || s->nm->is_fresh)
		s->domain = strdup(text);
	s->changes->domain = s->domain && strcmp(s->domain, s->nm->domain) != 0;
	arena_finish(&arena);
	return s->domain || (!*text && !s->nm->is_fresh) ? 0 : -ENOMEM;
}

static int stage_users(struct stage *s)
{
	int err = user_stage_init(&s->users, s->nm,
				  read_member(s->message, "UserProfiles", json_type_array),
				  &s->changes->ignored);

	s->changes->users = s->users.has_changed;
	return err;
}

static int stage_peers(struct stage *s, int64_t wall_s)
{
	int64_t self_id = s->self ? s->self->node.id : s->nm->self ? s->nm->self->node.id : 0;
	int err = peer_stage_init(&s->peers, s->nm, s->message, self_id);

	if (err == 0)
		err = peer_stage_apply(&s->peers, s->message, self_id, wall_s, s->changes);
	return err ? err : peer_stage_prepare(&s->peers, s->nm, s->changes);
}

/* ---- commit ---- */

#define SWAP(a, b)                           \
	do {                                 \
		__typeof__(a) swapped = (a); \
		(a) = (b);                   \
		(b) = swapped;               \
	} while (0)

static void set_clock(struct stage *s, int64_t wall_s)
{
	int64_t server_s = read_time(s->message, "ControlTime");

	if (server_s == 0)
		return;
	s->nm->clock_delta_s = server_s - wall_s;
	if (s->nm->clock_delta_s >= -CLOCK_DELTA_S && s->nm->clock_delta_s <= CLOCK_DELTA_S)
		s->nm->clock_delta_s = 0;
}

static void commit(struct stage *s, int64_t wall_s)
{
	struct netmap *nm = s->nm;

	if (s->self)
		SWAP(nm->self, s->self);
	if (s->derp)
		SWAP(nm->derp, s->derp);
	if (s->dns)
		SWAP(nm->dns, s->dns);
	if (s->filter)
		SWAP(nm->filter, s->filter);
	if (s->health)
		SWAP(nm->health, s->health);
	if (s->domain)
		SWAP(nm->domain, s->domain);
	user_stage_commit(&s->users, nm);
	peer_stage_commit(&s->peers, nm);
	set_clock(s, wall_s);
	nm->is_fresh = false;
}

static void stage_finish(struct stage *s)
{
	node_destroy(s->self);
	peer_stage_finish(&s->peers);
	user_stage_finish(&s->users, s->nm);
	section_derp_destroy(s->derp);
	section_dns_destroy(s->dns);
	section_filter_destroy(s->filter);
	section_health_destroy(s->health);
	free(s->domain);
	json_object_put(s->message);
}

/* Keepalives may come before the map. */
static bool is_keepalive(struct json_object *message)
{
	return read_bool(message, "KeepAlive") && !read_has(message, "Node");
}

int netmap_apply(struct netmap *nm, const char *json, size_t len, int64_t wall_s,
		 struct netmap_changes *changes)
{
	struct stage s = { .nm = nm, .changes = changes };
	int err;

	*changes = (struct netmap_changes){ .ignored = 0 };
	if (len > NETMAP_MESSAGE_MAX)
		return -EINVAL;
	s.message = parse(json, len);
	if (!json_object_is_type(s.message, json_type_object)) {
		json_object_put(s.message);
		return -EINVAL;
	}
	if (nm->is_fresh && is_keepalive(s.message)) {
		json_object_put(s.message);
		return 0;
	}
	(void)((err = stage_self(&s)) || (err = stage_derp(&s)) || (err = stage_dns(&s)) ||
	       (err = stage_filter(&s)) || (err = stage_health(&s)) || (err = stage_domain(&s)) ||
	       (err = stage_users(&s)) || (err = stage_peers(&s, wall_s)));
	if (err == 0)
		commit(&s, wall_s);
	else
		netmap_changes_finish(changes);
	stage_finish(&s);
	return err;
}

void netmap_changes_finish(struct netmap_changes *changes)
{
	free(changes->added.id);
	free(changes->changed.id);
	free(changes->removed.id);
	*changes = (struct netmap_changes){ .ignored = 0 };
}
