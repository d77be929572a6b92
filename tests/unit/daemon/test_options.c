/* meshd's options: which source wins, what is refused, and that the key is nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/options.h"
#include "daemon/outproxy.h"

#define KEY "hskey-auth-0123456789abcdef"

static struct options o;
static char said[4096]; /* on standard error */

static int set_up(void **state)
{
	(void)state;
	clearenv();
	setenv("MESHWRAP_DIR", "/run/some-dir", 1);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	options_finish(&o);
	return 0;
}

/* The words after "meshd"; standard error goes to said. */
static int parse(const char *const *words)
{
	static char copy[32][256];
	char *argv[34] = { (char[]){ "meshd" } };
	FILE *file = tmpfile();
	int argc = 1, kept = dup(STDERR_FILENO), status;
	size_t len;

	for (; words && words[argc - 1]; argc++) {
		strcpy(copy[argc], words[argc - 1]);
		argv[argc] = copy[argc];
	}
	assert_non_null(file);
	dup2(fileno(file), STDERR_FILENO);
	status = options_parse(argc, argv, &o);
	dup2(kept, STDERR_FILENO);
	close(kept);
	rewind(file);
	len = fread(said, 1, sizeof(said) - 1, file);
	said[len] = '\0';
	fclose(file);
	return status;
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static void assert_refused(int status, const char *word)
{
	assert_int_equal(status, 2);
	if (!strstr(said, word))
		fail_msg("\"%s\" is not in: %s", word, said);
	assert_null(strstr(said, KEY));
	options_finish(&o);
}

static void write_file(char path[static 32], const char *text)
{
	int fd;

	strcpy(path, "/tmp/meshwrap-key-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void test_a_file_is_enough(void **state)
{
	(void)state;
	assert_int_equal(PARSE("--config", "wg.conf", "--allow-all-users", "--no-syn-hold"), -1);
	assert_int_equal(o.mode, OPTIONS_FILE);
	assert_string_equal(o.config_path, "wg.conf");
	assert_string_equal(o.dir, "/run/some-dir");
	assert_true(o.allow_all_users && o.refuse_synhold);
	assert_null(o.socks5_listen);
}

static void test_proxies_are_the_environments_but_for_its_own(void **state)
{
	const struct outproxy *p;

	(void)state;
	setenv("https_proxy", "http://user:secret@proxy:3128", 1);
	setenv("HTTP_PROXY", "http://localhost:1055", 1);
	setenv("NO_PROXY", "example.com", 1);
	assert_int_equal(PARSE("--login-server", "https://host"), -1);
	p = outproxies_for(o.login.proxies, "host", 443, true);
	assert_string_equal(p->host, "proxy");
	assert_null(outproxies_for(o.login.proxies, "a.example.com", 443, true));
	assert_string_equal(outproxies_for(o.login.proxies, "host", 80, false)->host, "localhost");
	options_finish(&o);
	assert_int_equal(PARSE("--login-server", "https://host", "--outbound-http-proxy-listen",
			       "127.0.0.1:1055"),
			 -1);
	assert_non_null(outproxies_for(o.login.proxies, "host", 443, true));
	assert_null(outproxies_for(o.login.proxies, "host", 80, false));
	assert_non_null(strstr(said, "this daemon's own"));
	assert_null(strstr(said, "secret"));
}

static void test_a_login_by_the_command_line(void **state)
{
	char path[32];

	(void)state;
	write_file(path, "  " KEY "\n");
	assert_int_equal(PARSE("--login-server", "HTTP://host:8080/", "--auth-key-file", path,
			       "--hostname", "node-a", "--state", "/var/lib/m", "--ca", "ca.pem",
			       "--accept-routes", "--accept-dns=false", "--shields-up",
			       "--advertise-tags", "tag:web,tag:b-2", "--port", "41641",
			       "--capability-version", "100", "--socks5-server", "127.0.0.1:1055",
			       "--outbound-http-proxy-listen", "localhost:1055"),
			 -1);
	unlink(path);
	assert_int_equal(o.mode, OPTIONS_LOGIN);
	assert_string_equal(o.login.server_url, "http://host:8080");
	assert_string_equal(o.login.auth_key, KEY);
	assert_int_equal(o.login.auth_key_len, strlen(KEY));
	assert_string_equal(o.login.hostname, "node-a");
	assert_string_equal(o.login.state_dir, "/var/lib/m");
	assert_string_equal(o.login.ca_file, "ca.pem");
	assert_true(o.login.accept_routes && !o.login.accept_dns && o.login.shields_up);
	assert_int_equal(o.login.tag_count, 2);
	assert_string_equal(o.login.tags[1], "tag:b-2");
	assert_int_equal(o.login.port, 41641);
	assert_int_equal(o.login.capability_version, 100);
	assert_false(o.login.ephemeral);
	assert_string_equal(o.socks5_listen, "127.0.0.1:1055");
	assert_string_equal(o.http_listen, "localhost:1055");
}

static void test_the_environment_alone_is_enough(void **state)
{
	(void)state;
	setenv("TS_AUTHKEY", KEY, 1);
	setenv("TS_LOGIN_SERVER", "https://head.example.com", 1);
	setenv("TS_HOSTNAME", "pod-7", 1);
	setenv("TS_STATE_DIR", "relative", 1);
	setenv("TS_ACCEPT_DNS", "0", 1);
	setenv("TS_SOCKS5_SERVER", ":1055", 1);
	setenv("TS_OUTBOUND_HTTP_PROXY_LISTEN", ":1055", 1);
	assert_int_equal(parse(NULL), -1);
	assert_int_equal(o.mode, OPTIONS_LOGIN);
	assert_string_equal(o.login.auth_key, KEY);
	assert_string_equal(o.login.server_url, "https://head.example.com");
	assert_string_equal(o.login.hostname, "pod-7");
	assert_int_equal(o.login.state_dir[0], '/');
	assert_false(o.login.accept_dns);
	assert_string_equal(o.http_listen, ":1055");
}

static void test_only_a_key_means_the_default_server_in_memory(void **state)
{
	(void)state;
	setenv("TS_AUTHKEY", KEY, 1);
	setenv("TS_STATE_DIR", "", 1);
	assert_int_equal(parse(NULL), -1);
	assert_string_equal(o.login.server_url, LOGIN_DEFAULT_SERVER);
	assert_null(o.login.state_dir);
	assert_true(o.login.ephemeral && o.login.accept_dns);
	assert_true(o.login.hostname[0] != '\0');
}

static void test_without_a_key_the_login_is_interactive(void **state)
{
	(void)state;
	assert_int_equal(PARSE("--login-server", "http://h", "--state", "mem:"), -1);
	assert_null(o.login.auth_key);
	assert_true(o.login.ephemeral);
}

static void test_the_key_leaves_the_environment(void **state)
{
	static char variable[] = "TS_AUTHKEY=" KEY, old[] = "TS_AUTH_KEY=" KEY;
	static char extra[] = "TS_EXTRA_ARGS=--auth-key=" KEY;

	(void)state;
	putenv(variable);
	putenv(old);
	putenv(extra);
	assert_int_equal(PARSE("--config", "wg.conf"), -1);
	assert_null(getenv("TS_AUTHKEY"));
	assert_null(getenv("TS_AUTH_KEY"));
	assert_null(getenv("TS_EXTRA_ARGS"));
	for (size_t i = strlen("TS_EXTRA_ARGS="); i < sizeof(extra); i++)
		assert_int_equal(extra[i], 0);
	assert_int_equal(variable[strlen("TS_AUTHKEY=")], 0);
	assert_null(memmem(variable, sizeof(variable), "0123", 4));
	assert_null(memmem(old, sizeof(old), "0123", 4));
	assert_null(memmem(extra, sizeof(extra), "0123", 4));
	assert_null(o.login.auth_key); /* of no use in file mode */
}

static void test_the_key_may_lie_in_a_file_or_come_by_a_descriptor(void **state)
{
	char path[32], text[64], number[16];
	int pipes[2];

	(void)state;
	write_file(path, KEY);
	snprintf(text, sizeof(text), "file:%s", path);
	setenv("TS_AUTHKEY", text, 1);
	assert_int_equal(parse(NULL), -1);
	assert_string_equal(o.login.auth_key, KEY);
	options_finish(&o);
	snprintf(text, sizeof(text), "--auth-key=file:%s", path);
	assert_int_equal(PARSE(text), -1);
	assert_string_equal(o.login.auth_key, KEY);
	options_finish(&o);
	unlink(path);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], KEY, strlen(KEY)), strlen(KEY));
	close(pipes[1]);
	snprintf(number, sizeof(number), "%d", pipes[0]);
	assert_int_equal(PARSE("--auth-key-fd", number), -1);
	assert_string_equal(o.login.auth_key, KEY);
	assert_int_equal(fcntl(pipes[0], F_GETFD), -1);
}

static void test_the_stock_clients_options_are_understood(void **state)
{
	(void)state;
	setenv("TS_LOGIN_SERVER", "http://other", 1);
	setenv("TS_EXTRA_ARGS",
	       "--login-server=http://head:8080 --ssh --hostname pod --accept-routes "
	       "--advertise-tags=tag:a -advertise-exit-node=true",
	       1);
	setenv("TS_AUTHKEY", KEY, 1);
	assert_int_equal(PARSE("--hostname", "mine"), -1);
	assert_string_equal(o.login.server_url, "http://head:8080");
	assert_string_equal(o.login.hostname, "mine");
	assert_true(o.login.accept_routes);
	assert_int_equal(o.login.tag_count, 1);
	assert_non_null(strstr(said, "--ssh has no meaning"));
	assert_non_null(strstr(said, "-advertise-exit-node has no meaning"));
}

static void test_variables_of_the_stock_container_without_a_meaning_are_told(void **state)
{
	(void)state;
	setenv("TS_LOGIN_SERVER", "http://h", 1);
	setenv("TS_ROUTES", "10.0.0.0/8", 1);
	setenv("TS_SERVE_CONFIG", "", 1);
	assert_int_equal(PARSE("--hostname", "mine"), -1);
	assert_non_null(strstr(said, "TS_ROUTES has no meaning here and is left out"));
	assert_null(strstr(said, "TS_SERVE_CONFIG"));
	options_finish(&o);
	assert_int_equal(PARSE("--config", "wg.conf"), -1); /* they are for a login */
	assert_null(strstr(said, "TS_ROUTES"));
}

static void test_the_command_line_says_which_kind_of_node(void **state)
{
	(void)state;
	setenv("TS_AUTHKEY", KEY, 1);
	assert_int_equal(PARSE("--config", "wg.conf"), -1);
	assert_int_equal(o.mode, OPTIONS_FILE);
	options_finish(&o);
	setenv("MESHWRAP_CONFIG", "wg.conf", 1);
	setenv("TS_AUTHKEY", KEY, 1);
	assert_int_equal(parse(NULL), -1);
	assert_int_equal(o.mode, OPTIONS_FILE);
	options_finish(&o);
	assert_int_equal(PARSE("--login-server", "http://h"), -1);
	assert_int_equal(o.mode, OPTIONS_LOGIN);
}

static void test_what_only_a_login_uses_is_refused_beside_a_file(void **state)
{
	static const char *const words[] = {
		"--hostname=pod",
		"--ca=ca.pem",
		"--accept-routes",
		"--accept-dns=false",
		"--shields-up",
		"--port=1",
		"--trust-new-server-key",
		"--advertise-tags=tag:a",
		"--capability-version=100",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		char name[64];

		snprintf(name, sizeof(name), "%.*s is of no use", (int)strcspn(words[i], "="),
			 words[i]);
		assert_refused(PARSE("--config", "f", words[i]), name);
		assert_refused(PARSE(words[i], "--config", "f"), name);
		setenv("MESHWRAP_CONFIG", "f", 1);
		assert_refused(PARSE(words[i]), name);
		unsetenv("MESHWRAP_CONFIG");
	}
	assert_refused(PARSE("--config", "f", "--hostname=pod"), "# Name");
	assert_refused(PARSE("--config", "f", "--port=1"), "ListenPort");
}

static void test_a_logins_variables_may_be_set_beside_a_file(void **state)
{
	(void)state;
	setenv("TS_HOSTNAME", "pod", 1);
	setenv("TS_PORT", "1", 1);
	setenv("TS_EXTRA_ARGS", "--login-server=http://h --hostname=pod --shields-up", 1);
	assert_int_equal(PARSE("--config", "f", "--socks5-server=:1"), -1);
	assert_int_equal(o.mode, OPTIONS_FILE);
	assert_string_equal(o.socks5_listen, ":1");
	assert_string_equal(said, "");
}

static void test_a_key_on_the_command_line_is_refused(void **state)
{
	(void)state;
	assert_refused(PARSE("--auth-key", KEY), "TS_AUTHKEY");
	assert_non_null(strstr(said, "--auth-key-file"));
	assert_refused(PARSE("--authkey=" KEY), "TS_AUTHKEY");
}

static void test_wrong_values_are_told_by_name(void **state)
{
	static const struct {
		const char *name, *value, *word;
	} wrong[] = {
		{ "--login-server", "head.example.com", "--login-server takes a URL" },
		{ "--login-server", "http:///", "--login-server takes a URL" },
		{ "--login-server", "http://user@host", "just scheme" },
		{ "--login-server", "http://h?x", "just scheme" },
		{ "--hostname", "a_b", "--hostname takes letters" },
		{ "--hostname", "", "--hostname takes a name" },
		{ "--hostname", "a..b", "1 to 63" },
		{ "--hostname", "a-.b", "1 to 63" },
		{ "--hostname", "-a", "letters" },
		{ "--port", "65536", "--port takes a number up to 65535" },
		{ "--port", "x", "--port" },
		{ "--capability-version", "-1", "--capability-version" },
		{ "--advertise-tags", "web", "tag:web" },
		{ "--advertise-tags", "tag:1", "tag:web" },
		{ "--advertise-tags", "tag:a b", "tag:web" },
		{ "--accept-dns=maybe", NULL, "--accept-dns takes true or false" },
		{ "--log-level", "loud", "--log-level is one of" },
		{ "--auth-key-file", "/no/such/file", "/no/such/file: No such file" },
		{ "--auth-key-file", "/dev/null", "is empty" },
		{ "--auth-key-file", "/dev/zero", "too long" },
		{ "--auth-key-file", "/", "Is a directory" },
		{ "--auth-key-fd", "999", "Bad file descriptor" },
		{ "word", NULL, "only options" },
	};
	char number[16];
	int pipes[2];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused(PARSE(wrong[i].name, wrong[i].value), wrong[i].word);
	assert_refused(PARSE("--config", "f", "--login-server", "http://h"), "exclude");
	assert_refused(parse(NULL), "--config");
	setenv("TS_ACCEPT_DNS", "perhaps", 1);
	assert_refused(parse(NULL), "TS_ACCEPT_DNS takes");
	unsetenv("TS_ACCEPT_DNS");
	setenv("TS_EXTRA_ARGS", "--hostname", 1);
	assert_refused(parse(NULL), "hostname in TS_EXTRA_ARGS has no value");
	setenv("TS_EXTRA_ARGS", "--hostname=a_b", 1);
	assert_refused(parse(NULL), "hostname takes");
	unsetenv("TS_EXTRA_ARGS");
	setenv("TS_AUTHKEY", KEY " " KEY, 1);
	assert_refused(parse(NULL), "is no key");
	setenv("TS_AUTHKEY", "\"" KEY "\"", 1);
	assert_refused(parse(NULL),
		       "the environment is no key: it must be one word, without quotes");
	assert_null(getenv("TS_AUTHKEY"));
	/* As meshrun hands it over. */
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], "'" KEY "'", strlen(KEY) + 2), strlen(KEY) + 2);
	close(pipes[1]);
	snprintf(number, sizeof(number), "%d", pipes[0]);
	assert_refused(PARSE("--auth-key-fd", number), "the auth key in TS_AUTHKEY or descriptor ");
}

static void test_what_is_too_long_is_refused(void **state)
{
	static char longer[9000];

	(void)state;
	memset(longer, 'a', sizeof(longer) - 1);
	setenv("TS_AUTHKEY", longer, 1);
	assert_refused(parse(NULL), "too long");
	setenv("TS_EXTRA_ARGS", longer, 1);
	assert_refused(parse(NULL), "too long");
	unsetenv("TS_EXTRA_ARGS");
	setenv("TS_STATE_DIR", longer, 1);
	assert_refused(parse(NULL), "too long");
	unsetenv("TS_STATE_DIR");
	setenv("TS_ADVERTISE_TAGS", longer, 1);
	assert_refused(parse(NULL), "too many");
	unsetenv("TS_ADVERTISE_TAGS");
	setenv("MESHWRAP_CONFIG", "x", 1);
	setenv("MESHWRAP_DIR", longer, 1);
	assert_refused(parse(NULL), "too long");
}

static void test_the_congestion_control_is_chosen_by_name(void **state)
{
	const char *const words[] = { "--config", "f", "--congestion=cubic", NULL };

	(void)state;
	setenv("MESHWRAP_CONGESTION", "rate", 1);
	setenv("MESHWRAP_CONFIG", "f", 1);
	assert_int_equal(parse(NULL), -1);
	assert_int_equal(o.congestion, TCP_RATE);
	options_finish(&o);
	assert_int_equal(parse(words), -1);
	assert_int_equal(o.congestion, TCP_CUBIC);
	options_finish(&o);
	setenv("MESHWRAP_CONGESTION", "reno", 1);
	assert_refused(parse(NULL), "MESHWRAP_CONGESTION is one of rate, cubic");
}

static void test_workers_are_a_number_up_to_16(void **state)
{
	const char *const words[] = { "--config", "f", "--workers=3", NULL };
	const char *const many[] = { "--config", "f", "--workers=17", NULL };

	(void)state;
	assert_int_equal(parse(words), -1);
	assert_int_equal(o.workers, 3);
	options_finish(&o);
	assert_refused(parse(many), "takes a number up to 16");
	setenv("MESHWRAP_CONFIG", "f", 1);
	assert_int_equal(parse(NULL), -1);
	assert_int_equal(o.workers, 0);
	options_finish(&o);
	setenv("MESHWRAP_WORKERS", "two", 1);
	assert_refused(parse(NULL), "MESHWRAP_WORKERS takes a number");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_file_is_enough),
		TEST(test_a_login_by_the_command_line),
		TEST(test_proxies_are_the_environments_but_for_its_own),
		TEST(test_the_environment_alone_is_enough),
		TEST(test_only_a_key_means_the_default_server_in_memory),
		TEST(test_without_a_key_the_login_is_interactive),
		TEST(test_the_key_leaves_the_environment),
		TEST(test_the_key_may_lie_in_a_file_or_come_by_a_descriptor),
		TEST(test_the_stock_clients_options_are_understood),
		TEST(test_variables_of_the_stock_container_without_a_meaning_are_told),
		TEST(test_the_command_line_says_which_kind_of_node),
		TEST(test_what_only_a_login_uses_is_refused_beside_a_file),
		TEST(test_a_logins_variables_may_be_set_beside_a_file),
		TEST(test_a_key_on_the_command_line_is_refused),
		TEST(test_wrong_values_are_told_by_name),
		TEST(test_what_is_too_long_is_refused),
		TEST(test_the_congestion_control_is_chosen_by_name),
		TEST(test_workers_are_a_number_up_to_16),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
