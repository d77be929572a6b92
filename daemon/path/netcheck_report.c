/*
 * Reports as JSON: keys and order are those of the Go struct that scripts know.
 * What this node never tries (port mapping, captive portals) is null.
 */
#include "daemon/path/netcheck_report.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <json.h>

#include "daemon/netmap/types.h"
#include "daemon/path/netcheck.h"

/* Takes value over. */
static bool add(struct json_object *o, const char *key, struct json_object *value)
{
	if (value && json_object_object_add(o, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

static bool add_null(struct json_object *o, const char *key)
{
	return json_object_object_add(o, key, NULL) == 0;
}

static bool add_bool(struct json_object *o, const char *key, bool value)
{
	return add(o, key, json_object_new_boolean(value));
}

static bool add_tristate(struct json_object *o, const char *key, enum netcheck_tristate value)
{
	return value == NETCHECK_UNKNOWN ? add_null(o, key)
					 : add_bool(o, key, value == NETCHECK_YES);
}

/* RFC 3339 in UTC, the fraction without trailing zeros. */
static struct json_object *time_json(uint64_t wall_s, uint32_t wall_ns)
{
	time_t t = (time_t)wall_s;
	char text[64], fraction[16] = "";
	struct tm tm;
	size_t len;

	if (!gmtime_r(&t, &tm))
		return NULL;
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	if (wall_ns > 0 && wall_ns < 1000000000)
		snprintf(fraction, sizeof(fraction), ".%09u", (unsigned)wall_ns);
	for (size_t n = strlen(fraction); n > 0 && fraction[n - 1] == '0'; n--)
		fraction[n - 1] = '\0';
	snprintf(text + len, sizeof(text) - len, "%sZ", fraction);
	return json_object_new_string(text);
}

enum which { BEST, V4, V6 };

static uint64_t latency(const struct netcheck_region_latency *l, enum which which)
{
	return which == BEST ? l->best_ns : which == V4 ? l->v4_ns : l->v6_ns;
}

static bool add_latencies(struct json_object *o, const char *key, const struct netcheck_report *r,
			  enum which which)
{
	struct json_object *list = NULL;
	bool ok = true;

	for (unsigned i = 0; i < r->region_count && ok; i++) {
		uint64_t ns = latency(&r->region[i], which);
		char id[16];

		if (ns == 0)
			continue;
		if (!list)
			list = json_object_new_object();
		snprintf(id, sizeof(id), "%d", r->region[i].region);
		ok = list && add(list, id, json_object_new_int64((int64_t)ns));
	}
	if (ok)
		return list ? add(o, key, list) : add_null(o, key);
	json_object_put(list);
	return false;
}

static bool add_counters(struct json_object *o, const char *key, const struct netcheck_counter *c,
			 unsigned count)
{
	struct json_object *list;
	bool ok = true;

	if (count == 0)
		return add_null(o, key);
	list = json_object_new_object();
	for (unsigned i = 0; i < count && ok; i++) {
		char text[ENDPOINT_TEXT_MAX];

		ok = list && add(list, endpoint_format(&c[i].mapped, text),
				 json_object_new_int((int)c[i].count));
	}
	if (ok)
		return add(o, key, list);
	json_object_put(list);
	return false;
}

static bool add_endpoint(struct json_object *o, const char *key, const struct endpoint *ep)
{
	char text[ENDPOINT_TEXT_MAX] = "";

	if (ep->port)
		endpoint_format(ep, text);
	return add(o, key, json_object_new_string(text));
}

struct json_object *netcheck_report_json(const struct netcheck_report *r, uint64_t wall_s,
					 uint32_t wall_ns)
{
	struct json_object *o = json_object_new_object();
	bool ok = o && add(o, "Now", time_json(wall_s, wall_ns)) &&
		  add_bool(o, "UDP", r->has_udp) && add_bool(o, "IPv6", r->has_ipv6) &&
		  add_bool(o, "IPv4", r->has_ipv4) &&
		  add_bool(o, "IPv6CanSend", r->can_send_ipv6) &&
		  add_bool(o, "IPv4CanSend", r->can_send_ipv4) &&
		  add_bool(o, "OSHasIPv6", r->os_has_ipv6) && add_bool(o, "ICMPv4", false) &&
		  add_tristate(o, "MappingVariesByDestIP", r->mapping_varies) &&
		  add_null(o, "UPnP") && add_null(o, "PMP") && add_null(o, "PCP") &&
		  add(o, "PreferredDERP", json_object_new_int(r->preferred)) &&
		  add_latencies(o, "RegionLatency", r, BEST) &&
		  add_latencies(o, "RegionV4Latency", r, V4) &&
		  add_latencies(o, "RegionV6Latency", r, V6) &&
		  add_counters(o, "GlobalV4Counters", r->v4, r->v4_count) &&
		  add_counters(o, "GlobalV6Counters", r->v6, r->v6_count) &&
		  add_endpoint(o, "GlobalV4", &r->global_v4) &&
		  add_endpoint(o, "GlobalV6", &r->global_v6) && add_null(o, "CaptivePortal");

	if (ok)
		return o;
	json_object_put(o);
	return NULL;
}

static bool add_region(struct json_object *list, const struct derp_region *r)
{
	struct json_object *o = json_object_new_object();
	char id[16];

	snprintf(id, sizeof(id), "%d", r->id);
	if (o && add(o, "Code", json_object_new_string(r->code)) &&
	    add(o, "Name", json_object_new_string(r->name)))
		return add(list, id, o);
	json_object_put(o);
	return false;
}

int netcheck_report_add_regions(struct json_object *json, const struct derp_map *map)
{
	struct json_object *list = json_object_new_object();
	bool ok = list != NULL;

	for (unsigned i = 0; i < map->region_count && ok; i++)
		ok = add_region(list, &map->regions[i]);
	if (ok)
		return add(json, "Regions", list) ? 0 : -ENOMEM;
	json_object_put(list);
	return -ENOMEM;
}
