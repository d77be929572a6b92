/* Addresses as values: parsing, printing, order, socket addresses of any shape. */
#include "shared/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "shared/util.h"

static void test_addresses_survive_text(void **state)
{
	static const char *const texts[] = { "0.0.0.0", "127.64.0.3", "255.255.255.255",
					     "::",      "::1",        "fd7a:115c:a1e0::2" };
	char text[IP_TEXT_MAX];
	struct ip_addr ip;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(ip_parse(texts[i], &ip), 0);
		assert_string_equal(ip_format(&ip, text), texts[i]);
	}
}

static void test_a_mapped_address_is_the_ipv4_address(void **state)
{
	struct ip_addr mapped, plain;

	(void)state;
	assert_int_equal(ip_parse("::ffff:100.64.0.2", &mapped), 0);
	assert_int_equal(ip_parse("100.64.0.2", &plain), 0);
	assert_true(ip_equal(&mapped, &plain));
	assert_true(ip_is_v4(&mapped));
	assert_int_equal(ip_v4(&mapped), 0x64400002);
}

static void test_what_is_no_address_is_refused(void **state)
{
	static const char *const texts[] = { "",    "1.2.3",      "1.2.3.4.5", "01.2.3.4x",
					     ":::", "fe80::1%lo", " 1.2.3.4",  "node-a" };
	struct ip_addr ip;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_int_equal(ip_parse(texts[i], &ip), -EINVAL);
}

static void test_endpoints_survive_text(void **state)
{
	static const char *const texts[] = { "1.2.3.4:5", "[::1]:65535", "[fd7a::2]:0" };
	char text[ENDPOINT_TEXT_MAX];
	struct endpoint ep;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(endpoint_parse(texts[i], &ep), 0);
		assert_string_equal(endpoint_format(&ep, text), texts[i]);
	}
}

static void test_what_is_no_endpoint_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"1.2.3.4",
		"1.2.3.4:",
		"1.2.3.4:65536",
		"1.2.3.4:-1",
		"1.2.3.4: 1",
		"::1:5",
		"[1.2.3.4]:5",
		"[::1]",
		"[::1:5",
		"[]:5",
		"1.2.3.4:000001",
		"[:5",
		":5",
		"1.2.3.4:0x5",
		"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]:1",
	};
	struct endpoint ep;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		assert_int_equal(endpoint_parse(texts[i], &ep), -EINVAL);
}

static void test_socket_addresses_convert_both_ways(void **state)
{
	struct endpoint ep, back;
	struct sockaddr_storage ss;

	(void)state;
	assert_int_equal(endpoint_parse("100.64.0.2:80", &ep), 0);
	assert_int_equal(endpoint_to_sockaddr(&ep, AF_INET, &ss), sizeof(struct sockaddr_in));
	assert_int_equal(endpoint_from_sockaddr(&ss, sizeof(struct sockaddr_in), &back), 0);
	assert_true(endpoint_equal(&ep, &back));
	assert_int_equal(endpoint_to_sockaddr(&ep, AF_INET6, &ss), sizeof(struct sockaddr_in6));
	assert_int_equal(endpoint_from_sockaddr(&ss, sizeof(struct sockaddr_in6), &back), 0);
	assert_true(endpoint_equal(&ep, &back));
	assert_int_equal(endpoint_hash(&ep), endpoint_hash(&back));

	assert_int_equal(endpoint_parse("[fd7a::2]:80", &ep), 0);
	assert_int_equal(endpoint_to_sockaddr(&ep, AF_INET, &ss), 0);
	assert_int_equal(endpoint_to_sockaddr(&ep, AF_INET6, &ss), sizeof(struct sockaddr_in6));
	assert_int_equal(endpoint_from_sockaddr(&ss, sizeof(struct sockaddr_in6), &back), 0);
	assert_true(endpoint_equal(&ep, &back));
}

static void test_short_and_foreign_socket_addresses_are_refused(void **state)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr un = { .sa_family = AF_UNIX };
	struct endpoint ep;

	(void)state;
	assert_int_equal(endpoint_from_sockaddr(&in, 0, &ep), -EINVAL);
	assert_int_equal(endpoint_from_sockaddr(&in, 1, &ep), -EINVAL);
	assert_int_equal(endpoint_from_sockaddr(&in, sizeof(in) - 1, &ep), -EINVAL);
	assert_int_equal(endpoint_from_sockaddr(&in6, 23, &ep), -EINVAL);
	assert_int_equal(endpoint_from_sockaddr(&in6, 24, &ep), 0); /* without scope id */
	assert_int_equal(endpoint_from_sockaddr(&un, sizeof(un), &ep), -EAFNOSUPPORT);
}

static void test_any_and_loopback_are_recognised_in_both_families(void **state)
{
	struct ip_addr ip;

	(void)state;
	assert_int_equal(ip_parse("0.0.0.0", &ip), 0);
	assert_true(ip_is_any(&ip));
	assert_int_equal(ip_parse("::", &ip), 0);
	assert_true(ip_is_any(&ip));
	assert_int_equal(ip_parse("127.255.0.1", &ip), 0);
	assert_true(ip_is_loopback(&ip) && !ip_is_any(&ip));
	assert_int_equal(ip_parse("::1", &ip), 0);
	assert_true(ip_is_loopback(&ip));
	assert_int_equal(ip_parse("::2", &ip), 0);
	assert_false(ip_is_loopback(&ip));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_survive_text),
		cmocka_unit_test(test_a_mapped_address_is_the_ipv4_address),
		cmocka_unit_test(test_what_is_no_address_is_refused),
		cmocka_unit_test(test_endpoints_survive_text),
		cmocka_unit_test(test_what_is_no_endpoint_is_refused),
		cmocka_unit_test(test_socket_addresses_convert_both_ways),
		cmocka_unit_test(test_short_and_foreign_socket_addresses_are_refused),
		cmocka_unit_test(test_any_and_loopback_are_recognised_in_both_families),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
