/*
 * One node of the map: the server's object as text, and the struct that is
 * derived from it and from nothing else. So a node that was patched is equal to
 * one that came whole.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_NODE_H
#define MESHWRAP_DAEMON_NETMAP_NODE_H

#include <json.h>

#include "daemon/netmap/arena.h"
#include "daemon/netmap/types.h"

#define NODE_JSON_MAX      (1u << 20) /* bytes of text of one node */
#define NODE_ADDRESSES_MAX 64
#define NODE_ALLOWED_MAX   1024
#define NODE_ENDPOINTS_MAX 64

struct node_item {
	struct netmap_node node;
	struct arena arena;
	struct index_entry *entries; /* in the map's index; NULL: not prepared */
	unsigned entry_count;
	bool is_touched; /* while a message is applied: others' changes concern it */
};

/* NULL on -ENOMEM, or when it is no node (*is_invalid): no ID, a malformed key, too large. */
struct node_item *node_create(struct json_object *o, bool *is_invalid);
void node_destroy(struct node_item *item);
/* In everything but the text. */
bool node_equal(const struct netmap_node *a, const struct netmap_node *b);
bool node_owns(const struct netmap_node *node, const struct ip_prefix *prefix);
bool prefix_equal(const struct ip_prefix *a, const struct ip_prefix *b);

/* Each changes a parsed node; 0 or -ENOMEM. */
int node_patch(struct json_object *node, struct json_object *patch);
int node_set_online(struct json_object *node, bool is_online);
/* 0: unknown. */
int node_set_last_seen(struct json_object *node, int64_t time_s);

#endif
