/* The map against what the reference and real servers said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common.h"
#include "daemon/crypto/keytext.h"

static void check_key(enum keytext_kind kind, const uint8_t *key, struct json_object *wanted)
{
	char text[KEYTEXT_MAX];

	assert_string_equal(keytext_format(kind, key, text), json_object_get_string(wanted));
}

static void check_prefixes(const struct ip_prefix *p, unsigned count, struct json_object *wanted)
{
	char text[IP_TEXT_MAX + 4];

	assert_int_equal(count, json_object_array_length(wanted));
	for (unsigned i = 0; i < count; i++) {
		ip_format(&p[i].addr, text);
		sprintf(text + strlen(text), "/%u", p[i].len);
		assert_string_equal(text,
				    json_object_get_string(json_object_array_get_idx(wanted, i)));
	}
}

static void check_endpoints(const struct netmap_node *n, struct json_object *wanted)
{
	char text[ENDPOINT_TEXT_MAX];

	assert_int_equal(n->endpoint_count, wanted ? json_object_array_length(wanted) : 0);
	for (unsigned i = 0; i < n->endpoint_count; i++)
		assert_string_equal(endpoint_format(&n->endpoints[i], text),
				    json_object_get_string(json_object_array_get_idx(wanted, i)));
}

static void check_peer(const struct netmap_node *n, struct json_object *wanted)
{
	struct json_object *online = vectors_get(wanted, "Online"), *expiry;
	const char *name = json_object_get_string(vectors_get(wanted, "Name"));

	assert_non_null(n);
	check_prefixes(n->addresses, n->address_count, vectors_get(wanted, "Addresses"));
	check_prefixes(n->allowed, n->allowed_count, vectors_get(wanted, "AllowedIPs"));
	check_endpoints(n, vectors_get(wanted, "Endpoints"));
	check_key(KEYTEXT_NODE, n->key, vectors_get(wanted, "Key"));
	check_key(KEYTEXT_DISCO, n->disco_key, vectors_get(wanted, "DiscoKey"));
	assert_int_equal(n->cap_version, json_object_get_int(vectors_get(wanted, "Cap")));
	assert_int_equal(n->home_derp, json_object_get_int(vectors_get(wanted, "HomeDERP")));
	assert_int_equal(n->is_expired, json_object_get_boolean(vectors_get(wanted, "Expired")));
	assert_int_equal(n->last_seen != 0,
			 json_object_get_boolean(vectors_get(wanted, "LastSeenSet")));
	assert_int_equal(n->key_expiry != 0,
			 json_object_object_get_ex(wanted, "KeyExpiry", &expiry));
	assert_int_equal(n->online, !online                           ? NETMAP_ONLINE_UNKNOWN
				    : json_object_get_boolean(online) ? NETMAP_ONLINE
								      : NETMAP_OFFLINE);
	assert_int_equal(strlen(n->name) + 1, strlen(name));
	assert_memory_equal(n->name, name, strlen(n->name));
}

static void check_filter(const struct netmap *nm, struct json_object *wanted)
{
	unsigned count;
	const struct netmap_rule *rules = netmap_filter(nm, &count);

	assert_int_equal(count, wanted ? json_object_array_length(wanted) : 0);
	for (unsigned i = 0; i < count; i++) {
		struct json_object *rule = json_object_array_get_idx(wanted, i);
		struct json_object *dst =
			json_object_array_get_idx(vectors_get(rule, "DstPorts"), 0);
		struct json_object *src = json_object_array_get_idx(vectors_get(rule, "SrcIPs"), 0);
		struct netmap_range range[2];

		assert_int_equal(rules[i].src_count,
				 netmap_range_parse(json_object_get_string(src), range));
		assert_memory_equal(rules[i].src, range, rules[i].src_count * sizeof(*range));
		assert_int_equal(
			rules[i].dst[0].first_port,
			json_object_get_int(vectors_get(vectors_get(dst, "Ports"), "First")));
	}
}

static void check_state(const struct netmap *nm, struct json_object *wanted)
{
	struct json_object *peers = vectors_get(wanted, "peers");
	struct json_object *regions = vectors_get(wanted, "derp_regions");
	struct json_object *dns = vectors_get(wanted, "dns"), *proxied;
	const char *self_name = json_object_get_string(vectors_get(wanted, "self_name"));

	assert_int_equal(netmap_peer_count(nm), json_object_array_length(peers));
	for (unsigned i = 0; i < netmap_peer_count(nm); i++) {
		struct json_object *peer = json_object_array_get_idx(peers, i);
		int64_t id = json_object_get_int64(vectors_get(peer, "ID"));

		assert_ptr_equal(netmap_peer_at(nm, i), netmap_peer_by_id(nm, id));
		check_peer(netmap_peer_by_id(nm, id), peer);
	}
	assert_int_equal(netmap_derp(nm)->region_count, json_object_array_length(regions));
	for (unsigned i = 0; i < netmap_derp(nm)->region_count; i++)
		assert_int_equal(netmap_derp(nm)->regions[i].id,
				 json_object_get_int(json_object_array_get_idx(regions, i)));
	assert_int_equal(netmap_dns(nm)->is_proxied,
			 json_object_object_get_ex(dns, "Proxied", &proxied));
	assert_string_equal(netmap_domain(nm),
			    json_object_get_string(vectors_get(wanted, "domain")));
	assert_memory_equal(netmap_self(nm)->name, self_name, strlen(netmap_self(nm)->name));
	check_filter(nm, vectors_get(wanted, "packet_filter_rules_concatenated"));
	json_object_object_foreach(vectors_get(wanted, "user_logins"), id, login)
	{
		const struct netmap_user *user = netmap_user(nm, atoll(id));

		assert_non_null(user);
		assert_string_equal(user->login_name, json_object_get_string(login));
	}
}

/* The state of a map is that of a new one that is given its export. */
static void check_export(const struct netmap *nm)
{
	struct netmap *other = netmap_create();
	char *before = dump(nm), *after, *json;
	size_t len;

	json = netmap_export(nm, &len);
	assert_int_equal(strlen(json), len);
	apply_text(other, json, NULL);
	after = dump(other);
	assert_string_equal(before, after);
	free(json);
	free(before);
	free(after);
	netmap_destroy(other);
}

static void test_every_delta_leads_to_the_state_of_the_reference(void **state)
{
	struct json_object *file = vectors_load("netmap_delta.json");
	struct json_object *steps = vectors_get(file, "steps");
	struct netmap *nm = netmap_create();

	(void)state;
	for (size_t i = 0; i < json_object_array_length(steps); i++) {
		struct json_object *step = json_object_array_get_idx(steps, i);

		print_message("%s\n", json_object_get_string(vectors_get(step, "note")));
		apply_object(nm, vectors_get(step, "message"), NULL);
		check_state(nm, vectors_get(step, "state_after"));
		check_export(nm);
	}
	netmap_destroy(nm);
	json_object_put(file);
}

static void test_all_messages_of_real_servers_apply(void **state)
{
	struct json_object *file = vectors_load("headscale_messages.json");

	(void)state;
	json_object_object_foreach(file, server, messages)
	{
		struct netmap *nm;

		if (!json_object_is_type(messages, json_type_array))
			continue;
		nm = netmap_create();
		for (size_t i = 0; i < json_object_array_length(messages); i++) {
			struct netmap_changes changes;

			apply_object(nm, json_object_array_get_idx(messages, i), &changes);
			assert_int_equal(changes.ignored, 0);
			netmap_changes_finish(&changes);
			check_export(nm);
		}
		print_message("%s: %u peers\n", server, netmap_peer_count(nm));
		assert_string_equal(netmap_self(nm)->name, "node-a.tail.example");
		assert_string_equal(netmap_suffix(nm), "tail.example");
		assert_int_equal(netmap_derp(nm)->regions[0].id, 900);
		assert_int_equal(netmap_derp(nm)->regions[0].nodes[0].derp_port, 3340);
		assert_true(netmap_peer_count(nm) >= 1);
		assert_non_null(netmap_peer_by_id(nm, 2));
		assert_string_equal(netmap_user(nm, 1)->login_name, "u");
		netmap_destroy(nm);
	}
	json_object_put(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_delta_leads_to_the_state_of_the_reference),
		cmocka_unit_test(test_all_messages_of_real_servers_apply),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
