/* What the resolver reads in a message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/dns/message.h"

/* A query with an OPT of this size and these options, and len more bytes behind it. */
static size_t query_with_opt(uint8_t query[512], uint16_t size, const char *options,
			     uint16_t options_len, const char *behind, size_t behind_len)
{
	struct dns_writer w = { query, 0, 512, false };

	dns_put_header(&w, 1, DNS_FLAG_RD, 1, 0, 0);
	dns_put_question(&w, "a.example", DNS_TYPE_A, DNS_CLASS_IN);
	query[11] = behind_len ? 2 : 1;
	dns_put_name(&w, "");
	dns_put_u16(&w, DNS_TYPE_OPT);
	dns_put_u16(&w, size);
	dns_put_u32(&w, 0);
	dns_put_u16(&w, options_len);
	dns_put_bytes(&w, options, options_len);
	dns_put_bytes(&w, behind, behind_len);
	return w.len;
}

static void test_what_opt_says_counts_with_options_too(void **state)
{
	static const char cookie[] = "\0\12\0\10abcdefgh"; /* RFC 7873 */
	static const char padding[] = "\0\14\0\3\0\0\0";
	static const char other[] = "\300\14\0\20\0\1\0\0\0\0\0\2\1x"; /* a TXT */
	uint8_t query[512];
	size_t len;

	(void)state;
	len = query_with_opt(query, 1232, "", 0, "", 0);
	assert_int_equal(dns_message_udp_limit(query, len), 1232);
	len = query_with_opt(query, 1232, cookie, sizeof(cookie) - 1, "", 0);
	assert_int_equal(dns_message_udp_limit(query, len), 1232);
	len = query_with_opt(query, 4000, padding, sizeof(padding) - 1, other, sizeof(other) - 1);
	assert_int_equal(dns_message_udp_limit(query, len), 4000);
	len = query_with_opt(query, 65000, cookie, sizeof(cookie) - 1, "", 0);
	dns_message_clamp_opt(query, len);
	assert_int_equal(dns_message_udp_limit(query, len), DNS_UDP_MAX);
	/* Cut off anywhere, it says nothing. */
	for (size_t cut = 0; cut < len; cut++)
		assert_int_equal(dns_message_udp_limit(query, cut), DNS_UDP_PLAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_opt_says_counts_with_options_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
