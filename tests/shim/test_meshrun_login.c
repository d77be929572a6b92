/* Joining by a server: what meshrun hands to the daemon, and what it says while a login waits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/shim/stage.h"
#include "tests/shim/stage_daemon.h"

#define KEY "hskey-auth-0123456789abcdef"

/* Plays meshd: keeps what it was told, then is ready. */
static void write_login_meshd(const struct stage *s)
{
	char body[512];

	snprintf(body, sizeof(body),
		 "[ \"$1\" != --auth-key-fd ] || eval \"cat <&$2\" >\"$MESHWRAP_DIR/key\"\n"
		 "echo \"$*\" >\"$MESHWRAP_DIR/args\"; env >\"$MESHWRAP_DIR/env\"\n"
		 "exec '%s' \"$MESHWRAP_DIR\" 9 9>/dev/null",
		 getenv("FAKEMESH"));
	stage_write_meshd(s, body);
}

static const char *read_back(const struct stage *s, const char *file)
{
	static char text[STAGE_OUTPUT_MAX];
	char path[128];
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", s->dir, file);
	f = fopen(path, "r");
	assert_non_null(f);
	len = fread(text, 1, sizeof(text) - 1, f);
	text[len] = '\0';
	fclose(f);
	return text;
}

static void test_a_login_is_handed_to_the_daemon_and_the_key_to_nobody_else(void **state)
{
	struct stage *s = *state;

	write_login_meshd(s);
	setenv("TS_AUTHKEY", KEY, 1);
	assert_int_equal(stage_run(s, "--login-server", "http://h:8080", "--accept-dns=false", "sh",
				   "-c", "env; tr '\\0' '\\n' </proc/$$/environ; echo ran"),
			 0);
	unsetenv("TS_AUTHKEY");
	assert_non_null(strstr(stage_output, "ran\n"));
	assert_null(strstr(stage_output, "TS_AUTHKEY"));
	assert_null(strstr(stage_output, KEY));
	assert_string_equal(read_back(s, "key"), KEY);
	assert_non_null(
		strstr(read_back(s, "args"), " --login-server=http://h:8080 --accept-dns=false\n"));
	assert_null(strstr(read_back(s, "args"), KEY));
	assert_null(strstr(read_back(s, "env"), KEY));
	assert_null(strstr(read_back(s, "meshd.log"), KEY));
}

static void test_the_environment_alone_starts_a_login(void **state)
{
	struct stage *s = *state;

	write_login_meshd(s);
	setenv("TS_EXTRA_ARGS", "--login-server=http://h --auth-key=" KEY, 1);
	assert_int_equal(stage_run(s, "sh", "-c", "env"), 0);
	unsetenv("TS_EXTRA_ARGS");
	assert_null(strstr(stage_output, KEY));
	assert_non_null(strstr(read_back(s, "env"), "TS_EXTRA_ARGS=--login-server=http://h"));
}

static void test_logins_that_cannot_be_are_refused(void **state)
{
	static char longer[5000];
	struct stage *s = *state;

	assert_int_equal(stage_run(s, "--auth-key", KEY, "true"), 2);
	stage_assert_sentence("TS_AUTHKEY");
	assert_null(strstr(stage_output, KEY));
	assert_int_equal(stage_run(s, "--config", s->config, "--login-server", "http://h", "true"),
			 2);
	stage_assert_sentence("--config and --login-server exclude each other");
	assert_int_equal(stage_run(s, "--hostname=pod", "--config", s->config, "true"), 2);
	stage_assert_sentence("--config and --hostname exclude each other");
	assert_int_equal(stage_run(s, "--auth-key=file:key", "--config", s->config, "true"), 2);
	stage_assert_sentence("--config and --auth-key exclude each other");
	memset(longer, 'k', sizeof(longer) - 1);
	setenv("TS_AUTHKEY", longer, 1);
	assert_int_equal(stage_run(s, "true"), 2);
	unsetenv("TS_AUTHKEY");
	stage_assert_sentence("too long");
}

static void test_a_proxy_is_for_the_node_of_a_file_too(void **state)
{
	struct stage *s = *state;

	write_login_meshd(s);
	setenv("TS_HOSTNAME", "pod", 1);
	assert_int_equal(
		stage_run(s, "--config", s->config, "--socks5-server", "127.0.0.1:1055", "true"),
		0);
	unsetenv("TS_HOSTNAME");
	assert_non_null(strstr(read_back(s, "args"), s->config));
	assert_non_null(strstr(read_back(s, "args"), " --socks5-server=127.0.0.1:1055\n"));
}

static void test_so_is_who_may_use_it_and_how_it_works(void **state)
{
	struct stage *s = *state;

	write_login_meshd(s);
	assert_int_equal(stage_run(s, "--config", s->config, "--allow-all-users", "--workers", "2",
				   "--congestion=rate", "--log-level", "debug", "true"),
			 0);
	assert_non_null(strstr(read_back(s, "args"), " --allow-all-users --workers=2 "
						     "--congestion=rate --log-level=debug\n"));
}

static int run_against(struct stage *s, struct stage_daemon *d, const char *timeout)
{
	int status;

	stage_daemon_start(s, d);
	status = stage_run(s, "--timeout", timeout, "echo", "ran");
	stage_daemon_end(d);
	return status;
}

static void test_a_login_that_failed_is_told_at_once(void **state)
{
	struct stage_daemon d = { .status = "{\"Self\": {\"LoginError\": \"not this\"}, "
					    "\"BackendState\": \"NeedsLogin\", \"LoginError\": "
					    "\"the auth key \\u001b[1m has expired\"}",
				  .asks_until_ready = 1000 };

	assert_int_equal(run_against(*state, &d, "20"), 1);
	stage_assert_sentence("meshrun: the auth key  [1m has expired\n");
}

static void test_a_mesh_that_was_taken_down_is_not_waited_for(void **state)
{
	struct stage_daemon d = { .status = "{\"BackendState\":\"Stopped\"}",
				  .asks_until_ready = 1000 };

	assert_int_equal(run_against(*state, &d, "20"), 1);
	assert_non_null(strstr(stage_output, "meshrun: the mesh was taken down; 'meshctl --dir /"));
	assert_null(strstr(stage_output, "ran"));
}

static void test_the_url_to_visit_is_shown_once(void **state)
{
	struct stage_daemon d = { .status = "{\"AuthURL\" : \"http://h/register/a?b=1\\u0026c\"}",
				  .asks_until_ready = 30 };

	assert_int_equal(run_against(*state, &d, "20"), 0);
	assert_string_equal(stage_output,
			    "meshrun: waiting for login: to let this node join, visit\n\n"
			    "\thttp://h/register/a?b=1&c\n\nran\n");
}

static void test_an_approval_that_does_not_come_ends_by_the_timeout(void **state)
{
	struct stage_daemon d = { .status = "{\"BackendState\":\"NeedsMachineAuth\"}",
				  .asks_until_ready = 1000 };

	assert_int_equal(run_against(*state, &d, "3"), 1);
	assert_non_null(strstr(stage_output, "meshrun: waiting until an administrator approves"));
	assert_non_null(strstr(stage_output, "not usable after 3 s (NeedsMachineAuth)"));
	assert_non_null(strstr(stage_output, "or see meshctl --dir /"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		meshrun_test(test_a_login_is_handed_to_the_daemon_and_the_key_to_nobody_else),
		meshrun_test(test_the_environment_alone_starts_a_login),
		meshrun_test(test_logins_that_cannot_be_are_refused),
		meshrun_test(test_a_proxy_is_for_the_node_of_a_file_too),
		meshrun_test(test_so_is_who_may_use_it_and_how_it_works),
		meshrun_test(test_a_login_that_failed_is_told_at_once),
		meshrun_test(test_a_mesh_that_was_taken_down_is_not_waited_for),
		meshrun_test(test_the_url_to_visit_is_shown_once),
		meshrun_test(test_an_approval_that_does_not_come_ends_by_the_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
