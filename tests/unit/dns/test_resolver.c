/* The whole resolver over real sockets: routes, forgers, slow and broken resolvers, look-ups. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "daemon/dns/dns.h"
#include "daemon/dns/message.h"
#include "daemon/loop.h"
#include "shared/util.h"
#include "shared/wire.h"
#include "upstream.h"

static struct loop *loop;
static struct dns *dns;
static struct upstream up[2];
static uint8_t answer[DNS_ANSWER_MAX];
static size_t answer_len;
static unsigned answers;
static int found_error;
static struct ip_addr found[DNS_LOOKUP_MAX];
static unsigned found_count;
static bool is_running;

/* A connection that is being dialled: it is opened when the round ends. */
static struct {
	void (*opened)(void *arg, int fd);
	void *arg;
	unsigned started, cancelled;
	bool fails;
} dialling;
static bool has_tunnel;
static unsigned tunnelled;

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	void (*opened)(void *arg, int fd) = dialling.opened;
	struct sockaddr_storage ss;
	socklen_t len;
	int fd = -ECONNREFUSED;

	(void)owner;
	(void)now_ns;
	dialling.opened = NULL;
	if (opened && !dialling.fails) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		len = endpoint_to_sockaddr(&up[0].at, AF_INET, &ss);
		assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
	}
	if (opened)
		opened(dialling.arg, fd);
	return NEVER_NS;
}

static void set_mesh(void)
{
	struct ip_prefix own = { ip_from_v4(0x64400001), 32 };
	struct ip_prefix peer[2] = { { ip_from_v4(0x64400002), 32 }, { .len = 128 } };
	struct netmap_node self = { .name = "a.t.example", .addresses = &own, .address_count = 1 };
	struct netmap_node other = { .name = "b.t.example", .addresses = peer, .address_count = 2 };
	const struct netmap_node *peers[] = { &other };
	struct dns_resolver resolvers[] = { { "", up[0].at }, { "", up[1].at } };
	struct dns_route routes[] = { { "corp", resolvers, 2 }, { "t.example", NULL, 0 } };
	struct dns_record records[] = { { "db.t.example", ip_from_v4(0x0a000009) },
					{ "db.t.example", ip_from_v4(0x0a00000a) } };
	const char *domains[] = { "t.example" };
	struct dns_config config = { .is_proxied = true,
				     .resolvers = &resolvers[1],
				     .resolver_count = 1,
				     .domains = domains,
				     .domain_count = 1,
				     .routes = routes,
				     .route_count = 2,
				     .records = records,
				     .record_count = 2 };
	struct dns_source source = {
		.self = &self, .peers = peers, .peer_count = 1, .config = &config
	};

	ip_parse("fd7a:115c:a1e0::2", &peer[1].addr);
	assert_int_equal(dns_set(dns, &source), 0);
}

static void start(const char *first, const char *second)
{
	const struct loop_hooks hooks = { round_end, NULL };

	upstream_open(&up[0], first);
	upstream_open(&up[1], second);
	loop = loop_create(&hooks);
	dns = dns_create(loop, NULL);
	assert_non_null(dns);
	set_mesh();
	answers = tunnelled = 0;
	has_tunnel = dialling.fails = false;
	dialling.opened = NULL;
	dialling.started = dialling.cancelled = 0;
}

static void finish(void)
{
	dns_destroy(dns);
	loop_destroy(loop);
	upstream_close(&up[0]);
	upstream_close(&up[1]);
}

static void run(void)
{
	is_running = true;
	loop_run(loop);
	is_running = false;
}

static void done(void *arg, const uint8_t *bytes, size_t len)
{
	(void)arg;
	answers++;
	answer_len = len;
	if (bytes)
		memcpy(answer, bytes, len);
	if (is_running)
		loop_stop(loop);
}

static void ask(const char *name, uint16_t type, bool is_tcp)
{
	uint8_t query[512];
	struct dns_writer w = { query, 0, sizeof(query), false };
	unsigned before = answers;

	dns_put_header(&w, 0x4711, DNS_FLAG_RD, 1, 0, 0);
	dns_put_question(&w, name, type, DNS_CLASS_IN);
	dns_query(dns, query, w.len, is_tcp, done, NULL);
	if (answers == before)
		run();
	assert_int_equal(answers, before + 1);
}

static unsigned rcode(void)
{
	return dns_message_flags(answer) & DNS_FLAG_RCODE;
}

static void test_the_first_good_answer_wins_over_failures(void **state)
{
	(void)state;
	start("servfail", "good");
	ask("x.corp", DNS_TYPE_A, false);
	assert_int_equal(rcode(), DNS_NOERROR);
	assert_int_equal(answer[answer_len - 1], 0x37);
	finish();
	start("servfail", "refused");
	ask("x.corp", DNS_TYPE_A, false);
	assert_int_equal(rcode(), DNS_SERVFAIL);
	finish();
	start("refused", "refused");
	ask("x.corp", DNS_TYPE_A, false);
	assert_int_equal(rcode(), DNS_REFUSED);
	finish();
}

static void test_forged_answers_are_not_taken(void **state)
{
	struct dns_stats stats;

	(void)state;
	start("forger", "silent");
	ask("host.corp", DNS_TYPE_A, false);
	assert_int_equal(answer[answer_len - 1], 99);
	dns_get_stats(dns, &stats);
	assert_int_equal(stats.spoofed, 7);
	assert_int_equal(stats.in_flight, 0);
	finish();
}

static void test_names_of_the_mesh_are_never_forwarded(void **state)
{
	static const uint16_t types[] = { 1, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 252, 255, 999 };

	(void)state;
	start("good", "good");
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		ask("nope.t.example", types[i], false);
		assert_int_equal(rcode(), DNS_NXDOMAIN);
		ask("b.T.EXAMPLE", types[i], true);
	}
	assert_int_equal(up[0].asked + up[1].asked + up[0].asked_tcp + up[1].asked_tcp, 0);
	finish();
}

static void test_a_silent_resolver_is_asked_by_tcp_after_two_seconds(void **state)
{
	(void)state;
	start("silent", "silent");
	ask("x.corp", DNS_TYPE_A, false);
	assert_int_equal(rcode(), DNS_NOERROR);
	assert_true(up[0].asked == 1 && up[0].asked_tcp + up[1].asked_tcp >= 1);
	finish();
}

/* Many networks let only UDP through to their resolvers. */
static void test_a_lost_datagram_is_sent_again_where_tcp_is_shut(void **state)
{
	(void)state;
	for (int tcp = 0; tcp < 2; tcp++) {
		start("lossy", "silent");
		up[0].is_dead = up[1].is_dead = true;
		up[0].asked = tcp ? 0 : 1;
		ask("x.corp", DNS_TYPE_A, tcp);
		assert_int_equal(rcode(), DNS_NOERROR);
		assert_int_equal(answer[answer_len - 1], 0x37);
		finish();
	}
}

static void test_a_client_of_tcp_gets_the_whole_answer(void **state)
{
	(void)state;
	start("truncates", "truncates");
	ask("x.corp", DNS_TYPE_A, true);
	assert_false(dns_message_flags(answer) & DNS_FLAG_TC);
	ask("x.corp", DNS_TYPE_A, false);
	assert_true(dns_message_flags(answer) & DNS_FLAG_TC);
	finish();
}

static void test_an_answer_that_no_datagram_can_carry_is_cut(void **state)
{
	uint8_t query[512];
	struct dns_writer w = { query, 0, sizeof(query), false };
	struct dns_question q;

	(void)state;
	start("large", "large");
	ask("x.corp", DNS_TYPE_A, true);
	assert_int_equal(answer_len, UPSTREAM_LARGE);
	dns_put_header(&w, 0x4711, DNS_FLAG_RD, 1, 0, 0);
	dns_put_question(&w, "x.corp", DNS_TYPE_A, DNS_CLASS_IN);
	query[11] = 1;
	dns_put_name(&w, "");
	dns_put_u16(&w, DNS_TYPE_OPT);
	dns_put_u16(&w, 65535);
	dns_put_u32(&w, 0);
	dns_put_u16(&w, 0);
	dns_query(dns, query, w.len, false, done, NULL);
	run();
	assert_true(dns_message_flags(answer) & DNS_FLAG_TC);
	assert_true(dns_message_question(answer, answer_len, &q));
	assert_string_equal(q.name, "x.corp");
	assert_int_equal(answer_len, q.end);
	assert_memory_equal(answer + 4, "\0\1\0\0\0\0\0\0", 8);
	finish();
}

static bool fails_in_time(bool is_tcp)
{
	struct timespec began, ended;

	clock_gettime(CLOCK_MONOTONIC, &began);
	ask("x.corp", DNS_TYPE_A, is_tcp);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	assert_int_equal(rcode(), DNS_SERVFAIL);
	return ended.tv_sec - began.tv_sec <= 4 ||
	       (ended.tv_sec - began.tv_sec == 5 && ended.tv_nsec < began.tv_nsec);
}

static void test_dead_resolvers_are_a_failure_before_the_client_gives_up(void **state)
{
	(void)state;
	start("silent", "silent");
	up[0].is_dead = up[1].is_dead = true;
	/* Others may have the processor for long; not three times. */
	for (int is_tcp = 0; is_tcp < 2; is_tcp++)
		assert_true(fails_in_time(is_tcp) || fails_in_time(is_tcp) ||
			    fails_in_time(is_tcp));
	finish();
}

/* ---- in the mesh: the upstream's address is a peer's, or somebody's that is told ---- */

static enum dns_place place_of(void *owner, const struct ip_addr *ip)
{
	const enum dns_place *place = owner;

	if (!has_tunnel || !ip_equal(ip, &up[0].at.addr))
		return DNS_OUTSIDE;
	return place ? *place : DNS_TUNNEL;
}

static bool find_own(void *owner, const struct endpoint *to, struct endpoint *at)
{
	(void)owner;
	assert_true(endpoint_equal(to, &up[0].at) || endpoint_equal(to, &up[1].at));
	*at = up[1].at;
	return true;
}

/* The answer is there at once. */
static int send_udp(void *owner, uint16_t local_port, const struct endpoint *to,
		    const uint8_t *data, size_t len)
{
	struct endpoint stranger = { to->addr, 1 };
	uint8_t out[512];
	size_t out_len = upstream_reply(&up[0], data, len, DNS_NOERROR, true, out);

	(void)owner;
	assert_false(dns_tunnel_received(dns, &stranger, local_port, out, out_len));
	tunnelled++;
	return 0;
}

static int start_dial(void *owner, const struct endpoint *to, void (*opened)(void *arg, int fd),
		      void *arg, void **dial)
{
	(void)owner;
	assert_true(ip_equal(&to->addr, &up[0].at.addr));
	dialling.started++;
	dialling.opened = opened;
	dialling.arg = arg;
	*dial = &dialling;
	return 0;
}

static void cancel_dial(void *owner, void *dial)
{
	(void)owner;
	assert_ptr_equal(dial, &dialling);
	dialling.opened = NULL;
	dialling.cancelled++;
}

static void start_tunnel(void)
{
	start("silent", "silent");
	has_tunnel = true;
	dns_set_tunnel(dns, &(struct dns_tunnel){ place_of, find_own, send_udp, NULL });
	dns_set_dialler(dns, &(struct dns_dialler){ start_dial, cancel_dial, NULL });
}

static void test_a_silent_resolver_behind_the_tunnel_is_asked_by_tcp(void **state)
{
	(void)state;
	start_tunnel();
	ask("x.corp", DNS_TYPE_A, true);
	assert_int_equal(rcode(), DNS_NOERROR);
	assert_int_equal(answer[answer_len - 1], 0x37);
	assert_true(tunnelled == 2 && dialling.started >= 1 && up[0].asked == 0);
	finish();
	/* And where nobody takes the connection, that is the end. */
	start_tunnel();
	dialling.fails = true;
	ask("x.corp", DNS_TYPE_A, true);
	assert_int_equal(rcode(), DNS_SERVFAIL);
	finish();
}

static void start_at(enum dns_place *place)
{
	start("good", "silent");
	has_tunnel = true;
	dns_set_tunnel(dns, &(struct dns_tunnel){ place_of, find_own, send_udp, place });
}

/* A route leads to a mesh address whose node is gone: nobody else there may hear the names. */
static void test_a_mesh_address_that_nobody_has_is_not_asked_outside(void **state)
{
	enum dns_place place = DNS_NOBODY;

	(void)state;
	start_at(&place);
	ask("x.corp", DNS_TYPE_A, false);
	assert_int_equal(rcode(), DNS_SERVFAIL);
	ask("x.corp", DNS_TYPE_A, true);
	assert_int_equal(rcode(), DNS_SERVFAIL);
	assert_int_equal(up[0].asked + up[0].asked_tcp + up[1].asked + up[1].asked_tcp, 0);
	finish();
}

/* The tailnet's name server is this very node. */
static void test_a_resolver_on_this_node_is_asked_where_its_program_is(void **state)
{
	enum dns_place place = DNS_OWN;

	(void)state;
	start_at(&place);
	up[1].habit = "good";
	ask("x.corp", DNS_TYPE_A, false);
	assert_int_equal(rcode(), DNS_NOERROR);
	assert_int_equal(answer[answer_len - 1], 0x37);
	assert_int_equal(up[0].asked + up[0].asked_tcp, 0);
	finish();
}

static void on_found(void *arg, int error, const struct ip_addr *ips, unsigned count)
{
	(void)arg;
	answers++;
	found_error = error;
	found_count = count;
	memcpy(found, ips, count * sizeof(*ips));
	if (is_running)
		loop_stop(loop);
}

static int look_up(const char *name, unsigned want)
{
	unsigned before = answers;

	dns_lookup(dns, name, want, false, on_found, NULL);
	if (answers == before)
		run();
	return found_error;
}

static void test_lookups_apply_search_domains_routes_and_the_family_rule(void **state)
{
	const unsigned both = DNS_WANT_V4 | DNS_WANT_V6;

	(void)state;
	start("good", "good");
	assert_int_equal(look_up("b", both), 0);
	assert_int_equal(found_count, 1); /* it has IPv4, so that is all */
	assert_int_equal(ip_v4(&found[0]), 0x64400002);
	assert_int_equal(look_up("db", DNS_WANT_V4), 0);
	assert_int_equal(found_count, 2);
	assert_int_equal(look_up("b.t.example", DNS_WANT_V6), ENODATA);
	assert_int_equal(look_up("nope.t.example", both), ENOENT);
	assert_int_equal(look_up("x.corp", both), 0);
	assert_int_equal(ip_v4(&found[0]), 0xc0000237);
	assert_int_equal(look_up("a..b", both), ENOENT);
	finish();
}

static void expect_rebinding(const char *name, const char *address, int without, int with)
{
	up[0].address = up[1].address = address;
	assert_int_equal(look_up(name, DNS_WANT_V4), without);
	assert_int_equal(look_up(name, DNS_WANT_V4 | DNS_WANT_INSIDE), with);
}

static void test_outsiders_do_not_lead_into_the_mesh_or_to_this_host(void **state)
{
	(void)state;
	start("good", "good");
	expect_rebinding("www.example.org", "\xc0\x00\x02\x37", 0, 0);
	expect_rebinding("www.example.org", "\x7f\x00\x00\x01", ENODATA, 0);
	expect_rebinding("www.example.org", "\x00\x00\x00\x00", ENODATA, 0);
	expect_rebinding("www.example.org", "\x64\x40\x00\x02", ENODATA, 0);
	expect_rebinding("www.example.org", "\x64\x7f\x00\x02", ENODATA, 0);
	/* A route of the mesh may, but not to this host. */
	expect_rebinding("x.corp", "\x64\x40\x00\x02", 0, 0);
	expect_rebinding("x.corp", "\x7f\x00\x00\x01", ENODATA, 0);
	finish();
}

static void test_open_queries_end_with_the_resolver(void **state)
{
	uint8_t query[64];
	struct dns_writer w = { query, 0, sizeof(query), false };

	(void)state;
	start("silent", "silent");
	dns_put_header(&w, 1, 0, 1, 0, 0);
	dns_put_question(&w, "x.corp", DNS_TYPE_A, DNS_CLASS_IN);
	for (unsigned i = 0; i < DNS_IN_FLIGHT_MAX; i++)
		dns_query(dns, query, w.len, false, done, NULL);
	assert_int_equal(answers, 0);
	dns_query(dns, query, w.len, false, done, NULL);
	assert_int_equal(answers, 1); /* dropped */
	assert_int_equal(answer_len, 0);
	finish();
	assert_int_equal(answers, DNS_IN_FLIGHT_MAX + 1);
}

static void test_a_dead_route_does_not_use_up_all_queries(void **state)
{
	uint8_t query[64];
	struct dns_writer w = { query, 0, sizeof(query), false };
	struct dns_stats stats;

	(void)state;
	start("silent", "choosy");
	up[0].is_dead = up[1].is_dead = true;
	dns_put_header(&w, 1, 0, 1, 0, 0);
	dns_put_question(&w, "x.corp", DNS_TYPE_A, DNS_CLASS_IN);
	for (unsigned i = 0; i < DNS_IN_FLIGHT_MAX + 10; i++)
		dns_query(dns, query, w.len, false, done, NULL);
	assert_int_equal(answers, 10); /* dropped */
	/* Names elsewhere are still found. */
	ask("www.example.org", DNS_TYPE_A, false);
	assert_true(answer_len > 0);
	assert_int_equal(answer[answer_len - 1], 0x37);
	dns_get_stats(dns, &stats);
	assert_int_equal(stats.in_flight, DNS_IN_FLIGHT_MAX);
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_good_answer_wins_over_failures),
		cmocka_unit_test(test_forged_answers_are_not_taken),
		cmocka_unit_test(test_names_of_the_mesh_are_never_forwarded),
		cmocka_unit_test(test_a_silent_resolver_is_asked_by_tcp_after_two_seconds),
		cmocka_unit_test(test_a_lost_datagram_is_sent_again_where_tcp_is_shut),
		cmocka_unit_test(test_a_client_of_tcp_gets_the_whole_answer),
		cmocka_unit_test(test_an_answer_that_no_datagram_can_carry_is_cut),
		cmocka_unit_test(test_dead_resolvers_are_a_failure_before_the_client_gives_up),
		cmocka_unit_test(test_a_silent_resolver_behind_the_tunnel_is_asked_by_tcp),
		cmocka_unit_test(test_a_mesh_address_that_nobody_has_is_not_asked_outside),
		cmocka_unit_test(test_a_resolver_on_this_node_is_asked_where_its_program_is),
		cmocka_unit_test(test_outsiders_do_not_lead_into_the_mesh_or_to_this_host),
		cmocka_unit_test(test_lookups_apply_search_domains_routes_and_the_family_rule),
		cmocka_unit_test(test_open_queries_end_with_the_resolver),
		cmocka_unit_test(test_a_dead_route_does_not_use_up_all_queries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
