/*
 * From the map of the mesh to the table of names.
 *
 * Zones exist only while MagicDNS is on: the domain of our own name, what the
 * server lists without resolvers, the reverse zones of the addresses a mesh has by
 * default, and each extra record that lies outside of these.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/dns/dns.h"
#include "daemon/dns/table.h"
#include "shared/util.h"

struct build {
	struct dns_table *table;
	const struct dns_source *source;
	bool want_v4, want_v6; /* for nodes that have both */
	unsigned unfit;
};

static bool has_cap(const struct netmap_node *node, const char *cap)
{
	for (unsigned i = 0; i < node->cap_count; i++)
		if (strcmp(node->caps[i], cap) == 0)
			return true;
	return false;
}

static bool has_family(const struct netmap_node *node, bool v4)
{
	for (unsigned i = 0; i < node->address_count; i++)
		if (ip_is_v4(&node->addresses[i].addr) == v4)
			return true;
	return false;
}

/* Only -ENOMEM ends the building; what is unfit or too much is left out and counted. */
static int count_unfit(struct build *b, int err)
{
	if (err && err != -ENOMEM)
		b->unfit++;
	return err == -ENOMEM ? err : 0;
}

static void append(struct dns_host *host, struct ip_addr *ips, const struct netmap_node *node,
		   bool v4)
{
	for (unsigned i = 0; i < node->address_count && host->count < DNS_HOST_IPS_MAX; i++)
		if (ip_is_v4(&node->addresses[i].addr) == v4)
			ips[host->count++] = node->addresses[i].addr;
}

static int add_node(struct build *b, const struct netmap_node *node, bool is_self)
{
	struct ip_addr ips[DNS_HOST_IPS_MAX];
	struct dns_host host = { .name = node->name,
				 .ips = ips,
				 .is_node = true,
				 .is_self = is_self,
				 .has_subdomains = has_cap(node, "dns-subdomain-resolve") };
	bool both = b->want_v4 && b->want_v6;
	bool v4_first = b->want_v4;

	if (!node->name[0] || node->address_count == 0)
		return 0;
	append(&host, ips, node, v4_first);
	/* The other family: answered where the first gives nothing, except to those without IPv4.
	 */
	if (both || (host.count == 0 && b->want_v4)) {
		append(&host, ips, node, !v4_first);
		host.answered = host.count;
	} else {
		host.answered = host.count;
		append(&host, ips, node, !v4_first);
	}
	return count_unfit(b, dns_table_add_host(b->table, &host));
}

static int add_nodes(struct build *b)
{
	const struct dns_source *s = b->source;
	int err = add_node(b, s->self, true);

	for (unsigned i = 0; err == 0 && i < s->peer_count; i++)
		err = add_node(b, s->peers[i], false);
	return err;
}

static int add_suffix(struct build *b, const char *suffix, const struct dns_resolver *resolvers,
		      unsigned count)
{
	return count_unfit(b, dns_table_add_suffix(b->table, suffix, resolvers, count));
}

static int add_reverse_zones(struct build *b)
{
	char zone[32];
	int err = add_suffix(b, "0.e.1.a.c.5.1.1.a.7.d.f.ip6.arpa", NULL, 0);

	for (unsigned i = 64; err == 0 && i < 128; i++) {
		snprintf(zone, sizeof(zone), "%u.100.in-addr.arpa", i);
		err = add_suffix(b, zone, NULL, 0);
	}
	return err;
}

static int add_zones(struct build *b)
{
	const struct dns_config *c = b->source->config;
	const char *domain = strchr(b->source->self->name, '.');
	int err = add_reverse_zones(b);

	if (err == 0 && domain && domain[1])
		err = add_suffix(b, domain + 1, NULL, 0);
	for (unsigned i = 0; err == 0 && i < c->route_count; i++)
		if (c->routes[i].resolver_count == 0 && c->routes[i].suffix[0])
			err = add_suffix(b, c->routes[i].suffix, NULL, 0);
	return err;
}

static int add_routes(struct build *b)
{
	const struct dns_config *c = b->source->config;
	int err = 0;

	if (c->resolver_count)
		err = add_suffix(b, "", c->resolvers, c->resolver_count);
	for (unsigned i = 0; err == 0 && i < c->route_count; i++)
		if (c->routes[i].resolver_count)
			err = add_suffix(b, c->routes[i].suffix, c->routes[i].resolvers,
					 c->routes[i].resolver_count);
	return err;
}

static bool is_in_own_zone(const struct build *b, const char *name)
{
	const struct dns_config *c = b->source->config;
	const char *domain = strchr(b->source->self->name, '.');

	if (domain && domain[1] && dns_name_is_below(name, domain + 1))
		return true;
	for (unsigned i = 0; i < c->route_count; i++)
		if (c->routes[i].resolver_count == 0 && c->routes[i].suffix[0] &&
		    dns_name_is_below(name, c->routes[i].suffix))
			return true;
	return false;
}

static int add_records(struct build *b)
{
	const struct dns_config *c = b->source->config;
	int err = 0;

	for (unsigned i = 0; err == 0 && i < c->record_count; i++) {
		struct dns_host host = { .name = c->records[i].name,
					 .ips = &c->records[i].addr,
					 .answered = 1,
					 .count = 1 };
		int bad = dns_table_add_host(b->table, &host);

		err = count_unfit(b, bad);
		if (bad == 0 && c->is_proxied && !is_in_own_zone(b, c->records[i].name))
			err = add_suffix(b, c->records[i].name, NULL, 0);
	}
	return err;
}

static int add_search(struct build *b)
{
	const struct dns_config *c = b->source->config;
	int err = 0;

	for (unsigned i = 0; err == 0 && i < c->domain_count; i++)
		err = count_unfit(b, dns_table_add_search(b->table, c->domains[i]));
	return err;
}

static int build(struct build *b)
{
	const struct dns_source *s = b->source;
	int err = 0;

	if (!s->self)
		return 0;
	b->want_v4 = s->all_families || has_family(s->self, true) || !has_family(s->self, false);
	b->want_v6 = s->all_families || !b->want_v4 || has_cap(s->self, "magicdns-aaaa");
	err = add_nodes(b);
	if (err || !s->config)
		return err;
	/* Routes before zones: of two with one name the later one counts. */
	if (!s->refuse_resolvers)
		err = add_routes(b);
	if (err == 0 && s->config->is_proxied)
		err = add_zones(b);
	if (err == 0)
		err = add_records(b);
	if (err == 0)
		err = add_search(b);
	return err;
}

struct dns_table *dns_table_build(const struct dns_source *source, unsigned *unfit)
{
	struct build b = { .table = dns_table_create(), .source = source };

	if (!b.table)
		return NULL;
	if (build(&b) != 0 || dns_table_finish(b.table) != 0) {
		dns_table_destroy(b.table);
		return NULL;
	}
	*unfit = b.unfit;
	return b.table;
}
