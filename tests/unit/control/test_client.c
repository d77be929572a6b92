/*
 * The client against servers that are none: what it says, and that it never
 * goes on with one whose key has changed. Listeners on loopback, one script each.
 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "daemon/control/private.h"
#include "daemon/login.h"
#include "daemon/loop.h"
#include "daemon/state.h"
#include "daemon/stream.h"
#include "shared/log.h"
#include "shared/util.h"

#define SERVER_KEY "7578cb0b0ee5a20daf457468df321670a7969ccfe75c72d27d337409b3e84a31"
#define OTHER_KEY  "de590385eedf4d58f8bb6cfe594e53177f5f1b42c6ef59f7b797b15feba4f00d"
#define KEY_ANSWER(key)                                \
	"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" \
	"{\"legacyPublicKey\":\"\",\"publicKey\":\"mkey:" key "\"}"
#define UPGRADE                                                       \
	"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n" \
	"Upgrade: tailscale-control-protocol\r\n\r\n"

static struct loop *loop;
static struct state *node_state;
static struct control *control;
static struct event *accepting, *giving_up;
static struct tls_context *tls;
static int listener;
static char url[64];
static const char *key_answer, *upgrade_answer;
static unsigned key_requests, upgrade_requests;
/* The loop is left when the words are in the problem or the sentence. */
static const char *awaited;
static bool has_come;

static void look(void)
{
	struct control_info info;

	control_get_info(control, &info);
	if (strstr(info.problem, awaited) || strstr(info.sentence, awaited)) {
		has_come = true;
		loop_stop(loop);
	}
}

static void answer(evutil_socket_t peer, short events, void *arg)
{
	char request[2048];
	/* One small segment on loopback. */
	ssize_t len = recv(peer, request, sizeof(request) - 1, 0);
	const char *text;

	(void)events, (void)arg;
	if (len > 0) {
		request[len] = '\0';
		if (strncmp(request, "GET /key?v=119 HTTP/1.1\r\n", 25) == 0) {
			key_requests++;
			text = key_answer;
		} else {
			assert_memory_equal(request, "POST /ts2021 HTTP/1.1\r\n", 23);
			upgrade_requests++;
			text = upgrade_answer;
		}
		assert_true(send(peer, text, strlen(text), MSG_NOSIGNAL) >= 0);
	}
	close(peer);
}

static void serve(evutil_socket_t fd, short events, void *arg)
{
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	(void)events, (void)arg;
	assert_true(peer >= 0);
	assert_int_equal(event_base_once(loop_base(loop), peer, EV_READ, answer, NULL, NULL), 0);
}

static uint64_t round_end(void *owner, uint64_t now_ns)
{
	(void)owner, (void)now_ns;
	if (control && awaited)
		look();
	return NEVER_NS;
}

static void gave_up(evutil_socket_t fd, short events, void *arg)
{
	(void)fd, (void)events, (void)arg;
	loop_stop(loop);
}

static int map_message(void *owner, const char *json, size_t len, bool is_first)
{
	(void)owner, (void)json, (void)len, (void)is_first;
	return 0;
}

static void status_changed(void *owner, enum control_status status, const char *sentence)
{
	(void)owner, (void)status, (void)sentence;
}

static void node_key_changed(void *owner)
{
	(void)owner;
}

static const struct control_callbacks callbacks = {
	.map_message = map_message,
	.status_changed = status_changed,
	.node_key_changed = node_key_changed,
};

static int set_up(void **state)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct loop_hooks hooks = { .round_end = round_end };
	socklen_t len = sizeof(sa);
	char error[STATE_ERROR_MAX], warning[STATE_ERROR_MAX];

	(void)state;
	log_set_level(LOG_ERR);
	key_requests = upgrade_requests = 0;
	awaited = NULL;
	has_come = false;
	control = NULL;
	key_answer = KEY_ANSWER(SERVER_KEY);
	upgrade_answer = "";
	loop = loop_create(&hooks);
	tls = tls_context_create(NULL, error);
	node_state = state_open(NULL, error, warning);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!loop || !tls || !node_state || bind(listener, (void *)&sa, sizeof(sa)) != 0 ||
	    listen(listener, 8) != 0 || getsockname(listener, (void *)&sa, &len) != 0)
		return -1;
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(sa.sin_port));
	accepting = event_new(loop_base(loop), listener, EV_READ | EV_PERSIST, serve, NULL);
	giving_up = event_new(loop_base(loop), -1, 0, gave_up, NULL);
	return accepting && giving_up && event_add(accepting, NULL) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	control_destroy(control);
	control = NULL;
	event_free(accepting);
	event_free(giving_up);
	close(listener);
	loop_destroy(loop);
	state_close(node_state);
	tls_context_destroy(tls);
	return 0;
}

static void start_with(bool trusts_new_server_key)
{
	struct control_config config = { .server_url = url,
					 .tls = tls,
					 .host_name = "Box 1",
					 .trusts_new_server_key = trusts_new_server_key };
	char error[CONTROL_SENTENCE_MAX];

	control = control_create(loop, &config, node_state, &callbacks, NULL, error);
	if (!control)
		fail_msg("%s", error);
	control_start(control);
}

static void start(void)
{
	start_with(false);
}

static void expect(const char *words)
{
	struct timeval limit = { 30, 0 };
	struct control_info info;

	awaited = words;
	has_come = false;
	event_add(giving_up, &limit);
	assert_int_equal(loop_run(loop), 0);
	control_get_info(control, &info);
	if (!has_come)
		fail_msg("'%s' did not come but '%s', '%s'", words, info.problem, info.sentence);
	assert_false(info.is_connected);
}

static void test_what_is_no_server_is_named(void **state)
{
	(void)state;
	key_answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
	start();
	expect("GET /key gave HTTP 404");
	key_answer = "SSH-2.0-OpenSSH_9.2\r\n";
	expect("GET /key gave no key");
	key_answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	expect("too old");
	key_answer = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
	expect("gave no key");
	assert_int_equal(upgrade_requests, 0);
}

static void test_a_failed_upgrade_is_explained(void **state)
{
	(void)state;
	upgrade_answer = "HTTP/1.1 500 Internal Server Error\r\n\r\n";
	start();
	expect("a proxy in between may have removed it");
	upgrade_answer = "HTTP/1.1 302 Found\r\n\r\n";
	expect("HTTP 302");
	upgrade_answer = UPGRADE;
	expect("refused capability version 119");
	upgrade_answer = UPGRADE "\x03"
				 "";
	expect("refused capability version 119");
	upgrade_answer = UPGRADE "HTTP/1.1";
	expect("is not the one of its key");
}

static void test_a_server_whose_key_has_changed_is_refused(void **state)
{
	struct control_info info;
	unsigned upgrades;

	(void)state;
	upgrade_answer = UPGRADE;
	start();
	expect("refused capability version");
	assert_true(state_data(node_state)->has_server_key);
	upgrades = upgrade_requests;
	key_answer = KEY_ANSWER(OTHER_KEY);
	expect("has changed since this node knew it");
	control_get_info(control, &info);
	assert_int_equal(info.status, CONTROL_REFUSED);
	assert_true(info.is_login_failed);
	/* One with the old key, in vain; none with the new one. */
	assert_true(upgrade_requests <= upgrades + 1);
	control_destroy(control); /* --trust-new-server-key counts from the start */
	start_with(true);
	expect("refused capability version");
	assert_int_equal(state_data(node_state)->server_key.byte[0], 0xde);
}

/* A disk that is full when a login is to be saved, as when the server has lost its memory of us. */
static void test_a_login_that_cannot_be_saved_goes_on_when_it_can(void **state)
{
	char folder[] = "/tmp/control-XXXXXX", error[STATE_ERROR_MAX], warning[STATE_ERROR_MAX];
	char in_the_way[64], file[64];
	struct control_info info;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(in_the_way, sizeof(in_the_way), "%s/state.tmp", folder);
	snprintf(file, sizeof(file), "%s/state.json", folder);
	state_close(node_state);
	node_state = state_open(folder, error, warning);
	assert_non_null(node_state);
	assert_int_equal(mkdir(in_the_way, 0700), 0); /* nothing can be written, by root either */
	upgrade_answer = UPGRADE;
	start();
	expect("a login that is not saved would be lost");
	control_get_info(control, &info);
	assert_int_equal(info.status, CONTROL_REFUSED);
	assert_int_equal(upgrade_requests, 0);
	assert_int_equal(rmdir(in_the_way), 0);
	expect("refused capability version");
	assert_int_equal(access(file, F_OK), 0);
	unlink(file);
	rmdir(folder);
}

static void test_bad_settings_are_refused_at_the_start(void **state)
{
	static const char *const bad[] = { "", "host", "ftp://h", "http://h/path", "http://u:p@h" };
	struct control_config config = { .server_url = "http://h",
					 .auth_key = "a\nb",
					 .auth_key_len = 3 };
	char error[CONTROL_SENTENCE_MAX];

	(void)state;
	assert_null(control_create(loop, &config, node_state, &callbacks, NULL, error));
	assert_non_null(strstr(error, "auth key"));
	assert_null(strstr(error, "a\nb"));
	config.auth_key = NULL;
	config.server_url = "https://h";
	assert_null(control_create(loop, &config, node_state, &callbacks, NULL, error));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		config.server_url = bad[i];
		assert_null(control_create(loop, &config, node_state, &callbacks, NULL, error));
		assert_non_null(strstr(error, "the login server"));
	}
}

/* As many, and as long, as the options take. */
static void test_all_tags_and_a_long_key_are_taken(void **state)
{
	static char key[LOGIN_KEY_MAX];
	struct control_config config = { .server_url = "http://h",
					 .auth_key = key,
					 .auth_key_len = sizeof(key),
					 .tag_count = LOGIN_TAGS_MAX };
	const char *tags[LOGIN_TAGS_MAX];
	char error[CONTROL_SENTENCE_MAX];

	(void)state;
	memset(key, 'k', sizeof(key));
	for (size_t i = 0; i < ARRAY_LEN(tags); i++)
		tags[i] = "tag:a";
	config.tags = tags;
	control = control_create(loop, &config, node_state, &callbacks, NULL, error);
	if (!control)
		fail_msg("%s", error);
	assert_int_equal(control->node.tag_count, LOGIN_TAGS_MAX);
	assert_memory_equal(control->auth_key, key, sizeof(key));
	assert_int_equal(control->auth_key[sizeof(key)], 0);
}

static void test_calls_on_a_stopped_client_do_no_harm(void **state)
{
	struct control_self self = { 0 };

	(void)state;
	start();
	control_stop(control);
	control_set_self(control, &self);
	control_network_changed(control);
	control_ping_done(control, 5, &(struct pong){ .error = "late" });
	control_logout(control, NULL);
	expect("logged out");
	control_login_interactive(control);
	expect("the server closed"); /* the upgrade is cut off */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_what_is_no_server_is_named),
		TEST(test_a_failed_upgrade_is_explained),
		TEST(test_a_server_whose_key_has_changed_is_refused),
		TEST(test_a_login_that_cannot_be_saved_goes_on_when_it_can),
		TEST(test_bad_settings_are_refused_at_the_start),
		TEST(test_all_tags_and_a_long_key_are_taken),
		TEST(test_calls_on_a_stopped_client_do_no_harm),
	};

	if (crypto_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
