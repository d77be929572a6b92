/*
 * Whole nodes in one process, over loopback: WireGuard, the stack, the edge's
 * folder and API are the real ones. The two loops take turns of a millisecond;
 * who asks the API does so from a thread, since that waits.
 */
#ifndef MESHWRAP_TESTS_UNIT_DAEMON_NODES_H
#define MESHWRAP_TESTS_UNIT_DAEMON_NODES_H

#include <stdatomic.h>
#include <time.h>

#include <sodium.h>

#include "daemon/ctl/http.h"
#include "daemon/mesh.h"

#define KEY_TEXT sodium_base64_ENCODED_LEN(WG_KEY_LEN, sodium_base64_VARIANT_ORIGINAL)

struct node {
	char dir[64], config_path[80];
	char private_text[KEY_TEXT], public_text[KEY_TEXT];
	struct mesh *mesh;
	struct event *turn;
	unsigned port;
	char error[256];
};

extern struct node a, b;

/* The nodes' time runs ahead by so much. */
extern _Atomic time_t ahead_s;

/*
 * Names under ".slow" get no answer until end_slow(), and then a failure. Those under
 * ".both" have two addresses, of which the first leads nowhere.
 */
void end_slow(void);

int setup(void **state);
int teardown(void **state);
void make_keys(struct node *n);
/* Parses and starts; what is wrong is in n->error then. */
int start(struct node *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
void stop_node(struct node *n);
struct question {
	const struct node *node;
	const char *method, *target;
	struct http_answer answer;
	int err;
	atomic_bool is_answered;
};

/* A thread's start; the nodes are to run meanwhile. */
void *ask_in_thread(void *question);
/* The answer's text while both nodes run; to be freed. */
char *ask(const struct node *node, const char *method, const char *target);
void assert_answer(const struct node *node, const char *method, const char *target,
		   const char *expected);

#define mesh_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
