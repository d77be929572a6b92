/* What meshctl hears. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/edge/localapi.h"
#include "daemon/edge/private.h"
#include "shared/paths.h"
#include "tests/unit/edge/fixture.h"

static char answer[65536];

static int status_of(const char *method, const char *target)
{
	char request[512];
	int code = 0, fd = shim_dial(a, PATHS_API);
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
	assert_int_equal(status_of("GET", "/localapi/v0/status"), 200);
	assert_non_null(strstr(answer, "\r\n\r\n{\"state\":\"test\"}"));
}

static void test_a_ping_is_answered_by_name_and_by_address(void **state)
{
	(void)state;
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b"), 200);
	assert_non_null(strstr(answer, "{\"IP\":\"" B_ADDR "\",\"NodeIP\":\"" B_ADDR
				       "\",\"NodeName\":\"node-b.mesh\",\"Err\":\"\","
				       "\"LatencySeconds\":0.0015,\"Endpoint\":\"\","
				       "\"PeerRelay\":\"\",\"DERPRegionID\":0,"
				       "\"DERPRegionCode\":\"\"}"));
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=fd00%3A%3A2&type=ICMP"), 200);
	assert_non_null(strstr(answer, "\"IP\":\"fd00::2\""));
}

static void test_a_ping_that_cannot_leave_says_why(void **state)
{
	(void)state;
	a->reachable = 113;
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b"), 200);
	assert_non_null(strstr(answer, "\"Err\":\"No route to host\""));
	a->reachable = 0;
}

static void test_wrong_questions_get_their_status(void **state)
{
	(void)state;
	assert_int_equal(status_of("GET", "/localapi/v0/nothing"), 404);
	assert_int_equal(status_of("GET", "/localapi/v0"), 404);
	assert_int_equal(status_of("GET", "/v0/status"), 404);
	assert_int_equal(status_of("POST", "/localapi/v0/status"), 405);
	assert_non_null(strstr(answer, "Allow: GET"));
	assert_int_equal(status_of("DELETE", "/localapi/v0/whois"), 405);
	assert_int_equal(status_of("GET", "/localapi/v0/ping?ip=node-b"), 405);
	assert_int_equal(status_of("GET", "/localapi/v0/logout"), 405);
	assert_int_equal(status_of("GET", "/localapi/v0/reload"), 405);
	assert_non_null(strstr(answer, "Allow: POST"));
	assert_int_equal(status_of("POST", "/localapi/v0/ping"), 400);
	assert_int_equal(status_of("POST", "/localapi/v0/ping?who=node-b"), 400);
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b&type=smoke"), 400);
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b&size=-1"), 400);
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b&size=65001"), 400);
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-x"), 404);
	assert_int_equal(status_of("GET", "/localapi/v0/whois"), 400);
}

static void set_none(void *arg)
{
	const struct localapi_backend none = { .owner = arg };

	localapi_set_backend(edge_localapi(((struct node *)arg)->edge), &none);
}

static void test_without_a_backend_most_is_not_available(void **state)
{
	(void)state;
	assert_int_equal(status_of("GET", "/localapi/v0/whois?addr=100.64.0.2"), 501);
	assert_int_equal(status_of("POST", "/localapi/v0/netcheck"), 501);
	assert_int_equal(status_of("POST", "/localapi/v0/up"), 501);
	assert_int_equal(status_of("POST", "/localapi/v0/down"), 501);
	assert_int_equal(status_of("POST", "/localapi/v0/logout"), 501);
	assert_int_equal(status_of("POST", "/localapi/v0/login-interactive"), 501);
	assert_int_equal(status_of("POST", "/localapi/v0/reload"), 501);
	two_nodes_call(&t, set_none, a);
	assert_int_equal(status_of("GET", "/localapi/v0/status"), 501);
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b"), 501);
}

/* ---- a backend that answers at once, or refuses ---- */

struct backend {
	struct localapi *api;
	int err; /* of all calls */
	bool wanted_peers, running;
	char whois[64];
};

static int refuse(const struct backend *b, char *error)
{
	if (b->err)
		snprintf(error, LOCALAPI_ERROR_MAX, "it refuses");
	return b->err;
}

static char *back_status(void *owner, bool want_peers)
{
	struct backend *b = owner;

	b->wanted_peers = want_peers;
	return strdup("{\n  \"BackendState\": \"Running\"\n}");
}

static char *back_whois(void *owner, const char *addr, char error[static LOCALAPI_ERROR_MAX])
{
	struct backend *b = owner;

	snprintf(b->whois, sizeof(b->whois), "%s", addr);
	return refuse(b, error) ? NULL : strdup("{}");
}

static int back_ping(void *owner, const struct ip_addr *ip, enum ping_type type, unsigned size,
		     uint32_t ticket, char error[static LOCALAPI_ERROR_MAX])
{
	struct backend *b = owner;
	const struct pong pong = { .node_ip = "100.64.0.2",
				   .node_name = "node-b",
				   .latency_s = 0.25,
				   .derp_region = type == PING_TSMP ? 900 : 0,
				   .derp_code = "lo",
				   .peerapi_port = (uint16_t)size,
				   .is_local = size != 0 };

	(void)ip;
	if (refuse(b, error))
		return b->err;
	localapi_ponged(b->api, ticket, &pong);
	localapi_ponged(b->api, ticket, &pong); /* nobody waits for this one */
	return 0;
}

static int back_late(void *owner, uint32_t ticket, char error[static LOCALAPI_ERROR_MAX])
{
	struct backend *b = owner;

	if (refuse(b, error))
		return b->err;
	localapi_answered(b->api, ticket, "{\"UDP\":true}", NULL);
	return 0;
}

static int back_fail(void *owner, uint32_t ticket, char error[static LOCALAPI_ERROR_MAX])
{
	struct backend *b = owner;

	(void)error;
	localapi_answered(b->api, ticket, NULL, "the server is gone");
	return 0;
}

static int back_set_running(void *owner, bool running, char error[static LOCALAPI_ERROR_MAX])
{
	struct backend *b = owner;

	b->running = running;
	return refuse(b, error);
}

static int back_login(void *owner, char error[static LOCALAPI_ERROR_MAX])
{
	return refuse(owner, error);
}

static char *back_reload(void *owner, char *error)
{
	struct backend *b = owner;

	/* As long as a sentence with a path may be. */
	if (b->err)
		snprintf(error, LOCALAPI_RELOAD_ERROR_MAX, "%04000d it refuses", 7);
	return b->err ? NULL : strdup("{\"Added\":1}");
}

static void set_backend(void *arg)
{
	struct backend *b = arg;
	const struct localapi_backend backend = {
		back_status,      NULL,       back_whois, back_ping,   back_late,
		back_set_running, back_login, back_fail,  back_reload, b
	};

	b->api = edge_localapi(a->edge);
	localapi_set_backend(b->api, &backend);
}

static void test_a_backend_answers_everything(void **state)
{
	struct backend b = { 0 };

	(void)state;
	two_nodes_call(&t, set_backend, &b);
	assert_int_equal(status_of("GET", "/localapi/v0/status"), 200);
	assert_non_null(strstr(answer, "\r\n\r\n{\n  \"BackendState\": \"Running\"\n}"));
	assert_int_equal(answer[strlen(answer) - 1], '}');
	assert_true(b.wanted_peers);
	assert_int_equal(status_of("GET", "/localapi/v0/status?peers=false"), 200);
	assert_false(b.wanted_peers);
	assert_int_equal(status_of("GET", "/localapi/v0/whois?addr=100.64.0.2%3A80"), 200);
	assert_string_equal(b.whois, "100.64.0.2:80");
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b&type=TSMP"), 200);
	assert_non_null(strstr(answer, "\"LatencySeconds\":0.25,"));
	assert_non_null(strstr(answer, "\"DERPRegionID\":900,\"DERPRegionCode\":\"lo\"}"));
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b&size=80"), 200);
	assert_non_null(strstr(answer, ",\"PeerAPIPort\":80,\"IsLocalIP\":true}"));
	assert_int_equal(status_of("POST", "/localapi/v0/netcheck"), 200);
	assert_non_null(strstr(answer, "{\"UDP\":true}"));
	assert_int_equal(status_of("POST", "/localapi/v0/up"), 200);
	assert_true(b.running);
	assert_int_equal(status_of("POST", "/localapi/v0/down"), 200);
	assert_false(b.running);
	assert_int_equal(status_of("POST", "/localapi/v0/login-interactive"), 200);
	assert_int_equal(status_of("POST", "/localapi/v0/logout"), 503);
	assert_non_null(strstr(answer, "{\"error\":\"the server is gone\"}"));
	assert_int_equal(status_of("POST", "/localapi/v0/reload"), 200);
	assert_non_null(strstr(answer, "\r\n\r\n{\"Added\":1}"));
}

static void test_a_backends_refusal_is_told(void **state)
{
	static const char *const posts[] = { "netcheck", "up", "down", "login-interactive" };
	struct backend b = { .err = -EINVAL };
	char path[64];

	(void)state;
	two_nodes_call(&t, set_backend, &b);
	for (size_t i = 0; i < sizeof(posts) / sizeof(posts[0]); i++) {
		snprintf(path, sizeof(path), "/localapi/v0/%s", posts[i]);
		assert_int_equal(status_of("POST", path), 503);
		assert_non_null(strstr(answer, "{\"error\":\"it refuses\"}"));
	}
	assert_int_equal(status_of("GET", "/localapi/v0/whois?addr=100.64.0.9"), 404);
	assert_non_null(strstr(answer, "{\"error\":\"it refuses\"}"));
	assert_int_equal(status_of("POST", "/localapi/v0/reload"), 503);
	assert_non_null(strstr(answer, "07 it refuses\"}"));
	assert_int_equal(status_of("POST", "/localapi/v0/ping?ip=node-b"), 200);
	assert_non_null(strstr(answer, "\"Err\":\"it refuses\""));
}

static void swallow(void *arg)
{
	struct edge *edge = arg;

	for (uint32_t ticket = 0; ticket < 10; ticket++)
		localapi_ponged(edge_localapi(edge), ticket,
				&(struct pong){ .error = LOCALAPI_NO_ANSWER });
}

static void test_a_silent_peer_is_an_error_and_a_late_answer_nothing(void **state)
{
	char request[] =
		"POST /localapi/v0/ping?ip=node-b HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n";
	int fd = shim_dial(a, PATHS_API);

	(void)state;
	a->reachable = -1; /* the harness keeps silent */
	program_send(fd, request, strlen(request));
	assert_int_equal(status_of("GET", "/localapi/v0/status"),
			 200); /* the first one has arrived */
	two_nodes_call(&t, swallow, a->edge);
	two_nodes_call(&t, swallow, a->edge);
	answer[program_receive(fd, answer, sizeof(answer) - 1)] = '\0';
	assert_non_null(strstr(answer, "\"Err\":\"no answer in time\""));
	close(fd);
	/* Who leaves takes its ping along. */
	fd = shim_dial(a, PATHS_API);
	program_send(fd, request, strlen(request));
	assert_int_equal(status_of("GET", "/localapi/v0/status"), 200);
	close(fd);
	assert_int_equal(status_of("GET", "/localapi/v0/status"), 200);
	two_nodes_call(&t, swallow, a->edge);
	a->reachable = 0;
}

static bool may_not_read(void)
{
	return status_of("GET", "/localapi/v0/status") == 403;
}

static void test_another_user_is_refused(void **state)
{
	(void)state;
	assert_for_another_user(PATHS_API, may_not_read);
}

static void allow_all_users(void *arg)
{
	((struct edge *)arg)->config.allow_all_users = true;
}

static bool may_only_read(void)
{
	static const char *const posts[] = { "up", "down", "login-interactive", "logout",
					     "reload" };
	char path[64];

	for (size_t i = 0; i < sizeof(posts) / sizeof(posts[0]); i++) {
		snprintf(path, sizeof(path), "/localapi/v0/%s", posts[i]);
		if (status_of("POST", path) != 403)
			return false;
	}
	return status_of("GET", "/localapi/v0/status") == 200;
}

static void test_who_may_read_may_not_change_the_node(void **state)
{
	struct backend b = { 0 };

	(void)state;
	two_nodes_call(&t, set_backend, &b);
	two_nodes_call(&t, allow_all_users, a->edge);
	assert_for_another_user(PATHS_API, may_only_read);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_status_is_the_owners_text),
		TEST(test_a_ping_is_answered_by_name_and_by_address),
		TEST(test_a_ping_that_cannot_leave_says_why),
		TEST(test_wrong_questions_get_their_status),
		TEST(test_without_a_backend_most_is_not_available),
		TEST(test_a_backend_answers_everything),
		TEST(test_a_backends_refusal_is_told),
		TEST(test_a_silent_peer_is_an_error_and_a_late_answer_nothing),
		TEST(test_another_user_is_refused),
		TEST(test_who_may_read_may_not_change_the_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
