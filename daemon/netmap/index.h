/*
 * From a hash to nodes: several nodes may stand under one hash, and the caller
 * compares. Adding within what was reserved cannot fail.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_INDEX_H
#define MESHWRAP_DAEMON_NETMAP_INDEX_H

#include <stddef.h>
#include <stdint.h>

struct node_item;

struct index_entry {
	uint64_t hash;
	struct node_item *item; /* NULL: empty */
};

struct index {
	struct index_entry *entry;
	size_t mask, count; /* mask 0: no table yet */
	uint8_t secret[16];
};

enum index_kind { INDEX_KEY, INDEX_ADDR, INDEX_NAME, INDEX_PREFIX };

uint64_t index_hash(const struct index *ix, enum index_kind kind, const void *bytes, size_t len);
/* Room for more entries on top of those that are in. 0 or -ENOMEM. */
int index_reserve(struct index *ix, size_t more);
void index_add(struct index *ix, uint64_t hash, struct node_item *item);
/* One entry of the two; must be there. */
void index_remove(struct index *ix, uint64_t hash, const struct node_item *item);
/* The first (*at 0) or next entry under the hash, NULL: no more. No change in between. */
struct node_item *index_next(const struct index *ix, uint64_t hash, size_t *at);
void index_finish(struct index *ix);

#endif
