#include "common.h"

#include <assert.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct json_object *vectors_load(const char *name)
{
	char path[4096];
	struct json_object *o;

	snprintf(path, sizeof(path), "%s/%s", VECTORS_DIR, name);
	o = json_object_from_file(path);
	assert(o);
	return o;
}

struct json_object *vectors_get(struct json_object *o, const char *name)
{
	struct json_object *value = NULL;
	int found = json_object_object_get_ex(o, name, &value);

	assert(found);
	return value;
}

void apply_text(struct netmap *nm, const char *json, struct netmap_changes *changes)
{
	struct netmap_changes own;
	int err = netmap_apply(nm, json, strlen(json), WALL_S, changes ? changes : &own);

	if (err)
		fprintf(stderr, "not applied: %.200s\n", json);
	assert(err == 0);
	if (!changes)
		netmap_changes_finish(&own);
}

void apply_object(struct netmap *nm, struct json_object *message, struct netmap_changes *changes)
{
	apply_text(nm, json_object_to_json_string(message), changes);
}

int try_text(struct netmap *nm, const char *json)
{
	struct netmap_changes changes;
	int err = netmap_apply(nm, json, strlen(json), WALL_S, &changes);

	netmap_changes_finish(&changes);
	return err;
}

/* ---- dump ---- */

static void dump_prefixes(FILE *f, const char *title, const struct ip_prefix *p, unsigned count)
{
	char text[IP_TEXT_MAX];

	fprintf(f, " %s", title);
	for (unsigned i = 0; i < count; i++)
		fprintf(f, ",%s/%u", ip_format(&p[i].addr, text), p[i].len);
}

static void dump_node(FILE *f, const struct netmap *nm, const struct netmap_node *n)
{
	struct ip_prefix accepted[1024];
	char hex[2 * NETMAP_KEY_LEN + 1], ep[ENDPOINT_TEXT_MAX];

	fprintf(f, "%" PRId64 " %s %s", n->id, n->stable_id, n->name);
	fprintf(f, " %s", sodium_bin2hex(hex, sizeof(hex), n->key, sizeof(n->key)));
	fprintf(f, " %s", sodium_bin2hex(hex, sizeof(hex), n->disco_key, sizeof(n->disco_key)));
	dump_prefixes(f, "addr", n->addresses, n->address_count);
	dump_prefixes(f, "allowed", n->allowed, n->allowed_count);
	for (unsigned i = 0; i < n->endpoint_count; i++)
		fprintf(f, " ep %s", endpoint_format(&n->endpoints[i], ep));
	fprintf(f, " derp %d exp %" PRId64 " seen %" PRId64 " created %" PRId64, n->home_derp,
		n->key_expiry, n->last_seen, n->created);
	fprintf(f, " user %" PRId64 "/%" PRId64 " %s %s cap %d online %d", n->user, n->sharer,
		n->host_name, n->os, n->cap_version, n->online);
	for (unsigned i = 0; i < n->tag_count; i++)
		fprintf(f, " tag %s", n->tags[i]);
	for (unsigned i = 0; i < n->cap_count; i++)
		fprintf(f, " cap %s", n->caps[i]);
	fprintf(f, " flags %d%d%d%d%d%d", n->is_expired, n->is_authorized, n->is_jailed,
		n->is_wireguard_only, n->is_hidden, n->is_unusable);
	if (n != netmap_self(nm))
		dump_prefixes(f, "accepted", accepted, netmap_node_accepted(nm, n, true, accepted));
	fprintf(f, "\n");
}

static void dump_filter(FILE *f, const struct netmap *nm)
{
	unsigned count;
	const struct netmap_rule *rules = netmap_filter(nm, &count);
	char a[IP_TEXT_MAX], b[IP_TEXT_MAX];

	for (unsigned i = 0; i < count; i++) {
		fprintf(f, "rule");
		for (unsigned k = 0; k < rules[i].src_count; k++)
			fprintf(f, " %s-%s", ip_format(&rules[i].src[k].first, a),
				ip_format(&rules[i].src[k].last, b));
		for (unsigned k = 0; k < rules[i].src_cap_count; k++)
			fprintf(f, " cap:%s", rules[i].src_caps[k]);
		for (unsigned k = 0; k < rules[i].protocol_count; k++)
			fprintf(f, " p%u", rules[i].protocols[k]);
		for (unsigned k = 0; k < rules[i].dst_count; k++)
			fprintf(f, " to %s-%s:%u-%u", ip_format(&rules[i].dst[k].ip.first, a),
				ip_format(&rules[i].dst[k].ip.last, b), rules[i].dst[k].first_port,
				rules[i].dst[k].last_port);
		fprintf(f, " %s\n", rules[i].cap_grants);
	}
}

static void dump_rest(FILE *f, const struct netmap *nm)
{
	const struct derp_map *derp = netmap_derp(nm);
	const struct dns_config *dns = netmap_dns(nm);
	unsigned count;
	const char *const *health = netmap_health(nm, &count);

	for (unsigned i = 0; i < derp->region_count; i++)
		fprintf(f, "region %d %s %u %f\n", derp->regions[i].id, derp->regions[i].code,
			derp->regions[i].node_count, derp->regions[i].score);
	fprintf(f, "dns %d %u %u %u %u\n", dns->is_proxied, dns->domain_count, dns->resolver_count,
		dns->route_count, dns->record_count);
	for (unsigned i = 0; i < netmap_user_count(nm); i++)
		fprintf(f, "user %" PRId64 " %s\n", netmap_user_at(nm, i)->id,
			netmap_user_at(nm, i)->login_name);
	for (unsigned i = 0; i < count; i++)
		fprintf(f, "health %s\n", health[i]);
	fprintf(f, "domain %s suffix %s\n", netmap_domain(nm), netmap_suffix(nm));
}

char *dump(const struct netmap *nm)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert(f);
	if (netmap_self(nm))
		dump_node(f, nm, netmap_self(nm));
	for (unsigned i = 0; i < netmap_peer_count(nm); i++)
		dump_node(f, nm, netmap_peer_at(nm, i));
	dump_filter(f, nm);
	dump_rest(f, nm);
	fclose(f);
	return text;
}
