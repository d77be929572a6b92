/*
 * The map of relays. Host and certificate names go into TLS and HTTP, so they
 * must look like names; a relay whose names do not is left out. Addresses are
 * kept as text: "none" and the like forbid a family. Regions are sorted by id,
 * relays stay in the server's order, which is their priority.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/read.h"
#include "daemon/netmap/sections.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

#define STUN_PORT  3478
#define DERP_PORT  443
#define REGION_MAX 65535
#define SCORE_MIN  0.01
#define SCORE_MAX  100.0

static bool is_plain(const char *text)
{
	for (; *text; text++) {
		if (*text <= ' ' || *text >= 0x7f || strchr("/\\@\"'<>%", *text))
			return false;
	}
	return true;
}

static bool read_relay(struct arena *a, struct json_object *o, int region_id, struct derp_node *n)
{
	int64_t stun = read_int(o, "STUNPort"), derp = read_int(o, "DERPPort");

	if (!json_object_is_type(o, json_type_object))
		return false;
	n->name = read_text(a, o, "Name");
	n->host_name = read_text(a, o, "HostName");
	n->cert_name = read_text(a, o, "CertName");
	n->ipv4 = read_text(a, o, "IPv4");
	n->ipv6 = read_text(a, o, "IPv6");
	n->stun_test_ip = read_text(a, o, "STUNTestIP");
	n->region_id = region_id;
	n->stun_port = stun == 0 ? STUN_PORT : stun > 0 && stun <= UINT16_MAX ? (int)stun : -1;
	n->derp_port = derp == 0 ? DERP_PORT : (int)derp;
	n->is_stun_only = read_bool(o, "STUNOnly");
	n->is_insecure = read_bool(o, "InsecureForTests");
	n->has_port_80 = read_bool(o, "CanPort80");
	return is_plain(n->host_name) && is_plain(n->cert_name) && derp >= 0 && derp <= UINT16_MAX;
}

static void read_region(struct arena *a, struct json_object *o, struct derp_region *r,
			unsigned *ignored)
{
	struct json_object *list = read_member(o, "Nodes", json_type_array);
	unsigned len = read_length(list, SECTION_RELAYS_MAX);

	r->code = read_text(a, o, "RegionCode");
	r->name = read_text(a, o, "RegionName");
	r->avoid = read_bool(o, "Avoid");
	r->no_measure_no_home = read_bool(o, "NoMeasureNoHome");
	r->score = 1;
	r->nodes = len ? arena_alloc(a, len, sizeof(*r->nodes)) : NULL;
	for (unsigned i = 0; r->nodes && i < len; i++) {
		struct derp_node node = { .name = "" };

		if (read_relay(a, json_object_array_get_idx(list, i), r->id, &node))
			r->nodes[r->node_count++] = node;
		else
			++*ignored;
	}
}

static int compare_regions(const void *a, const void *b)
{
	const struct derp_region *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static void read_scores(struct json_object *o, struct derp_map *map)
{
	struct json_object *scores = read_member(read_member(o, "HomeParams", json_type_object),
						 "RegionScore", json_type_object);

	if (!scores)
		return;
	json_object_object_foreach(scores, key, value)
	{
		struct derp_region *region, wanted = { .id = 0 };
		double score = json_object_get_double(value);
		int64_t id;

		if (!read_id(key, &id) || id <= 0 || id > REGION_MAX || !(score > 0) ||
		    !isfinite(score))
			continue;
		wanted.id = (int)id;
		region = map->region_count ? bsearch(&wanted, map->regions, map->region_count,
						     sizeof(*map->regions), compare_regions)
					   : NULL;
		if (region)
			region->score = MIN(MAX(score, SCORE_MIN), SCORE_MAX);
	}
}

static void read_regions(struct arena *a, struct json_object *regions, struct derp_map *map,
			 unsigned *ignored)
{
	size_t len = regions ? (size_t)json_object_object_length(regions) : 0;

	len = MIN(len, (size_t)SECTION_REGIONS_MAX);
	map->regions = len ? arena_alloc(a, len, sizeof(*map->regions)) : NULL;
	if (!map->regions)
		return;
	json_object_object_foreach(regions, key, value)
	{
		struct derp_region *region = &map->regions[map->region_count];
		int64_t id;

		if (!value) /* as good as not there */
			continue;
		if (!json_object_is_type(value, json_type_object) || !read_id(key, &id) ||
		    id <= 0 || id > REGION_MAX || map->region_count == len) {
			++*ignored;
			continue;
		}
		region->id = (int)id;
		read_region(a, value, region, ignored);
		map->region_count++;
	}
	qsort(map->regions, map->region_count, sizeof(*map->regions), compare_regions);
}

struct section_derp *section_derp_create(struct json_object *o, unsigned *ignored)
{
	struct section_derp *s = calloc(1, sizeof(*s));
	const char *text = o ? json_object_to_json_string_ext(o, TEXT_FLAGS) : "{}";

	if (!s)
		return NULL;
	if (text)
		s->json = arena_text(&s->arena, text, strlen(text));
	read_regions(&s->arena, read_member(o, "Regions", json_type_object), &s->map, ignored);
	read_scores(o, &s->map);
	if (!s->json || s->arena.failed) {
		section_derp_destroy(s);
		return NULL;
	}
	return s;
}

void section_derp_destroy(struct section_derp *s)
{
	if (!s)
		return;
	arena_finish(&s->arena);
	free(s);
}
