/*
 * From a hash to nodes: several nodes may stand under one hash, and the caller
 * compares. Adding within what was reserved cannot fail; adding, removing and
 * finding take the same time however many stand under a hash.
 */
#ifndef MESHWRAP_DAEMON_NETMAP_INDEX_H
#define MESHWRAP_DAEMON_NETMAP_INDEX_H

#include <stddef.h>
#include <stdint.h>

struct ip_prefix;
struct node_item;

/* A node under one of its hashes. Belongs to whoever adds it. */
struct index_entry {
	struct index_entry *next, *prev; /* the first one's prev is the last */
	uint64_t hash;
	struct node_item *item;
	const struct ip_prefix *prefix; /* of INDEX_PREFIX: that of the node */
};

/* All under one hash, in the order in which they came. */
struct index_chain {
	struct index_entry *first; /* NULL: empty */
	/* Notes of whoever reads it; forgotten when the chain changes. */
	const struct node_item *best;
	uint64_t round;
};

struct index {
	struct index_chain *chain;
	size_t mask, count; /* mask 0: no table yet */
	uint8_t secret[16];
};

enum index_kind { INDEX_KEY, INDEX_ADDR, INDEX_NAME, INDEX_PREFIX };

uint64_t index_hash(const struct index *ix, enum index_kind kind, const void *bytes, size_t len);
/* Room for more hashes on top of those that are in. 0 or -ENOMEM. */
int index_reserve(struct index *ix, size_t more);
/* Gives back what was reserved far beyond need. */
void index_trim(struct index *ix);
/* hash, item and prefix are set. */
void index_add(struct index *ix, struct index_entry *entry);
void index_remove(struct index *ix, struct index_entry *entry);
/* NULL: none. Until the next change of the index. */
struct index_chain *index_find(const struct index *ix, uint64_t hash);
void index_finish(struct index *ix);

#endif
