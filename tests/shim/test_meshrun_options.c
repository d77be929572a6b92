/* Options of meshd beside a daemon that runs already, which does not take them any more. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/shim/stage.h"
#include "tests/shim/stage_daemon.h"

#define KEY "hskey-auth-0123456789abcdef"

static const char of_login[] =
	"{\"BackendState\": \"Running\", \"CapMap\": {\"Options\": {\"hostname\": \"x\"}},"
	" \"Options\": {\"socks5-server\": \"127.0.0.1:1055\", \"outbound-http-proxy-listen\": \"\","
	" \"allow-all-users\": \"false\", \"congestion\": \"cubic\", \"workers\": \"\","
	" \"log-level\": \"info\", \"hostname\": \"pod-a\", \"state\": \"/var/lib/m\","
	" \"ca\": \"/etc/ca.pem\", \"accept-routes\": \"false\", \"accept-dns\": \"true\","
	" \"shields-up\": \"false\", \"advertise-tags\": \"tag:a,tag:b\", \"port\": \"41641\","
	" \"trust-new-server-key\": \"false\", \"capability-version\": \"\"},"
	" \"Control\": {\"Server\": \"http://h:8080\"}}";
static const char of_file[] =
	"{\"BackendState\": \"Running\", \"ConfigFile\": \"/etc/wg.conf\","
	" \"Options\": {\"socks5-server\": \"\", \"congestion\": \"cubic\", \"workers\": \"2\"}}";

/* Each option, its variable (NULL: none), a value that the daemon has not, and what it has. */
static const struct other {
	const char *name, *variable, *value, *has;
} others[] = {
	{ "hostname", "TS_HOSTNAME", "pod-b", "with pod-a" },
	{ "state", "TS_STATE_DIR", "/var/lib/other", "with /var/lib/m" },
	{ "state", "TS_STATE_DIR", "mem:", "with /var/lib/m" },
	{ "ca", "MESHWRAP_CA", "/etc/other.pem", "with /etc/ca.pem" },
	{ "accept-routes", "TS_ACCEPT_ROUTES", "true", "without it" },
	{ "accept-dns", "TS_ACCEPT_DNS", "off", "with true" },
	{ "shields-up", "TS_SHIELDS_UP", "1", "without it" },
	{ "advertise-tags", "TS_ADVERTISE_TAGS", "tag:a", "with tag:a,tag:b" },
	{ "advertise-tags", "TS_ADVERTISE_TAGS", "tag:a,tag:b,tag:c", "with tag:a,tag:b" },
	{ "port", "TS_PORT", "5000", "with 41641" },
	{ "capability-version", "TS_CAPABILITY_VERSION", "100", "without it" },
	{ "socks5-server", "TS_SOCKS5_SERVER", ":1", "with 127.0.0.1:1055" },
	{ "outbound-http-proxy-listen", "TS_OUTBOUND_HTTP_PROXY_LISTEN", ":1", "without it" },
	{ "congestion", "MESHWRAP_CONGESTION", "rate", "with cubic" },
	{ "workers", "MESHWRAP_WORKERS", "3", "without it" },
	{ "log-level", "MESHWRAP_LOG_LEVEL", "debug", "with info" },
};
#define OTHERS (sizeof(others) / sizeof(others[0]))

static struct stage_daemon d;

static int set_up(void **state)
{
	int err = stage_set_up(state);

	d = (struct stage_daemon){ .status = of_login };
	stage_daemon_start(*state, &d);
	return err;
}

static int tear_down(void **state)
{
	stage_daemon_end(&d);
	return stage_tear_down(state);
}

/* The program ran, after this sentence of meshrun about what source says; has NULL: without one. */
static void assert_told(const struct stage *s, const char *source, const char *value,
			const char *has)
{
	char wanted[512];

	snprintf(wanted, sizeof(wanted),
		 "meshrun: %s is %s, but the daemon of %s runs already, %s\nran\n", source, value,
		 s->dir, has);
	assert_string_equal(stage_output, wanted);
}

static void test_another_value_on_the_command_line_is_told(void **state)
{
	char word[128], source[64];

	for (size_t i = 0; i < OTHERS; i++) {
		snprintf(word, sizeof(word), "--%s=%s", others[i].name, others[i].value);
		snprintf(source, sizeof(source), "--%s", others[i].name);
		assert_int_equal(stage_run(*state, word, "echo", "ran"), 0);
		assert_told(*state, source, others[i].value, others[i].has);
	}
	assert_int_equal(stage_run(*state, "--allow-all-users", "echo", "ran"), 0);
	assert_told(*state, "--allow-all-users", "true", "without it");
	assert_int_equal(stage_run(*state, "--accept-routes", "echo", "ran"), 0);
	assert_told(*state, "--accept-routes", "true", "without it");
	assert_int_equal(stage_run(*state, "--trust-new-server-key", "echo", "ran"), 0);
	assert_told(*state, "--trust-new-server-key", "true", "without it");
	assert_int_equal(stage_run(*state, "--socks5-server=", "echo", "ran"), 0);
	assert_told(*state, "--socks5-server", "empty", "with 127.0.0.1:1055");
}

static void test_another_value_in_the_environment_is_told(void **state)
{
	char text[256], source[64];

	for (size_t i = 0; i < OTHERS; i++) {
		setenv(others[i].variable, others[i].value, 1);
		assert_int_equal(stage_run(*state, "echo", "ran"), 0);
		unsetenv(others[i].variable);
		assert_told(*state, others[i].variable, others[i].value, others[i].has);
		snprintf(source, sizeof(source), "--%s in TS_EXTRA_ARGS", others[i].name);
		for (int equals = 0; equals < 2; equals++) {
			/* A flag's value is never a word of its own. */
			if (!equals && strchr("10oft", others[i].value[0]) &&
			    (strstr(others[i].name, "accept") || strstr(others[i].name, "shields")))
				continue;
			snprintf(text, sizeof(text), "--ssh  --auth-key=%s %s%s%c%s --unknown=1",
				 KEY, equals ? "-" : "--", others[i].name, equals ? '=' : ' ',
				 others[i].value);
			setenv("TS_EXTRA_ARGS", text, 1);
			assert_int_equal(stage_run(*state, "echo", "ran"), 0);
			unsetenv("TS_EXTRA_ARGS");
			assert_told(*state, source, others[i].value, others[i].has);
		}
	}
}

static void assert_silent(void)
{
	assert_string_equal(stage_output, "ran\n");
}

static void test_the_same_values_are_no_words(void **state)
{
	assert_int_equal(
		stage_run(*state, "--hostname", "pod-a", "--state=/var/lib/m", "--ca",
			  "/etc/ca.pem", "--accept-routes=no", "--accept-dns", "--shields-up=F",
			  "--advertise-tags", "tag:a,,tag:b,", "--port", "41641",
			  "--capability-version=0", "--socks5-server", "127.0.0.1:1055",
			  "--outbound-http-proxy-listen=", "--congestion=cubic", "--workers", "0",
			  "--log-level=info", "--login-server", "HTTP://h:8080/", "echo", "ran"),
		0);
	assert_silent();
	setenv("TS_HOSTNAME", "pod-a", 1);
	setenv("TS_ACCEPT_DNS", "yes", 1);
	setenv("TS_STATE_DIR", "/var/lib/m", 1);
	setenv("TS_SOCKS5_SERVER", "127.0.0.1:1055", 1);
	setenv("TS_SHIELDS_UP", "", 1);
	setenv("TS_PORT", "0", 1); /* any */
	setenv("TS_EXTRA_ARGS", "--login-server=http://h:8080 --accept-dns --statedir=/var/lib/m",
	       1);
	assert_int_equal(stage_run(*state, "echo", "ran"), 0);
	assert_silent();
	/* The one that meshd would take counts. */
	setenv("TS_HOSTNAME", "pod-b", 1);
	setenv("TS_LOGIN_SERVER", "http://elsewhere", 1);
	setenv("TS_EXTRA_ARGS", "--hostname=pod-c --hostname pod-a --login-server=http://h:8080",
	       1);
	assert_int_equal(stage_run(*state, "echo", "ran"), 0);
	assert_silent();
	setenv("TS_EXTRA_ARGS", "--hostname=pod-c", 1);
	unsetenv("TS_LOGIN_SERVER");
	assert_int_equal(stage_run(*state, "--hostname=pod-b", "--hostname=pod-a", "echo", "ran"),
			 0);
	assert_silent();
	unsetenv("TS_HOSTNAME");
	unsetenv("TS_ACCEPT_DNS");
	unsetenv("TS_STATE_DIR");
	unsetenv("TS_SOCKS5_SERVER");
	unsetenv("TS_SHIELDS_UP");
	unsetenv("TS_PORT");
	unsetenv("TS_EXTRA_ARGS");
}

static void test_of_a_daemon_of_another_node_only_that_is_told(void **state)
{
	const struct stage *s = *state;

	setenv("TS_EXTRA_ARGS", "--login-server=http://elsewhere --hostname=pod-b", 1);
	assert_int_equal(stage_run(s, "echo", "ran"), 0);
	unsetenv("TS_EXTRA_ARGS");
	assert_told(s, "--login-server in TS_EXTRA_ARGS", "http://elsewhere",
		    "and is a node of http://h:8080");
}

/* Its command line would be refused with them; in the environment they are for others. */
static void test_a_logins_options_beside_the_daemon_of_a_file(void **state)
{
	d.status = of_file;
	assert_int_equal(stage_run(*state, "--hostname", "pod-b", "echo", "ran"), 0);
	assert_told(*state, "--hostname", "pod-b", "and was started from /etc/wg.conf");
	assert_int_equal(stage_run(*state, "--workers=3", "echo", "ran"), 0);
	assert_told(*state, "--workers", "3", "with 2");
	setenv("TS_HOSTNAME", "pod-b", 1);
	setenv("TS_EXTRA_ARGS", "--accept-routes", 1);
	assert_int_equal(stage_run(*state, "--workers=02", "echo", "ran"), 0);
	unsetenv("TS_HOSTNAME");
	unsetenv("TS_EXTRA_ARGS");
	assert_silent();
}

static void test_what_a_daemon_does_not_tell_is_taken_as_right(void **state)
{
	static const char *const statuses[] = {
		"{\"BackendState\":\"Running\"}",
		"{\"Options\": \"none\"}",
		"{\"Options\":{\"hostname\": 7}}",
		"{\"Options\":",
		"",
	};

	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		d.status = statuses[i];
		assert_int_equal(stage_run(*state, "--hostname=pod-b", "echo", "ran"), 0);
		assert_silent();
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_another_value_on_the_command_line_is_told),
		TEST(test_another_value_in_the_environment_is_told),
		TEST(test_the_same_values_are_no_words),
		TEST(test_of_a_daemon_of_another_node_only_that_is_told),
		TEST(test_a_logins_options_beside_the_daemon_of_a_file),
		TEST(test_what_a_daemon_does_not_tell_is_taken_as_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
