/*
 * The peers while a message is applied.
 *
 * Every id that the map or the message names gets a slot with what was and what
 * will be; the map itself is not touched before the commit. So a failure leaves
 * no trace, the changes are the difference of the two columns, and removing and
 * adding an id again in one message is no change at all. Slots are an array
 * sorted by id; a message that names no new id costs one copy of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/private.h"
#include "daemon/netmap/read.h"

#define MESSAGE_NODES_MAX (4u * NETMAP_PEERS_MAX)

/* ---- slots ---- */

static int compare_slots(const void *a, const void *b)
{
	const struct peer_slot *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return !x->old - !y->old; /* the one that is in the map first */
}

static struct peer_slot *find(struct peer_stage *stage, int64_t id)
{
	unsigned low = 0, high = stage->count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (stage->slot[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < stage->count && stage->slot[low].id == id ? &stage->slot[low] : NULL;
}

/* Slots for ids that are new to the map; message lists may name one twice. */
static void add_new_slots(struct peer_stage *stage, const struct netmap *nm,
			  struct json_object *list, int64_t self_id)
{
	unsigned known = stage->count, kept = 0;

	for (unsigned i = 0; i < read_length(list, MESSAGE_NODES_MAX); i++) {
		int64_t id = read_int(json_object_array_get_idx(list, i), "ID");

		if (id > 0 && id != self_id && !netmap_peer_by_id(nm, id))
			stage->slot[stage->count++] = (struct peer_slot){ .id = id };
	}
	if (stage->count == known)
		return;
	qsort(stage->slot, stage->count, sizeof(*stage->slot), compare_slots);
	for (unsigned i = 0; i < stage->count; i++) {
		if (kept == 0 || stage->slot[kept - 1].id != stage->slot[i].id)
			stage->slot[kept++] = stage->slot[i];
	}
	stage->count = kept;
}

int peer_stage_init(struct peer_stage *stage, struct netmap *nm, struct json_object *message,
		    int64_t self_id)
{
	struct json_object *full = read_member(message, "Peers", json_type_array);
	struct json_object *some = read_member(message, "PeersChanged", json_type_array);
	struct json_object *list = read_length(full, 1) ? full : some;
	bool is_full = nm->is_fresh || read_length(full, 1);

	*stage = (struct peer_stage){ .slot = NULL };
	stage->slot = calloc((size_t)nm->peer_count + read_length(list, MESSAGE_NODES_MAX) + 1,
			     sizeof(*stage->slot));
	if (!stage->slot)
		return -ENOMEM;
	for (unsigned i = 0; i < nm->peer_count; i++) {
		struct node_item *item = nm->peers[i];
		/* We are no peer, also when the server has just given us a peer's number. */
		bool is_kept = !is_full && item->node.id != self_id;

		stage->slot[stage->count++] =
			(struct peer_slot){ item->node.id, item, is_kept ? item : NULL };
		stage->live += is_kept;
	}
	add_new_slots(stage, nm, list, self_id);
	return 0;
}

/* item takes the place of what the slot held; NULL: nothing does. */
static void put(struct peer_stage *stage, struct peer_slot *slot, struct node_item *item)
{
	/* An unchanged one stays the item it is. */
	if (item && slot->old && item != slot->old &&
	    strcmp(slot->old->node.json, item->node.json) == 0) {
		node_destroy(item);
		item = slot->old;
	}
	if (slot->item && !item)
		stage->live--;
	if (!slot->item && item)
		stage->live++;
	if (slot->item != slot->old && slot->item != item)
		node_destroy(slot->item);
	slot->item = item;
}

/* ---- what a message says ---- */

static int put_nodes(struct peer_stage *stage, struct json_object *list, int64_t self_id,
		     unsigned *ignored)
{
	size_t all = list ? json_object_array_length(list) : 0;
	unsigned len = read_length(list, MESSAGE_NODES_MAX);

	*ignored += (unsigned)(all - len);
	for (unsigned i = 0; i < len; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		int64_t id = read_int(o, "ID");
		struct peer_slot *slot = id == self_id ? NULL : find(stage, id);
		struct node_item *item;
		bool is_invalid = true;

		if (!slot || (!slot->item && stage->live >= NETMAP_PEERS_MAX)) {
			++*ignored;
			continue;
		}
		item = node_create(o, &is_invalid);
		if (!item && !is_invalid)
			return -ENOMEM;
		if (item)
			put(stage, slot, item);
		else
			++*ignored;
	}
	return 0;
}

static void remove_nodes(struct peer_stage *stage, struct json_object *list)
{
	for (unsigned i = 0; i < read_length(list, MESSAGE_NODES_MAX); i++) {
		struct json_object *id = json_object_array_get_idx(list, i);
		struct peer_slot *slot = json_object_is_type(id, json_type_int)
						 ? find(stage, json_object_get_int64(id))
						 : NULL;

		if (slot)
			put(stage, slot, NULL);
	}
}

/* One change to the text of a node. */
struct edit {
	struct json_object *patch; /* or: */
	bool is_online, sets_online;
	int64_t last_seen_s;
};

static int edit_object(struct json_object *o, const struct edit *edit)
{
	if (edit->patch)
		return node_patch(o, edit->patch);
	return edit->sets_online ? node_set_online(o, edit->is_online)
				 : node_set_last_seen(o, edit->last_seen_s);
}

static int edit_node(struct peer_stage *stage, int64_t id, const struct edit *edit,
		     unsigned *ignored)
{
	struct peer_slot *slot = find(stage, id);
	struct node_item *item = NULL;
	struct json_object *o;
	bool is_invalid = false;
	int err;

	if (!slot || !slot->item)
		return 0;
	o = json_tokener_parse(slot->item->node.json);
	err = o ? edit_object(o, edit) : -ENOMEM;
	if (err == 0) {
		item = node_create(o, &is_invalid);
		if (item)
			put(stage, slot, item);
		else if (is_invalid)
			++*ignored; /* it grew too large */
		else
			err = -ENOMEM;
	}
	json_object_put(o);
	return err;
}

/* PeerSeenChange and OnlineChange: "id" -> bool. */
static int edit_nodes(struct peer_stage *stage, struct json_object *map, bool sets_online,
		      int64_t wall_s, unsigned *ignored)
{
	if (!map)
		return 0;
	json_object_object_foreach(map, key, value)
	{
		struct edit edit = { .sets_online = sets_online };
		int64_t id;
		int err;

		if (!json_object_is_type(value, json_type_boolean) || !read_id(key, &id)) {
			++*ignored;
			continue;
		}
		edit.is_online = json_object_get_boolean(value);
		edit.last_seen_s = edit.is_online ? wall_s : 0;
		err = edit_node(stage, id, &edit, ignored);
		if (err < 0)
			return err;
	}
	return 0;
}

static int patch_nodes(struct peer_stage *stage, struct json_object *list, unsigned *ignored)
{
	for (unsigned i = 0; i < read_length(list, MESSAGE_NODES_MAX); i++) {
		struct edit edit = { .patch = json_object_array_get_idx(list, i) };
		int err;

		if (!json_object_is_type(edit.patch, json_type_object)) {
			++*ignored;
			continue;
		}
		err = edit_node(stage, read_int(edit.patch, "NodeID"), &edit, ignored);
		if (err < 0)
			return err;
	}
	return 0;
}

int peer_stage_apply(struct peer_stage *stage, struct json_object *message, int64_t self_id,
		     int64_t wall_s, struct netmap_changes *changes)
{
	struct json_object *full = read_member(message, "Peers", json_type_array);
	unsigned *ignored = &changes->ignored;
	int err;

	if (read_length(full, 1))
		return put_nodes(stage, full, self_id, ignored);
	remove_nodes(stage, read_member(message, "PeersRemoved", json_type_array));
	err = put_nodes(stage, read_member(message, "PeersChanged", json_type_array), self_id,
			ignored);
	if (err == 0)
		err = edit_nodes(stage, read_member(message, "PeerSeenChange", json_type_object),
				 false, wall_s, ignored);
	if (err == 0)
		err = edit_nodes(stage, read_member(message, "OnlineChange", json_type_object),
				 true, wall_s, ignored);
	if (err == 0)
		err = patch_nodes(stage, read_member(message, "PeersChangedPatch", json_type_array),
				  ignored);
	return err;
}

/* ---- what follows ---- */

static bool claims_equal(const struct netmap_node *a, const struct netmap_node *b)
{
	if (memcmp(a->key, b->key, sizeof(a->key)) != 0 || a->is_expired != b->is_expired ||
	    a->is_unusable != b->is_unusable || a->allowed_count != b->allowed_count ||
	    a->address_count != b->address_count)
		return false;
	for (unsigned i = 0; i < a->allowed_count; i++) {
		if (!prefix_equal(&a->allowed[i], &b->allowed[i]))
			return false;
	}
	for (unsigned i = 0; i < a->address_count; i++) {
		if (!prefix_equal(&a->addresses[i], &b->addresses[i]))
			return false;
	}
	return true;
}

/* The same for who looks from outside. */
static bool faces_equal(const struct netmap_node *a, const struct netmap_node *b)
{
	if (strcmp(a->name, b->name) != 0 || a->cap_count != b->cap_count)
		return false;
	for (unsigned i = 0; i < a->cap_count; i++) {
		if (strcmp(a->caps[i], b->caps[i]) != 0)
			return false;
	}
	return true;
}

/* Those in the map that claim what this node claims, or claimed. */
static void touch_rivals(const struct netmap *nm, const struct node_item *item)
{
	for (unsigned i = 0; item && i < item->entry_count; i++) {
		const struct index_entry *claim = &item->entries[i];
		bool is_claim = i == NETMAP_KEY_ENTRY || claim->prefix;
		struct index_chain *chain = is_claim ? index_find(&nm->index, claim->hash) : NULL;

		if (!chain || chain->round == nm->round)
			continue;
		chain->round = nm->round;
		for (struct index_entry *e = chain->first; e; e = e->next)
			e->item->is_touched = true;
	}
}

static int add_id(struct netmap_ids *ids, int64_t id)
{
	if (ids->count == ids->room) {
		unsigned room = ids->room ? ids->room * 2 : 8;
		int64_t *more = realloc(ids->id, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		ids->id = more;
		ids->room = room;
	}
	ids->id[ids->count++] = id;
	return 0;
}

static int list_change(const struct peer_slot *slot, struct netmap_changes *changes)
{
	if (!slot->old)
		return slot->item ? add_id(&changes->added, slot->id) : 0;
	if (!slot->item)
		return add_id(&changes->removed, slot->id);
	if (slot->old->is_touched ||
	    (slot->old != slot->item && !node_equal(&slot->old->node, &slot->item->node)))
		return add_id(&changes->changed, slot->id);
	return 0;
}

int peer_stage_prepare(struct peer_stage *stage, struct netmap *nm, struct netmap_changes *changes)
{
	size_t entries = 0;
	unsigned at = 0;
	int err = 0;

	nm->round++;
	for (unsigned i = 0; i < stage->count; i++) {
		struct peer_slot *slot = &stage->slot[i];

		if (slot->item == slot->old)
			continue;
		stage->has_changed = true;
		if (slot->item)
			err = netmap_make_entries(&nm->index, slot->item);
		if (err)
			break;
		entries += slot->item ? slot->item->entry_count : 0;
		if (!slot->item || !slot->old || !faces_equal(&slot->item->node, &slot->old->node))
			changes->faces = true;
		if (slot->item && slot->old && claims_equal(&slot->item->node, &slot->old->node))
			continue;
		changes->faces = true;
		touch_rivals(nm, slot->old);
		touch_rivals(nm, slot->item);
	}
	if (!err && !stage->has_changed)
		return 0;
	stage->peers = err ? NULL : calloc(stage->live + 1u, sizeof(struct node_item *));
	if (!stage->peers)
		err = -ENOMEM;
	for (unsigned i = 0; i < stage->count; i++) {
		struct peer_slot *slot = &stage->slot[i];

		if (err == 0)
			err = list_change(slot, changes);
		if (slot->old)
			slot->old->is_touched = false;
		if (err == 0 && slot->item)
			stage->peers[at++] = slot->item;
	}
	return err ? err : index_reserve(&nm->index, entries);
}

void peer_stage_commit(struct peer_stage *stage, struct netmap *nm)
{
	for (unsigned i = 0; i < stage->count; i++) {
		struct peer_slot *slot = &stage->slot[i];

		if (slot->item == slot->old)
			continue;
		for (unsigned k = 0; slot->old && k < slot->old->entry_count; k++)
			index_remove(&nm->index, &slot->old->entries[k]);
		for (unsigned k = 0; slot->item && k < slot->item->entry_count; k++)
			index_add(&nm->index, &slot->item->entries[k]);
		node_destroy(slot->old);
		slot->old = slot->item;
	}
	if (!stage->has_changed)
		return;
	index_trim(&nm->index);
	free(nm->peers);
	nm->peers = stage->peers;
	nm->peer_count = stage->live;
	stage->peers = NULL;
}

void peer_stage_finish(struct peer_stage *stage)
{
	for (unsigned i = 0; i < stage->count; i++) {
		if (stage->slot[i].item != stage->slot[i].old)
			node_destroy(stage->slot[i].item);
	}
	free(stage->slot);
	free(stage->peers);
}
