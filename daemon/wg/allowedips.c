/*
 * A binary trie with compressed paths, one root for each family.
 *
 * A node is a prefix; its children extend it and differ in the next bit. A
 * node that no peer owns exists only as a fork of two. So n prefixes take fewer
 * than 2n nodes, and a look-up visits at most as many as there are prefixes
 * nested or forking along one address. Both families use 128-bit keys (IPv4
 * v4-mapped) but separate roots: ::/0 must not route IPv4.
 *
 * Nodes are numbers in one array: half the size of pointers, close together,
 * and the array grows by realloc before an insertion, never within.
 * Each peer's prefixes are chained through their nodes, so that removing a peer
 * costs as many steps as it has prefixes.
 */
#include "daemon/wg/allowedips.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "daemon/wg/message.h"
#include "shared/wire.h"

#define KEY_BITS  128
#define V4_OFFSET 96

struct key {
	uint64_t high, low; /* the address as a number */
};

struct wg_allowed_node {
	struct key key;
	struct wg_peer *peer;         /* NULL: a fork */
	struct wg_allowed_list *list; /* the owner's */
	uint32_t child[2];
	uint32_t next, before; /* in the owner's list; next also chains freed nodes */
	uint8_t len;
};

static struct key key_of(const struct ip_addr *addr)
{
	return (struct key){ load_be64(addr->byte), load_be64(addr->byte + 8) };
}

static struct key masked(struct key k, unsigned len)
{
	if (len < 64)
		return (struct key){ len ? k.high & (UINT64_MAX << (64 - len)) : 0, 0 };
	if (len < KEY_BITS)
		k.low = len > 64 ? k.low & (UINT64_MAX << (KEY_BITS - len)) : 0;
	return k;
}

static unsigned bit_at(struct key k, unsigned at)
{
	return (at < 64 ? k.high >> (63 - at) : k.low >> (127 - at)) & 1;
}

static unsigned common_bits(struct key a, struct key b)
{
	uint64_t high = a.high ^ b.high, low = a.low ^ b.low;

	if (high)
		return (unsigned)__builtin_clzll(high);
	return low ? 64 + (unsigned)__builtin_clzll(low) : KEY_BITS;
}

static bool contains(const struct wg_allowed_node *n, struct key k)
{
	return common_bits(n->key, k) >= n->len;
}

static uint32_t list_length(const struct wg_allowedips *a, const struct wg_allowed_list *list)
{
	uint32_t n = 0;

	for (uint32_t at = list ? list->first : 0; at; at = a->node[at].next)
		n++;
	return n;
}

int wg_allowedips_reserve(struct wg_allowedips *a, uint32_t prefixes,
			  const struct wg_allowed_list *instead_of)
{
	struct wg_allowed_node *node;
	uint32_t kept = a->prefixes - list_length(a, instead_of);
	uint32_t need, capacity = a->capacity ? a->capacity : 64;

	if (prefixes > WG_PREFIXES_MAX - kept)
		return -E2BIG;
	/* n prefixes: n nodes and fewer than n forks; node 0. */
	need = 2 * (kept + prefixes) + 1;
	if (need <= a->capacity)
		return 0;
	while (capacity < need)
		capacity *= 2;
	node = realloc(a->node, capacity * sizeof(*node));
	if (!node)
		return -ENOMEM;
	a->node = node;
	a->capacity = capacity;
	if (!a->used)
		a->node[a->used++] = (struct wg_allowed_node){ .peer = NULL };
	return 0;
}

void wg_allowedips_finish(struct wg_allowedips *a)
{
	free(a->node);
	*a = (struct wg_allowedips){ 0 };
}

static uint32_t new_node(struct wg_allowedips *a, struct key key, unsigned len)
{
	uint32_t at = a->unused;

	if (at) {
		a->unused = a->node[at].next;
	} else {
		assert(a->used < a->capacity);
		at = a->used++;
	}
	a->node[at] = (struct wg_allowed_node){ .key = masked(key, len), .len = (uint8_t)len };
	return at;
}

static void free_node(struct wg_allowedips *a, uint32_t at)
{
	a->node[at].next = a->unused;
	a->unused = at;
}

static void disown(struct wg_allowedips *a, struct wg_allowed_node *n)
{
	if (n->before)
		a->node[n->before].next = n->next;
	else
		n->list->first = n->next;
	if (n->next)
		a->node[n->next].before = n->before;
	n->peer = NULL;
	a->prefixes--;
}

static void own(struct wg_allowedips *a, uint32_t at, struct wg_peer *peer,
		struct wg_allowed_list *list)
{
	struct wg_allowed_node *n = &a->node[at];

	if (n->peer)
		disown(a, n);
	n->peer = peer;
	n->list = list;
	n->before = 0;
	n->next = list->first;
	if (n->next)
		a->node[n->next].before = at;
	list->first = at;
	a->prefixes++;
}

void wg_allowedips_insert(struct wg_allowedips *a, const struct ip_addr *addr, uint8_t len,
			  struct wg_peer *peer, struct wg_allowed_list *list)
{
	bool v4 = ip_is_v4(addr);
	unsigned bits = v4 ? len + V4_OFFSET : len, common = 0;
	struct key key = masked(key_of(addr), bits);
	uint32_t *link = &a->root[v4], at, old;

	assert(bits <= KEY_BITS);
	while (*link) {
		struct wg_allowed_node *n = &a->node[*link];

		common = MIN(common_bits(n->key, key), MIN(n->len, bits));
		if (common < n->len)
			break;
		if (n->len == bits) {
			own(a, *link, peer, list);
			return;
		}
		link = &n->child[bit_at(key, n->len)];
	}
	old = *link;
	at = new_node(a, key, bits);
	if (old && common < bits) {
		uint32_t fork = new_node(a, key, common);

		a->node[fork].child[bit_at(key, common)] = at;
		a->node[fork].child[bit_at(a->node[old].key, common)] = old;
		*link = fork;
	} else {
		if (old)
			a->node[at].child[bit_at(a->node[old].key, bits)] = old;
		*link = at;
	}
	own(a, at, peer, list);
}

/* A node without an owner and with fewer than two children gives way to its child. */
static bool collapse(struct wg_allowedips *a, uint32_t *link)
{
	uint32_t at = *link;
	struct wg_allowed_node *n = &a->node[at];

	if (n->peer || (n->child[0] && n->child[1]))
		return false;
	*link = n->child[0] ? n->child[0] : n->child[1];
	free_node(a, at);
	return true;
}

static void remove_node(struct wg_allowedips *a, uint32_t at)
{
	struct wg_allowed_node *n = &a->node[at];
	struct ip_addr addr;
	uint32_t *link, *parent = NULL;

	store_be64(addr.byte, n->key.high);
	store_be64(addr.byte + 8, n->key.low);
	/* A v4 prefix of any length keeps the v4-mapped bits: ip_is_v4() tells its root. */
	link = &a->root[n->len >= V4_OFFSET && ip_is_v4(&addr)];
	while (*link != at) {
		parent = link;
		link = &a->node[*link].child[bit_at(n->key, a->node[*link].len)];
	}
	disown(a, n);
	if (collapse(a, link) && parent)
		collapse(a, parent);
}

void wg_allowedips_remove_all(struct wg_allowedips *a, struct wg_allowed_list *list)
{
	while (list->first)
		remove_node(a, list->first);
}

struct wg_peer *wg_allowedips_lookup(const struct wg_allowedips *a, const struct ip_addr *addr)
{
	struct key key = key_of(addr);
	struct wg_peer *best = NULL;
	uint32_t at = a->root[ip_is_v4(addr)];

	while (at) {
		const struct wg_allowed_node *n = &a->node[at];

		if (!contains(n, key))
			break;
		if (n->peer)
			best = n->peer;
		if (n->len == KEY_BITS)
			break;
		at = n->child[bit_at(key, n->len)];
	}
	return best;
}
