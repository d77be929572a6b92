/* Certificates and pins, with real handshakes over loopback: the recorded table, and more. */
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "daemon/derp/client.h"
#include "daemon/derp/relays.h"
#include "daemon/loop.h"
#include "daemon/netmap/types.h"
#include "daemon/stream.h"
#include "shared/log.h"
#include "tests/unit/derp/fake_relay.h"
#include "tests/unit/wg/vectors.h"

static struct {
	struct loop *loop;
	bool is_up, is_connected, has_alpn;
	unsigned packets;
	char sentence[256];
} t;

static void up(void *owner)
{
	struct derp_client **client = owner;
	struct public_key to = { { 9 } };
	uint8_t three[3000];

	memset(three, 5, sizeof(three));
	t.is_up = true;
	/* What is echoed comes back under the key it was for. */
	assert_int_equal(derp_client_send(*client, &to, three, sizeof(three), 1000), sizeof(three));
}

static void received(void *owner, const struct public_key *from, struct packet *packets,
		     unsigned count)
{
	(void)owner;
	assert_int_equal(from->byte[0], 9);
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(packets[i].len, 1000);
	t.packets += count;
	if (t.packets == 3)
		loop_stop(t.loop);
}

static void down(void *owner, const char *sentence)
{
	(void)owner;
	snprintf(t.sentence, sizeof(t.sentence), "%s", sentence);
	loop_stop(t.loop);
}

static void connect_client(const struct derp_node *node, const char *ca)
{
	static const struct derp_client_callbacks callbacks = { up,   received, NULL, NULL,
								NULL, NULL,     down };
	const struct derp_region region = { .id = 900,
					    .code = "",
					    .name = "",
					    .nodes = (struct derp_node *)node,
					    .node_count = 1 };
	struct tls_context *tls;
	struct derp_client *client;
	struct private_key key;
	char error[256];

	memset(&t, 0, sizeof(t));
	private_key_generate(&key);
	tls = tls_context_create(ca, error);
	assert_non_null(tls);
	t.loop = loop_create(NULL);
	client = derp_client_open(t.loop, tls, &key, &region, &callbacks, &client);
	assert_non_null(client);
	loop_run(t.loop);
	derp_client_destroy(client);
	loop_destroy(t.loop);
	tls_context_destroy(tls);
}

static const char *first_of(struct json_object *list)
{
	return list ? json_object_get_string(json_object_array_get_idx(list, 0)) : NULL;
}

static void check_case(struct json_object *o)
{
	const char *name = vectors_text(o, "case"), *want = vectors_text(o, "result");
	struct fake_relay f = {
		.cert.dns_san = first_of(vectors_get(o, "cert_dns_san")),
		.cert.ip_san = first_of(vectors_get(o, "cert_ip_san")),
		.sends_meta = json_object_get_boolean(vectors_get(o, "meta_cert_sent")),
		.sends_extra = json_object_get_boolean(vectors_get(o, "extra_cert_sent")),
		.is_tls12 = strcmp(vectors_text(o, "server_max_tls"), "1.2") == 0,
	};
	struct derp_node node = { .name = "t1",
				  .ipv4 = "127.0.0.1",
				  .ipv6 = "none",
				  .stun_test_ip = "",
				  .cert_name = "" };
	bool wants_login = strcmp(want, "logged in") == 0;
	struct json_object *headers = NULL;
	char pin[80];

	fake_relay_start(&f);
	node.host_name = vectors_text(o, "host_name");
	node.derp_port = f.port;
	node.is_insecure = strstr(name, "InsecureForTests") != NULL;
	if (strncmp(name, "pin", 3) == 0) {
		snprintf(pin, sizeof(pin), "sha256-raw:%s", f.pin);
		for (char *c = pin + 11; strstr(name, "upper case") && *c; c++)
			*c = (char)toupper((unsigned char)*c);
		node.cert_name = pin;
	}
	connect_client(&node, NULL);
	fake_relay_stop(&f);
	print_message("%s: %s\n", name, t.is_up ? "logged in" : t.sentence);
	assert_int_equal(t.is_up, wants_login);
	assert_int_equal(f.was_logged_in, wants_login);
	assert_string_equal(f.sni, vectors_text(o, "seen_sni"));
	assert_false(f.was_alpn_offered);
	if (!wants_login) {
		assert_int_equal(f.head[0], 0); /* nothing is said to a relay that is refused */
		return;
	}
	assert_int_equal(t.packets, 3);
	assert_memory_equal(f.head, "GET /derp HTTP/1.1\r\n", 20);
	json_object_object_get_ex(o, "seen_headers", &headers);
	for (size_t i = 0; i < json_object_array_length(headers); i++)
		assert_non_null(strstr(
			f.head, json_object_get_string(json_object_array_get_idx(headers, i))));
	assert_int_equal(strstr(f.head, "Derp-Fast-Start") != NULL,
			 strstr(json_object_to_json_string(headers), "Fast-Start") != NULL);
}

static void test_every_recorded_combination_ends_as_with_the_real_client(void **state)
{
	struct json_object *o = vectors_load("derp_tls.json"), *cases = vectors_get(o, "cases");

	(void)state;
	for (size_t i = 0; i < json_object_array_length(cases); i++)
		check_case(json_object_array_get_idx(cases, i));
	json_object_put(o);
}

/* ---- sentences, and the stream alone ---- */

static void connected(void *owner)
{
	struct net_stream **s = owner;
	struct endpoint remote, local;

	t.is_connected = true;
	t.has_alpn = net_stream_has_alpn(*s);
	net_stream_addresses(*s, &remote, &local);
	assert_true(ip_is_loopback(&remote.addr));
	assert_int_not_equal(local.port, 0);
	loop_stop(t.loop);
}

static void readable(void *owner)
{
	char bytes[100];

	while (net_stream_read(*(struct net_stream **)owner, bytes, sizeof(bytes)) > 0)
		;
}

static void open_stream(struct fake_relay *f, struct net_stream_options *o, const char *ca)
{
	static const struct net_stream_callbacks callbacks = { connected, readable, NULL, down };
	struct ip_addr ip = ip_from_v4(0x7f000001);
	struct endpoint to = { ip, f->port };
	struct tls_context *tls;
	struct net_stream *s;
	char error[256];

	memset(&t, 0, sizeof(t));
	tls = tls_context_create(ca, error);
	assert_non_null(tls);
	t.loop = loop_create(NULL);
	o->host = o->host ? o->host : "relay.test";
	o->candidates = &to;
	o->candidate_count = 1;
	o->tls = tls;
	s = net_stream_open(t.loop, o, &callbacks, &s);
	loop_run(t.loop);
	net_stream_destroy(s);
	loop_destroy(t.loop);
	tls_context_destroy(tls);
	fake_relay_stop(f);
}

static void test_a_refused_certificate_says_why_and_what_to_do(void **state)
{
	static const struct {
		struct fake_cert_options cert;
		bool is_trusted, is_pinned;
		const char *sentence;
	} cases[] = {
		{ { "relay.test", NULL, -7200, -3600 }, true, false, "has expired" },
		{ { "relay.test", NULL, -7200, -3600 }, false, true, "has expired" },
		{ { "relay.test", NULL, 3600, 7200 },
		  true,
		  false,
		  "is not valid yet: is the clock" },
		{ { "relay.test", NULL, 3600, 7200 },
		  false,
		  true,
		  "is not valid yet: is the clock" },
		{ { "other.test", NULL, 0, 0 }, true, false, "is for another name (other.test)" },
		{ { "other.test", NULL, 0, 0 }, false, true, "is for another name (other.test)" },
		{ { NULL, "10.1.2.3", 0, 0 }, true, false, "is for another name (10.1.2.3)" },
		{ { NULL, NULL, 0, 0 }, true, false, "is for another name (no name)" },
		{ { "relay.test", NULL, 0, 0 },
		  false,
		  false,
		  "is from an unknown issuer: give the CA with --ca, or install ca-certificates" },
	};
	const char *clock = "this machine's clock says 20";

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_relay f = { .kind = FAKE_HTTP, .cert = cases[i].cert };
		char ca[64] = "/tmp/meshwrap-test-ca-XXXXXX";
		struct net_stream_options o = { 0 };
		int fd = mkstemp(ca);

		assert_true(fd >= 0);
		close(fd);
		fake_relay_start(&f);
		fake_relay_write_ca(&f, ca);
		o.pin_sha256 = cases[i].is_pinned ? f.pin : NULL;
		open_stream(&f, &o, cases[i].is_trusted ? ca : NULL);
		unlink(ca);
		print_message("%s\n", t.sentence);
		assert_false(t.is_connected);
		assert_non_null(strstr(t.sentence, "relay.test"));
		assert_non_null(strstr(t.sentence, cases[i].sentence));
		/* Both dates, so that a person sees which of them is wrong. */
		assert_int_equal(strstr(t.sentence, clock) != NULL, cases[i].cert.valid_to_s != 0);
		if (cases[i].cert.valid_to_s != 0)
			assert_non_null(strstr(t.sentence, " UTC, and this machine's"));
	}
}

static void test_a_ca_that_is_another_servers_is_named(void **state)
{
	struct fake_relay f = { .kind = FAKE_HTTP, .cert.dns_san = "relay.test" };
	struct fake_relay other = { .kind = FAKE_HTTP, .cert.dns_san = "relay.test" };
	char ca[64] = "/tmp/meshwrap-test-ca-XXXXXX", want[128];
	struct net_stream_options o = { 0 };
	int fd = mkstemp(ca);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	fake_relay_start(&other);
	fake_relay_write_ca(&other, ca);
	fake_relay_stop(&other);
	fake_relay_start(&f);
	open_stream(&f, &o, ca);
	unlink(ca);
	assert_false(t.is_connected);
	snprintf(want, sizeof(want), "is from an issuer that is not in %s: give the CA of", ca);
	assert_non_null(strstr(t.sentence, want));
}

/* Anybody can send a certificate that he has seen: what counts is whose key signed the handshake.
 */
static void test_the_pinned_certificate_beside_another_key_is_refused(void **state)
{
	struct fake_relay f = { .kind = FAKE_HTTP, .cert.dns_san = "relay.test" };
	struct net_stream_options o = { 0 };

	(void)state;
	f.is_impostor = true;
	fake_relay_start(&f);
	o.pin_sha256 = f.pin;
	open_stream(&f, &o, NULL);
	assert_false(t.is_connected);
	assert_non_null(strstr(t.sentence, "is not the pinned one"));
}

static void test_a_given_ca_another_name_and_a_protocol_are_accepted(void **state)
{
	struct fake_relay f = { .kind = FAKE_HTTP, .cert.dns_san = "other.test", .alpn = "h2" };
	char ca[64] = "/tmp/meshwrap-test-ca-XXXXXX";
	struct net_stream_options o = { .verify_name = "other.test", .alpn = "h2" };
	int fd = mkstemp(ca);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	fake_relay_start(&f);
	fake_relay_write_ca(&f, ca);
	open_stream(&f, &o, ca);
	unlink(ca);
	assert_true(t.is_connected);
	assert_true(t.has_alpn);
	assert_string_equal(f.sni, "relay.test");
}

static void test_servers_that_do_not_speak_tls_are_told_apart(void **state)
{
	static const struct {
		enum fake_kind kind;
		const char *sentence;
	} cases[] = {
		{ FAKE_NO_TLS, "the server does not speak TLS there" },
		{ FAKE_GARBAGE, "the server hung up during the TLS handshake" },
		{ FAKE_SILENT, "the TLS handshake takes too long" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fake_relay f = { .kind = cases[i].kind };
		struct net_stream_options o = { .limit_ns = cases[i].kind == FAKE_SILENT
								    ? 300 * NS_PER_MS
								    : 20 * NS_PER_S };

		fake_relay_start(&f);
		open_stream(&f, &o, NULL);
		assert_false(t.is_connected);
		if (cases[i].kind == FAKE_GARBAGE && strstr(t.sentence, "reset"))
			continue; /* what the kernel makes of unread bytes */
		assert_string_equal(t.sentence, cases[i].sentence);
	}
}

static void test_a_file_without_certificates_is_no_ca(void **state)
{
	char error[256] = "";

	(void)state;
	assert_null(tls_context_create("/dev/null", error));
	assert_non_null(strstr(error, "/dev/null"));
	assert_null(tls_context_create("/nonexistent", error));
	assert_non_null(strstr(error, "/nonexistent"));
	assert_non_null(strstr(error, strerror(ENOENT)));
	tls_context_destroy(NULL);
}

/* ---- the probe ---- */

static void probed(void *owner, const char *error, uint64_t round_trip_ns,
		   const struct endpoint *remote)
{
	(void)owner;
	snprintf(t.sentence, sizeof(t.sentence), "%s", error ? error : "");
	if (!error) {
		assert_true(round_trip_ns > 0 && round_trip_ns < 30 * NS_PER_S);
		assert_true(ip_is_loopback(&remote->addr));
		t.is_up = true;
	}
	loop_stop(t.loop);
}

static void probe(struct derp_node *node)
{
	struct tls_context *tls;
	struct relay_probe *p;
	char error[256];

	memset(&t, 0, sizeof(t));
	tls = tls_context_create(NULL, error);
	t.loop = loop_create(NULL);
	p = relay_probe_start(t.loop, tls, node, probed, NULL);
	assert_non_null(p);
	loop_run(t.loop);
	relay_probe_destroy(p);
	loop_destroy(t.loop);
	tls_context_destroy(tls);
}

static void test_latency_is_taken_over_https(void **state)
{
	struct fake_relay f = { .kind = FAKE_HTTP, .cert.ip_san = "127.0.0.1" };
	struct derp_node node = {
		.name = "x", .host_name = "127.0.0.1", .ipv4 = "", .ipv6 = "", .stun_test_ip = ""
	};
	char pin[80];

	(void)state;
	fake_relay_start(&f);
	snprintf(pin, sizeof(pin), "sha256-raw:%s", f.pin);
	node.cert_name = pin;
	node.derp_port = f.port;
	probe(&node);
	fake_relay_stop(&f);
	assert_true(t.is_up);
	assert_memory_equal(f.head, "GET /derp/latency-check HTTP/1.1\r\n", 34);
	node.is_stun_only = true;
	probe(&node);
	assert_string_equal(t.sentence, "the map does not let it be used");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_recorded_combination_ends_as_with_the_real_client),
		cmocka_unit_test(test_a_refused_certificate_says_why_and_what_to_do),
		cmocka_unit_test(test_a_ca_that_is_another_servers_is_named),
		cmocka_unit_test(test_the_pinned_certificate_beside_another_key_is_refused),
		cmocka_unit_test(test_a_given_ca_another_name_and_a_protocol_are_accepted),
		cmocka_unit_test(test_servers_that_do_not_speak_tls_are_told_apart),
		cmocka_unit_test(test_a_file_without_certificates_is_no_ca),
		cmocka_unit_test(test_latency_is_taken_over_https),
	};

	signal(SIGPIPE, SIG_IGN);
	return crypto_init() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
