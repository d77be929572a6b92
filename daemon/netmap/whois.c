/*
 * Who a node is, and which node is meant. The capabilities that whois tells are
 * the application grants of the filter's rules: those whose sources hold the
 * node and whose destinations hold us. Besides what the server says of a node
 * there are two names for people, which the stock client makes, and programs read.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "daemon/crypto/keytext.h"
#include "daemon/netmap/build.h"
#include "daemon/netmap/read.h"
#include "daemon/netmap/status.h"
#include "shared/util.h"

#define LABEL_MAX 63

static bool in_range(const struct netmap_range *r, const struct ip_addr *ip)
{
	return ip_is_v4(&r->first) == ip_is_v4(ip) && ip_compare(&r->first, ip) <= 0 &&
	       ip_compare(ip, &r->last) <= 0;
}

static bool in_ranges(const struct netmap_range *r, unsigned count, const struct netmap_node *node)
{
	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < node->address_count; k++) {
			if (in_range(&r[i], &node->addresses[k].addr))
				return true;
		}
	}
	return false;
}

static bool is_source(const struct netmap_rule *rule, const struct netmap_node *node)
{
	for (unsigned i = 0; i < rule->src_cap_count; i++) {
		if (netmap_node_has_cap(node, rule->src_caps[i]))
			return true;
	}
	return in_ranges(rule->src, rule->src_count, node);
}

static bool is_for(struct json_object *grant, const struct netmap_node *self)
{
	struct json_object *dsts = read_member(grant, "Dsts", json_type_array);

	for (unsigned i = 0; i < read_length(dsts, READ_LIST_MAX); i++) {
		struct json_object *text = json_object_array_get_idx(dsts, i);
		struct netmap_range range[2];
		unsigned count = json_object_is_type(text, json_type_string)
					 ? netmap_range_parse(json_object_get_string(text), range)
					 : 0;

		if (in_ranges(range, count, self))
			return true;
	}
	return false;
}

/* Adds values (may be NULL) to the list that caps has under the name. */
static void add_values(struct build *b, struct json_object *caps, const char *name,
		       struct json_object *values)
{
	struct json_object *list = read_member(caps, name, json_type_array);

	if (!list) {
		list = build_list(b);
		build_add(b, caps, name, list);
	}
	for (unsigned i = 0; !b->failed && i < read_length(values, READ_LIST_MAX); i++)
		build_append(b, list, json_object_get(json_object_array_get_idx(values, i)));
}

static void add_grant(struct build *b, struct json_object *caps, struct json_object *grant)
{
	struct json_object *map = read_member(grant, "CapMap", json_type_object);
	struct json_object *old = read_member(grant, "Caps", json_type_array);

	for (unsigned i = 0; i < read_length(old, READ_LIST_MAX); i++) {
		struct json_object *name = json_object_array_get_idx(old, i);

		if (json_object_is_type(name, json_type_string))
			add_values(b, caps, json_object_get_string(name), NULL);
	}
	if (!map)
		return;
	json_object_object_foreach(map, name, values) add_values(b, caps, name, values);
}

static struct json_object *caps_of(struct build *b, const struct netmap *nm,
				   const struct netmap_node *node)
{
	unsigned count;
	const struct netmap_rule *rules = netmap_filter(nm, &count);
	const struct netmap_node *self = netmap_self(nm);
	struct json_object *caps = build_object(b);

	for (unsigned i = 0; self && i < count; i++) {
		struct json_object *grants;

		if (!*rules[i].cap_grants || !is_source(&rules[i], node))
			continue;
		grants = json_tokener_parse(rules[i].cap_grants);
		for (unsigned k = 0; k < read_length(grants, READ_LIST_MAX); k++) {
			struct json_object *grant = json_object_array_get_idx(grants, k);

			if (is_for(grant, self))
				add_grant(b, caps, grant);
		}
		json_object_put(grants);
	}
	return caps;
}

/* A host name as one label: "My Laptop.local" is my-laptop. */
static void make_label(const char *host, char label[static LABEL_MAX + 1])
{
	static const char *const home[] = { ".local", ".localdomain", ".lan" };
	size_t end = strlen(host), start = 0, len = 0;

	for (size_t i = 0; i < ARRAY_LEN(home); i++) {
		size_t tail = strlen(home[i]);

		if (end > tail && strncasecmp(host + end - tail, home[i], tail) == 0) {
			end -= tail;
			break;
		}
	}
	end = MIN(end, (size_t)LABEL_MAX);
	while (start < end && !isalnum((unsigned char)host[start]))
		start++;
	while (end > start && !isalnum((unsigned char)host[end - 1]))
		end--;
	for (; start < end; start++) {
		unsigned char c = (unsigned char)host[start];

		if (isalnum(c) || c == '-')
			label[len++] = (char)tolower(c);
		else if (strchr(" .@_", c))
			label[len++] = '-';
	}
	label[len] = '\0';
}

static void add_names(struct build *b, struct json_object *o, const struct netmap *nm,
		      const struct netmap_node *node)
{
	const char *suffix = netmap_suffix(nm);
	size_t len = strlen(node->name), tail = strlen(suffix);
	char name[READ_NAME_MAX + 1], host[LABEL_MAX + 1], key[KEYTEXT_MAX];
	char both[sizeof(name) + sizeof(host) + 4];
	const char *shown = name;

	make_label(node->host_name, host);
	if (tail && len > tail && node->name[len - tail - 1] == '.' &&
	    strcmp(node->name + len - tail, suffix) == 0)
		len -= tail + 1;
	snprintf(name, sizeof(name), "%.*s", (int)len, node->name);
	if (!name[0])
		shown = host[0] ? host : keytext_format(KEYTEXT_NODE, node->key, key);
	build_text(b, o, "ComputedName", shown);
	if (host[0] && name[0] && strcasecmp(name, host) != 0)
		snprintf(both, sizeof(both), "%s (%s)", name, host);
	else
		snprintf(both, sizeof(both), "%s", shown);
	build_text(b, o, "ComputedNameWithHost", both);
}

struct json_object *status_build_whois(const struct netmap *nm, const struct netmap_node *node)
{
	struct build b = { .failed = false };
	struct json_object *o = build_object(&b), *caps = caps_of(&b, nm, node), *json;
	int64_t id = node->sharer ? node->sharer : node->user;
	const struct netmap_user *user = netmap_user(nm, id);
	const struct netmap_user nobody = { id, "", "", "" };

	json = json_tokener_parse(node->json);
	add_names(&b, json, nm, node);
	build_add(&b, o, "Node", json);
	build_add(&b, o, "UserProfile", status_build_user(user ? user : &nobody));
	if (!b.failed && json_object_object_length(caps) == 0) {
		build_add_null(&b, o, "CapMap");
		json_object_put(caps);
	} else {
		build_add(&b, o, "CapMap", caps);
	}
	build_add(&b, o, "CurrentTailnet", status_build_tailnet(nm));
	return build_result(&b, o);
}

/* ---- names ---- */

static const struct netmap_node *find_addr(const struct netmap *nm, const char *who)
{
	struct endpoint ep;

	if (ip_parse(who, &ep.addr) < 0 && endpoint_parse(who, &ep) < 0)
		return NULL;
	return netmap_node_by_addr(nm, &ep.addr);
}

/* As the node calls itself; a name that two have is nobody's. */
static const struct netmap_node *find_host_name(const struct netmap *nm, const char *who)
{
	const struct netmap_node *self = netmap_self(nm), *found = NULL;

	if (self && strcasecmp(self->host_name, who) == 0)
		found = self;
	for (unsigned i = 0; i < netmap_peer_count(nm); i++) {
		const struct netmap_node *node = netmap_peer_at(nm, i);

		if (strcasecmp(node->host_name, who) != 0)
			continue;
		if (found)
			return NULL;
		found = node;
	}
	return found;
}

const struct netmap_node *status_find_node(const struct netmap *nm, const char *who)
{
	char name[2 * READ_NAME_MAX + 2];
	const struct netmap_node *node = find_addr(nm, who);

	if (node || *who == '\0' || strlen(who) > READ_NAME_MAX)
		return node;
	/* A short name before a whole one: with a dot at its end it is whole. */
	if (*netmap_suffix(nm) && who[strlen(who) - 1] != '.') {
		snprintf(name, sizeof(name), "%s.%s", who, netmap_suffix(nm));
		node = netmap_node_by_name(nm, name);
	}
	if (!node)
		node = netmap_node_by_name(nm, who);
	return node ? node : find_host_name(nm, who);
}
