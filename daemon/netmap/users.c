/* UserProfiles: added or replaced by ID; nothing ever removes one but a new stream. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/private.h"
#include "daemon/netmap/read.h"

static void destroy(struct user_item *item)
{
	if (!item)
		return;
	arena_finish(&item->arena);
	free(item);
}

static struct user_item *create(struct json_object *o)
{
	struct user_item *item = calloc(1, sizeof(*item));

	if (!item)
		return NULL;
	item->arena.first_size = 256;
	item->user.id = read_int(o, "ID");
	item->user.login_name = read_text(&item->arena, o, "LoginName");
	item->user.display_name = read_text(&item->arena, o, "DisplayName");
	item->user.picture_url = read_text(&item->arena, o, "ProfilePicURL");
	if (item->arena.failed) {
		destroy(item);
		return NULL;
	}
	return item;
}

static bool is_same(const struct netmap_user *a, const struct netmap_user *b)
{
	return a->id == b->id && strcmp(a->login_name, b->login_name) == 0 &&
	       strcmp(a->display_name, b->display_name) == 0 &&
	       strcmp(a->picture_url, b->picture_url) == 0;
}

static bool is_in_map(const struct netmap *nm, const struct user_item *item)
{
	return netmap_user(nm, item->user.id) == &item->user;
}

/* Where the id stands or belongs. */
static unsigned position(const struct user_stage *stage, int64_t id)
{
	unsigned low = 0, high = stage->count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (stage->users[mid]->user.id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static void put(struct user_stage *stage, const struct netmap *nm, struct user_item *item,
		unsigned *ignored)
{
	unsigned at = position(stage, item->user.id);
	const struct netmap_user *old = netmap_user(nm, item->user.id);

	/* An unchanged one stays the item it is. */
	if (old && is_same(old, &item->user)) {
		destroy(item);
		item = (struct user_item *)((char *)old - offsetof(struct user_item, user));
	}
	if (at < stage->count && stage->users[at]->user.id == item->user.id) {
		if (stage->users[at] != item && !is_in_map(nm, stage->users[at]))
			destroy(stage->users[at]);
		stage->users[at] = item;
		return;
	}
	if (stage->count >= NETMAP_USERS_MAX) {
		++*ignored;
		if (!is_in_map(nm, item))
			destroy(item);
		return;
	}
	memmove(stage->users + at + 1, stage->users + at,
		(stage->count - at) * sizeof(*stage->users));
	stage->users[at] = item;
	stage->count++;
}

static bool differs(const struct user_stage *stage, const struct netmap *nm)
{
	return stage->count != nm->user_count ||
	       (stage->count > 0 &&
		memcmp(stage->users, nm->users, stage->count * sizeof(*stage->users)) != 0);
}

int user_stage_init(struct user_stage *stage, const struct netmap *nm, struct json_object *list,
		    unsigned *ignored)
{
	unsigned len = read_length(list, NETMAP_USERS_MAX);

	*stage = (struct user_stage){ .users = NULL };
	if (!nm->is_fresh && len == 0)
		return 0;
	stage->users = calloc((size_t)nm->user_count + len + 1, sizeof(*stage->users));
	if (!stage->users)
		return -ENOMEM;
	if (!nm->is_fresh && nm->user_count) {
		stage->count = nm->user_count;
		memcpy(stage->users, nm->users, stage->count * sizeof(*stage->users));
	}
	for (unsigned i = 0; i < len; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		struct user_item *item;

		if (read_int(o, "ID") == 0) {
			++*ignored;
			continue;
		}
		item = create(o);
		if (!item)
			return -ENOMEM;
		put(stage, nm, item, ignored);
	}
	stage->has_changed = differs(stage, nm);
	return 0;
}

void user_stage_commit(struct user_stage *stage, struct netmap *nm)
{
	unsigned at = 0;

	if (!stage->has_changed)
		return;
	for (unsigned i = 0; i < nm->user_count; i++) {
		while (at < stage->count && stage->users[at]->user.id < nm->users[i]->user.id)
			at++;
		if (at == stage->count || stage->users[at] != nm->users[i])
			destroy(nm->users[i]);
	}
	free(nm->users);
	nm->users = stage->users;
	nm->user_count = stage->count;
	stage->users = NULL;
	stage->count = 0;
}

void user_stage_finish(struct user_stage *stage, const struct netmap *nm)
{
	for (unsigned i = 0; i < stage->count; i++) {
		if (!is_in_map(nm, stage->users[i]))
			destroy(stage->users[i]);
	}
	free(stage->users);
}
