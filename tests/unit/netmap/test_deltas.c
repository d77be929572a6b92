/*
 * Random deltas lead where the equal full map leads.
 *
 * A model holds the tailnet as the server would: the objects of the peers. Each
 * round changes the model and tells one map by a delta; another map is told
 * everything anew. Both must read the same, and so must what was exported.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
#include "shared/util.h"

#define MODEL_PEERS 12
#define SEQUENCES   150
#define ROUNDS      20

static uint64_t seed;

static unsigned pick(unsigned below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % below;
}

struct model {
	struct json_object *peer[MODEL_PEERS]; /* id: index + 2 */
	struct json_object *filters;
};

static void set(struct json_object *o, const char *name, struct json_object *value)
{
	assert_int_equal(json_object_object_add(o, name, value), 0);
}

static struct json_object *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct json_object *text(const char *format, ...)
{
	char buffer[256];
	va_list args;

	va_start(args, format);
	vsnprintf(buffer, sizeof(buffer), format, args);
	va_end(args);
	return json_object_new_string(buffer);
}

static struct json_object *random_endpoints(void)
{
	struct json_object *list = json_object_new_array();

	for (unsigned i = 1 + pick(3); i > 0; i--)
		json_object_array_add(list, text("192.0.2.%u:%u", pick(4), 1 + pick(9)));
	return list;
}

static struct json_object *random_key(const char *prefix)
{
	return text("%s:%064x", prefix, pick(20));
}

/* What a patch may say and a node may have. */
static void randomize(struct json_object *o, bool is_patch)
{
	if (pick(3) == 0)
		set(o, is_patch ? "DERPRegion" : "HomeDERP", json_object_new_int(1 + (int)pick(5)));
	if (pick(3) == 0)
		set(o, "Cap", json_object_new_int(1 + (int)pick(200)));
	if (pick(3) == 0)
		set(o, "Endpoints", random_endpoints());
	if (pick(4) == 0 || !is_patch)
		set(o, "Key", random_key("nodekey"));
	if (pick(3) == 0)
		set(o, "DiscoKey", random_key("discokey"));
	if (pick(3) == 0)
		set(o, "Online", json_object_new_boolean(pick(2)));
	if (pick(4) == 0)
		set(o, "LastSeen", text("2026-01-0%uT03:04:05Z", 1 + pick(9)));
	if (pick(4) == 0)
		set(o, "KeyExpiry", text("2027-01-0%uT03:04:05Z", 1 + pick(9)));
	if (pick(4) == 0)
		set(o, "CapMap",
		    json_tokener_parse(pick(2) ? "{\"a\":[],\"b\":[1]}" : "{\"c\":null}"));
}

static struct json_object *random_prefixes(void)
{
	struct json_object *list = json_object_new_array();

	for (unsigned i = pick(4); i > 0; i--)
		json_object_array_add(list,
				      text(pick(4) ? "100.64.0.%u/32" : "10.%u.0.0/16", pick(20)));
	return list;
}

static struct json_object *random_node(int64_t id)
{
	struct json_object *o = json_object_new_object();

	set(o, "ID", json_object_new_int64(id));
	set(o, "Name", text("n%u.t.example.", pick(8)));
	set(o, "Addresses", random_prefixes());
	if (pick(2))
		set(o, "AllowedIPs", random_prefixes());
	if (pick(6) == 0)
		set(o, "Expired", json_object_new_boolean(true));
	if (pick(6) == 0)
		set(o, "UnsignedPeerAPIOnly", json_object_new_boolean(true));
	randomize(o, false);
	return o;
}

static void model_replace(struct model *m, unsigned at, struct json_object *o)
{
	json_object_put(m->peer[at]);
	m->peer[at] = o;
}

static void append(struct json_object *message, const char *name, struct json_object *value)
{
	struct json_object *list;

	if (!json_object_object_get_ex(message, name, &list)) {
		list = json_object_new_array();
		set(message, name, list);
	}
	json_object_array_add(list, value);
}

static void note_bool(struct json_object *message, const char *name, unsigned at, bool value)
{
	struct json_object *map;
	char id[16];

	if (!json_object_object_get_ex(message, name, &map)) {
		map = json_object_new_object();
		set(message, name, map);
	}
	snprintf(id, sizeof(id), "%u", at + 2);
	set(map, id, json_object_new_boolean(value));
}

/* The server's view of a patch. */
static void model_patch(struct json_object *node, struct json_object *patch)
{
	json_object_object_foreach(patch, name, value)
	{
		if (strcmp(name, "NodeID") != 0)
			set(node, strcmp(name, "DERPRegion") == 0 ? "HomeDERP" : name,
			    json_object_get(value));
	}
}

static void step_patch(struct model *m, struct json_object *message, unsigned at)
{
	struct json_object *patch = json_object_new_object();

	set(patch, "NodeID", json_object_new_int((int)at + 2));
	randomize(patch, true);
	if (m->peer[at])
		model_patch(m->peer[at], patch);
	append(message, "PeersChangedPatch", patch);
}

static void step_filter(struct model *m, struct json_object *message)
{
	struct json_object *named = json_object_new_object();
	char name[8];

	if (pick(4) == 0) {
		set(named, "*", NULL);
		json_object_put(m->filters);
		m->filters = json_object_new_object();
	}
	snprintf(name, sizeof(name), "f%u", pick(4));
	if (pick(3) == 0) {
		set(named, name, NULL);
		json_object_object_del(m->filters, name);
	} else {
		struct json_object *rules = json_tokener_parse(
			"[{\"SrcIPs\":[\"*\"],\"DstPorts\":[{\"IP\":\"*\",\"Ports\":{\"First\":1,"
			"\"Last\":2}}]}]");

		set(named, name, rules);
		set(m->filters, name, json_object_get(rules));
	}
	set(message, "PacketFilters", named);
}

/* One message; its parts in the order in which they apply. */
static struct json_object *step(struct model *m)
{
	struct json_object *message = json_object_new_object();
	unsigned at;

	for (unsigned i = pick(2); i > 0; i--) {
		at = pick(MODEL_PEERS);
		append(message, "PeersRemoved", json_object_new_int((int)at + 2));
		model_replace(m, at, NULL);
	}
	for (unsigned i = pick(3); i > 0; i--) {
		at = pick(MODEL_PEERS);
		model_replace(m, at, random_node(at + 2));
		/* The model's objects are patched later: the message gets a copy. */
		append(message, "PeersChanged",
		       json_tokener_parse(json_object_to_json_string(m->peer[at])));
	}
	if (pick(3) == 0) {
		at = pick(MODEL_PEERS);
		note_bool(message, "PeerSeenChange", at, false);
		if (m->peer[at])
			json_object_object_del(m->peer[at], "LastSeen");
	}
	if (pick(3) == 0) {
		bool is_online = pick(2);

		at = pick(MODEL_PEERS);
		note_bool(message, "OnlineChange", at, is_online);
		if (m->peer[at])
			set(m->peer[at], "Online", json_object_new_boolean(is_online));
	}
	for (unsigned i = pick(3); i > 0; i--)
		step_patch(m, message, pick(MODEL_PEERS));
	if (pick(4) == 0)
		step_filter(m, message);
	return message;
}

static struct json_object *whole(struct model *m)
{
	struct json_object *message = json_tokener_parse(
		"{\"Node\":{\"ID\":1,\"Name\":\"self.t.example.\",\"Addresses\":[\"100.64.0.1/32\"],"
		"\"Key\":\"nodekey:"
		"00000000000000000000000000000000000000000000000000000000000000ff\"}}");

	/* Backwards, since order says nothing. */
	for (unsigned i = MODEL_PEERS; i-- > 0;) {
		if (m->peer[i])
			append(message, "Peers", json_object_get(m->peer[i]));
	}
	set(message, "PacketFilters", json_object_get(m->filters));
	return message;
}

/* Who is found by what follows from the nodes alone. */
static void check_lookups(const struct netmap *nm)
{
	for (unsigned i = 0; i < netmap_peer_count(nm); i++) {
		const struct netmap_node *n = netmap_peer_at(nm, i), *found;

		found = netmap_node_by_key(nm, n->key);
		assert_non_null(found);
		assert_memory_equal(found->key, n->key, sizeof(n->key));
		assert_true(found->id <= n->id);
		if (*n->name)
			assert_string_equal(netmap_node_by_name(nm, n->name)->name, n->name);
		for (unsigned k = 0; k < n->address_count; k++) {
			if (ip_is_v4(&n->addresses[k].addr) && n->addresses[k].len == 32)
				assert_true(netmap_node_by_addr(nm, &n->addresses[k].addr)->id <=
					    n->id);
		}
	}
}

static void check_same(const struct netmap *nm, struct model *m)
{
	struct netmap *full = netmap_create(), *copy = netmap_create();
	struct json_object *message = whole(m);
	char *by_delta, *by_full, *by_export, *json;
	size_t len;

	apply_object(full, message, NULL);
	json = netmap_export(nm, &len);
	apply_text(copy, json, NULL);
	by_delta = dump(nm);
	by_full = dump(full);
	by_export = dump(copy);
	assert_string_equal(by_delta, by_full);
	assert_string_equal(by_delta, by_export);
	check_lookups(nm);
	free(by_delta);
	free(by_full);
	free(by_export);
	free(json);
	json_object_put(message);
	netmap_destroy(full);
	netmap_destroy(copy);
}

/* Starting again tells nothing new. */
static void check_restart(struct netmap *nm, struct model *m)
{
	struct json_object *message = whole(m);
	struct netmap_changes changes;

	netmap_stream_started(nm);
	apply_object(nm, message, &changes);
	assert_int_equal(changes.added.count + changes.changed.count + changes.removed.count, 0);
	assert_false(changes.filter || changes.self);
	netmap_changes_finish(&changes);
	json_object_put(message);
	check_same(nm, m);
}

static void run(uint64_t number)
{
	struct model m = { .filters = json_object_new_object() };
	struct netmap *nm = netmap_create();
	struct json_object *message;

	seed = number;
	message = whole(&m);
	apply_object(nm, message, NULL);
	json_object_put(message);
	for (unsigned i = 0; i < ROUNDS; i++) {
		message = step(&m);
		apply_object(nm, message, NULL);
		json_object_put(message);
		check_same(nm, &m);
	}
	check_restart(nm, &m);
	for (unsigned i = 0; i < MODEL_PEERS; i++)
		json_object_put(m.peer[i]);
	json_object_put(m.filters);
	netmap_destroy(nm);
}

static void test_random_deltas_equal_the_full_map(void **state)
{
	const char *count = getenv("NETMAP_SEQUENCES");

	(void)state;
	for (unsigned i = 1; i <= (count ? (unsigned)atoi(count) : SEQUENCES); i++)
		run(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_deltas_equal_the_full_map),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
