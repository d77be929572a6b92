/*
 * The table of names, as programs see it: one entry for each pair of addresses
 * of a host (an IPv4 and an IPv6 one, as far as there are), in the order of
 * names, which the table has already.
 *
 * Addresses that are for reverse look-ups only come first of their family, so
 * that a node's two families stand in one entry: the shim shows an IPv6 peer
 * by the IPv4 address beside it.
 *
 * A map that holds no more is no reason to have no names: the rest is left
 * out, and counted.
 */
#include <string.h>

#include "daemon/dns/table.h"
#include "daemon/edge/plan.h"
#include "shared/util.h"

/* Where the text is now in dir; false: it is full. */
static bool put_text(struct map_directory *dir, const char *text, uint32_t *off)
{
	size_t len = strlen(text) + 1;

	if (len > MAP_NAME_MAX || len > MAP_NAME_BYTES - dir->text_len)
		return false;
	memcpy(dir->text + dir->text_len, text, len);
	*off = dir->text_len;
	dir->text_len += (uint32_t)len;
	return true;
}

/* The n-th address of a family, hidden ones first; false past the end. */
static bool nth_address(const struct dns_host *host, bool v4, unsigned n, struct ip_addr *ip,
			bool *is_hidden)
{
	for (int hidden = 1; hidden >= 0; hidden--) {
		unsigned first = hidden ? host->answered : 0;
		unsigned end = hidden ? host->count : host->answered;

		for (unsigned i = first; i < end; i++) {
			if (ip_is_v4(&host->ips[i]) != v4 || n-- > 0)
				continue;
			*ip = host->ips[i];
			*is_hidden = hidden;
			return true;
		}
	}
	return false;
}

static bool put_host(struct map_directory *dir, const struct dns_host *host)
{
	uint32_t flags = (host->is_self ? MAP_NAME_SELF : 0) |
			 (host->is_node ? MAP_NAME_CANONICAL : 0);
	uint32_t off, was_text = dir->text_len, was_names = dir->name_count;

	if (!put_text(dir, host->name, &off))
		return false;
	for (unsigned i = 0;; i++) {
		struct map_name entry = { .name_off = off, .flags = flags };
		bool hide_v4 = false, hide_v6 = false;
		bool v4 = nth_address(host, true, i, &entry.v4, &hide_v4);
		bool v6 = nth_address(host, false, i, &entry.v6, &hide_v6);

		if (!v4 && !v6)
			return true;
		if (dir->name_count == MAP_MAX_NAMES)
			break;
		entry.flags |= (hide_v4 ? MAP_NAME_HIDE_V4 : 0) | (hide_v6 ? MAP_NAME_HIDE_V6 : 0);
		dir->names[dir->name_count++] = entry;
	}
	dir->text_len = was_text;
	dir->name_count = was_names;
	return false;
}

static bool is_reverse(const char *suffix)
{
	return dns_name_is_below(suffix, "arpa");
}

/* Suffixes first: without them names would leave the mesh. */
static void put_suffixes(const struct dns_table *names, struct map_directory *dir)
{
	for (unsigned i = 0; i < dns_table_suffix_count(names); i++) {
		const struct dns_suffix *s = dns_table_suffix_at(names, i);
		struct map_suffix *to = &dir->suffixes[dir->suffix_count];

		if (dir->suffix_count == MAP_MAX_SUFFIXES || is_reverse(s->name) ||
		    (!s->is_zone && s->name[0] == '\0' && s->resolver_count == 0))
			continue;
		if (put_text(dir, s->name, &to->name_off)) {
			to->is_zone = s->is_zone;
			dir->suffix_count++;
		}
	}
	for (unsigned i = 0; i < dns_table_search_count(names); i++)
		if (dir->search_count < MAP_MAX_SEARCH &&
		    put_text(dir, dns_table_search(names, i), &dir->search[dir->search_count]))
			dir->search_count++;
}

unsigned plan_names(const struct dns_table *names, struct map_directory *dir)
{
	unsigned left_out = 0;

	dir->name_count = dir->suffix_count = dir->search_count = dir->text_len = 0;
	if (!names)
		return 0;
	put_suffixes(names, dir);
	for (unsigned i = 0; i < dns_table_host_count(names); i++)
		left_out += !put_host(dir, dns_table_host(names, i));
	return left_out;
}
