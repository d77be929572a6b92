/* Echo, datagrams, ICMP, and all that is no packet for us. */
#include "tests/unit/stack/two_stacks.h"

#include "daemon/stack/filter.h"
#include "daemon/stack/icmp.h"
#include "daemon/stack/ip.h"
#include "daemon/stack/path_mtu.h"
#include "daemon/tcp/sum.h"
#include "shared/util.h"
#include "shared/wire.h"

static void test_an_echo_is_answered_with_its_data(void **state)
{
	uint8_t data[5000];

	(void)state;
	fill(data, sizeof(data));
	for (int is_v6 = 0; is_v6 < 2; is_v6++) {
		const struct ip_addr *addr = is_v6 ? v6 : v4;

		for (size_t len = 0; len <= sizeof(data); len += 1250) {
			a.pongs = 0;
			assert_int_equal(netstack_ping(a.ns, &addr[0], &addr[1], 77, 9, data, len),
					 0);
			settle();
			assert_int_equal(a.pongs, 1);
			assert_true(ip_equal(&a.remote.addr, &addr[1]));
			assert_int_equal(a.id, 77);
			assert_int_equal(a.seq, 9);
			assert_int_equal(a.len, len);
			assert_memory_equal(a.data, data, len);
		}
	}
	assert_true(a.longest <= MTU);
	assert_int_equal(netstack_ping(a.ns, &v4[0], &v6[1], 0, 0, data, 1), -EAFNOSUPPORT);
	assert_int_equal(netstack_ping(a.ns, &v4[0], &v4[1], 0, 0, data, 1u << 20), -EMSGSIZE);
}

static void test_datagrams_of_every_size_arrive(void **state)
{
	static const size_t sizes[] = { 0,    1,    2,    511,  1371,  1372,  1373,  1391,
					1392, 1393, 2000, 9000, 60000, 65506, 65507, 65527 };
	static uint8_t data[65527];

	(void)state;
	fill(data, sizeof(data));
	for (int is_v6 = 0; is_v6 < 2; is_v6++) {
		struct endpoint from = at(is_v6, 0, 1000), to = at(is_v6, 1, 2000);

		for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
			if (!is_v6 && sizes[i] > 65507)
				continue;
			b.received = 0;
			assert_int_equal(netstack_send_udp(a.ns, &from, &to, data, sizes[i], 0), 0);
			settle();
			assert_int_equal(b.received, 1);
			assert_true(endpoint_equal(&b.local, &to));
			assert_true(endpoint_equal(&b.remote, &from));
			assert_int_equal(b.len, sizes[i]);
			assert_memory_equal(b.data, data, sizes[i]);
		}
	}
	assert_int_equal(a.longest, MTU);
	assert_int_equal(stats_of(&b).bad_packets, 0);
	assert_int_equal(stats_of(&b).reassembly_failed, 0);
}

static void test_what_ip_cannot_carry_is_refused(void **state)
{
	static uint8_t data[65536];
	struct endpoint from = at(false, 0, 1), to = at(false, 1, 2);
	struct endpoint from6 = at(true, 0, 1), to6 = at(true, 1, 2);

	(void)state;
	assert_int_equal(netstack_send_udp(a.ns, &from, &to, data, 65508, 0), -EMSGSIZE);
	assert_int_equal(netstack_send_udp(a.ns, &from6, &to6, data, 65528, 0), -EMSGSIZE);
	assert_int_equal(netstack_send_udp(a.ns, &from, &to6, data, 1, 0), -EAFNOSUPPORT);
	netstack_refuse_udp(a.ns, &from, &to6, data, 1, 0);
	netstack_refuse_udp(a.ns, &from, &to, data, 65536, 0);
	settle();
	assert_int_equal(a.packets, 0);
}

static void test_a_refused_datagram_is_told_to_its_sender(void **state)
{
	static uint8_t data[3000];

	(void)state;
	for (int is_v6 = 0; is_v6 < 2; is_v6++) {
		struct endpoint from = at(is_v6, 0, 1000), to = at(is_v6, 1, 2000);

		a.failed = 0;
		netstack_refuse_udp(b.ns, &to, &from, data, sizeof(data), b.now_ns);
		settle();
		assert_int_equal(a.failed, 1);
		assert_int_equal(a.error, ECONNREFUSED);
		assert_true(endpoint_equal(&a.local, &from));
		assert_true(endpoint_equal(&a.remote, &to));
		assert_int_equal(b.last_len, is_v6 ? 1280 : 576);
	}
}

static void test_refusals_are_limited_in_rate(void **state)
{
	struct endpoint from = at(false, 0, 1000), to = at(false, 1, 2000);
	uint64_t start_ns = b.now_ns;

	(void)state;
	for (int i = 0; i < 500; i++)
		netstack_refuse_udp(b.ns, &to, &from, NULL, 0, start_ns);
	settle();
	assert_int_equal(a.failed, ICMP_RATE_BURST);
	for (int i = 0; i < 500; i++)
		netstack_refuse_udp(b.ns, &to, &from, NULL, 0, start_ns + 10 * NS_PER_MS);
	settle();
	assert_int_equal(a.failed, ICMP_RATE_BURST + 10);
}

static void test_malformed_packets_are_counted_and_dropped(void **state)
{
	uint8_t p[128];
	size_t len;

	(void)state;
	for (int is_v6 = 0; is_v6 < 2; is_v6++) {
		uint64_t bad = 0, before = stats_of(&b).bad_packets;

		for (len = 0; len < make_packet(p, is_v6, IP_PROTOCOL_UDP); len++, bad++)
			inject(p, len);
		len = make_packet(p, is_v6, IP_PROTOCOL_UDP);
		p[0] = 0x50;
		inject(p, len), bad++;
		for (size_t i = is_v6 ? IPV6_HEADER : IPV4_HEADER; i < len; i++, bad++) {
			make_packet(p, is_v6, IP_PROTOCOL_UDP);
			p[i] ^= 0x10; /* ports, length, checksum, data */
			inject(p, len);
		}
		if (!is_v6) {
			make_packet(p, false, IP_PROTOCOL_UDP);
			p[8] ^= 1;
			inject(p, len), bad++;
			make_packet(p, false, IP_PROTOCOL_UDP);
			p[0] = 0x44;
			inject(p, len), bad++;
		} else {
			make_packet(p, true, IP_PROTOCOL_UDP);
			memset(p + IPV6_HEADER + 6, 0, 2); /* IPv6 wants a checksum */
			inject(p, len), bad++;
		}
		assert_int_equal(stats_of(&b).bad_packets - before, bad);
	}
	assert_int_equal(b.received, 0);
	make_packet(p, false, IP_PROTOCOL_UDP);
	memset(p + IPV4_HEADER + 6, 0, 2); /* IPv4 does not */
	inject(p, sizeof(p));              /* and bytes behind the packet do not matter */
	assert_int_equal(b.received, 1);
	assert_int_equal(b.len, 2);
}

static void test_only_our_addresses_and_sane_sources_are_taken(void **state)
{
	static const char *const bad_sources[] = { "0.0.0.0",   "0.1.2.3",         "127.0.0.1",
						   "224.0.0.1", "255.255.255.255", "100.64.0.2" };
	static const char *const bad_sources6[] = { "::", "::1", "ff02::1", "fd7a::2",
						    "::ffff:100.64.0.1" };
	struct ip_addr ip;
	uint8_t p[64];
	size_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad_sources); i++) {
		len = make_packet(p, false, IP_PROTOCOL_UDP);
		assert_int_equal(ip_parse(bad_sources[i], &ip), 0);
		store_be32(p + 12, ip_v4(&ip));
		fix_v4_header(p);
		memset(p + IPV4_HEADER + 6, 0, 2);
		inject(p, len);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad_sources6); i++) {
		len = make_packet(p, true, IP_PROTOCOL_UDP);
		assert_int_equal(ip_parse(bad_sources6[i], &ip), 0);
		memcpy(p + 8, ip.byte, 16);
		inject(p, len);
	}
	assert_int_equal(stats_of(&b).bad_packets,
			 ARRAY_LEN(bad_sources) + ARRAY_LEN(bad_sources6));
	len = make_packet(p, false, IP_PROTOCOL_UDP);
	p[19] = 3; /* 100.64.0.3 */
	fix_v4_header(p);
	inject(p, len);
	assert_int_equal(stats_of(&b).not_for_us, 1);
	assert_int_equal(b.received, 0);
}

static void test_extension_headers_are_stepped_over(void **state)
{
	uint8_t p[256];
	size_t len;

	(void)state;
	len = make_packet(p, true, IP_PROTOCOL_UDP);
	len = add_extension(p, len, 60, 0);
	len = add_extension(p, len, 44, 0); /* a fragment alone is whole */
	len = add_extension(p, len, 43, 0);
	len = add_extension(p, len, 0, 0);
	inject(p, len);
	assert_int_equal(b.received, 1);

	len = make_packet(p, true, IP_PROTOCOL_UDP);
	inject(p, add_extension(p, len, 43, 1)); /* a router's work */
	assert_int_equal(stats_of(&b).unsupported, 1);
	len = make_packet(p, true, IP_PROTOCOL_UDP);
	for (int i = 0; i <= IPV6_MAX_EXTENSIONS; i++)
		len = add_extension(p, len, 60, 0);
	inject(p, len);
	assert_int_equal(stats_of(&b).unsupported, 2);
	len = make_packet(p, true, IP_PROTOCOL_UDP);
	len = add_extension(p, len, 60, 0);
	p[IPV6_HEADER + 1] = 9; /* longer than the packet */
	inject(p, len);
	len = make_packet(p, true, IP_PROTOCOL_UDP);
	len = add_extension(p, add_extension(p, len, 44, 0), 44, 1);
	inject(p, len); /* a fragment of 18 bytes that is not the last */
	assert_int_equal(stats_of(&b).bad_packets, 1);
	assert_int_equal(stats_of(&b).reassembly_failed, 1);
	assert_int_equal(b.received, 1);
}

static void test_unknown_protocols_are_refused(void **state)
{
	uint8_t p[64];

	(void)state;
	inject(p, make_packet(p, false, 132));
	assert_int_equal(stats_of(&b).icmp_out, 1);
	assert_int_equal(b.last[IPV4_HEADER], 3);
	assert_int_equal(b.last[IPV4_HEADER + 1], 2);
	inject(p, make_packet(p, true, 132));
	assert_int_equal(stats_of(&b).icmp_out, 2);
	assert_int_equal(b.last[IPV6_HEADER], 4);
	assert_int_equal(load_be32(b.last + IPV6_HEADER + 4), 6);
	inject(p, make_packet(p, true, IP_PROTOCOL_NONE)); /* says: nothing follows */
	inject(p, make_packet(p, true, IP_PROTOCOL_ICMP));
	assert_int_equal(stats_of(&b).icmp_out, 3);
	assert_int_equal(stats_of(&b).unsupported, 4);
}

/* An ICMP error of this type and code to b, about a UDP packet of b. */
static void inject_error(bool is_v6, uint8_t type, uint8_t code, uint32_t rest)
{
	const struct ip_addr *addr = is_v6 ? v6 : v4;
	uint8_t protocol = is_v6 ? IP_PROTOCOL_ICMPV6 : IP_PROTOCOL_ICMP;
	uint8_t p[160] = { 0 }, *icmp = p + (is_v6 ? IPV6_HEADER : IPV4_HEADER);
	size_t quoted = ip_header_write(icmp + 8, &addr[1], &addr[0], IP_PROTOCOL_UDP, 500, NULL);
	uint64_t sum = 0;
	uint16_t checksum;

	icmp[0] = type;
	icmp[1] = code;
	store_be32(icmp + 4, rest);
	store_be16(icmp + 8 + quoted, 1111);
	store_be16(icmp + 8 + quoted + 2, 2222);
	quoted += 8;
	ip_header_write(p, &addr[0], &addr[1], protocol, 8 + quoted, NULL);
	if (is_v6)
		sum = ip_pseudo_sum(&addr[0], &addr[1], protocol, 8 + quoted);
	checksum = (uint16_t)~tcp_sum_fold(sum + tcp_sum(icmp, 8 + quoted));
	memcpy(icmp + 2, &checksum, 2);
	inject(p, (size_t)(icmp - p) + 8 + quoted);
}

static void test_icmp_errors_become_the_errno_linux_would_give(void **state)
{
	static const struct {
		bool is_v6;
		uint8_t type, code;
		int error;
	} cases[] = {
		{ false, 3, 0, ENETUNREACH },   { false, 3, 1, EHOSTUNREACH },
		{ false, 3, 2, ECONNREFUSED },  { false, 3, 3, ECONNREFUSED },
		{ false, 3, 4, EMSGSIZE },      { false, 3, 13, EHOSTUNREACH },
		{ false, 11, 0, EHOSTUNREACH }, { true, 1, 0, ENETUNREACH },
		{ true, 1, 3, EHOSTUNREACH },   { true, 1, 4, ECONNREFUSED },
		{ true, 2, 0, EMSGSIZE },       { true, 3, 0, EHOSTUNREACH },
		{ true, 4, 1, ECONNREFUSED },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		b.failed = 0;
		inject_error(cases[i].is_v6, cases[i].type, cases[i].code, 1300);
		assert_int_equal(b.failed, 1);
		assert_int_equal(b.error, cases[i].error);
		assert_int_equal(b.local.port, 1111);
		assert_int_equal(b.remote.port, 2222);
	}
	b.failed = 0;
	inject_error(false, 5, 0, 0);  /* redirect */
	inject_error(true, 135, 0, 0); /* neighbour solicitation */
	assert_int_equal(b.failed, 0);
	assert_int_equal(stats_of(&b).unsupported, 2);
}

/* Who serves one address cannot speak for what was sent to another. */
static void test_errors_are_believed_only_from_the_way_of_what_they_quote(void **state)
{
	static const struct filter_source router, stranger;

	(void)state;
	b.serving = &router;
	injected_by = &stranger;
	inject_error(false, 3, 3, 0);
	inject_error(true, 1, 4, 0);
	inject_error(true, 2, 0, 1300);
	assert_int_equal(b.failed, 0);
	assert_int_equal(stats_of(&b).errors_disbelieved, 3);
	injected_by = &router;
	inject_error(false, 3, 3, 0);
	inject_error(true, 1, 4, 0);
	assert_int_equal(b.failed, 2);
	assert_int_equal(stats_of(&b).errors_disbelieved, 3);
}

/* Length of the longest packet that b makes of a datagram, which must arrive. */
static unsigned longest_of(bool is_v6, size_t len)
{
	struct endpoint from = at(is_v6, 1, 1111), to = at(is_v6, 0, 2222);
	static uint8_t data[4000];

	b.longest = 0;
	a.received = 0;
	fill(data, len);
	assert_int_equal(netstack_send_udp(b.ns, &from, &to, data, len, b.now_ns), 0);
	settle();
	assert_int_equal(a.received, 1);
	assert_int_equal(a.len, len);
	assert_memory_equal(a.data, data, len);
	return b.longest;
}

static void test_ipv6_datagrams_are_cut_to_what_the_path_takes(void **state)
{
	const unsigned whole = MTU - (MTU - IPV6_HEADER - IPV6_FRAGMENT_HEADER) % 8;

	(void)state;
	assert_int_equal(longest_of(true, 3000), whole);
	inject_error(true, 2, 0, 1300);
	assert_in_range(longest_of(true, 3000), 1281, 1300);
	assert_in_range(longest_of(true, MTU - 48), 1281, 1300);
	assert_int_equal(longest_of(true, 1300 - 48), 1300);
	assert_int_equal(longest_of(false, 3000), MTU - (MTU - IPV4_HEADER) % 8);
	/* Less than any link carries is not believed; more takes nothing back. */
	inject_error(true, 2, 0, 0);
	assert_in_range(longest_of(true, 3000), 1273, 1280);
	inject_error(true, 2, 0, 1400);
	assert_in_range(longest_of(true, 3000), 1273, 1280);
	/* Some time later a longer one is tried again. */
	a.now_ns = b.now_ns += 601 * NS_PER_S;
	settle();
	assert_int_equal(longest_of(true, 3000), whole);
}

static void test_path_mtus_are_bounded_in_number(void **state)
{
	static struct path_mtus m;
	struct ip_addr to = v6[0];

	(void)state;
	for (unsigned i = 0; i <= PATH_MTUS; i++) {
		to.byte[15] = (uint8_t)i;
		path_mtus_learn(&m, &to, 1300 + i, NS_PER_S);
	}
	to.byte[15] = 0; /* told of first */
	assert_int_equal(path_mtus_find(&m, &to, NS_PER_S), UINT32_MAX);
	for (unsigned i = 1; i <= PATH_MTUS; i++) {
		to.byte[15] = (uint8_t)i;
		assert_int_equal(path_mtus_find(&m, &to, NS_PER_S), 1300 + i);
	}
}

static void test_nothing_is_written_while_blocked(void **state)
{
	struct endpoint from = at(false, 0, 1), to = at(false, 1, 2);
	static uint8_t data[5000];

	(void)state;
	netstack_set_blocked(a.ns, true);
	assert_int_equal(netstack_send_udp(a.ns, &from, &to, data, 10, 0), -EAGAIN);
	assert_int_equal(netstack_send_udp(a.ns, &from, &to, data, sizeof(data), 0), -EAGAIN);
	settle();
	assert_int_equal(a.batches, 0);
	netstack_set_blocked(a.ns, false);
	assert_int_equal(netstack_send_udp(a.ns, &from, &to, data, 10, 0), 0);
	settle();
	assert_int_equal(b.received, 1);
}

static void test_a_full_batch_leaves_by_itself(void **state)
{
	struct endpoint from = at(false, 0, 1), to = at(false, 1, 2);

	(void)state;
	for (int i = 0; i < BATCH_PACKETS + 1; i++)
		assert_int_equal(netstack_send_udp(a.ns, &from, &to, NULL, 0, 0), 0);
	assert_int_equal(a.batches, 1);
	assert_int_equal(b.received, BATCH_PACKETS);
	settle();
	assert_int_equal(a.batches, 2);
	assert_int_equal(b.received, BATCH_PACKETS + 1);
}

static void test_lost_fragments_expire(void **state)
{
	struct endpoint from = at(false, 0, 1), to = at(false, 1, 2);
	static uint8_t data[3000];
	uint8_t first[MTU];

	(void)state;
	a.other = NULL;
	assert_int_equal(netstack_send_udp(a.ns, &from, &to, data, sizeof(data), 0), 0);
	netstack_flush(a.ns, a.now_ns);
	memcpy(first, a.last, a.last_len);
	inject(first, a.last_len);
	assert_true(netstack_deadline(b.ns) <= b.now_ns + 30 * NS_PER_S);
	netstack_expire(b.ns, b.now_ns + 30 * NS_PER_S);
	assert_int_equal(stats_of(&b).reassembly_failed, 1);
	assert_int_equal(b.received, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		stack_test(test_an_echo_is_answered_with_its_data),
		stack_test(test_datagrams_of_every_size_arrive),
		stack_test(test_what_ip_cannot_carry_is_refused),
		stack_test(test_a_refused_datagram_is_told_to_its_sender),
		stack_test(test_refusals_are_limited_in_rate),
		stack_test(test_malformed_packets_are_counted_and_dropped),
		stack_test(test_only_our_addresses_and_sane_sources_are_taken),
		stack_test(test_extension_headers_are_stepped_over),
		stack_test(test_unknown_protocols_are_refused),
		stack_test(test_icmp_errors_become_the_errno_linux_would_give),
		stack_test(test_errors_are_believed_only_from_the_way_of_what_they_quote),
		stack_test(test_ipv6_datagrams_are_cut_to_what_the_path_takes),
		stack_test(test_path_mtus_are_bounded_in_number),
		stack_test(test_nothing_is_written_while_blocked),
		stack_test(test_a_full_batch_leaves_by_itself),
		stack_test(test_lost_fragments_expire),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
