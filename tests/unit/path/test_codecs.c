/* Disco, STUN and the telling apart of datagrams, against recordings. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "../wg/vectors.h"
#include "daemon/path/classify.h"
#include "daemon/path/disco.h"
#include "daemon/path/stun.h"
#include "shared/util.h"
#include "tests/unit/path/stun_relay.h"

static const char *optional_text(struct json_object *o, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(o, key, &value) ? json_object_get_string(value) : NULL;
}

static void assert_endpoint(const struct endpoint *ep, const char *text)
{
	struct endpoint want;

	assert_int_equal(endpoint_parse(text, &want), 0);
	assert_true(endpoint_equal(ep, &want));
}

/* ---- disco ---- */

/* The key pair halves that open a vector's packet. */
static void box_for(struct json_object *all, const char *name, const uint8_t *sender,
		    struct disco_box_key *box)
{
	const char *receiver = "A_disco_private";
	uint8_t private[32];

	if (strstr(name, "A->B"))
		receiver = "B_disco_private";
	else if (strstr(name, "A->relay"))
		receiver = "relay_disco_private";
	vectors_bytes(all, receiver, private, sizeof(private));
	assert_true(disco_box_key(private, sender, box));
}

static void check_fields(struct json_object *v, const struct disco_message *m)
{
	struct json_object *fields = vectors_get(v, "fields"), *list;
	uint8_t bytes[64];

	if (optional_text(fields, "txid")) {
		assert_int_equal(vectors_bytes(fields, "txid", bytes, sizeof(bytes)), 12);
		assert_memory_equal(m->txid, bytes, 12);
	}
	if (optional_text(fields, "node_key")) {
		vectors_bytes(fields, "node_key", bytes, sizeof(bytes));
		assert_memory_equal(m->node_key, bytes, 32);
	}
	if (optional_text(fields, "padding"))
		assert_int_equal(m->padding, vectors_number(fields, "padding"));
	if (optional_text(fields, "src"))
		assert_endpoint(&m->src, vectors_text(fields, "src"));
	if (!json_object_object_get_ex(fields, "endpoints", &list))
		return;
	assert_int_equal(m->endpoint_count, json_object_array_length(list));
	for (unsigned i = 0; i < m->endpoint_count; i++) {
		struct endpoint ep;

		disco_endpoint(m, i, &ep);
		assert_endpoint(&ep, json_object_get_string(json_object_array_get_idx(list, i)));
	}
}

/* What we make ourselves must be the same bytes. */
static void check_made(const struct disco_message *m, const uint8_t *plain, size_t len)
{
	uint8_t made[DISCO_PLAIN_MAX];
	struct endpoint list[DISCO_CALLME_MAX];
	size_t made_len = 0;

	if (m->type == DISCO_PING && len == DISCO_PING_LEN)
		made_len = disco_make_ping(m->txid, m->node_key, made);
	if (m->type == DISCO_PONG)
		made_len = disco_make_pong(m->txid, &m->src, made);
	for (unsigned i = 0; i < m->endpoint_count && i < DISCO_CALLME_MAX; i++)
		disco_endpoint(m, i, &list[i]);
	if (m->type == DISCO_CALL_ME_MAYBE)
		made_len = disco_make_call_me_maybe(list, m->endpoint_count, made);
	if (made_len == 0)
		return;
	assert_int_equal(made_len, len);
	assert_memory_equal(made, plain, len);
}

static void test_disco_messages_open_parse_and_seal_as_recorded(void **state)
{
	struct json_object *all = vectors_load("disco.json"), *list = vectors_get(all, "messages");

	(void)state;
	assert_true(json_object_array_length(list) >= 14);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		uint8_t packet[1500], opened[1500], plain[1500], nonce[24],
			sealed[DISCO_PACKET_MAX];
		size_t len = vectors_bytes(v, "packet", packet, sizeof(packet));
		size_t plain_len = vectors_bytes(v, "plaintext", plain, sizeof(plain)), got_len;
		struct disco_box_key box;
		struct disco_message m;
		uint8_t *got;

		assert_true(disco_is_packet(packet, len));
		box_for(all, vectors_text(v, "name"), disco_sender(packet), &box);
		memcpy(opened, packet, len);
		got = disco_open(&box, opened, len, &got_len);
		assert_non_null(got);
		assert_int_equal(got_len, plain_len);
		assert_memory_equal(got, plain, plain_len);
		assert_int_equal(disco_parse(got, got_len, &m), 0);
		assert_int_equal(m.type, plain[0]);
		check_fields(v, &m);
		check_made(&m, plain, plain_len);
		vectors_bytes(v, "nonce", nonce, sizeof(nonce));
		assert_int_equal(
			disco_seal(&box, disco_sender(packet), nonce, plain, plain_len, sealed),
			len);
		assert_memory_equal(sealed, packet, len);
		memcpy(opened, packet, len);
		opened[len - 1] ^= 1;
		assert_null(disco_open(&box, opened, len, &got_len));
		assert_null(disco_open(&box, opened, DISCO_OVERHEAD - 1, &got_len));
	}
	json_object_put(all);
}

/* "[0 1 2]" in the Go form of a parsed ping. */
static void check_go_ping(const char *parsed, const struct disco_message *m)
{
	const char *padding = strstr(parsed, "Padding:");

	if (padding)
		assert_int_equal(m->padding, strtoul(padding + 8, NULL, 10));
	if (strstr(parsed, "NodeKey:nodekey:0000"))
		assert_true(sodium_is_zero(m->node_key, sizeof(m->node_key)));
	if (strstr(parsed, "Src:"))
		assert_endpoint(&m->src, "[c0d:e0f:1011:1213:1415:1617:1819:1a1b]:7197");
	if (strstr(parsed, "MyNumber:[]"))
		assert_int_equal(m->endpoint_count, 0);
}

static void test_disco_parsing_is_as_lenient_as_recorded(void **state)
{
	struct json_object *all = vectors_load("disco.json");
	struct json_object *list = vectors_get(all, "parse_cases_on_plaintext");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		const char *parsed = optional_text(v, "parsed"), *error = optional_text(v, "error");
		uint8_t plain[1500];
		size_t len = vectors_bytes(v, "plaintext", plain, sizeof(plain));
		struct disco_message m;
		int err = disco_parse(plain, len, &m);

		if (parsed) {
			assert_int_equal(err, 0);
			check_go_ping(parsed, &m);
		} else {
			assert_int_equal(err,
					 strstr(error, "unknown") ? -EPROTONOSUPPORT : -EMSGSIZE);
		}
	}
	json_object_put(all);
}

static void test_a_disco_key_of_low_order_is_refused(void **state)
{
	uint8_t private[32] = { 8 }, zero[32] = { 0 };
	struct disco_box_key box;

	(void)state;
	assert_false(disco_box_key(private, zero, &box));
}

/* ---- STUN ---- */

static void test_stun_request_is_as_recorded(void **state)
{
	struct json_object *all = vectors_load("stun.json");
	uint8_t txid[STUN_TXID_LEN], want[STUN_REQUEST_LEN], made[STUN_REQUEST_LEN];

	(void)state;
	vectors_bytes(all, "txid", txid, sizeof(txid));
	assert_int_equal(vectors_bytes(all, "request", want, sizeof(want)), STUN_REQUEST_LEN);
	stun_make_request(txid, made);
	assert_memory_equal(made, want, sizeof(made));
	json_object_put(all);
}

static void check_response(struct json_object *v, bool is_made)
{
	uint8_t bytes[128], txid[STUN_TXID_LEN], made[STUN_RESPONSE_MAX];
	size_t len = vectors_bytes(v, "response", bytes, sizeof(bytes));
	struct endpoint mapped;

	assert_int_equal(stun_parse_response(bytes, len, txid, &mapped), 0);
	assert_endpoint(&mapped, vectors_text(v, "mapped"));
	assert_memory_equal(txid, bytes + 8, sizeof(txid));
	if (is_made) {
		assert_int_equal(stun_make_response(txid, &mapped, made), len);
		assert_memory_equal(made, bytes, len);
	}
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(stun_parse_response(bytes, cut, txid, &mapped), -EBADMSG);
}

static void test_stun_responses_are_read_and_made_as_recorded(void **state)
{
	struct json_object *all = vectors_load("stun.json");
	struct json_object *list = vectors_get(all, "responses");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		check_response(json_object_array_get_idx(list, i), true);
	list = vectors_get(all, "other_responses");
	for (size_t i = 0; i < json_object_array_length(list); i++)
		check_response(json_object_array_get_idx(list, i), false);
	json_object_put(all);
}

static void test_stun_requests_are_accepted_as_a_relay_does(void **state)
{
	struct json_object *all = vectors_load("stun.json");
	struct json_object *list = vectors_get(all, "request_acceptance_by_relay_stun_server");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		bool is_accepted = strncmp(vectors_text(v, "server_result"), "accepted", 8) == 0;
		uint8_t bytes[128], txid[STUN_TXID_LEN];
		size_t len = vectors_bytes(v, "request", bytes, sizeof(bytes));

		assert_int_equal(stun_parse_request(bytes, len, txid), is_accepted ? 0 : -EBADMSG);
	}
	json_object_put(all);
}

/* ---- telling apart ---- */

static void test_datagrams_are_told_apart_as_recorded(void **state)
{
	struct json_object *all = vectors_load("classify.json"),
			   *list = vectors_get(all, "packets");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		const char *class = vectors_text(v, "class");
		uint8_t bytes[1500];
		size_t len = vectors_bytes(v, "packet", bytes, sizeof(bytes));
		enum datagram_class want = DATAGRAM_WIREGUARD;

		if (json_object_get_boolean(vectors_get(v, "geneve")))
			want = DATAGRAM_GENEVE;
		else if (strcmp(class, "stun") == 0)
			want = DATAGRAM_STUN;
		else if (strcmp(class, "disco") == 0)
			want = DATAGRAM_DISCO;
		if (classify_datagram(bytes, len) != want)
			fail_msg("%s", vectors_text(v, "name"));
	}
	json_object_put(all);
}

static void measured(struct json_object *v, const char *address, const char *ms,
		     struct measured_address *m)
{
	memset(m, 0, sizeof(*m));
	if (vectors_text(v, address)[0])
		assert_int_equal(endpoint_parse(vectors_text(v, address), &m->endpoint), 0);
	m->latency_ns = vectors_number(v, ms) * NS_PER_MS;
}

static void test_addresses_are_compared_as_recorded(void **state)
{
	struct json_object *all = vectors_load("classify.json");
	struct json_object *list = vectors_get(all, "better_address");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		struct measured_address a, b;

		measured(v, "candidate", "candidate_ms", &a);
		measured(v, "current", "current_ms", &b);
		if (address_is_better(&a, &b) !=
		    (bool)json_object_get_boolean(vectors_get(v, "candidate_is_better")))
			fail_msg("case %zu", i);
	}
	json_object_put(all);
}

static void test_addresses_nobody_can_be_at_are_no_candidates(void **state)
{
	static const char *const bad[] = { "0.0.0.0:1",  "224.0.0.1:1", "255.255.255.255:1",
					   "10.0.0.1:0", "[ff02::1]:1", "[::]:1",
					   "0.1.2.3:1" };
	struct endpoint ep;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(endpoint_parse(bad[i], &ep), 0);
		assert_false(candidate_is_usable(&ep));
	}
	assert_int_equal(endpoint_parse("192.168.0.1:1", &ep), 0);
	assert_true(candidate_is_usable(&ep));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disco_messages_open_parse_and_seal_as_recorded),
		cmocka_unit_test(test_disco_parsing_is_as_lenient_as_recorded),
		cmocka_unit_test(test_a_disco_key_of_low_order_is_refused),
		cmocka_unit_test(test_stun_request_is_as_recorded),
		cmocka_unit_test(test_stun_responses_are_read_and_made_as_recorded),
		cmocka_unit_test(test_stun_requests_are_accepted_as_a_relay_does),
		cmocka_unit_test(test_datagrams_are_told_apart_as_recorded),
		cmocka_unit_test(test_addresses_are_compared_as_recorded),
		cmocka_unit_test(test_addresses_nobody_can_be_at_are_no_candidates),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
