/* What meshctl hears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "shared/paths.h"
#include "tests/unit/edge/two_nodes.h"

static struct two_nodes t;
static struct node *const a = &t.node[0];
static char answer[65536];

static int setup(void **state)
{
	(void)state;
	two_nodes_start(&t, false);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	two_nodes_stop(&t);
	return 0;
}

static int dial_api(void)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	paths_join(a->dir, PATHS_API, name.sun_path, sizeof(name.sun_path));
	if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
		return fd;
	close(fd);
	return -1;
}

static int status_of(const char *method, const char *target)
{
	char request[512];
	int code = 0, fd = dial_api();
	size_t len;

	assert_true(fd >= 0);
	snprintf(request, sizeof(request),
		 "%s %s HTTP/1.1\r\nHost: meshwrap\r\nConnection: close\r\n\r\n", method, target);
	program_send(fd, request, strlen(request));
	len = program_receive(fd, answer, sizeof(answer) - 1);
	answer[len] = '\0';
	close(fd);
	sscanf(answer, "HTTP/1.1 %d", &code);
	return code;
}

static void test_status_is_the_owners_text(void **state)
{
	(void)state;
	assert_int_equal(status_of("GET", "/v0/status"), 200);
	assert_non_null(strstr(answer, "\r\n\r\n{\"state\":\"test\"}\n"));
}

static void test_ip_lists_own_addresses(void **state)
{
	(void)state;
	assert_int_equal(status_of("GET", "/v0/ip"), 200);
	assert_non_null(strstr(answer, "{\"addresses\":[\"" A_ADDR "\",\"" A_ADDR6 "\"]}"));
}

static void test_a_ping_is_answered_by_name_and_by_address(void **state)
{
	(void)state;
	assert_int_equal(status_of("POST", "/v0/ping?to=node-b"), 200);
	assert_non_null(strstr(answer, "{\"to\":\"node-b\",\"address\":\"" B_ADDR "\",\"name\":"
				       "\"node-b.mesh\",\"rtt_ms\":1.5}"));
	assert_int_equal(status_of("POST", "/v0/ping?to=fd00%3A%3A2"), 200);
	assert_non_null(strstr(answer, "\"address\":\"fd00::2\""));
}

static void test_a_ping_that_cannot_leave_says_why(void **state)
{
	(void)state;
	a->reachable = 113;
	assert_int_equal(status_of("POST", "/v0/ping?to=node-b"), 200);
	assert_non_null(strstr(answer, "\"error\":\"No route to host\""));
	a->reachable = 0;
}

static void test_wrong_questions_get_their_status(void **state)
{
	(void)state;
	assert_int_equal(status_of("GET", "/v0/nothing"), 404);
	assert_int_equal(status_of("POST", "/v0/status"), 405);
	assert_non_null(strstr(answer, "Allow: GET"));
	assert_int_equal(status_of("DELETE", "/v0/ip"), 405);
	assert_int_equal(status_of("GET", "/v0/ping?to=node-b"), 405);
	assert_int_equal(status_of("POST", "/v0/ping"), 400);
	assert_int_equal(status_of("POST", "/v0/ping?who=node-b"), 400);
	assert_int_equal(status_of("POST", "/v0/ping?to=node-x"), 404);
	assert_non_null(strstr(answer, "\"to\":\"node-x\""));
}

static void swallow(void *arg)
{
	struct edge *edge = arg;

	for (uint32_t ticket = 0; ticket < 10; ticket++)
		edge_pinged(edge, ticket, UINT64_MAX);
}

static void test_a_silent_peer_is_an_error_and_a_late_answer_nothing(void **state)
{
	char request[] = "POST /v0/ping?to=node-b HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n";
	int fd = dial_api();

	(void)state;
	a->reachable = -1; /* the harness keeps silent */
	program_send(fd, request, strlen(request));
	assert_int_equal(status_of("GET", "/v0/ip"), 200); /* the first one has arrived */
	two_nodes_call(&t, swallow, a->edge);
	two_nodes_call(&t, swallow, a->edge);
	answer[program_receive(fd, answer, sizeof(answer) - 1)] = '\0';
	assert_non_null(strstr(answer, "\"error\":\"no answer in time\""));
	close(fd);
	/* Who leaves takes its ping along. */
	fd = dial_api();
	program_send(fd, request, strlen(request));
	assert_int_equal(status_of("GET", "/v0/ip"), 200);
	close(fd);
	assert_int_equal(status_of("GET", "/v0/ip"), 200);
	two_nodes_call(&t, swallow, a->edge);
	a->reachable = 0;
}

static void test_another_user_is_refused(void **state)
{
	char path[PATHS_MAX + 8];
	int status;
	pid_t child;

	(void)state;
	if (geteuid() != 0)
		skip();
	/* Even with the folder and the socket wide open. */
	paths_join(a->dir, PATHS_API, path, sizeof(path));
	assert_int_equal(chmod(a->dir, 0755), 0);
	assert_int_equal(chmod(path, 0666), 0);
	child = fork();
	if (child == 0)
		_exit(setuid(65534) == 0 && status_of("GET", "/v0/status") == 403 ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_status_is_the_owners_text),
		TEST(test_ip_lists_own_addresses),
		TEST(test_a_ping_is_answered_by_name_and_by_address),
		TEST(test_a_ping_that_cannot_leave_says_why),
		TEST(test_wrong_questions_get_their_status),
		TEST(test_a_silent_peer_is_an_error_and_a_late_answer_nothing),
		TEST(test_another_user_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
