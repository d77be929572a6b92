/*
 * The rules of the packet filter. What cannot be read never widens: an invalid
 * source or destination is left out, a rule of a form we do not know (old bit
 * lists, lists that are none, more ranges than our bound) is left out whole.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/netmap.h"
#include "daemon/netmap/read.h"
#include "daemon/netmap/sections.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

static const uint8_t default_protocols[] = { 6, 17, 1, 58 };

struct reading {
	struct section_filter *s;
	unsigned *ignored;
	unsigned ranges;
};

static struct ip_addr last_of(const struct ip_prefix *prefix)
{
	unsigned len = prefix->len + (ip_is_v4(&prefix->addr) ? 96u : 0u);
	struct ip_addr last = prefix->addr;

	for (unsigned bit = len; bit < 128; bit++)
		last.byte[bit / 8] |= (uint8_t)(0x80u >> bit % 8);
	return last;
}

static unsigned parse_cidr(const char *text, struct netmap_range *out)
{
	char addr[IP_TEXT_MAX];
	const char *slash = strchr(text, '/');
	size_t len = (size_t)(slash - text);
	struct ip_prefix prefix;

	if (len >= sizeof(addr) || !read_prefix(text, &prefix))
		return 0;
	memcpy(addr, text, len);
	addr[len] = '\0';
	/* read_prefix() cleared host bits: there must have been none. */
	if (!read_addr(addr, &out->first) || !ip_equal(&out->first, &prefix.addr))
		return 0;
	out->last = last_of(&prefix);
	return 1;
}

static unsigned parse_pair(const char *text, struct netmap_range *out)
{
	char first[IP_TEXT_MAX];
	const char *dash = strchr(text, '-');
	size_t len = (size_t)(dash - text);

	if (len >= sizeof(first))
		return 0;
	memcpy(first, text, len);
	first[len] = '\0';
	return read_addr(first, &out->first) && read_addr(dash + 1, &out->last) &&
	       ip_is_v4(&out->first) == ip_is_v4(&out->last) &&
	       ip_compare(&out->first, &out->last) <= 0;
}

unsigned netmap_range_parse(const char *text, struct netmap_range out[static 2])
{
	if (strcmp(text, "*") == 0) {
		const struct ip_prefix all[2] = { { ip_from_v4(0), 0 }, { .len = 0 } };

		for (unsigned i = 0; i < 2; i++)
			out[i] = (struct netmap_range){ all[i].addr, last_of(&all[i]) };
		return 2;
	}
	if (strchr(text, '/'))
		return parse_cidr(text, out);
	if (strchr(text, '-'))
		return parse_pair(text, out);
	if (!read_addr(text, &out->first))
		return 0;
	out->last = out->first;
	return 1;
}

/* A list that may be absent, but not something else. */
static bool read_list(struct json_object *o, const char *name, struct json_object **list)
{
	*list = read_member(o, name, json_type_array);
	return *list || !read_has(o, name);
}

static void read_source(struct arena *a, struct json_object *value, struct netmap_rule *rule,
			const char **caps, unsigned *ignored)
{
	const char *text = read_text_value(a, value);
	struct netmap_range range[2];
	unsigned count;

	if (strncmp(text, "cap:", 4) == 0 && text[4]) {
		caps[rule->src_cap_count++] = text + 4;
		return;
	}
	count = netmap_range_parse(text, range);
	if (count == 0)
		++*ignored;
	memcpy(&rule->src[rule->src_count], range, count * sizeof(*range));
	rule->src_count += count;
}

static bool read_ports(struct json_object *o, struct netmap_dst *out)
{
	struct json_object *ports = read_member(o, "Ports", json_type_object);
	int64_t first = read_int(ports, "First"), last = read_int(ports, "Last");

	if (!ports || first < 0 || last > UINT16_MAX || first > last)
		return false;
	out->first_port = (uint16_t)first;
	out->last_port = (uint16_t)last;
	return true;
}

static void read_destination(struct json_object *o, struct netmap_rule *rule, unsigned *ignored)
{
	struct json_object *ip = read_member(o, "IP", json_type_string);
	struct netmap_range range[2];
	struct netmap_dst dst;
	unsigned count = ip ? netmap_range_parse(json_object_get_string(ip), range) : 0;

	if (count == 0 || !read_ports(o, &dst)) {
		++*ignored;
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		dst.ip = range[i];
		rule->dst[rule->dst_count++] = dst;
	}
}

static void read_protocols(struct arena *a, struct json_object *list, struct netmap_rule *rule)
{
	unsigned len = read_length(list, READ_LIST_MAX);

	if (len == 0) {
		rule->protocols = arena_alloc(a, sizeof(default_protocols), 1);
		if (!rule->protocols)
			return;
		memcpy(rule->protocols, default_protocols, sizeof(default_protocols));
		rule->protocol_count = sizeof(default_protocols);
		return;
	}
	rule->protocols = arena_alloc(a, len, 1);
	for (unsigned i = 0; rule->protocols && i < len; i++) {
		struct json_object *value = json_object_array_get_idx(list, i);
		int64_t protocol = json_object_get_int64(value);

		if (json_object_is_type(value, json_type_int) && protocol >= 0 && protocol <= 255)
			rule->protocols[rule->protocol_count++] = (uint8_t)protocol;
	}
}

static bool has_old_bits(struct json_object *o, struct json_object *dsts)
{
	for (unsigned i = 0; i < read_length(dsts, SECTION_RANGES_MAX); i++) {
		if (read_has(json_object_array_get_idx(dsts, i), "Bits"))
			return true;
	}
	return read_has(o, "SrcBits");
}

static bool read_rule(struct reading *r, struct json_object *o, struct netmap_rule *rule)
{
	struct arena *a = &r->s->arena;
	struct json_object *srcs, *dsts, *protocols, *grants;
	unsigned src_len, dst_len;
	const char **caps;

	if (!json_object_is_type(o, json_type_object) || !read_list(o, "SrcIPs", &srcs) ||
	    !read_list(o, "DstPorts", &dsts) || !read_list(o, "IPProto", &protocols) ||
	    !read_list(o, "CapGrant", &grants) || has_old_bits(o, dsts))
		return false;
	src_len = read_length(srcs, SECTION_RANGES_MAX);
	dst_len = read_length(dsts, SECTION_RANGES_MAX);
	if (src_len + dst_len > SECTION_RANGES_MAX - r->ranges)
		return false;
	r->ranges += src_len + dst_len;
	rule->src = arena_alloc(a, src_len * 2, sizeof(*rule->src));
	rule->dst = arena_alloc(a, dst_len * 2, sizeof(*rule->dst));
	caps = arena_alloc(a, src_len, sizeof(*caps));
	rule->cap_grants = "";
	if (!rule->src || !rule->dst || !caps)
		return false;
	for (unsigned i = 0; i < src_len; i++)
		read_source(a, json_object_array_get_idx(srcs, i), rule, caps, r->ignored);
	for (unsigned i = 0; i < dst_len; i++)
		read_destination(json_object_array_get_idx(dsts, i), rule, r->ignored);
	rule->src_caps = caps;
	read_protocols(a, protocols, rule);
	if (grants) {
		const char *text = json_object_to_json_string_ext(grants, TEXT_FLAGS);

		rule->cap_grants = text ? arena_text(a, text, strlen(text)) : NULL;
	}
	return rule->cap_grants != NULL;
}

static void read_rules(struct reading *r, struct json_object *list)
{
	for (unsigned i = 0; i < read_length(list, SECTION_RULES_MAX); i++) {
		struct netmap_rule rule = { .src_count = 0 };

		if (r->s->count < SECTION_RULES_MAX &&
		    read_rule(r, json_object_array_get_idx(list, i), &rule))
			r->s->rules[r->s->count++] = rule;
		else
			++*r->ignored;
	}
}

struct section_filter *section_filter_create(struct json_object *o, unsigned *ignored)
{
	struct section_filter *s = calloc(1, sizeof(*s));
	const char *text = o ? json_object_to_json_string_ext(o, TEXT_FLAGS) : "{}";
	struct reading reading = { s, ignored, 0 };
	size_t total = 0;

	if (!s)
		return NULL;
	s->arena.first_size = text ? strlen(text) * 2 : 0;
	if (text)
		s->json = arena_text(&s->arena, text, strlen(text));
	if (o) {
		json_object_object_foreach(o, name, list)
		{
			(void)name;
			total += read_length(list, SECTION_RULES_MAX);
		}
	}
	s->rules = arena_alloc(&s->arena, MIN(total, (size_t)SECTION_RULES_MAX), sizeof(*s->rules));
	if (o && s->rules) {
		json_object_object_foreach(o, name, list)
		{
			(void)name;
			read_rules(&reading, list);
		}
	}
	if (!s->json || s->arena.failed) {
		section_filter_destroy(s);
		return NULL;
	}
	return s;
}

void section_filter_destroy(struct section_filter *s)
{
	if (!s)
		return;
	arena_finish(&s->arena);
	free(s);
}
