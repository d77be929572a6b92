/* The WireGuard file: what it may say, and one sentence for each mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "daemon/config.h"
#include "shared/util.h"

/* Made for these tests; nobody's. */
#define PRIVATE   "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
#define PUBLIC_B  "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
#define PUBLIC_C  "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
#define PRESHARED "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE="
#define IFACE     "[Interface]\nPrivateKey = " PRIVATE "\nAddress = 100.64.0.1/10\n"
#define PEER_B    "[Peer]\nPublicKey = " PUBLIC_B "\n"
#define PEER_C    "[Peer]\nPublicKey = " PUBLIC_C "\n"

static int parse(const char *text, struct config *c, char *error)
{
	return config_parse(text, strlen(text), c, error);
}

static void assert_prefix(const struct ip_prefix *prefix, const char *text)
{
	char ip[IP_TEXT_MAX], got[IP_TEXT_MAX + 4];

	snprintf(got, sizeof(got), "%s/%u", ip_format(&prefix->addr, ip), (unsigned)prefix->len);
	assert_string_equal(got, text);
}

static void test_a_full_file_is_understood(void **state)
{
	static const char text[] =
		"# Name = not in a section, so a plain comment\n"
		"[Interface]\n# Name = Node-A\n# Domain = Mesh.Example.\n"
		"PrivateKey = " PRIVATE "   # inline\n"
		"Address = 100.64.0.1/10, fd7a:115c:a1e0::1/48\nAddress=10.0.0.1\n"
		"ListenPort = 51820\nMTU = 1280\nDNS = 1.1.1.1\nPostUp = iptables -A x; echo a=b\n\n"
		"[Peer]\n# Name = node-b\n# lives in the cellar = warm\nPublicKey = " PUBLIC_B "\n"
		"PresharedKey = " PRESHARED "\nAllowedIPs = 100.64.0.2/32, 10.1.2.3/16\n"
		"AllowedIPs = fd7a:115c:a1e0::2/128,10.1.0.0/16\nEndpoint = 192.0.2.7:51820\n"
		"PersistentKeepalive = 25\n"
		"[Peer]\nPublicKey = " PUBLIC_C "\nEndpoint = [2001:db8::7]:1\n"
		"PersistentKeepalive = off\nAllowedIPs =\n";
	struct config c;
	char error[256];

	(void)state;
	assert_int_equal(parse(text, &c, error), 0);
	assert_string_equal(error, "");
	assert_string_equal(c.name, "node-a");
	assert_string_equal(c.domain, "mesh.example");
	assert_int_equal(c.private_key[0], 0xc8);
	assert_int_equal(c.own_count, 3);
	assert_prefix(&c.own[0], "100.64.0.1/10");
	assert_prefix(&c.own[1], "fd7a:115c:a1e0::1/48");
	assert_prefix(&c.own[2], "10.0.0.1/32");
	assert_int_equal(c.listen_port, 51820);
	assert_int_equal(c.mtu, 1280);
	assert_string_equal(c.unused, "no effect here: DNS (line 10), PostUp (line 11)");
	assert_int_equal(c.peer_count, 2);
	assert_string_equal(c.peers[0].name, "node-b");
	assert_int_equal(c.peers[0].preshared_key[0], 0x16);
	assert_int_equal(c.peers[0].line, 13);
	assert_int_equal(c.peers[0].allowed_count, 3);
	assert_prefix(&c.peers[0].allowed[0], "10.1.0.0/16");
	assert_prefix(&c.peers[0].allowed[1], "100.64.0.2/32");
	assert_prefix(&c.peers[0].allowed[2], "fd7a:115c:a1e0::2/128");
	assert_string_equal(c.peers[0].endpoint_host, "192.0.2.7");
	assert_int_equal(c.peers[0].endpoint_port, 51820);
	assert_int_equal(c.peers[0].keepalive_s, 25);
	assert_string_equal(c.peers[1].name, "");
	assert_string_equal(c.peers[1].endpoint_host, "2001:db8::7");
	assert_int_equal(c.peers[1].keepalive_s, 0);
	assert_int_equal(c.peers[1].allowed_count, 0);
	config_finish(&c);
}

static void test_defaults_are_those_of_wg_quick(void **state)
{
	struct config c;
	char error[256];

	(void)state;
	assert_int_equal(parse(IFACE, &c, error), 0);
	assert_int_equal(c.mtu, 1420);
	assert_int_equal(c.listen_port, 0);
	assert_string_equal(c.domain, "mesh");
	assert_string_equal(c.unused, "");
	config_finish(&c);
}

static void test_dos_lines_byte_order_mark_and_any_case_are_fine(void **state)
{
	struct config c;
	char error[256];

	(void)state;
	assert_int_equal(
		parse("\xef\xbb\xbf[INTERFACE]\r\nprivatekey=" PRIVATE
		      "\r\n\tADDRESS = 100.64.0.1\t\r\n#NAME=A\r\n[peer] # b\r\npublickey = " PUBLIC_B
		      "\r\nENDPOINT = b.example:7",
		      &c, error),
		0);
	assert_string_equal(c.name, "a");
	assert_string_equal(c.peers[0].endpoint_host, "b.example");
	config_finish(&c);
}

static const struct {
	const char *text, *error;
} mistakes[] = {
	{ "", "line 1: the file has no [Interface] section" },
	{ "Address = 1.2.3.4\n",
	  "line 1: Address stands before any section; put [Interface] above" },
	{ "[Interface\n", "line 1: not a section" },
	{ IFACE "[Interface]\n", "line 4: a second [Interface] section (the first is in line 1)" },
	{ IFACE "hello\n", "line 4: neither a [section] nor 'key = value'" },
	{ IFACE "Adress = 1.2.3.4\n", "line 4: 'Adress' is not a key" },
	{ IFACE PRIVATE "\n", "line 4: this is not a key of a WireGuard file" },
	{ IFACE "Name = a\n", "line 4: Name is written as a comment" },
	{ IFACE "PublicKey = " PUBLIC_B "\n", "line 4: PublicKey belongs into [Peer]" },
	{ IFACE PEER_B "MTU = 1420\n", "line 6: MTU belongs into [Interface], not into [Peer]" },
	{ "[Interface]\nAddress = 100.64.0.1\n", "line 1: [Interface] has no PrivateKey" },
	{ "[Interface]\nPrivateKey = " PRIVATE "\n", "line 1: [Interface] has no Address" },
	{ "[Interface]\nPrivateKey = abc\n", "line 2: PrivateKey is not a key; paste" },
	{ "[Interface]\nPrivateKey = " PRIVATE "x\n", "line 2: PrivateKey is not a key; paste" },
	{ "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBml=\n",
	  "line 2: PrivateKey is not a key" },
	{ "[Interface]\nPrivateKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
	  "line 2: PrivateKey is not a key" },
	{ IFACE "PrivateKey = " PRIVATE "\n", "line 4: PrivateKey is there a second time" },
	{ IFACE "Address =\n", "line 4: Address has no value" },
	{ IFACE "Address = 100.64.0.300\n", "line 4: Address: 100.64.0.300 is not an IP address" },
	{ IFACE "Address = 100.64.0.3/33\n", "line 4: Address: 100.64.0.3/33 is not" },
	{ IFACE "Address = 100.64.0.3/\n", "line 4: Address: 100.64.0.3/ is not" },
	{ IFACE "Address = ::ffff:1.2.3.4\n", "line 4: Address: ::ffff:1.2.3.4 is not" },
	{ IFACE "Address = 0000:0000:0000:0000:0000:0000:0000:00000001\n",
	  "line 4: Address: 0000:" },
	{ IFACE "Address = " PRIVATE "\n", "line 4: Address: this value is not an IP address" },
	{ IFACE "Address = 127.0.0.5\n", "line 4: Address: 127.0.0.5 cannot be a node's address" },
	{ IFACE "Address = 0.0.0.0\n", "line 4: Address: 0.0.0.0 cannot" },
	{ IFACE "Address = 0.0.0.1\n", "line 4: Address: 0.0.0.1 cannot" },
	{ IFACE "Address = 239.1.1.1\n", "line 4: Address: 239.1.1.1 cannot" },
	{ IFACE "Address = ff02::1\n", "line 4: Address: ff02::1 cannot" },
	{ IFACE "Address = 100.64.0.1/32\n", "line 4: Address: 100.64.0.1/32 is there twice" },
	{ IFACE "Address = 10.0.0.1,,10.0.0.2\n", "line 4: an empty item in the list" },
	{ IFACE "Address = 10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4,10.0.0.5,10.0.0.6,10.0.0.7,10.0.0.8,"
		"10.0.0.9,10.0.0.10,10.0.0.11,10.0.0.12,10.0.0.13,10.0.0.14,10.0.0.15,10.0.0.16\n",
	  "line 4: more than 16 addresses" },
	{ IFACE "ListenPort = 65536\n", "line 4: ListenPort must be a number" },
	{ IFACE "ListenPort =\n", "line 4: ListenPort must be a number" },
	{ IFACE "ListenPort = -1\n", "line 4: ListenPort must be a number" },
	{ IFACE "MTU = 100\n", "line 4: MTU must be a number from 576 to 65440" },
	{ IFACE "MTU = 65536\n", "line 4: MTU must be a number" },
	{ IFACE "Address = fd00::1\nMTU = 1000\n",
	  "line 1: an IPv6 Address needs an MTU of at least" },
	{ IFACE "# Domain = a..b\n", "line 4: the Domain is not a domain name" },
	{ IFACE "# Name = a\n# Name = b\n", "line 5: Name is there a second time" },
	{ IFACE "[Peer]\n", "line 4: this [Peer] has no PublicKey" },
	{ IFACE "[Peer]\nPublicKey = x\n", "line 5: PublicKey is not a key" },
	{ IFACE PEER_B "PresharedKey = x\n", "line 6: PresharedKey is not a key" },
	{ IFACE PEER_B "AllowedIPs = x\n", "line 6: AllowedIPs: this value is not an IP range" },
	{ IFACE PEER_B "AllowedIPs = 10.0.0.0/8 10.1.0.0/16\n",
	  "line 6: AllowedIPs: this value is" },
	{ IFACE PEER_B "AllowedIPs = 100.64.0.1/32\n", "line 6: AllowedIPs holds this node's own" },
	{ IFACE PEER_B "AllowedIPs = 10.0.0.1/8\n" PEER_C "AllowedIPs = 10.0.0.0/8\n",
	  "line 9: AllowedIPs holds a range that the peer in line 4 has (its line 6)" },
	{ IFACE PEER_B "Endpoint = 192.0.2.7\n", "line 6: Endpoint: 192.0.2.7 is not HOST:PORT" },
	{ IFACE PEER_B "Endpoint = 192.0.2.7:0\n", "line 6: Endpoint: 192.0.2.7:0 is not" },
	{ IFACE PEER_B "Endpoint = 300.0.2.7:1\n", "line 6: Endpoint: 300.0.2.7:1 is not" },
	{ IFACE PEER_B "Endpoint = 2001:db8::1:51820\n",
	  "line 6: Endpoint: 2001:db8::1:51820 is not" },
	{ IFACE PEER_B "Endpoint = [2001:db8::1:51820\n",
	  "line 6: Endpoint: [2001:db8::1:51820 is" },
	{ IFACE PEER_B "Endpoint = [1.2.3.4]:5\n", "line 6: Endpoint: [1.2.3.4]:5 is not" },
	{ IFACE PEER_B "Endpoint = :5\n", "line 6: Endpoint: :5 is not" },
	{ IFACE PEER_B "PersistentKeepalive = often\n",
	  "line 6: PersistentKeepalive must be off or" },
	{ IFACE PEER_B PEER_B, "line 6: this peer's PublicKey is that of the peer in line 4" },
	{ IFACE PEER_B "# Name = x\n" PEER_C "# Name = X\n",
	  "line 7: this peer's Name is that of the peer in line 4" },
	{ IFACE "# Name = x\n" PEER_B "# Name = x\n",
	  "line 5: this peer has this node's own Name" },
};

static void test_each_mistake_has_its_sentence_and_line(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
		struct config c;
		char error[256];

		assert_int_equal(parse(mistakes[i].text, &c, error), -22);
		if (strncmp(error, mistakes[i].error, strlen(mistakes[i].error)) != 0)
			fail_msg("said \"%s\" instead of \"%s\"", error, mistakes[i].error);
		assert_true(strlen(error) < 200);
		config_finish(&c);
	}
}

/* Other tools' comments: the file is good, and the node or peer has no name. */
static void test_a_name_that_is_no_host_name_is_a_comment_and_told_with_its_line(void **state)
{
	static const char *const names[] = {
		"Bob's laptop", "-a",
		"b c",          "",
		"node-b.mesh",  "a123456789b123456789c123456789d123456789e123456789f123456789abcd",
		PRIVATE,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char text[1024], error[256];
		struct config c;

		snprintf(text, sizeof(text),
			 IFACE "# Name = %s\n" PEER_B "# Name = %s\n" PEER_C "# Name = c\n",
			 names[i], names[i]);
		assert_int_equal(parse(text, &c, error), 0);
		assert_string_equal(c.name, "");
		assert_string_equal(c.peers[0].name, "");
		assert_string_equal(c.peers[1].name, "c");
		assert_string_equal(c.bad_names,
				    "no host name (up to 63 letters, digits and hyphens), so taken "
				    "for a plain comment: Name (line 4), Name (line 7)");
		assert_string_equal(c.unused, "");
		config_finish(&c);
	}
}

static void test_no_message_quotes_a_key(void **state)
{
	static const char *const places[] = {
		"",  "Address = ", "MTU = ", "Endpoint = ", "PrivateKey = ", "ListenPort = ",
		"[", "# Domain = "
	};
	struct config c;
	char error[256], text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		snprintf(text, sizeof(text), IFACE "%s%s\n", places[i], PRIVATE);
		assert_int_equal(parse(text, &c, error), -22);
		assert_null(strstr(error, "yAnz"));
		config_finish(&c);
	}
}

static void test_zero_bytes_are_refused(void **state)
{
	struct config c;
	char error[256];

	(void)state;
	assert_int_equal(config_parse("a\0b", 3, &c, error), -22);
	assert_non_null(strstr(error, "plain text"));
	config_finish(&c);
}

static void test_too_large_a_file_is_refused(void **state)
{
	char *text = malloc(CONFIG_MAX_BYTES + 1), error[256];
	struct config c;

	(void)state;
	assert_non_null(text);
	memset(text, '\n', CONFIG_MAX_BYTES + 1);
	assert_int_equal(config_parse(text, CONFIG_MAX_BYTES + 1, &c, error), -22);
	assert_non_null(strstr(error, "larger than"));
	config_finish(&c);
	assert_int_equal(config_parse(text, CONFIG_MAX_BYTES, &c, error), -22);
	assert_non_null(strstr(error, "no [Interface]"));
	config_finish(&c);
	free(text);
}

/* Appends n peers or ranges, and expects the sentence about the limit. */
static void assert_limit(unsigned peers, unsigned ranges, const char *sentence)
{
	size_t room = 1024 + peers * 80u + ranges * 24u;
	char *text = malloc(room), error[256];
	struct config c;
	size_t used;

	assert_non_null(text);
	used = (size_t)snprintf(text, room, IFACE);
	for (unsigned i = 0; i < peers; i++)
		used += (size_t)snprintf(text + used, room - used, PEER_B);
	for (unsigned i = 0; i < ranges; i++)
		used += (size_t)snprintf(text + used, room - used, "%s10.%u.%u.%u",
					 i ? "," : "AllowedIPs=", i >> 16, i >> 8 & 255, i & 255);
	assert_int_equal(config_parse(text, used, &c, error), -22);
	assert_non_null(strstr(error, sentence));
	config_finish(&c);
	free(text);
}

static void test_peers_and_ranges_are_bounded(void **state)
{
	(void)state;
	assert_limit(CONFIG_MAX_PEERS + 1, 0, "more than 8192 peers");
	assert_limit(1, CONFIG_MAX_ALLOWED + 1, "more than 65536 ranges");
}

static void test_a_long_list_of_unused_keys_stays_within_its_buffer(void **state)
{
	char text[8192] = IFACE, error[256];
	struct config c;

	(void)state;
	for (int i = 0; i < 200; i++)
		strcat(text, "PostUp = x = y\n");
	assert_int_equal(parse(text, &c, error), 0);
	assert_true(strlen(c.unused) < sizeof(c.unused));
	config_finish(&c);
}

static void test_a_long_list_of_bad_names_stays_within_its_buffer(void **state)
{
	char text[32768] = IFACE, error[256], *end = text + strlen(text);
	struct config c;

	(void)state;
	for (unsigned char i = 1; i <= 200; i++) {
		unsigned char key[32] = { 9, i };
		char base64[45];

		sodium_bin2base64(base64, sizeof(base64), key, sizeof(key),
				  sodium_base64_VARIANT_ORIGINAL);
		end += sprintf(end, "[Peer]\nPublicKey = %s\n# Name = the %u.\n", base64, i);
	}
	assert_int_equal(parse(text, &c, error), 0);
	assert_int_equal(c.peer_count, 200);
	assert_true(strlen(c.bad_names) < sizeof(c.bad_names));
	config_finish(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_full_file_is_understood),
		cmocka_unit_test(test_defaults_are_those_of_wg_quick),
		cmocka_unit_test(test_dos_lines_byte_order_mark_and_any_case_are_fine),
		cmocka_unit_test(test_each_mistake_has_its_sentence_and_line),
		cmocka_unit_test(
			test_a_name_that_is_no_host_name_is_a_comment_and_told_with_its_line),
		cmocka_unit_test(test_no_message_quotes_a_key),
		cmocka_unit_test(test_zero_bytes_are_refused),
		cmocka_unit_test(test_too_large_a_file_is_refused),
		cmocka_unit_test(test_peers_and_ranges_are_bounded),
		cmocka_unit_test(test_a_long_list_of_unused_keys_stays_within_its_buffer),
		cmocka_unit_test(test_a_long_list_of_bad_names_stays_within_its_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
