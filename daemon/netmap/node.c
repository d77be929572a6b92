/*
 * From the server's object to the struct.
 *
 * A node needs an ID and a well-formed key; a malformed key is not "no key", and
 * whoever takes it for one would make two nodes one. Everything else may be
 * absent. The text is kept as the library writes it, not as it came, so that a
 * node has one text however it got its state.
 */
#include "daemon/netmap/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/read.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

#define DERP_ADDRESS "127.3.3.40:"
#define DERP_MAX     65535
#define CAP_MAX      512 /* length of a capability's name */

bool prefix_equal(const struct ip_prefix *a, const struct ip_prefix *b)
{
	return a->len == b->len && ip_equal(&a->addr, &b->addr);
}

bool node_owns(const struct netmap_node *node, const struct ip_prefix *prefix)
{
	for (unsigned i = 0; i < node->address_count; i++) {
		if (prefix_equal(&node->addresses[i], prefix))
			return true;
	}
	return false;
}

static struct ip_prefix *read_prefixes(struct arena *a, struct json_object *list, unsigned max,
				       unsigned *count)
{
	unsigned len = read_length(list, max);
	struct ip_prefix *out = len ? arena_alloc(a, len, sizeof(*out)) : NULL;

	*count = 0;
	for (unsigned i = 0; out && i < len; i++) {
		struct json_object *value = json_object_array_get_idx(list, i);
		struct ip_prefix prefix = { .len = 0 };
		bool is_known = false;

		if (!json_object_is_type(value, json_type_string) ||
		    !read_prefix(json_object_get_string(value), &prefix))
			continue;
		for (unsigned k = 0; k < *count && !is_known; k++)
			is_known = prefix_equal(&out[k], &prefix);
		if (!is_known)
			out[(*count)++] = prefix;
	}
	return out;
}

static void read_addresses(struct arena *a, struct json_object *o, struct netmap_node *n)
{
	n->addresses = read_prefixes(a, read_member(o, "Addresses", json_type_array),
				     NODE_ADDRESSES_MAX, &n->address_count);
	if (read_has(o, "AllowedIPs")) {
		n->allowed = read_prefixes(a, read_member(o, "AllowedIPs", json_type_array),
					   NODE_ALLOWED_MAX, &n->allowed_count);
	} else {
		n->allowed = n->addresses;
		n->allowed_count = n->address_count;
	}
}

static void read_endpoints(struct arena *a, struct json_object *o, struct netmap_node *n)
{
	struct json_object *list = read_member(o, "Endpoints", json_type_array);
	unsigned len = read_length(list, NODE_ENDPOINTS_MAX);

	n->endpoints = len ? arena_alloc(a, len, sizeof(*n->endpoints)) : NULL;
	for (unsigned i = 0; n->endpoints && i < len; i++) {
		struct json_object *value = json_object_array_get_idx(list, i);
		struct endpoint *ep = &n->endpoints[n->endpoint_count];

		if (json_object_is_type(value, json_type_string) &&
		    endpoint_parse(json_object_get_string(value), ep) == 0 && ep->port)
			n->endpoint_count++;
	}
}

static int read_home_derp(struct json_object *o)
{
	struct json_object *old = read_member(o, "DERP", json_type_string);
	int home = read_int_within(o, "HomeDERP", 0, DERP_MAX);
	const char *text = old ? json_object_get_string(old) : "";
	int64_t region;

	if (home || strncmp(text, DERP_ADDRESS, strlen(DERP_ADDRESS)) != 0 ||
	    !read_id(text + strlen(DERP_ADDRESS), &region) || region < 0 || region > DERP_MAX)
		return home;
	return (int)region;
}

static bool has_text(const char *const *list, unsigned count, const char *text)
{
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(list[i], text) == 0)
			return true;
	}
	return false;
}

/* Keys of CapMap, then what only the old list names. */
static void read_caps(struct arena *a, struct json_object *o, struct netmap_node *n)
{
	struct json_object *map = read_member(o, "CapMap", json_type_object);
	struct json_object *list = read_member(o, "Capabilities", json_type_array);
	unsigned old = read_length(list, READ_LIST_MAX);
	unsigned len =
		(map ? (unsigned)MIN(json_object_object_length(map), READ_LIST_MAX) : 0) + old;
	const char **caps = len ? arena_alloc(a, len, sizeof(*caps)) : NULL;

	if (!caps)
		return;
	if (map) {
		json_object_object_foreach(map, key, value)
		{
			(void)value;
			if (n->cap_count < len - old && strlen(key) <= CAP_MAX &&
			    (caps[n->cap_count] = arena_text(a, key, strlen(key))))
				n->cap_count++;
		}
	}
	for (unsigned i = 0; i < old; i++) {
		const char *cap = read_text_value(a, json_object_array_get_idx(list, i));

		if (*cap && strlen(cap) <= CAP_MAX && !has_text(caps, n->cap_count, cap))
			caps[n->cap_count++] = cap;
	}
	n->caps = caps;
}

static void read_services(struct json_object *hostinfo, struct netmap_node *n)
{
	struct json_object *list = read_member(hostinfo, "Services", json_type_array);

	for (unsigned i = 0; i < read_length(list, READ_LIST_MAX); i++) {
		struct json_object *service = json_object_array_get_idx(list, i);
		struct json_object *proto = read_member(service, "Proto", json_type_string);
		const char *name = proto ? json_object_get_string(proto) : "";
		int port = read_int_within(service, "Port", 1, UINT16_MAX);

		if (strcmp(name, "peerapi4") == 0)
			n->peerapi4_port = (uint16_t)port;
		else if (strcmp(name, "peerapi6") == 0)
			n->peerapi6_port = (uint16_t)port;
	}
}

static enum netmap_online read_online(struct json_object *o)
{
	struct json_object *value = read_member(o, "Online", json_type_boolean);

	if (!value)
		return NETMAP_ONLINE_UNKNOWN;
	return json_object_get_boolean(value) ? NETMAP_ONLINE : NETMAP_OFFLINE;
}

static bool is_true_text(struct json_object *o, const char *name)
{
	struct json_object *value =
		json_object_is_type(o, json_type_object) ? json_object_object_get(o, name) : NULL;

	return json_object_is_type(value, json_type_boolean)
		       ? json_object_get_boolean(value)
		       : json_object_is_type(value, json_type_string) &&
				 strcmp(json_object_get_string(value), "true") == 0;
}

static void derive(struct arena *a, struct json_object *o, struct netmap_node *n)
{
	struct json_object *hostinfo = read_member(o, "Hostinfo", json_type_object);

	n->stable_id = read_text(a, o, "StableID");
	n->name = read_name_value(a, read_member(o, "Name", json_type_string));
	if (read_is_localhost(n->name))
		n->name = "";
	n->home_derp = read_home_derp(o);
	n->key_expiry = read_time(o, "KeyExpiry");
	n->last_seen = read_time(o, "LastSeen");
	n->created = read_time(o, "Created");
	n->user = read_int(o, "User");
	n->sharer = read_int(o, "Sharer");
	n->cap_version = read_int_within(o, "Cap", 0, 1 << 20);
	n->online = read_online(o);
	n->is_expired = read_bool(o, "Expired");
	n->is_authorized = read_bool(o, "MachineAuthorized");
	n->is_jailed = read_bool(o, "IsJailed");
	n->is_wireguard_only = read_bool(o, "IsWireGuardOnly");
	n->is_unusable = read_bool(o, "UnsignedPeerAPIOnly") ||
			 read_has(o, "SelfNodeV4MasqAddrForThisPeer") ||
			 read_has(o, "SelfNodeV6MasqAddrForThisPeer");
	n->host_name = read_text(a, hostinfo, "Hostname");
	n->os = read_text(a, hostinfo, "OS");
	n->is_hidden = is_true_text(hostinfo, "ShareeNode");
	n->tags = read_texts(a, read_member(o, "Tags", json_type_array), read_text_value,
			     &n->tag_count);
	read_addresses(a, o, n);
	read_endpoints(a, o, n);
	read_caps(a, o, n);
	read_services(hostinfo, n);
}

struct node_item *node_create(struct json_object *o, bool *is_invalid)
{
	uint8_t key[NETMAP_KEY_LEN], disco_key[NETMAP_KEY_LEN];
	struct node_item *item = NULL;
	const char *text;
	size_t len;

	*is_invalid = read_int(o, "ID") <= 0 || !read_key(o, "Key", KEYTEXT_NODE, key);
	if (*is_invalid)
		return NULL;
	/* A malformed disco key is none: the peer is reached by relay. */
	read_key(o, "DiscoKey", KEYTEXT_DISCO, disco_key);
	text = json_object_to_json_string_length(o, TEXT_FLAGS, &len);
	*is_invalid = text && len > NODE_JSON_MAX;
	if (!text || *is_invalid)
		return NULL;
	item = calloc(1, sizeof(*item));
	if (!item)
		return NULL;
	item->arena.first_size = len + 512;
	item->node.id = read_int(o, "ID");
	memcpy(item->node.key, key, sizeof(key));
	memcpy(item->node.disco_key, disco_key, sizeof(disco_key));
	item->node.json = arena_text(&item->arena, text, len);
	derive(&item->arena, o, &item->node);
	if (item->arena.failed) {
		node_destroy(item);
		return NULL;
	}
	return item;
}

void node_destroy(struct node_item *item)
{
	if (!item)
		return;
	arena_finish(&item->arena);
	free(item->entries);
	free(item);
}

/* ---- the same? ---- */

static bool prefixes_equal(const struct ip_prefix *a, unsigned a_count, const struct ip_prefix *b,
			   unsigned b_count)
{
	for (unsigned i = 0; a_count == b_count && i < a_count; i++) {
		if (!prefix_equal(&a[i], &b[i]))
			return false;
	}
	return a_count == b_count;
}

static bool texts_equal(const char *const *a, unsigned a_count, const char *const *b,
			unsigned b_count)
{
	for (unsigned i = 0; a_count == b_count && i < a_count; i++) {
		if (strcmp(a[i], b[i]) != 0)
			return false;
	}
	return a_count == b_count;
}

static bool endpoints_equal(const struct netmap_node *a, const struct netmap_node *b)
{
	for (unsigned i = 0; a->endpoint_count == b->endpoint_count && i < a->endpoint_count; i++) {
		if (!endpoint_equal(&a->endpoints[i], &b->endpoints[i]))
			return false;
	}
	return a->endpoint_count == b->endpoint_count;
}

static bool flags_equal(const struct netmap_node *a, const struct netmap_node *b)
{
	return a->is_expired == b->is_expired && a->is_authorized == b->is_authorized &&
	       a->is_jailed == b->is_jailed && a->is_wireguard_only == b->is_wireguard_only &&
	       a->is_hidden == b->is_hidden && a->is_unusable == b->is_unusable &&
	       a->peerapi4_port == b->peerapi4_port && a->peerapi6_port == b->peerapi6_port;
}

bool node_equal(const struct netmap_node *a, const struct netmap_node *b)
{
	return a->id == b->id && strcmp(a->stable_id, b->stable_id) == 0 &&
	       strcmp(a->name, b->name) == 0 && memcmp(a->key, b->key, sizeof(a->key)) == 0 &&
	       memcmp(a->disco_key, b->disco_key, sizeof(a->disco_key)) == 0 &&
	       prefixes_equal(a->addresses, a->address_count, b->addresses, b->address_count) &&
	       prefixes_equal(a->allowed, a->allowed_count, b->allowed, b->allowed_count) &&
	       endpoints_equal(a, b) && a->home_derp == b->home_derp &&
	       a->key_expiry == b->key_expiry && a->last_seen == b->last_seen &&
	       a->created == b->created && a->user == b->user && a->sharer == b->sharer &&
	       texts_equal(a->tags, a->tag_count, b->tags, b->tag_count) &&
	       texts_equal(a->caps, a->cap_count, b->caps, b->cap_count) &&
	       strcmp(a->host_name, b->host_name) == 0 && strcmp(a->os, b->os) == 0 &&
	       a->cap_version == b->cap_version && a->online == b->online && flags_equal(a, b);
}

/* ---- patches ---- */

/* Takes value; a NULL one is out of memory. */
static int set(struct json_object *node, const char *name, struct json_object *value)
{
	return value && json_object_object_add(node, name, value) == 0 ? 0 : -ENOMEM;
}

static int copy(struct json_object *node, const char *name, struct json_object *value)
{
	struct json_object *clone = NULL;

	if (json_object_deep_copy(value, &clone, NULL) < 0)
		return -ENOMEM;
	return set(node, name, clone);
}

/* What a patch may carry: of this type, else it says nothing. */
static const struct {
	const char *name;
	enum json_type type;
} patched[] = {
	{ "Cap", json_type_int },          { "CapMap", json_type_object },
	{ "Endpoints", json_type_array },  { "KeySignature", json_type_string },
	{ "Online", json_type_boolean },   { "LastSeen", json_type_string },
	{ "KeyExpiry", json_type_string },
};

/* The version 0 and an empty list do not say anything in a patch. */
static bool is_nothing(struct json_object *value)
{
	return (json_object_is_type(value, json_type_int) && json_object_get_int64(value) == 0) ||
	       (json_object_is_type(value, json_type_array) &&
		json_object_array_length(value) == 0);
}

static int patch_key(struct json_object *node, struct json_object *patch, const char *name,
		     enum keytext_kind kind)
{
	uint8_t key[NETMAP_KEY_LEN];

	return read_key(patch, name, kind, key)
		       ? copy(node, name, read_member(patch, name, json_type_string))
		       : 0;
}

int node_patch(struct json_object *node, struct json_object *patch)
{
	int derp = read_int_within(patch, "DERPRegion", 1, DERP_MAX);

	if (derp && set(node, "HomeDERP", json_object_new_int(derp)) < 0)
		return -ENOMEM;
	if (patch_key(node, patch, "Key", KEYTEXT_NODE) < 0 ||
	    patch_key(node, patch, "DiscoKey", KEYTEXT_DISCO) < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < ARRAY_LEN(patched); i++) {
		struct json_object *value = read_member(patch, patched[i].name, patched[i].type);

		if (value && !is_nothing(value) && copy(node, patched[i].name, value) < 0)
			return -ENOMEM;
	}
	return 0;
}

int node_set_online(struct json_object *node, bool is_online)
{
	return set(node, "Online", json_object_new_boolean(is_online));
}

int node_set_last_seen(struct json_object *node, int64_t time_s)
{
	char text[TEXT_TIME_MAX];

	if (time_s == 0) {
		json_object_object_del(node, "LastSeen");
		return 0;
	}
	return set(node, "LastSeen", json_object_new_string(text_time(time_s, text)));
}
