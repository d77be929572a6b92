/*
 * The table: hosts and suffixes sorted by name, addresses sorted for reverse,
 * all found by binary search. It is built whole at every change, which for
 * thousands of nodes takes a few milliseconds, and never changed afterwards: so
 * who reads it needs no rules, and a delta cannot differ from a full map.
 *
 * While it is built, hosts lie in the order of being added, which decides
 * whose a name is that two nodes have. Records add up, to each other and to a node
 * of the same name. A suffix is looked up once for each label of the name.
 */
#include "daemon/dns/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shared/util.h"

#define TEXT_CHUNK (64u << 10)

struct text {
	struct text *next;
	size_t used, room;
	char bytes[];
};

struct item {
	struct dns_host host;
	unsigned order;
};

struct reverse {
	struct ip_addr ip;
	unsigned host;
};

struct dns_table {
	struct text *texts;
	struct item *items; /* while building */
	unsigned item_count, item_room;
	struct dns_host *hosts;
	unsigned host_count;
	struct ip_addr *ips; /* of hosts */
	struct reverse *reverse;
	unsigned reverse_count;
	struct dns_suffix *suffixes;
	unsigned suffix_count, suffix_room;
	const char *search[DNS_SEARCH_MAX];
	unsigned search_count;
	bool has_subdomains;
};

/* ---- names ---- */

bool dns_name_normalise(const char *text, char out[static DNS_NAME_MAX + 1])
{
	size_t len = strnlen(text, DNS_NAME_MAX + 1), label = 0;

	if (len && text[len - 1] == '.')
		len--;
	if (len > DNS_NAME_MAX - 1)
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '.' ? label == 0 : c <= ' ' || c == 0x7f)
			return false;
		label = c == '.' ? 0 : label + 1;
		if (label > DNS_LABEL_MAX)
			return false;
		out[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : (char)c;
	}
	out[len] = '\0';
	return len == 0 || label > 0;
}

bool dns_name_is_below(const char *name, const char *suffix)
{
	size_t len = strlen(name), suffix_len = strlen(suffix);

	if (suffix_len == 0)
		return true;
	return len >= suffix_len && strcmp(name + len - suffix_len, suffix) == 0 &&
	       (len == suffix_len || name[len - suffix_len - 1] == '.');
}

/* ---- memory ---- */

static void *keep(struct dns_table *table, const void *bytes, size_t len)
{
	size_t need = (len + 15) & ~(size_t)15;
	struct text *t = table->texts;
	void *at;

	if (!t || t->room - t->used < need) {
		size_t room = MAX(need, (size_t)TEXT_CHUNK);

		t = malloc(sizeof(*t) + room);
		if (!t)
			return NULL;
		*t = (struct text){ table->texts, 0, room };
		table->texts = t;
	}
	at = t->bytes + t->used;
	if (len)
		memcpy(at, bytes, len);
	t->used += need;
	return at;
}

/* Room for one more in an array that doubles. */
static bool reserve(void *array, size_t size, unsigned count, unsigned *room)
{
	void *grown;

	if (count < *room)
		return true;
	grown = realloc(*(void **)array, (*room ? 2 * *room : 64u) * size);
	if (!grown)
		return false;
	*room = *room ? 2 * *room : 64;
	*(void **)array = grown;
	return true;
}

struct dns_table *dns_table_create(void)
{
	return calloc(1, sizeof(struct dns_table));
}

void dns_table_destroy(struct dns_table *table)
{
	if (!table)
		return;
	while (table->texts) {
		struct text *t = table->texts;

		table->texts = t->next;
		free(t);
	}
	free(table->items);
	free(table->hosts);
	free(table->ips);
	free(table->reverse);
	free(table->suffixes);
	free(table);
}

/* ---- building ---- */

int dns_table_add_host(struct dns_table *table, const struct dns_host *host)
{
	char name[DNS_NAME_MAX + 1];
	struct item item = { .host = *host, .order = table->item_count };

	/* No map shall say where this machine itself is. */
	if (!dns_name_normalise(host->name, name) || name[0] == '\0' ||
	    dns_name_is_below(name, "localhost"))
		return -EINVAL;
	if (table->item_count == DNS_HOSTS_MAX)
		return -E2BIG;
	if (!reserve(&table->items, sizeof(*table->items), table->item_count, &table->item_room))
		return -ENOMEM;
	item.host.count = MIN(host->count, (uint16_t)DNS_HOST_IPS_MAX);
	item.host.answered = MIN(host->answered, item.host.count);
	item.host.name = keep(table, name, strlen(name) + 1);
	item.host.ips = keep(table, host->ips, item.host.count * sizeof(*host->ips));
	if (!item.host.name || !item.host.ips)
		return -ENOMEM;
	table->items[table->item_count++] = item;
	return 0;
}

int dns_table_add_suffix(struct dns_table *table, const char *suffix,
			 const struct dns_resolver *resolvers, unsigned count)
{
	struct endpoint usable[DNS_RESOLVERS_MAX];
	char name[DNS_NAME_MAX + 1];
	struct dns_suffix s = { .is_zone = count == 0, .order = table->suffix_count };

	if (!dns_name_normalise(suffix, name))
		return -EINVAL;
	if (table->suffix_count == DNS_SUFFIXES_MAX)
		return -E2BIG;
	if (!reserve(&table->suffixes, sizeof(*table->suffixes), table->suffix_count,
		     &table->suffix_room))
		return -ENOMEM;
	for (unsigned i = 0; i < count && s.resolver_count < DNS_RESOLVERS_MAX; i++)
		if (resolvers[i].endpoint.port)
			usable[s.resolver_count++] = resolvers[i].endpoint;
	s.name = keep(table, name, strlen(name) + 1);
	s.resolvers = keep(table, usable, s.resolver_count * sizeof(usable[0]));
	if (!s.name || !s.resolvers)
		return -ENOMEM;
	table->suffixes[table->suffix_count++] = s;
	return 0;
}

int dns_table_add_search(struct dns_table *table, const char *domain)
{
	char name[DNS_NAME_MAX + 1];
	const char *kept;

	if (!dns_name_normalise(domain, name) || name[0] == '\0')
		return -EINVAL;
	if (table->search_count == DNS_SEARCH_MAX)
		return -E2BIG;
	kept = keep(table, name, strlen(name) + 1);
	if (!kept)
		return -ENOMEM;
	table->search[table->search_count++] = kept;
	return 0;
}

static int compare_items(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int order = strcmp(x->host.name, y->host.name);

	return order ? order : (x->order > y->order) - (x->order < y->order);
}

static int compare_suffixes(const void *a, const void *b)
{
	const struct dns_suffix *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->order > y->order) - (x->order < y->order);
}

static int compare_reverse(const void *a, const void *b)
{
	const struct reverse *x = a, *y = b;
	int order = ip_compare(&x->ip, &y->ip);

	return order ? order : (x->host > y->host) - (x->host < y->host);
}

/* The part [from, to) of what an item gives, to the end of its host. */
static void append_ips(struct dns_table *table, struct dns_host *host, const struct item *item,
		       unsigned from, unsigned to)
{
	struct ip_addr *ips = table->ips + (host->ips - table->ips);

	for (unsigned i = from; i < to && host->count < DNS_HOST_IPS_MAX; i++)
		ips[host->count++] = item->host.ips[i];
}

/* Items first..end have one name. Of several nodes only the first counts. */
static void merge(struct dns_table *table, unsigned first, unsigned end, struct ip_addr *ips)
{
	struct dns_host *host = &table->hosts[table->host_count++];
	const struct item *node = NULL;

	*host = (struct dns_host){ .name = table->items[first].host.name, .ips = ips };
	for (unsigned i = first; i < end; i++) {
		const struct item *item = &table->items[i];

		if (item->host.is_node && node)
			continue;
		if (item->host.is_node)
			node = item;
		host->is_self |= item->host.is_self;
		host->has_subdomains |= item->host.has_subdomains;
		append_ips(table, host, item, 0, item->host.answered);
	}
	host->answered = host->count;
	host->is_node = node != NULL;
	if (node)
		append_ips(table, host, node, node->host.answered, node->host.count);
	table->has_subdomains |= host->has_subdomains;
}

static int finish_hosts(struct dns_table *table)
{
	unsigned total = 0, used = 0;

	for (unsigned i = 0; i < table->item_count; i++)
		total += table->items[i].host.count;
	table->hosts = calloc(table->item_count + 1u, sizeof(*table->hosts));
	table->ips = calloc(total + 1u, sizeof(*table->ips));
	table->reverse = calloc(total + 1u, sizeof(*table->reverse));
	if (!table->hosts || !table->ips || !table->reverse)
		return -ENOMEM;
	if (table->item_count)
		qsort(table->items, table->item_count, sizeof(*table->items), compare_items);
	for (unsigned i = 0, end; i < table->item_count; i = end) {
		for (end = i + 1; end < table->item_count; end++)
			if (strcmp(table->items[i].host.name, table->items[end].host.name) != 0)
				break;
		merge(table, i, end, table->ips + used);
		used += table->hosts[table->host_count - 1].count;
	}
	return 0;
}

/* A node's name comes before those of records for the same address. */
static void finish_reverse(struct dns_table *table)
{
	unsigned n = 0, kept = 0;

	for (int nodes = 1; nodes >= 0; nodes--)
		for (unsigned h = 0; h < table->host_count; h++)
			for (unsigned i = 0;
			     table->hosts[h].is_node == (nodes == 1) && i < table->hosts[h].count;
			     i++)
				table->reverse[n++] = (struct reverse){
					table->hosts[h].ips[i],
					/* sorted behind every node */
					h + (nodes ? 0 : DNS_HOSTS_MAX),
				};
	if (n)
		qsort(table->reverse, n, sizeof(*table->reverse), compare_reverse);
	for (unsigned i = 0; i < n; i++) {
		struct reverse r = table->reverse[i];

		if (kept && ip_equal(&table->reverse[kept - 1].ip, &r.ip))
			continue;
		r.host %= DNS_HOSTS_MAX;
		table->reverse[kept++] = r;
	}
	table->reverse_count = kept;
}

/* Of two with one name the later one stays. */
static void finish_suffixes(struct dns_table *table)
{
	unsigned kept = 0;

	if (table->suffix_count)
		qsort(table->suffixes, table->suffix_count, sizeof(*table->suffixes),
		      compare_suffixes);
	for (unsigned i = 0; i < table->suffix_count; i++) {
		if (kept && strcmp(table->suffixes[kept - 1].name, table->suffixes[i].name) == 0)
			kept--;
		table->suffixes[kept++] = table->suffixes[i];
	}
	table->suffix_count = kept;
}

int dns_table_finish(struct dns_table *table)
{
	int err = finish_hosts(table);

	if (err)
		return err;
	finish_reverse(table);
	finish_suffixes(table);
	free(table->items);
	table->items = NULL;
	table->item_count = table->item_room = 0;
	return 0;
}

/* ---- reading ---- */

static const struct dns_host *find_exactly(const struct dns_table *table, const char *name)
{
	unsigned low = 0, high = table->host_count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		int order = strcmp(name, table->hosts[mid].name);

		if (order == 0)
			return &table->hosts[mid];
		if (order > 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct dns_host *dns_table_find(const struct dns_table *table, const char *name)
{
	const struct dns_host *host = find_exactly(table, name);

	while (!host && table->has_subdomains && (name = strchr(name, '.'))) {
		host = find_exactly(table, ++name);
		if (host && !host->has_subdomains)
			host = NULL;
	}
	return host;
}

const struct dns_host *dns_table_find_short(const struct dns_table *table, const char *name)
{
	const struct dns_host *host = dns_table_find(table, name);
	char full[2 * DNS_NAME_MAX + 2];
	size_t len = strlen(name);

	if (host || len == 0 || len > DNS_LABEL_MAX || strchr(name, '.'))
		return host;
	for (unsigned i = 0; i < table->search_count && !host; i++) {
		memcpy(full, name, len);
		full[len] = '.';
		memcpy(full + len + 1, table->search[i], strlen(table->search[i]) + 1);
		host = dns_table_find(table, full);
	}
	return host;
}

const struct dns_host *dns_table_find_ip(const struct dns_table *table, const struct ip_addr *ip)
{
	unsigned low = 0, high = table->reverse_count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		int order = ip_compare(ip, &table->reverse[mid].ip);

		if (order == 0)
			return &table->hosts[table->reverse[mid].host];
		if (order > 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static const struct dns_suffix *find_suffix(const struct dns_table *table, const char *name)
{
	unsigned low = 0, high = table->suffix_count;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		int order = strcmp(name, table->suffixes[mid].name);

		if (order == 0)
			return &table->suffixes[mid];
		if (order > 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct dns_suffix *dns_table_suffix(const struct dns_table *table, const char *name)
{
	const struct dns_suffix *s = find_suffix(table, name);

	while (!s && *name) {
		const char *dot = strchr(name, '.');

		name = dot ? dot + 1 : "";
		s = find_suffix(table, name);
	}
	return s;
}

unsigned dns_table_host_count(const struct dns_table *table)
{
	return table->host_count;
}

const struct dns_host *dns_table_host(const struct dns_table *table, unsigned i)
{
	return &table->hosts[i];
}

unsigned dns_table_suffix_count(const struct dns_table *table)
{
	return table->suffix_count;
}

const struct dns_suffix *dns_table_suffix_at(const struct dns_table *table, unsigned i)
{
	return &table->suffixes[i];
}

unsigned dns_table_search_count(const struct dns_table *table)
{
	return table->search_count;
}

const char *dns_table_search(const struct dns_table *table, unsigned i)
{
	return table->search[i];
}
