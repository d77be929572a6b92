#include "tests/unit/daemon/nodes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <event2/event.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/log.h"
#include "shared/paths.h"
#include "shared/util.h"

struct node a, b;

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

_Atomic time_t ahead_s;

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

void end_slow(void)
{
	pthread_mutex_lock(&slow_mutex);
	is_slow_over = true;
	pthread_cond_broadcast(&slow_cond);
	pthread_mutex_unlock(&slow_mutex);
}

void make_keys(struct node *n)
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

int start(struct node *n, const char *format, ...)
{
	const struct timeval millisecond = { 0, 1000 };
	const struct mesh_options options = { .dir = n->dir,
					      .config_path = n->config_path[0] ? n->config_path
									       : NULL };
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

void stop_node(struct node *n)
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

int setup(void **state)
{
	struct node *nodes[] = { &a, &b };

	(void)state;
	log_set_level(LOG_ERR);
	for (int i = 0; i < 2; i++) {
		memset(nodes[i], 0, sizeof(*nodes[i]));
		snprintf(nodes[i]->dir, sizeof(nodes[i]->dir), "/tmp/meshwrap-test-XXXXXX");
		assert_non_null(mkdtemp(nodes[i]->dir));
		snprintf(nodes[i]->config_path, sizeof(nodes[i]->config_path), "%s/wg.conf",
			 nodes[i]->dir);
		make_keys(nodes[i]);
	}
	return 0;
}

int teardown(void **state)
{
	static const char *const files[] = { PATHS_CONTROL, PATHS_POSTS, PATHS_API,
					     PATHS_MAP,     PATHS_LOCK,  "wg.conf" };
	struct node *nodes[] = { &a, &b };
	char path[128];

	(void)state;
	for (int i = 0; i < 2; i++) {
		stop_node(nodes[i]);
		assert_false(has_file(nodes[i], PATHS_CONTROL));
		assert_false(has_file(nodes[i], PATHS_POSTS));
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

void *ask_in_thread(void *arg)
{
	struct question *q = arg;
	char path[128];

	q->err = paths_join(q->node->dir, PATHS_API, path, sizeof(path));
	if (q->err == 0)
		q->err = http_ask(path, q->method, q->target, 20000, &q->answer);
	q->is_answered = true;
	return NULL;
}

char *ask(const struct node *node, const char *method, const char *target)
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

void assert_answer(const struct node *node, const char *method, const char *target,
		   const char *expected)
{
	char *text = ask(node, method, target);

	if (!strstr(text, expected))
		fail_msg("%s is not in %s", expected, text);
	free(text);
}
