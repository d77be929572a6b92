/* SOCKS5 in bytes, and places as text. */
#include "daemon/proxy/socks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

static void test_a_greeting_is_taken_when_it_is_whole(void **state)
{
	static const uint8_t bytes[] = { 5, 2, 2, 0, 5 };
	bool no_auth = false;

	(void)state;
	for (size_t len = 0; len < 4; len++)
		assert_int_equal(socks_parse_greeting(bytes, len, &no_auth), 0);
	assert_int_equal(socks_parse_greeting(bytes, 5, &no_auth), 4);
	assert_true(no_auth);
	assert_int_equal(socks_parse_greeting((const uint8_t[]){ 5, 1, 2 }, 3, &no_auth), 3);
	assert_false(no_auth);
	assert_int_equal(socks_parse_greeting((const uint8_t[]){ 5, 0 }, 2, &no_auth), -EPROTO);
	assert_int_equal(socks_parse_greeting((const uint8_t[]){ 4 }, 1, &no_auth), -EPROTO);
}

static void test_requests_of_all_address_types(void **state)
{
	static const uint8_t v4[] = { 5, 1, 0, 1, 100, 64, 0, 2, 0, 80 };
	static const uint8_t v6[] = { 5, 1, 0, 4, 0xfd, 0, 0, 0, 0, 0,  0,
				      0, 0, 0, 0, 0,    0, 0, 0, 2, 31, 144 };
	static const uint8_t name[] = { 5, 3, 0, 3, 7, 'N', 'o', 'd', 'e', '-', 'b', '.', 1, 187 };
	struct socks_request r;
	struct ip_addr ip;

	(void)state;
	for (size_t len = 0; len < sizeof(v4); len++)
		assert_int_equal(socks_parse_request(v4, len, &r), 0);
	assert_int_equal(socks_parse_request(v4, sizeof(v4), &r), sizeof(v4));
	assert_int_equal(r.command, SOCKS_CONNECT);
	assert_false(r.place.is_name);
	assert_int_equal(ip_v4(&r.place.addr), 0x64400002);
	assert_int_equal(r.place.port, 80);
	assert_int_equal(socks_parse_request(v6, sizeof(v6), &r), sizeof(v6));
	ip_parse("fd00::2", &ip);
	assert_true(ip_equal(&r.place.addr, &ip));
	assert_int_equal(r.place.port, 8080);
	for (size_t len = 0; len < sizeof(name); len++)
		assert_int_equal(socks_parse_request(name, len, &r), 0);
	assert_int_equal(socks_parse_request(name, sizeof(name), &r), sizeof(name));
	assert_true(r.place.is_name);
	assert_string_equal(r.place.name, "node-b");
	assert_int_equal(r.place.port, 443);
}

static void test_an_address_as_a_name_is_an_address(void **state)
{
	static const uint8_t text[] = { 5,   1,   0,   3,   9,   '1', '2', '7',
					'.', '0', '.', '0', '.', '1', 0,   80 };
	struct socks_request r;

	(void)state;
	assert_int_equal(socks_parse_request(text, sizeof(text), &r), sizeof(text));
	assert_false(r.place.is_name);
	assert_int_equal(ip_v4(&r.place.addr), 0x7f000001);
}

static void test_broken_requests_are_refused(void **state)
{
	struct socks_request r;

	(void)state;
	assert_int_equal(socks_parse_request((const uint8_t[]){ 4, 1, 0 }, 3, &r), -EPROTO);
	assert_int_equal(socks_parse_request((const uint8_t[]){ 5, 1, 9 }, 3, &r), -EPROTO);
	assert_int_equal(socks_parse_request((const uint8_t[]){ 5, 1, 0, 2, 0 }, 5, &r),
			 -EAFNOSUPPORT);
	assert_int_equal(socks_parse_request((const uint8_t[]){ 5, 1, 0, 3, 0, 0, 80 }, 7, &r),
			 -EPROTO);
	assert_int_equal(
		socks_parse_request((const uint8_t[]){ 5, 1, 0, 3, 2, 'a', 0, 0, 80 }, 9, &r),
		-EPROTO);
}

static void test_replies_say_what_happened(void **state)
{
	const struct endpoint v4 = { ip_from_v4(0x7f000001), 0x1234 };
	struct endpoint v6 = { .port = 1 };
	uint8_t out[SOCKS_REPLY_MAX];

	(void)state;
	ip_parse("fd00::2", &v6.addr);
	assert_int_equal(socks_put_reply(SOCKS_REFUSED, NULL, out), 10);
	assert_memory_equal(out, "\5\5\0\1\0\0\0\0\0\0", 10);
	assert_int_equal(socks_put_reply(SOCKS_DONE, &v4, out), 10);
	assert_memory_equal(out, "\5\0\0\1\x7f\0\0\1\x12\x34", 10);
	assert_int_equal(socks_put_reply(SOCKS_DONE, &v6, out), 22);
	assert_int_equal(out[3], 4);
	assert_int_equal(socks_put_datagram_head(&v4, out), 10);
	assert_memory_equal(out, "\0\0\0\1\x7f\0\0\1\x12\x34", 10);
}

static void test_errors_have_their_codes(void **state)
{
	static const struct {
		int error, code;
	} known[] = {
		{ 0, 0 },          { EPERM, 2 },        { ENETUNREACH, 3 },  { EHOSTUNREACH, 4 },
		{ ENOENT, 4 },     { EAGAIN, 4 },       { ECONNREFUSED, 5 }, { ETIMEDOUT, 6 },
		{ EOPNOTSUPP, 7 }, { EAFNOSUPPORT, 8 }, { ENOMEM, 1 }
	};

	(void)state;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		assert_int_equal(socks_code_of(known[i].error), known[i].code);
}

static void test_datagrams_are_whole_or_nothing(void **state)
{
	static const uint8_t good[] = { 0, 0, 0, 1, 100, 64, 0, 2, 0, 53, 'x' };
	uint8_t bytes[sizeof(good)];
	struct target_place place;

	(void)state;
	assert_int_equal(socks_parse_datagram(good, sizeof(good), &place), 10);
	assert_int_equal(place.port, 53);
	assert_int_equal(socks_parse_datagram(good, 9, &place), -EPROTO);
	memcpy(bytes, good, sizeof(good));
	bytes[2] = 1; /* a fragment */
	assert_int_equal(socks_parse_datagram(bytes, sizeof(bytes), &place), -EPROTO);
	memcpy(bytes, good, sizeof(good));
	bytes[9] = 0; /* port 0 */
	assert_int_equal(socks_parse_datagram(bytes, sizeof(bytes), &place), -EPROTO);
}

static bool parse(const char *text, uint16_t default_port, struct target_place *place)
{
	return target_parse(place, text, strlen(text), default_port);
}

static void test_places_as_text(void **state)
{
	static const char *const wrong[] = { "",      "h:",     "h:0",   "h:65536", "h:1:2",
					     "[::1",  "[::1]x", "[h]:1", "a..b:1",  ".a:1",
					     "a b:1", "h:+1",   "::1",   "a/b:1",   "h:123456" };
	struct target_place place;

	(void)state;
	assert_true(parse("Host.Example.:8080", 0, &place));
	assert_string_equal(place.name, "host.example");
	assert_int_equal(place.port, 8080);
	assert_true(parse("[fd00::2]", 80, &place));
	assert_false(place.is_name);
	assert_int_equal(place.port, 80);
	assert_false(parse("h", 0, &place));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_false(parse(wrong[i], 80, &place));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_greeting_is_taken_when_it_is_whole),
		cmocka_unit_test(test_requests_of_all_address_types),
		cmocka_unit_test(test_an_address_as_a_name_is_an_address),
		cmocka_unit_test(test_broken_requests_are_refused),
		cmocka_unit_test(test_replies_say_what_happened),
		cmocka_unit_test(test_errors_have_their_codes),
		cmocka_unit_test(test_datagrams_are_whole_or_nothing),
		cmocka_unit_test(test_places_as_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
