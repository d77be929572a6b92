/* Every recorded query of dns.json and magicdns.json, answered byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json-c/json.h>

#include "daemon/dns/answer.h"
#include "daemon/dns/message.h"
#include "shared/wire.h"

static struct json_object *load(const char *name)
{
	char path[4096];
	struct json_object *o;

	snprintf(path, sizeof(path), "%s/%s", VECTORS_DIR, name);
	o = json_object_from_file(path);
	assert_non_null(o);
	return o;
}

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(o, key, &value);
	return value;
}

static size_t bytes_of(struct json_object *o, const char *key, uint8_t *out, size_t room)
{
	const char *hex = json_object_get_string(get(o, key));
	size_t len = strlen(hex) / 2;

	assert_true(len <= room);
	for (size_t i = 0; i < len; i++) {
		unsigned byte;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = (uint8_t)byte;
	}
	return len;
}

static bool contains(struct json_object *list, const char *text)
{
	for (size_t i = 0; list && i < json_object_array_length(list); i++)
		if (strcmp(json_object_get_string(json_object_array_get_idx(list, i)), text) == 0)
			return true;
	return false;
}

static void add_hosts(struct dns_table *table, struct json_object *hosts,
		      struct json_object *with_subdomains)
{
	json_object_object_foreach(hosts, name, list)
	{
		struct ip_addr ips[8];
		struct dns_host host = { .name = name, .ips = ips };

		for (size_t i = 0; i < json_object_array_length(list); i++) {
			const char *text =
				json_object_get_string(json_object_array_get_idx(list, i));

			assert_int_equal(ip_parse(text, &ips[i]), 0);
			host.answered = ++host.count;
		}
		host.is_node = true;
		host.has_subdomains = contains(with_subdomains, name);
		assert_int_equal(dns_table_add_host(table, &host), 0);
	}
}

static void add_zones(struct dns_table *table, struct json_object *zones)
{
	for (size_t i = 0; i < json_object_array_length(zones); i++)
		assert_int_equal(
			dns_table_add_suffix(
				table, json_object_get_string(json_object_array_get_idx(zones, i)),
				NULL, 0),
			0);
}

/* What was forwarded went to the right resolver as the same bytes, but for the clamped OPT. */
static void check_forwarded(struct json_object *e, const struct dns_answer *a, uint8_t *query,
			    size_t len)
{
	uint8_t expected[512], answer[4096];
	size_t expected_len = bytes_of(e, "forwarded_query", expected, sizeof(expected)), n;
	const char *to = json_object_get_string(get(e, "forwarded_to"));

	assert_int_equal(a->verdict, DNS_FORWARD);
	assert_non_null(a->suffix);
	assert_string_equal(a->suffix->name, strstr(to, "corp") ? "corp.example" : "");
	/* The answer that came back is longer than was allowed: marked by us, or not. */
	n = bytes_of(e, "answer", answer, sizeof(answer));
	if (strstr(json_object_get_string(get(e, "answer_decoded")), "TXT")) {
		bool is_marked = dns_message_flags(answer) & DNS_FLAG_TC;

		dns_message_set_flags(answer, dns_message_flags(answer) & (uint16_t)~DNS_FLAG_TC);
		dns_answer_mark_truncated(query, len, answer, n);
		assert_int_equal(!!(dns_message_flags(answer) & DNS_FLAG_TC), is_marked);
	}
	dns_message_clamp_opt(query, len);
	assert_int_equal(len, expected_len);
	assert_memory_equal(query, expected, len);
}

static void test_recorded_exchanges_of_the_resolver_are_repeated(void **state)
{
	struct json_object *root = load("dns.json"), *config = get(root, "config");
	struct json_object *exchanges = get(root, "exchanges");
	struct dns_resolver upstream = { "127.0.0.1", { ip_from_v4(0x7f000001), 53 } };
	struct dns_table *table = dns_table_create(), *bare = dns_table_create();

	(void)state;
	add_hosts(table, get(config, "hosts"), get(config, "subdomain_hosts"));
	add_zones(table, get(config, "local_domains"));
	dns_table_add_suffix(table, ".", &upstream, 1);
	dns_table_add_suffix(table, "corp.example.", &upstream, 1);
	assert_int_equal(dns_table_finish(table), 0);
	assert_int_equal(dns_table_finish(bare), 0);
	for (size_t i = 0; i < json_object_array_length(exchanges); i++) {
		struct json_object *e = json_object_array_get_idx(exchanges, i);
		const char *note = json_object_get_string(get(e, "note"));
		bool no_route = strstr(note, "no default route") != NULL;
		uint8_t query[512], answer[4096];
		size_t len = bytes_of(e, "query", query, sizeof(query)),
		       answer_len = bytes_of(e, "answer", answer, sizeof(answer));
		struct dns_answer a;

		dns_answer(no_route ? bare : table, query, len, 1700000000, &a);
		if (get(e, "forwarded_query")) {
			check_forwarded(e, &a, query, len);
			continue;
		}
		if (no_route) {
			assert_int_equal(a.verdict, DNS_FORWARD);
			assert_null(a.suffix);
			dns_answer_failure(query, len, &a);
		}
		assert_int_not_equal(a.verdict, DNS_FORWARD);
		if (a.len != answer_len || memcmp(a.bytes, answer, a.len) != 0)
			fail_msg("%s", note);
	}
	dns_table_destroy(table);
	dns_table_destroy(bare);
	json_object_put(root);
}

static void check_undetermined(struct json_object *e, const struct dns_answer *a)
{
	const char *rcode = json_object_get_string(get(e, "rcode"));
	struct json_object *zone = get(e, "soa_zone");
	struct dns_question q;
	char owner[DNS_NAME_MAX + 1];
	size_t at;

	assert_int_equal(dns_message_flags(a->bytes) & DNS_FLAG_RCODE,
			 strcmp(rcode, "NameError") == 0 ? DNS_NXDOMAIN : DNS_NOERROR);
	assert_true(dns_message_question(a->bytes, a->len, &q));
	assert_int_equal(load_be16(a->bytes + 6), 0);
	assert_int_equal(load_be16(a->bytes + 8), zone != NULL);
	if (!zone)
		return;
	at = q.end;
	assert_true(dns_message_name(a->bytes, a->len, &at, owner));
	strcat(owner, ".");
	assert_string_equal(owner, json_object_get_string(zone));
	assert_int_equal(load_be32(a->bytes + a->len - 4), 10);
}

static void test_recorded_answers_of_magicdns_are_repeated(void **state)
{
	struct json_object *root = load("magicdns.json"), *queries = get(root, "queries");
	struct dns_table *table = dns_table_create();

	(void)state;
	add_hosts(table, get(root, "hosts"), NULL);
	add_zones(table, get(root, "authoritative_zones"));
	assert_int_equal(dns_table_finish(table), 0);
	for (size_t i = 0; i < json_object_array_length(queries); i++) {
		struct json_object *e = json_object_array_get_idx(queries, i);
		uint8_t query[512], answer[1024];
		size_t len = bytes_of(e, "query", query, sizeof(query)), answer_len;
		struct dns_answer a;

		dns_answer(table, query, len, 1700000000, &a);
		if (a.verdict == DNS_FORWARD)
			dns_answer_failure(query, len, &a);
		if (!get(e, "response")) {
			check_undetermined(e, &a);
			continue;
		}
		answer_len = bytes_of(e, "response", answer, sizeof(answer));
		if (a.len != answer_len || memcmp(a.bytes, answer, a.len) != 0)
			fail_msg("%s %s", json_object_get_string(get(e, "name")),
				 json_object_get_string(get(e, "qtype_name")));
	}
	dns_table_destroy(table);
	json_object_put(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recorded_exchanges_of_the_resolver_are_repeated),
		cmocka_unit_test(test_recorded_answers_of_magicdns_are_repeated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
