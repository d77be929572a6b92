/*
 * Whole nodes in one process, over loopback: WireGuard, the stack, the edge's
 * folder and API are the real ones. The two loops take turns of a millisecond;
 * who asks the API does so from a thread, since that waits.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <event2/event.h>
#include <fcntl.h>
#include <json.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/http.h"
#include "daemon/mesh.h"
#include "shared/log.h"
#include "shared/map.h"
#include "shared/paths.h"
#include "shared/util.h"

#define KEY_TEXT sodium_base64_ENCODED_LEN(WG_KEY_LEN, sodium_base64_VARIANT_ORIGINAL)

struct node {
	char dir[64], private_text[KEY_TEXT], public_text[KEY_TEXT];
	struct mesh *mesh;
	struct event *turn;
	unsigned port;
	char error[256];
};

static struct node a, b;

/*
 * Names under ".slow" get no answer until the test says so, and then a failure. Those under
 * ".both" have two addresses, of which the first leads nowhere.
 */
static pthread_mutex_t slow_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t slow_cond = PTHREAD_COND_INITIALIZER;
static bool is_slow_over;

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
		struct addrinfo **found)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (host && strstr(host, ".both")) {
		const struct addrinfo numeric = { .ai_flags = AI_NUMERICHOST,
						  .ai_socktype = SOCK_DGRAM };

		assert_int_equal(real("100::1", service, &numeric, found), 0);
		return real("127.0.0.1", service, &numeric, &(*found)->ai_next);
	}
	if (!host || !strstr(host, ".slow"))
		return real(host, service, hints, found);
	pthread_mutex_lock(&slow_mutex);
	while (!is_slow_over)
		pthread_cond_wait(&slow_cond, &slow_mutex);
	pthread_mutex_unlock(&slow_mutex);
	return EAI_AGAIN;
}

/* The nodes' time runs ahead by so much. */
static _Atomic time_t ahead_s;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int (*real)(clockid_t, struct timespec *);
	int err;

	*(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
	err = real(id, ts);
	if (id == CLOCK_BOOTTIME)
		ts->tv_sec += ahead_s;
	return err;
}

static void end_slow(void)
{
	pthread_mutex_lock(&slow_mutex);
	is_slow_over = true;
	pthread_cond_broadcast(&slow_cond);
	pthread_mutex_unlock(&slow_mutex);
}

static void make_keys(struct node *n)
{
	uint8_t private[WG_KEY_LEN], public[WG_KEY_LEN];

	randombytes_buf(private, sizeof(private));
	crypto_scalarmult_base(public, private);
	sodium_bin2base64(n->private_text, KEY_TEXT, private, sizeof(private),
			  sodium_base64_VARIANT_ORIGINAL);
	sodium_bin2base64(n->public_text, KEY_TEXT, public, sizeof(public),
			  sodium_base64_VARIANT_ORIGINAL);
}

static void end_turn(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	mesh_stop(arg);
}

/* Parses and starts; what is wrong is in n->error then. */
static int start(struct node *n, const char *format, ...)
{
	const struct timeval millisecond = { 0, 1000 };
	const struct mesh_options options = { .dir = n->dir };
	char *text, line[MESH_LINE_MAX];
	struct config config;
	va_list args;
	int err;

	va_start(args, format);
	assert_true(vasprintf(&text, format, args) > 0);
	va_end(args);
	assert_int_equal(config_parse(text, strlen(text), &config, n->error), 0);
	free(text);
	err = mesh_create(&config, &options, &n->mesh, n->error);
	if (err < 0) {
		n->mesh = NULL;
		return err;
	}
	n->turn = event_new(mesh_base(n->mesh), -1, EV_PERSIST, end_turn, n->mesh);
	assert_int_equal(event_add(n->turn, &millisecond), 0);
	mesh_describe(n->mesh, line);
	assert_int_equal(sscanf(strstr(line, "udp port "), "udp port %u", &n->port), 1);
	return 0;
}

static void stop_node(struct node *n)
{
	if (n->turn)
		event_free(n->turn);
	n->turn = NULL;
	mesh_destroy(n->mesh);
	n->mesh = NULL;
}

static bool has_file(const struct node *n, const char *file)
{
	char path[128];

	assert_int_equal(paths_join(n->dir, file, path, sizeof(path)), 0);
	return access(path, F_OK) == 0;
}

static int setup(void **state)
{
	struct node *nodes[] = { &a, &b };

	(void)state;
	log_set_level(LOG_ERR);
	for (int i = 0; i < 2; i++) {
		memset(nodes[i], 0, sizeof(*nodes[i]));
		snprintf(nodes[i]->dir, sizeof(nodes[i]->dir), "/tmp/meshwrap-test-XXXXXX");
		assert_non_null(mkdtemp(nodes[i]->dir));
		make_keys(nodes[i]);
	}
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { PATHS_CONTROL, PATHS_API, PATHS_MAP, PATHS_LOCK };
	struct node *nodes[] = { &a, &b };
	char path[128];

	(void)state;
	for (int i = 0; i < 2; i++) {
		stop_node(nodes[i]);
		assert_false(has_file(nodes[i], PATHS_CONTROL));
		assert_false(has_file(nodes[i], PATHS_API));
		for (size_t k = 0; k < ARRAY_LEN(files); k++) {
			assert_int_equal(paths_join(nodes[i]->dir, files[k], path, sizeof(path)),
					 0);
			(void)unlink(path);
		}
		assert_int_equal(rmdir(nodes[i]->dir), 0);
	}
	return 0;
}

struct question {
	const struct node *node;
	const char *method, *target;
	struct http_answer answer;
	int err;
	atomic_bool is_answered;
};

static void *ask_in_thread(void *arg)
{
	struct question *q = arg;
	char path[128];

	q->err = paths_join(q->node->dir, PATHS_API, path, sizeof(path));
	if (q->err == 0)
		q->err = http_ask(path, q->method, q->target, 20000, &q->answer);
	q->is_answered = true;
	return NULL;
}

/* The answer's text while both nodes run; to be freed. */
static char *ask(const struct node *node, const char *method, const char *target)
{
	struct question q = { .node = node, .method = method, .target = target };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, ask_in_thread, &q), 0);
	while (!q.is_answered) {
		if (a.mesh)
			assert_int_equal(mesh_run(a.mesh), 0);
		if (b.mesh)
			assert_int_equal(mesh_run(b.mesh), 0);
	}
	pthread_join(thread, NULL);
	assert_int_equal(q.err, 0);
	return q.answer.body;
}

static void assert_answer(const struct node *node, const char *method, const char *target,
			  const char *expected)
{
	char *text = ask(node, method, target);

	if (!strstr(text, expected))
		fail_msg("%s is not in %s", expected, text);
	free(text);
}

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
	assert_true(clock_ms() - began_ms < 8000);
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

#define mesh_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

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
