/*
 * What is wrong only when the whole file is seen: things missing, and things
 * that two sections have.
 *
 * What would be ambiguous is an error and not settled by order: wg(8) lets the
 * last of two peers with one range win; here that is a mistake of the file.
 */
#include "daemon/config_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "shared/util.h"

#define ERROR_MAX  256
#define MTU_MIN_V6 1280

int config_fail(char *error, unsigned line, const char *format, ...)
{
	int len = snprintf(error, ERROR_MAX, "line %u: ", line);
	va_list args;

	va_start(args, format);
	vsnprintf(error + len, (size_t)(ERROR_MAX - len), format, args);
	va_end(args);
	return -EINVAL;
}

int config_fail_memory(char *error)
{
	snprintf(error, ERROR_MAX, "out of memory while reading the file; free some and retry");
	return -ENOMEM;
}

static int compare_keys(const void *a, const void *b)
{
	const struct config_peer *const *x = a, *const *y = b;

	return memcmp((*x)->public_key, (*y)->public_key, WG_KEY_LEN);
}

static int compare_names(const void *a, const void *b)
{
	const struct config_peer *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

static int check_unique(const struct config *c, struct config_peer **sorted, char *error)
{
	unsigned n = c->peer_count;

	qsort(sorted, n, sizeof(struct config_peer *), compare_keys);
	for (unsigned i = 1; i < n; i++) {
		if (compare_keys(&sorted[i - 1], &sorted[i]) == 0)
			return config_fail(
				error, MAX(sorted[i - 1]->line, sorted[i]->line),
				"this peer's PublicKey is that of the peer in line %u; remove one",
				MIN(sorted[i - 1]->line, sorted[i]->line));
	}
	qsort(sorted, n, sizeof(struct config_peer *), compare_names);
	for (unsigned i = 0; i < n; i++) {
		if (sorted[i]->name[0] == '\0')
			continue;
		if (strcmp(sorted[i]->name, c->name) == 0)
			return config_fail(error, sorted[i]->line,
					   "this peer has this node's own Name; rename one");
		if (i > 0 && compare_names(&sorted[i - 1], &sorted[i]) == 0)
			return config_fail(
				error, MAX(sorted[i - 1]->line, sorted[i]->line),
				"this peer's Name is that of the peer in line %u; rename one",
				MIN(sorted[i - 1]->line, sorted[i]->line));
	}
	return 0;
}

static int compare_allowed(const void *a, const void *b)
{
	const struct config_allowed *x = a, *y = b;
	int order = ip_compare(&x->prefix.addr, &y->prefix.addr);

	if (order == 0)
		order = x->prefix.len - y->prefix.len;
	if (order == 0)
		order = (int)x->line - (int)y->line;
	return order;
}

static int compare_peers(const void *a, const void *b)
{
	const struct config_allowed *x = a, *y = b;
	int order = (int)x->peer - (int)y->peer;

	return order ? order : compare_allowed(a, b);
}

static bool same_prefix(const struct config_allowed *a, const struct config_allowed *b)
{
	return a->prefix.len == b->prefix.len && ip_equal(&a->prefix.addr, &b->prefix.addr);
}

/* Sorts the ranges, refuses those of two peers, drops what one peer has twice. */
static int check_allowed(const struct config *c, struct config_allowed *a, unsigned *count,
			 char *error)
{
	unsigned kept = 0;

	qsort(a, *count, sizeof(*a), compare_allowed);
	for (unsigned i = 0; i < *count; i++) {
		unsigned full = ip_is_v4(&a[i].prefix.addr) ? 32 : 128;

		for (unsigned k = 0; k < c->own_count && a[i].prefix.len == full; k++) {
			if (ip_equal(&c->own[k].addr, &a[i].prefix.addr))
				return config_fail(
					error, a[i].line,
					"AllowedIPs holds this node's own Address; remove it");
		}
		if (kept > 0 && same_prefix(&a[kept - 1], &a[i])) {
			if (a[kept - 1].peer != a[i].peer)
				return config_fail(
					error, a[i].line,
					"AllowedIPs holds a range that the peer in line %u has "
					"(its line %u); remove it from one",
					c->peers[a[kept - 1].peer].line, a[kept - 1].line);
			continue;
		}
		a[kept++] = a[i];
	}
	*count = kept;
	return 0;
}

static int give_allowed(struct config *c, struct config_allowed *allowed, unsigned count,
			char *error)
{
	const struct config_allowed *a = allowed, *end = a + count;

	qsort(allowed, count, sizeof(*a), compare_peers);
	for (unsigned i = 0; i < c->peer_count; i++) {
		struct config_peer *peer = &c->peers[i];
		const struct config_allowed *first = a;

		while (a < end && a->peer == i)
			a++;
		if (a == first)
			continue;
		peer->allowed = calloc((size_t)(a - first), sizeof(*peer->allowed));
		if (!peer->allowed)
			return config_fail_memory(error);
		for (; first < a; first++)
			peer->allowed[peer->allowed_count++] = first->prefix;
	}
	return 0;
}

static int check_interface(const struct config *c, unsigned interface_line, char *error)
{
	if (!interface_line)
		return config_fail(
			error, 1, "the file has no [Interface] section; begin it with [Interface]");
	if (sodium_is_zero(c->private_key, WG_KEY_LEN))
		return config_fail(
			error, interface_line,
			"[Interface] has no PrivateKey; add the line that 'wg genkey' makes");
	if (c->own_count == 0)
		return config_fail(
			error, interface_line,
			"[Interface] has no Address; add one, as in Address = 100.64.0.1/10");
	for (unsigned i = 0; i < c->own_count; i++) {
		if (!ip_is_v4(&c->own[i].addr) && c->mtu < MTU_MIN_V6)
			return config_fail(error, interface_line,
					   "an IPv6 Address needs an MTU of at least %d; raise it",
					   MTU_MIN_V6);
	}
	for (unsigned i = 0; i < c->peer_count; i++) {
		if (sodium_is_zero(c->peers[i].public_key, WG_KEY_LEN))
			return config_fail(error, c->peers[i].line,
					   "this [Peer] has no PublicKey; ask its owner for it");
	}
	return 0;
}

int config_check(struct config *config, unsigned interface_line, struct config_allowed *allowed,
		 unsigned allowed_count, char error[static 256])
{
	struct config_peer **sorted;
	int err = check_interface(config, interface_line, error);

	if (err < 0)
		return err;
	sorted = calloc(config->peer_count + 1u, sizeof(struct config_peer *));
	if (!sorted)
		return config_fail_memory(error);
	for (unsigned i = 0; i < config->peer_count; i++)
		sorted[i] = &config->peers[i];
	err = check_unique(config, sorted, error);
	free(sorted);
	if (err < 0 || allowed_count == 0)
		return err;
	err = check_allowed(config, allowed, &allowed_count, error);
	return err < 0 ? err : give_allowed(config, allowed, allowed_count, error);
}
