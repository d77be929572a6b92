/*
 * The netcheck's relay map, and what it remembers between reports.
 */
#include "daemon/path/netcheck.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/types.h"
#include "daemon/path/netcheck_private.h"
#include "shared/util.h"

#define STUN_PORT 3478

struct netcheck *netcheck_create(const struct netcheck_callbacks *callbacks, void *owner)
{
	struct netcheck *nc = calloc(1, sizeof(*nc));

	if (!nc)
		return NULL;
	nc->callbacks = *callbacks;
	nc->owner = owner;
	nc->has_family[IPV4] = true;
	return nc;
}

static void drop_map(struct netcheck *nc)
{
	free(nc->regions);
	free(nc->homes);
	free(nc->series);
	nc->regions = NULL;
	nc->homes = NULL;
	nc->series = NULL;
	nc->region_count = nc->series_count = 0;
	nc->is_running = nc->is_measuring = false;
	nc->generation++;
}

void netcheck_destroy(struct netcheck *nc)
{
	if (!nc)
		return;
	drop_map(nc);
	free(nc);
}

/* ---- the map ---- */

/* text: an address, "" (look the host up), or anything else (not this family). */
static void set_address(struct node *n, int family, const char *text, uint16_t port)
{
	struct ip_addr ip;

	n->address[family].port = port;
	n->is_open[family] = text[0] == '\0';
	if (ip_parse(text, &ip) == 0 && ip_is_v4(&ip) == (family == IPV4)) {
		n->address[family].addr = ip;
		n->has[family] = true;
	}
}

static bool take_node(struct node *n, const struct derp_node *from)
{
	int port = from->stun_port ? from->stun_port : STUN_PORT;
	struct ip_addr ip;

	if (port < 0 || port > UINT16_MAX)
		return false;
	memset(n, 0, sizeof(*n));
	if (from->stun_test_ip[0]) {
		bool is_v4 = ip_parse(from->stun_test_ip, &ip) == 0 && ip_is_v4(&ip);

		set_address(n, is_v4 ? IPV4 : IPV6, from->stun_test_ip, (uint16_t)port);
		return n->has[IPV4] || n->has[IPV6];
	}
	set_address(n, IPV4, from->ipv4, (uint16_t)port);
	set_address(n, IPV6, from->ipv6, (uint16_t)port);
	if (ip_parse(from->host_name, &ip) == 0) {
		int family = ip_is_v4(&ip) ? IPV4 : IPV6;

		if (n->is_open[family])
			set_address(n, family, from->host_name, (uint16_t)port);
		n->is_open[IPV4] = n->is_open[IPV6] = false;
	} else if ((n->is_open[IPV4] || n->is_open[IPV6]) && strlen(from->host_name) < HOST_MAX) {
		snprintf(n->host, sizeof(n->host), "%s", from->host_name);
	}
	return n->has[IPV4] || n->has[IPV6] || n->host[0];
}

static void take_region(struct region *r, struct home_region *home, const struct derp_region *from)
{
	home->id = from->id;
	home->avoid = from->avoid;
	home->no_measure_no_home = from->no_measure_no_home;
	home->score = from->score;
	for (unsigned i = 0; i < from->node_count && r->node_count < NODES_MAX; i++)
		r->node_count += take_node(&r->node[r->node_count], &from->nodes[i]);
}

/* What was measured stays with the regions that stay. */
static void keep_history(const struct netcheck *nc, struct home_region *home)
{
	for (unsigned i = 0; i < nc->region_count; i++) {
		const struct home_region *old = &nc->homes[i];

		if (old->id != home->id)
			continue;
		memcpy(home->history, old->history, sizeof(home->history));
		home->next = old->next;
		home->latency_ns = old->latency_ns;
		home->is_up = old->is_up;
		home->dead_until_ns = old->dead_until_ns;
		home->dead_for_ns = old->dead_for_ns;
	}
}

int netcheck_set_map(struct netcheck *nc, const struct derp_map *map)
{
	unsigned count = MIN(map ? map->region_count : 0, NETCHECK_REGIONS_MAX);
	struct region *regions = calloc(count + 1u, sizeof(*regions));
	struct home_region *homes = calloc(count + 1u, sizeof(*homes));
	struct series *series = calloc((size_t)count * FAMILIES + 1, sizeof(*series));

	if (!regions || !homes || !series) {
		free(regions);
		free(homes);
		free(series);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < count; i++) {
		take_region(&regions[i], &homes[i], &map->regions[i]);
		keep_history(nc, &homes[i]);
	}
	drop_map(nc);
	nc->regions = regions;
	nc->homes = homes;
	nc->series = series;
	nc->region_count = count;
	return 0;
}

void netcheck_set_families(struct netcheck *nc, bool has_ipv4, bool has_ipv6)
{
	nc->has_family[IPV4] = has_ipv4;
	nc->has_family[IPV6] = has_ipv6;
}

void netcheck_set_connected(struct netcheck *nc, bool is_connected)
{
	nc->is_connected = is_connected;
}

void netcheck_relay_heard(struct netcheck *nc, int region, uint64_t now_ns)
{
	if (region != nc->home)
		return;
	nc->heard_region = region;
	nc->heard_ns = now_ns;
}

static struct home_region *find_home(struct netcheck *nc, int region)
{
	for (unsigned i = 0; i < nc->region_count; i++) {
		if (nc->homes[i].id == region)
			return &nc->homes[i];
	}
	return NULL;
}

void netcheck_relay_state(struct netcheck *nc, int region, bool is_up)
{
	struct home_region *home = find_home(nc, region);

	if (!is_up && region == nc->heard_region)
		nc->heard_ns = 0;
	if (!home)
		return;
	home->is_up = is_up;
	if (is_up)
		home->dead_until_ns = home->dead_for_ns = 0;
}

void netcheck_home_lost(struct netcheck *nc, uint64_t now_ns)
{
	struct home_region *home = find_home(nc, nc->home);

	if (home)
		home_region_lost(home, now_ns);
}

/* ---- between reports ---- */

void netcheck_network_changed(struct netcheck *nc)
{
	struct netcheck_report *r = &nc->last;

	r->global_v4.port = r->global_v6.port = 0;
	r->v4_count = r->v6_count = 0;
	r->mapping_varies = NETCHECK_UNKNOWN;
	nc->last_full_ns = 0;
	for (unsigned i = 0; i < nc->region_count; i++)
		nc->homes[i].dead_until_ns = nc->homes[i].dead_for_ns = 0;
	/* What is in flight would tell of the old place. */
	nc->is_running = nc->is_measuring = false;
	nc->generation++;
}

const struct netcheck_report *netcheck_last(const struct netcheck *nc)
{
	return &nc->last;
}

uint64_t netcheck_last_ns(const struct netcheck *nc)
{
	return nc->last_ns;
}

int netcheck_home(const struct netcheck *nc)
{
	return nc->home;
}

static void add_mapped(const struct netcheck_report *r, struct endpoint *out, unsigned max,
		       unsigned *n)
{
	if (r->global_v4.port && *n < max)
		out[(*n)++] = r->global_v4;
	if (r->global_v6.port && *n < max)
		out[(*n)++] = r->global_v6;
	for (unsigned i = 0; i < r->v4_count && *n < max; i++) {
		if (r->v4[i].count > 1 && !endpoint_equal(&r->v4[i].mapped, &r->global_v4))
			out[(*n)++] = r->v4[i].mapped;
	}
}

unsigned netcheck_mapped(const struct netcheck *nc, struct endpoint *out, unsigned max)
{
	unsigned n = 0;

	add_mapped(nc->is_running && nc->current.has_udp ? &nc->current : &nc->last, out, max, &n);
	return n;
}
