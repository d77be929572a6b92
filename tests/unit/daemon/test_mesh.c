/* Whole nodes: what they do together, and what is told where one cannot start. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <event2/event.h>
#include <fcntl.h>
#include <json.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/map.h"
#include "shared/paths.h"
#include "shared/util.h"
#include "tests/unit/daemon/nodes.h"

static void start_a(void)
{
	assert_int_equal(start(&a,
			       "[Interface]\n# Name = node-a\nPrivateKey = %s\n"
			       "Address = 100.64.0.1/10, fd7a::1/64\n"
			       "[Peer]\n# Name = node-b\nPublicKey = %s\n"
			       "AllowedIPs = 100.64.0.2/32, fd7a::2/128\n",
			       a.private_text, b.public_text),
			 0);
}

/* Until the peer's name was looked up. */
static void wait_for_endpoint(const struct node *n)
{
	char *text = ask(n, "GET", "/localapi/v0/status");

	while (!strstr(text, "\"CurAddr\":\"127.") && !strstr(text, "\"CurAddr\":\"[::1]")) {
		free(text);
		text = ask(n, "GET", "/localapi/v0/status");
	}
	free(text);
}

static void start_b(void)
{
	assert_int_equal(start(&b,
			       "[Interface]\n# Name = node-b\nPrivateKey = %s\nPostUp = true\n"
			       "Address = 100.64.0.2/10, fd7a::2/64\n"
			       "[Peer]\n# Name = node-a\nPublicKey = %s\n"
			       "AllowedIPs = 100.64.0.1/32, fd7a::1/128\n"
			       "Endpoint = localhost:%u\n",
			       b.private_text, a.public_text, a.port),
			 0);
	mesh_log_warnings(b.mesh);
	wait_for_endpoint(&b);
}

static void start_pair(void)
{
	start_a();
	start_b();
}

static void test_two_nodes_ping_each_other(void **state)
{
	(void)state;
	start_a();
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=node-b", "\"Err\":\"No route to host\"");
	start_b(); /* greets a, which learns by that where it is */
	assert_answer(&b, "POST", "/localapi/v0/ping?ip=node-a", "\"Err\":\"\"");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=100.64.0.2", "\"Err\":\"\"");
	assert_answer(&a, "POST", "/localapi/v0/ping?ip=fd7a::2", "\"Err\":\"\"");
	assert_answer(&a, "GET", "/localapi/v0/status", "\"Online\":true");
	assert_answer(&a, "GET", "/localapi/v0/status", "\"CurAddr\":\"");
	assert_answer(&b, "GET", "/localapi/v0/status", "\"DNSName\":\"node-a.mesh.\"");
}

static void test_a_peer_that_is_gone_does_not_answer(void **state)
{
	(void)state;
	start_pair();
	assert_answer(&b, "POST", "/localapi/v0/ping?ip=node-a", "\"Err\":\"\"");
	stop_node(&a);
	assert_answer(&b, "POST", "/localapi/v0/ping?ip=node-a", "\"Err\":\"no answer in time\"");
}

static void test_a_taken_folder_is_told(void **state)
{
	struct node c = { 0 };

	(void)state;
	start_pair();
	memcpy(c.dir, a.dir, sizeof(c.dir));
	make_keys(&c);
	assert_true(start(&c, "[Interface]\nPrivateKey=%s\nAddress=100.64.0.9\n", c.private_text) <
		    0);
	assert_non_null(strstr(c.error, a.dir));
	assert_answer(&a, "GET", "/localapi/v0/status", "Running");
}

static void test_a_taken_port_is_told(void **state)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	socklen_t len = sizeof(any);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&any, &len), 0);
	assert_int_equal(start(&a,
			       "[Interface]\nPrivateKey=%s\nAddress=100.64.0.1\nListenPort=%u\n",
			       a.private_text, (unsigned)ntohs(any.sin_port)),
			 -EADDRINUSE);
	assert_non_null(strstr(a.error, "is taken by another program"));
	close(fd);
}

static void test_our_own_key_as_a_peer_is_told(void **state)
{
	(void)state;
	assert_int_equal(start(&a,
			       "[Interface]\nPrivateKey=%s\nAddress=100.64.0.1\n"
			       "[Peer]\nPublicKey=%s\n",
			       a.private_text, a.public_text),
			 -EINVAL);
	assert_non_null(strstr(a.error, "line 4: this peer's PublicKey is this node's own"));
}

static void test_an_endpoint_that_does_not_exist_is_told(void **state)
{
	(void)state;
	assert_int_equal(start(&a,
			       "[Interface]\nPrivateKey=%s\nAddress=100.64.0.1\n"
			       "[Peer]\nPublicKey=%s\nEndpoint = no-such-host.invalid:1\n",
			       a.private_text, b.public_text),
			 -ENOENT);
	assert_non_null(strstr(a.error, "no-such-host.invalid does not exist"));
}

#define MANY 1500u

/* What one turn takes of the processor, in ns, whatever else the machine does. */
static uint64_t turn(struct node *n)
{
	struct timespec before, after;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
	assert_int_equal(mesh_run(n->mesh), 0);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
	return (uint64_t)(after.tv_sec - before.tv_sec) * NS_PER_S + (uint64_t)after.tv_nsec -
	       (uint64_t)before.tv_nsec;
}

static void start_with_many_peers(void)
{
	size_t room = MANY * 200;
	char *peers = calloc(1, room), *end = peers;

	for (unsigned i = 0; i < MANY; i++) {
		struct node c = { 0 };

		make_keys(&c);
		end += snprintf(end, room - (size_t)(end - peers),
				"[Peer]\n# Name = n%u\nPublicKey = %s\n"
				"AllowedIPs = 100.64.%u.%u/32\n",
				i, c.public_text, 1 + i / 256, i % 256);
	}
	assert_int_equal(start(&a,
			       "[Interface]\n# Name = node-a\nPrivateKey = %s\n"
			       "Address = 100.64.0.1/10\n%s",
			       a.private_text, peers),
			 0);
	free(peers);
}

static void test_a_status_of_many_peers_does_not_hold_up_the_loop(void **state)
{
	struct question q = { .node = &a, .method = "GET", .target = "/localapi/v0/status" };
	json_object *whole, *peers, *peer, *of_name = NULL;
	uint64_t longest_ns = 0, sum_ns = 0, ns;
	unsigned count = 0;
	pthread_t thread;

	(void)state;
	start_with_many_peers();
	for (unsigned i = 0; i < 50; i++)
		turn(&a);
	assert_int_equal(pthread_create(&thread, NULL, ask_in_thread, &q), 0);
	while (!q.is_answered) {
		ns = turn(&a);
		longest_ns = MAX(longest_ns, ns);
		sum_ns += ns;
	}
	pthread_join(thread, NULL);
	assert_int_equal(q.err, 0);
	/* A turn may hold some slices, but not half of all. */
	assert_true(longest_ns < sum_ns / 2);
	/* As if it were made at once. */
	whole = json_tokener_parse(q.answer.body);
	assert_non_null(whole);
	assert_true(json_object_object_get_ex(whole, "Peer", &peers));
	assert_int_equal(json_object_object_length(peers), MANY);
	json_object_object_foreach(peers, key, value)
	{
		assert_true(json_object_object_get_ex(value, "PublicKey", &peer));
		assert_string_equal(key, json_object_get_string(peer));
		assert_true(json_object_object_get_ex(value, "HostName", &of_name));
		count += strcmp(json_object_get_string(of_name), "n0") == 0 ||
			 strcmp(json_object_get_string(of_name), "n1499") == 0;
	}
	assert_int_equal(count, 2);
	assert_string_equal(
		json_object_to_json_string_ext(whole, JSON_C_TO_STRING_PRETTY |
							      JSON_C_TO_STRING_NOSLASHESCAPE),
		q.answer.body);
	json_object_put(whole);
	free(q.answer.body);
}

static uint64_t clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool is_ready(const struct node *n)
{
	const struct map *map;
	char path[128];
	bool is = false;
	int fd;

	assert_int_equal(paths_join(n->dir, PATHS_MAP, path, sizeof(path)), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	map = mmap(NULL, sizeof(*map), PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	is = atomic_load(&map->ready) == 1;
	munmap((void *)map, sizeof(*map));
	close(fd);
	return is;
}

static void test_names_without_an_answer_do_not_hold_up_the_start(void **state)
{
	char peers[4096] = "";
	uint64_t began_ms;

	(void)state;
	start_a();
	for (unsigned i = 0; i < 10; i++) {
		struct node c = { 0 };
		size_t len = strlen(peers);

		make_keys(&c);
		snprintf(peers + len, sizeof(peers) - len,
			 "[Peer]\nPublicKey = %s\nAllowedIPs = 100.64.1.%u/32\n"
			 "Endpoint = host%u.slow:1\n",
			 c.public_text, i, i);
	}
	began_ms = clock_ms();
	assert_int_equal(start(&b,
			       "[Interface]\n# Name = node-b\nPrivateKey = %s\n"
			       "Address = 100.64.0.2/10, fd7a::2/64\n%s"
			       "[Peer]\n# Name = node-a\nPublicKey = %s\n"
			       "AllowedIPs = 100.64.0.1/32, fd7a::1/128\n"
			       "Endpoint = localhost:%u\n",
			       b.private_text, peers, a.public_text, a.port),
			 0);
	/* The name behind them is found, and programs are told soon. */
	wait_for_endpoint(&b);
	assert_answer(&b, "POST", "/localapi/v0/ping?ip=node-a", "\"Err\":\"\"");
	while (!is_ready(&b))
		assert_int_equal(mesh_run(b.mesh), 0);
	assert_true(clock_ms() - began_ms < 20000);
	end_slow();
	assert_answer(&b, "POST", "/localapi/v0/ping?ip=node-a", "\"Err\":\"\"");
}

static bool is_answered(const struct node *n, const char *name)
{
	char target[64], *text;
	bool is;

	snprintf(target, sizeof(target), "/localapi/v0/ping?ip=%s", name);
	text = ask(n, "POST", target);
	is = strstr(text, "\"Err\":\"\"") != NULL;
	free(text);
	return is;
}

/* As where a name has an IPv6 address that is not reached from here. */
static void test_all_addresses_of_a_name_have_their_turn(void **state)
{
	bool is = false;

	(void)state;
	start_a();
	assert_int_equal(start(&b,
			       "[Interface]\n# Name = node-b\nPrivateKey = %s\n"
			       "Address = 100.64.0.2/10, fd7a::2/64\n"
			       "[Peer]\n# Name = node-a\nPublicKey = %s\n"
			       "AllowedIPs = 100.64.0.1/32, fd7a::1/128\n"
			       "Endpoint = host.both:%u\n",
			       b.private_text, a.public_text, a.port),
			 0);
	assert_false(is_answered(&b, "node-a"));
	ahead_s += 31; /* the next pass of looking up */
	for (int i = 0; i < 3 && !is; i++)
		is = is_answered(&b, "node-a");
	assert_true(is);
}

static void test_a_folder_that_cannot_be_made_is_told(void **state)
{
	char dir[64];

	(void)state;
	memcpy(dir, a.dir, sizeof(dir));
	snprintf(a.dir, sizeof(a.dir), "/proc/no/such/folder");
	assert_true(start(&a, "[Interface]\nPrivateKey=%s\nAddress=100.64.0.1\n", a.private_text) <
		    0);
	assert_non_null(strstr(a.error, "/proc/no/such/folder"));
	memcpy(a.dir, dir, sizeof(dir));
}

static void test_a_node_without_a_name_takes_the_machines(void **state)
{
	char host[256] = "", line[MESH_LINE_MAX];

	(void)state;
	assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
	host[strcspn(host, ".")] = '\0';
	assert_int_equal(
		start(&a, "[Interface]\nPrivateKey=%s\nAddress=100.64.0.1\n", a.private_text), 0);
	mesh_describe(a.mesh, line);
	if (strcmp(host, "localhost") != 0)
		assert_non_null(strcasestr(line, host));
	stop_node(&a);
	/* But not one that a peer has. */
	assert_int_equal(start(&a,
			       "[Interface]\nPrivateKey=%s\nAddress=100.64.0.1\n"
			       "[Peer]\n# Name = %s\nPublicKey=%s\n",
			       a.private_text, host, b.public_text),
			 0);
	mesh_describe(a.mesh, line);
	assert_non_null(strstr(line, "(no name)"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		mesh_test(test_two_nodes_ping_each_other),
		mesh_test(test_a_peer_that_is_gone_does_not_answer),
		mesh_test(test_a_taken_folder_is_told),
		mesh_test(test_a_taken_port_is_told),
		mesh_test(test_our_own_key_as_a_peer_is_told),
		mesh_test(test_an_endpoint_that_does_not_exist_is_told),
		mesh_test(test_names_without_an_answer_do_not_hold_up_the_start),
		mesh_test(test_a_status_of_many_peers_does_not_hold_up_the_loop),
		mesh_test(test_all_addresses_of_a_name_have_their_turn),
		mesh_test(test_a_folder_that_cannot_be_made_is_told),
		mesh_test(test_a_node_without_a_name_takes_the_machines),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
