/* The WireGuard file of a running node, read again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "shared/util.h"
#include "tests/unit/daemon/nodes.h"

#define RELOAD "/localapi/v0/reload"
#define STATUS "/localapi/v0/status"

static struct node c; /* its keys only */

static void write_file(const struct node *n, const char *text)
{
	FILE *file = fopen(n->config_path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void append(char *text, size_t room, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void append(char *text, size_t room, const char *format, ...)
{
	size_t len = strlen(text);
	va_list args;

	va_start(args, format);
	assert_in_range(vsnprintf(text + len, room - len, format, args), 0, room - len - 1);
	va_end(args);
}

/* The file of n, whose node is number 1 or 2, with these lines behind it. */
static void say(const struct node *n, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void say(const struct node *n, const char *format, ...)
{
	char text[8192] = "";
	size_t len;
	va_list args;

	append(text, sizeof(text),
	       "[Interface]\n# Name = node-%c\nPrivateKey = %s\n"
	       "Address = 100.64.0.%d/10, fd7a::%d/64\n",
	       n == &a ? 'a' : 'b', n->private_text, n == &a ? 1 : 2, n == &a ? 1 : 2);
	len = strlen(text);
	va_start(args, format);
	assert_in_range(vsnprintf(text + len, sizeof(text) - len, format, args), 0,
			sizeof(text) - len - 1);
	va_end(args);
	write_file(n, text);
}

static void start_from_file(struct node *n)
{
	char text[8192] = "";
	FILE *file = fopen(n->config_path, "r");

	assert_non_null(file);
	assert_true(fread(text, 1, sizeof(text) - 1, file) > 0);
	fclose(file);
	assert_int_equal(start(n, "%s", text), 0);
}

static void assert_reload(const struct node *n, unsigned added, unsigned changed, unsigned removed,
			  unsigned as_before)
{
	char expected[128];

	snprintf(expected, sizeof(expected),
		 "{\"Added\":%u,\"Changed\":%u,\"Removed\":%u,\"Unchanged\":%u}", added, changed,
		 removed, as_before);
	assert_answer(n, "POST", RELOAD, expected);
}

static bool has(const struct node *n, const char *target, const char *text)
{
	char *answer = ask(n, target[0] == '/' ? "GET" : "POST", target + (target[0] != '/'));
	bool is_there = strstr(answer, text) != NULL;

	free(answer);
	return is_there;
}

static void wait_for(const struct node *n, const char *target, const char *text)
{
	while (!has(n, target, text))
		continue;
}

#define PEER_B "[Peer]\n# Name = node-b\nPublicKey = %s\nAllowedIPs = 100.64.0.2/32, fd7a::2/128\n"
#define PEER_C "[Peer]\n# Name = gpu-7\nPublicKey = %s\nAllowedIPs = 100.64.0.7/32\n"
#define PEER_A "[Peer]\n# Name = node-a\nPublicKey = %s\nAllowedIPs = 100.64.0.1/32, fd7a::1/128\n"

static int setup_pair(void **state)
{
	setup(state);
	make_keys(&c);
	say(&a, PEER_B, b.public_text);
	start_from_file(&a);
	say(&b, PEER_A "Endpoint = 127.0.0.1:%u\n", a.public_text, a.port);
	start_from_file(&b);
	wait_for(&b, "!/localapi/v0/ping?ip=node-a", "\"Err\":\"\"");
	return 0;
}

static void test_peers_come_change_and_go(void **state)
{
	(void)state;
	assert_reload(&a, 0, 0, 0, 1);
	say(&a, PEER_C PEER_B, c.public_text, b.public_text);
	assert_reload(&a, 1, 0, 0, 1);
	assert_answer(&a, "GET", STATUS, "\"DNSName\":\"gpu-7.mesh.\"");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=gpu-7", "\"Err\":\"No route to host\"");
	/* The one that stays keeps its session, though its place in the file is another. */
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b", "\"Err\":\"\"");
	say(&a, PEER_C "PersistentKeepalive = 5\n" PEER_B, c.public_text, b.public_text);
	assert_reload(&a, 0, 1, 0, 1);
	say(&a, PEER_B, b.public_text);
	assert_reload(&a, 0, 0, 1, 1);
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=gpu-7", "no node of this name or address");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b", "\"Err\":\"\"");
	/* The same again is another peer, as far as anybody remembers. */
	say(&a, PEER_C PEER_B, c.public_text, b.public_text);
	assert_reload(&a, 1, 0, 0, 1);
	say(&a, PEER_C, c.public_text);
	assert_reload(&a, 0, 0, 1, 1);
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b", "no node of this name or address");
	assert_answer(&b, "POST", "/localapi/v0/ping?ip=node-a", "\"Err\":\"no answer in time\"");
}

static void test_names_change_ours_and_the_suffix_too(void **state)
{
	char text[1024];

	(void)state;
	say(&a, "[Peer]\n# Name = other\nPublicKey = %s\nAllowedIPs = 100.64.0.2/32\n",
	    b.public_text);
	assert_reload(&a, 0, 1, 0, 0);
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=other.mesh", "\"Err\":\"\"");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b", "no node of this name");
	/* One that is no host name is none, and no reason to refuse the rest. */
	say(&a, "[Peer]\n# Name = Bob's\nPublicKey = %s\nAllowedIPs = 100.64.0.2/32\n",
	    b.public_text);
	assert_reload(&a, 0, 1, 0, 0);
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=other", "no node of this name");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=100.64.0.2", "\"Err\":\"\"");
	snprintf(text, sizeof(text),
		 "[Interface]\n# Name = head\n# Domain = cluster.example\nPrivateKey = %s\n"
		 "Address = 100.64.0.1/10, fd7a::1/64\n" PEER_B,
		 a.private_text, b.public_text);
	write_file(&a, text);
	assert_reload(&a, 0, 1, 0, 0);
	assert_answer(&a, "GET", STATUS, "\"DNSName\":\"head.cluster.example.\"");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=head", "100.64.0.1 is local");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b.cluster.example", "\"Err\":\"\"");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b.mesh", "no node of this name");
}

static void test_an_address_goes_from_one_peer_to_another(void **state)
{
	(void)state;
	say(&a,
	    PEER_C "[Peer]\n# Name = node-b\nPublicKey = %s\n"
		   "AllowedIPs = 100.64.0.3/32, fd7a::2/128\n",
	    c.public_text, b.public_text);
	assert_reload(&a, 1, 1, 0, 0);
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=100.64.0.2", "no peer has the address");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=fd7a::2", "\"Err\":\"\"");
	/* Back, and both change at once. */
	say(&a,
	    "[Peer]\nPublicKey = %s\nAllowedIPs = 100.64.0.3/32\n"
	    "[Peer]\n# Name = node-b\nPublicKey = %s\nAllowedIPs = 100.64.0.2/32, 100.64.0.7/32\n",
	    c.public_text, b.public_text);
	assert_reload(&a, 0, 2, 0, 0);
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=100.64.0.2", "\"Err\":\"\"");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=100.64.0.3",
		      "\"Err\":\"No route to host\"");
}

/* b restarts at another port, where it knows nothing; only a knows where it is. */
static void move_b(void)
{
	stop_node(&b);
	say(&b, PEER_A, a.public_text);
	start_from_file(&b);
}

static void test_a_new_endpoint_is_where_the_peer_is_found(void **state)
{
	(void)state;
	for (int by_name = 0; by_name < 2; by_name++) {
		move_b();
		say(&a, PEER_B "Endpoint = %s:%u\n", b.public_text,
		    by_name ? "localhost" : "127.0.0.1", b.port);
		assert_reload(&a, 0, 1, 0, 0);
		/* At once, or when the 5 s of the last handshake are over. */
		ahead_s += 6;
		wait_for(&a, "!/localapi/v0/ping?ip=node-b", "\"Err\":\"\"");
	}
}

static void test_an_answer_for_an_older_name_is_not_taken(void **state)
{
	(void)state;
	move_b();
	say(&a, PEER_B "Endpoint = host.slow:1\n", b.public_text);
	assert_reload(&a, 0, 1, 0, 0);
	/* That is being looked up, and nobody waits for it. */
	say(&a, PEER_B "Endpoint = localhost:%u\n", b.public_text, b.port);
	assert_reload(&a, 0, 1, 0, 0);
	ahead_s += 6;
	wait_for(&a, "!/localapi/v0/ping?ip=node-b", "\"Err\":\"\"");
	say(&a, PEER_B "Endpoint = other.slow:1\n", b.public_text);
	assert_reload(&a, 0, 1, 0, 0);
	say(&a, PEER_C, c.public_text);
	assert_reload(&a, 1, 0, 1, 0);
	end_slow();
	assert_answer(&a, "GET", STATUS, "gpu-7.mesh.");
	assert_answer(&a, "GET", STATUS, "gpu-7.mesh.");
}

/* What a has sent to its only peer; nothing is left to say. */
static long long sent_by_a(void)
{
	char *status;
	const char *at;
	long long bytes = -1;

	ahead_s += 30;
	free(ask(&a, "GET", STATUS));
	status = ask(&a, "GET", STATUS);
	at = strstr(status, "\"Peer\":");
	assert_non_null(at);
	at = strstr(at, "\"TxBytes\":");
	assert_non_null(at);
	assert_int_equal(sscanf(at, "\"TxBytes\":%lld", &bytes), 1);
	free(status);
	return bytes;
}

static void test_a_keepalive_begins_and_ends(void **state)
{
	long long sent;

	(void)state;
	sent_by_a();
	sent = sent_by_a();
	assert_int_equal(sent_by_a(), sent);
	say(&a, PEER_B "PersistentKeepalive = 5\n", b.public_text);
	assert_reload(&a, 0, 1, 0, 0);
	assert_true(sent_by_a() > sent);
	say(&a, PEER_B, b.public_text);
	assert_reload(&a, 0, 1, 0, 0);
	sent_by_a();
	sent = sent_by_a();
	assert_int_equal(sent_by_a(), sent);
}

static void test_all_or_nothing(void **state)
{
	static const struct {
		const char *peer, *sentence;
	} bad[] = {
		{ "Endpoint = x.invalid:1\n", "the Endpoint's host x.invalid does not exist" },
		{ "AllowedIPs = 0.0.0.0/1\n", "peer gpu-7: 0.0.0.0/1 is too wide" },
		{ "AllowedIPs = 100.64.0.1/32\n", "AllowedIPs holds this node's own Address" },
		{ "Hello\n", "neither a [section] nor 'key = value'" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		/* Others come, and the one that is there would go. */
		say(&a, PEER_C "AllowedIPs = fd7a::7/128\n%s", c.public_text, bad[i].peer);
		assert_answer(&a, "POST", RELOAD, bad[i].sentence);
		assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b", "\"Err\":\"\"");
		assert_answer(&a, "POST", "/localapi/v0/ping?ip=gpu-7", "no node of this name");
		assert_false(has(&a, STATUS, "gpu-7"));
	}
	say(&a, PEER_B PEER_C, b.public_text, a.public_text);
	assert_answer(&a, "POST", RELOAD, "this peer's PublicKey is this node's own");
	say(&a, PEER_B PEER_C, b.public_text, c.public_text);
	assert_reload(&a, 1, 0, 0, 1);
}

static void test_what_needs_a_restart_is_named(void **state)
{
	char text[1024];

	(void)state;
	snprintf(
		text, sizeof(text),
		"[Interface]\nPrivateKey = %s\nAddress = 100.64.0.1/10\nListenPort = 1\nMTU = 1300\n",
		c.private_text);
	write_file(&a, text);
	assert_answer(&a, "POST", RELOAD,
		      "wg.conf: PrivateKey, Address, ListenPort and MTU cannot change while meshd "
		      "runs, so nothing was changed");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b", "\"Err\":\"\"");
	/* Any port was asked for at start: to write down which it was changes nothing. */
	snprintf(text, sizeof(text),
		 "[Interface]\n# Name = node-a\nPrivateKey = %s\n"
		 "Address = 100.64.0.1/10, fd7a::1/64\nListenPort = %u\n" PEER_B,
		 a.private_text, a.port, b.public_text);
	write_file(&a, text);
	assert_reload(&a, 0, 0, 0, 1);
}

static void test_a_node_without_a_file_says_so(void **state)
{
	(void)state;
	stop_node(&a);
	a.config_path[0] = '\0';
	assert_int_equal(
		start(&a, "[Interface]\nPrivateKey=%s\nAddress=100.64.0.1\n", a.private_text), 0);
	assert_answer(&a, "POST", RELOAD, "this node was not started from a file");
	snprintf(a.config_path, sizeof(a.config_path), "%s/wg.conf", a.dir);
}

#define pair_test(test) cmocka_unit_test_setup_teardown(test, setup_pair, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		pair_test(test_peers_come_change_and_go),
		pair_test(test_names_change_ours_and_the_suffix_too),
		pair_test(test_an_address_goes_from_one_peer_to_another),
		pair_test(test_a_new_endpoint_is_where_the_peer_is_found),
		pair_test(test_an_answer_for_an_older_name_is_not_taken),
		pair_test(test_a_keepalive_begins_and_ends),
		pair_test(test_all_or_nothing),
		pair_test(test_what_needs_a_restart_is_named),
		pair_test(test_a_node_without_a_file_says_so),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
