/*
 * The map as it is read: lookups, and what may be believed of a peer.
 *
 * Peers are a sorted array of items, found by id with a binary search and by
 * everything else through one index of hashes. A claim to a prefix is settled
 * when it is asked for, from the other claimers in the index: no table of
 * winners has to be kept right while peers come and go.
 */
#include "daemon/netmap/netmap.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/private.h"
#include "daemon/netmap/read.h"
#include "shared/util.h"

#define SHORTEST_PREFIX 8
#define CLOCK_SANE_S    INT64_C(1704067200) /* 2024: a clock before that was never set */

struct netmap *netmap_create(void)
{
	struct netmap *nm = calloc(1, sizeof(*nm));
	unsigned ignored = 0;

	if (!nm)
		return NULL;
	nm->derp = section_derp_create(NULL, &ignored);
	nm->dns = section_dns_create(NULL, &ignored);
	nm->filter = section_filter_create(NULL, &ignored);
	nm->health = section_health_create(NULL);
	nm->domain = strdup("");
	nm->is_fresh = true;
	if (!nm->derp || !nm->dns || !nm->filter || !nm->health || !nm->domain) {
		netmap_destroy(nm);
		return NULL;
	}
	randombytes_buf(nm->index.secret, sizeof(nm->index.secret));
	return nm;
}

void netmap_destroy(struct netmap *nm)
{
	if (!nm)
		return;
	for (unsigned i = 0; i < nm->peer_count; i++)
		node_destroy(nm->peers[i]);
	for (unsigned i = 0; i < nm->user_count; i++) {
		arena_finish(&nm->users[i]->arena);
		free(nm->users[i]);
	}
	node_destroy(nm->self);
	section_derp_destroy(nm->derp);
	section_dns_destroy(nm->dns);
	section_filter_destroy(nm->filter);
	section_health_destroy(nm->health);
	index_finish(&nm->index);
	free(nm->domain);
	free(nm->users);
	free(nm->peers);
	free(nm);
}

void netmap_stream_started(struct netmap *nm)
{
	nm->is_fresh = true;
}

/* ---- the index ---- */

uint64_t netmap_hash_prefix(const struct index *ix, const struct ip_prefix *prefix)
{
	uint8_t bytes[17];

	memcpy(bytes, prefix->addr.byte, 16);
	bytes[16] = prefix->len;
	return index_hash(ix, INDEX_PREFIX, bytes, sizeof(bytes));
}

uint64_t netmap_hash_key(const struct index *ix, const uint8_t key[static NETMAP_KEY_LEN])
{
	return index_hash(ix, INDEX_KEY, key, NETMAP_KEY_LEN);
}

static bool addr_of(const struct ip_prefix *prefix, struct ip_addr *addr)
{
	*addr = prefix->addr;
	return prefix->len == (ip_is_v4(&prefix->addr) ? 32 : 128);
}

static void put_entry(struct node_item *item, uint64_t hash, const struct ip_prefix *prefix)
{
	item->entries[item->entry_count++] =
		(struct index_entry){ .hash = hash, .item = item, .prefix = prefix };
}

int netmap_make_entries(const struct index *ix, struct node_item *item)
{
	const struct netmap_node *n = &item->node;
	struct ip_addr addr;

	if (item->entries)
		return 0;
	item->entries = calloc(2u + n->address_count + n->allowed_count, sizeof(*item->entries));
	if (!item->entries)
		return -ENOMEM;
	put_entry(item, netmap_hash_key(ix, n->key), NULL);
	if (*n->name)
		put_entry(item, index_hash(ix, INDEX_NAME, n->name, strlen(n->name)), NULL);
	for (unsigned i = 0; i < n->address_count; i++) {
		if (addr_of(&n->addresses[i], &addr))
			put_entry(item, index_hash(ix, INDEX_ADDR, addr.byte, 16), NULL);
	}
	for (unsigned i = 0; i < n->allowed_count; i++)
		put_entry(item, netmap_hash_prefix(ix, &n->allowed[i]), &n->allowed[i]);
	return 0;
}

/* ---- lookups ---- */

const struct netmap_node *netmap_self(const struct netmap *nm)
{
	return nm->self ? &nm->self->node : NULL;
}

unsigned netmap_peer_count(const struct netmap *nm)
{
	return nm->peer_count;
}

const struct netmap_node *netmap_peer_at(const struct netmap *nm, unsigned at)
{
	return at < nm->peer_count ? &nm->peers[at]->node : NULL;
}

const struct netmap_node *netmap_peer_by_id(const struct netmap *nm, int64_t id)
{
	unsigned low = 0, high = nm->peer_count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (nm->peers[mid]->node.id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < nm->peer_count && nm->peers[low]->node.id == id ? &nm->peers[low]->node : NULL;
}

typedef bool node_test(const struct netmap_node *node, const void *wanted);

/* The one with the smallest id. The chain notes who that is, if all in it are meant. */
static const struct netmap_node *find(const struct netmap *nm, uint64_t hash, node_test *test,
				      const void *wanted)
{
	struct index_chain *chain = index_find(&nm->index, hash);
	const struct node_item *best = chain ? chain->best : NULL;
	bool is_mixed = false;

	if (nm->self && test(&nm->self->node, wanted))
		return &nm->self->node;
	if (best && test(&best->node, wanted))
		return &best->node;
	best = NULL;
	for (const struct index_entry *e = chain ? chain->first : NULL; e; e = e->next) {
		if (!test(&e->item->node, wanted))
			is_mixed = true;
		else if (!best || e->item->node.id < best->node.id)
			best = e->item;
	}
	if (chain && !is_mixed)
		chain->best = best;
	return best ? &best->node : NULL;
}

static bool has_key(const struct netmap_node *node, const void *key)
{
	return memcmp(node->key, key, NETMAP_KEY_LEN) == 0;
}

static bool has_addr(const struct netmap_node *node, const void *wanted)
{
	struct ip_addr addr;

	for (unsigned i = 0; i < node->address_count; i++) {
		if (addr_of(&node->addresses[i], &addr) && ip_equal(&addr, wanted))
			return true;
	}
	return false;
}

static bool has_name(const struct netmap_node *node, const void *name)
{
	return strcmp(node->name, name) == 0;
}

const struct netmap_node *netmap_node_by_key(const struct netmap *nm,
					     const uint8_t key[static NETMAP_KEY_LEN])
{
	return find(nm, netmap_hash_key(&nm->index, key), has_key, key);
}

const struct netmap_node *netmap_node_by_addr(const struct netmap *nm, const struct ip_addr *addr)
{
	return find(nm, index_hash(&nm->index, INDEX_ADDR, addr->byte, 16), has_addr, addr);
}

const struct netmap_node *netmap_node_by_name(const struct netmap *nm, const char *name)
{
	char clean[READ_NAME_MAX + 1];

	if (!read_name(name, strlen(name), true, clean))
		return NULL;
	return find(nm, index_hash(&nm->index, INDEX_NAME, clean, strlen(clean)), has_name, clean);
}

const struct derp_map *netmap_derp(const struct netmap *nm)
{
	return &nm->derp->map;
}

const struct dns_config *netmap_dns(const struct netmap *nm)
{
	return &nm->dns->config;
}

const struct netmap_rule *netmap_filter(const struct netmap *nm, unsigned *count)
{
	*count = nm->filter->count;
	return nm->filter->rules;
}

unsigned netmap_user_count(const struct netmap *nm)
{
	return nm->user_count;
}

const struct netmap_user *netmap_user_at(const struct netmap *nm, unsigned at)
{
	return at < nm->user_count ? &nm->users[at]->user : NULL;
}

const struct netmap_user *netmap_user(const struct netmap *nm, int64_t id)
{
	unsigned low = 0, high = nm->user_count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;

		if (nm->users[mid]->user.id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < nm->user_count && nm->users[low]->user.id == id ? &nm->users[low]->user : NULL;
}

const char *netmap_domain(const struct netmap *nm)
{
	return nm->domain;
}

const char *netmap_suffix(const struct netmap *nm)
{
	const char *dot = nm->self ? strchr(nm->self->node.name, '.') : NULL;

	return dot ? dot + 1 : "";
}

const char *const *netmap_health(const struct netmap *nm, unsigned *count)
{
	*count = nm->health->count;
	return nm->health->texts;
}

/* ---- what may be believed ---- */

bool netmap_node_is_expired(const struct netmap *nm, const struct netmap_node *node, int64_t wall_s)
{
	if (node->is_expired)
		return true;
	return node->key_expiry != 0 && wall_s >= CLOCK_SANE_S &&
	       node->key_expiry <= wall_s + nm->clock_delta_s;
}

static int64_t earlier_expiry(const struct netmap *nm, const struct netmap_node *node,
			      int64_t wall_s, int64_t next_s)
{
	if (node->key_expiry == 0 || netmap_node_is_expired(nm, node, wall_s))
		return next_s;
	return MIN(next_s, node->key_expiry - nm->clock_delta_s);
}

int64_t netmap_next_expiry_s(const struct netmap *nm, int64_t wall_s)
{
	int64_t next_s = INT64_MAX;

	if (nm->self)
		next_s = earlier_expiry(nm, &nm->self->node, wall_s, next_s);
	for (unsigned i = 0; i < nm->peer_count; i++)
		next_s = earlier_expiry(nm, &nm->peers[i]->node, wall_s, next_s);
	return next_s;
}

bool netmap_node_has_cap(const struct netmap_node *node, const char *cap)
{
	for (unsigned i = 0; i < node->cap_count; i++) {
		if (strcmp(node->caps[i], cap) == 0)
			return true;
	}
	return false;
}

#define MAPPED 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
/* What no peer can have: where such packets go is this host's affair, or ours. */
static const struct ip_prefix forbidden[] = {
	{ { { MAPPED, 0 } }, 8 },         /* this network */
	{ { { MAPPED, 127 } }, 8 },       /* loopback */
	{ { { MAPPED, 169, 254 } }, 16 }, /* link-local */
	{ { { MAPPED, 224 } }, 3 },       /* multicast, reserved, broadcast */
	{ { { 0 } }, 64 },                /* unspecified, loopback, old embeddings of IPv4 */
	{ { { 0xfe, 0x80 } }, 10 },       /* link-local */
	{ { { 0xff } }, 8 },              /* multicast */
};
/* Ours for names; a route may contain them, but not name them. */
static const struct ip_prefix service[] = {
	{ { { MAPPED, 100, 100, 100, 100 } }, 32 },
	{ { { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53 } }, 128 },
};

static bool overlap(const struct ip_prefix *a, const struct ip_prefix *b)
{
	unsigned len = MIN(a->len, b->len) + (ip_is_v4(&a->addr) ? 96u : 0u), bytes = len / 8;

	if (ip_is_v4(&a->addr) != ip_is_v4(&b->addr) ||
	    memcmp(a->addr.byte, b->addr.byte, bytes) != 0)
		return false;
	return len % 8 == 0 || (a->addr.byte[bytes] ^ b->addr.byte[bytes]) >> (8 - len % 8) == 0;
}

/* Shorter ones are default routes, whole or in halves. */
static bool is_forbidden(const struct ip_prefix *p)
{
	if (p->len < SHORTEST_PREFIX)
		return true;
	for (unsigned i = 0; i < ARRAY_LEN(forbidden); i++) {
		if (overlap(p, &forbidden[i]))
			return true;
	}
	return prefix_equal(p, &service[0]) || prefix_equal(p, &service[1]);
}

/* May it claim anything? */
static bool is_believed(const struct netmap_node *node)
{
	return !node->is_expired && !node->is_unusable &&
	       !sodium_is_zero(node->key, sizeof(node->key));
}

/* Whoever owns it, then the smallest id. */
static bool is_better(const struct node_item *a, const struct node_item *b,
		      const struct ip_prefix *prefix)
{
	bool a_owns = node_owns(&a->node, prefix), b_owns = node_owns(&b->node, prefix);

	return a_owns != b_owns ? a_owns : a->node.id < b->node.id;
}

/* The chain notes who wins, unless several prefixes have its hash. */
static bool wins_prefix(const struct netmap *nm, const struct netmap_node *node,
			const struct ip_prefix *prefix)
{
	struct index_chain *chain = index_find(&nm->index, netmap_hash_prefix(&nm->index, prefix));
	const struct node_item *best = NULL;
	bool is_mixed = false;

	if (!chain)
		return true;
	if (chain->best)
		return &chain->best->node == node;
	for (const struct index_entry *e = chain->first; e; e = e->next) {
		if (!e->prefix || !prefix_equal(e->prefix, prefix))
			is_mixed = true;
		else if (is_believed(&e->item->node) && (!best || is_better(e->item, best, prefix)))
			best = e->item;
	}
	if (!is_mixed)
		chain->best = best;
	return best && &best->node == node;
}

unsigned netmap_node_accepted(const struct netmap *nm, const struct netmap_node *node,
			      bool accept_routes, struct ip_prefix *out)
{
	unsigned count = 0;

	if (!is_believed(node) || netmap_node_by_key(nm, node->key) != node)
		return 0;
	for (unsigned i = 0; i < node->allowed_count; i++) {
		const struct ip_prefix *p = &node->allowed[i];

		if (is_forbidden(p) || (!accept_routes && !node_owns(node, p)) ||
		    (nm->self && node_owns(&nm->self->node, p)) || !wins_prefix(nm, node, p))
			continue;
		out[count++] = *p;
	}
	return count;
}
