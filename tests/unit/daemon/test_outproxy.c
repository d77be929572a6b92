/* Which proxy leads to which server, and what its answers mean. */
#include "daemon/outproxy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/http1.h"
#include "shared/util.h"

#define SERVER "control.example.com:443"

/* "NAME=value", the last is NULL. */
static const char *const *environment;

static const char *lookup(const char *name)
{
	size_t len = strlen(name);

	for (unsigned i = 0; environment[i]; i++)
		if (strncmp(environment[i], name, len) == 0 && environment[i][len] == '=')
			return environment[i] + len + 1;
	return NULL;
}

#define READ(p, ...)                                                      \
	do {                                                              \
		environment = (const char *const[]){ __VA_ARGS__, NULL }; \
		outproxies_read(p, lookup);                               \
	} while (0)

/* "host:port" of the proxy, "straight", or the problem with the variable's name before it. */
static const char *way_to(const struct outproxies *p, const char *host, uint16_t port, bool is_tls)
{
	static char text[512];
	const struct outproxy *proxy = outproxies_for(p, host, port, is_tls);

	if (!proxy)
		return "straight";
	if (!proxy->problem)
		return outproxy_authority(proxy->host, proxy->port, text);
	snprintf(text, sizeof(text), "%s %s", proxy->variable, proxy->problem);
	return text;
}

static void test_the_variable_of_the_servers_kind_names_it(void **state)
{
	static const struct {
		const char *environment[5], *https, *http;
	} cases[] = {
		{ { NULL }, "straight", "straight" },
		{ { "HTTPS_PROXY=http://p:1" }, "p:1", "straight" },
		{ { "HTTP_PROXY=http://p:1" }, "straight", "p:1" },
		{ { "https_proxy=http://p:1", "http_proxy=http://q:2" }, "p:1", "q:2" },
		{ { "https_proxy=http://low:1", "HTTPS_PROXY=http://up:1" }, "up:1", "straight" },
		{ { "HTTPS_PROXY=", "https_proxy=http://low:1" }, "low:1", "straight" },
		{ { "ALL_PROXY=http://all:1" }, "all:1", "all:1" },
		{ { "all_proxy=http://all:1", "HTTPS_PROXY=http://p:1" }, "p:1", "all:1" },
		{ { "ALL_PROXY=http://up:1", "all_proxy=http://low:1" }, "up:1", "up:1" },
		{ { "ALL_PROXY=socks5://s:1", "HTTP_PROXY=http://p:1" }, "straight", "p:1" },
		{ { "all_proxy=ftp://what", "HTTPS_PROXY=http://p:1" }, "p:1", "straight" },
		{ { "REQUEST_METHOD=", "HTTP_PROXY=http://p:1" }, "straight", "p:1" },
		{ { "REQUEST_METHOD=GET", "HTTP_PROXY=http://p:1", "http_proxy=http://q:1",
		    "HTTPS_PROXY=http://p:2" },
		  "p:2",
		  "q:1" },
		{ { "REQUEST_METHOD=GET", "ALL_PROXY=http://all:1" }, "all:1", "all:1" },
	};
	struct outproxies p;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		environment = cases[i].environment;
		outproxies_read(&p, lookup);
		assert_string_equal(way_to(&p, "control.example.com", 443, true), cases[i].https);
		assert_string_equal(way_to(&p, "control.example.com", 80, false), cases[i].http);
	}
}

/* In the stock client's containers it is for the programs, and the client does not read it. */
static void test_an_all_proxy_of_another_kind_is_ignored_and_told(void **state)
{
	struct outproxies p;

	(void)state;
	READ(&p, "ALL_PROXY=socks5://u:secret@localhost:1055/");
	assert_non_null(strstr(p.ignored, "names a SOCKS proxy"));
	assert_null(strstr(p.ignored, "secret"));
	assert_string_equal(way_to(&p, "h", 443, true), "straight");
	assert_string_equal(p.https.login, "");
	READ(&p, "ALL_PROXY=http://all:1");
	assert_null(p.ignored);
	READ(&p, "NO_PROXY=x");
	assert_null(p.ignored);
}

static void test_what_cgi_could_forge_is_not_believed(void **state)
{
	struct outproxies p;

	(void)state;
	READ(&p, "REQUEST_METHOD=GET", "HTTP_PROXY=http://evil:1", "ALL_PROXY=http://all:1");
	assert_non_null(
		strstr(way_to(&p, "h", 80, false), "HTTP_PROXY is not used where REQUEST_"));
	assert_string_equal(way_to(&p, "h", 443, true), "all:1");
}

static void test_urls_of_proxies(void **state)
{
	static const struct {
		const char *value, *way, *login;
	} cases[] = {
		{ "http://proxy:3128", "proxy:3128", "" },
		{ "HTTP://proxy:3128/", "proxy:3128", "" },
		{ "http://proxy", "proxy:80", "" },
		{ "proxy:3128", "proxy:3128", "" },
		{ "proxy", "proxy:80", "" },
		{ " http://proxy:3128\r\n", "proxy:3128", "" },
		{ "http://10.0.0.1:8080/a/path?query", "10.0.0.1:8080", "" },
		{ "http://[fd00::1]:3128", "[fd00::1]:3128", "" },
		{ "http://[fd00::1]", "[fd00::1]:80", "" },
		{ "http://user:secret@proxy:3128", "proxy:3128", "dXNlcjpzZWNyZXQ=" },
		{ "user:secret@proxy:3128", "proxy:3128", "dXNlcjpzZWNyZXQ=" },
		{ "http://user@proxy", "proxy:80", "dXNlcjo=" },
		{ "http://user:@proxy", "proxy:80", "dXNlcjo=" },
		/* "a@b:c/d e:f" */
		{ "http://a%40b:c%2Fd%20e:f@proxy:1", "proxy:1", "YUBiOmMvZCBlOmY=" },
		{ "http://u:p@ss@proxy:1", "proxy:1", "dTpwQHNz" },
	};
	struct outproxies p;
	char set[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		snprintf(set, sizeof(set), "HTTPS_PROXY=%s", cases[i].value);
		READ(&p, set);
		assert_string_equal(way_to(&p, "h", 443, true), cases[i].way);
		assert_string_equal(p.https.login, cases[i].login);
	}
}

static void test_what_cannot_be_used_is_said_and_shows_no_password(void **state)
{
	static const char no_url[] = "HTTPS_PROXY is not the URL of a proxy";
	static const struct {
		const char *value, *words;
	} cases[] = {
		{ "https://u:secret@proxy:443", "HTTPS_PROXY names a proxy that wants to be" },
		{ "https://proxy", "HTTPS_PROXY names a proxy that wants to be" },
		{ "socks5://u:secret@proxy:1080", "HTTPS_PROXY names a SOCKS proxy" },
		{ "socks5h://proxy", "HTTPS_PROXY names a SOCKS proxy" },
		{ "SOCKS4a://proxy", "HTTPS_PROXY names a SOCKS proxy" },
		{ "socks://proxy", "HTTPS_PROXY names a SOCKS proxy" },
		{ "ftp://u:secret@proxy", no_url },
		{ "://u:secret@proxy", no_url },
		{ "httpx://u:secret@proxy", no_url },
		{ "http://u:secret@", no_url },
		{ "http://u:sec%2ret@proxy", no_url },
		{ "http://u:secret%@proxy", no_url },
		{ "http://u:secret%0a@proxy", no_url },
		{ "http://u:secret\x01@proxy", no_url },
		{ "http://u:secret/with@proxy", no_url },
		{ "http://u:secret@proxy:0", no_url },
		{ "http://u:secret@proxy:65536", no_url },
		{ "http://u:secret@proxy:port", no_url },
		{ "http://u:secret@[fd00::1", no_url },
		{ "http://u:secret@pro xy", no_url },
		{ "/", no_url },
	};
	struct outproxies p;
	char set[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *way;

		snprintf(set, sizeof(set), "HTTPS_PROXY=%s", cases[i].value);
		READ(&p, set);
		way = way_to(&p, "h", 443, true);
		if (!strstr(way, cases[i].words))
			fail_msg("%s gives \"%s\"", cases[i].value, way);
		assert_null(strstr(way, "secret"));
		/* It stands in the way of the servers it is for, and of no others. */
		assert_string_equal(way_to(&p, "localhost", 443, true), "straight");
		assert_string_equal(way_to(&p, "h", 80, false), "straight");
	}
}

static void test_long_values_are_refused_whole(void **state)
{
	static char set[16384];
	struct outproxies p;

	(void)state;
	for (size_t len = 100; len < sizeof(set) - 64; len += 97) {
		int at = snprintf(set, sizeof(set), "HTTPS_PROXY=http://u:");

		memset(set + at, 'x', len);
		strcpy(set + at + len, "@proxy:1");
		READ(&p, set);
		if (len + 2 <= OUTPROXY_LOGIN_MAX) {
			assert_null(p.https.problem);
		} else {
			assert_non_null(p.https.problem);
			assert_string_equal(p.https.login, "");
		}
		memset(set, 'h', len);
		memcpy(set, "HTTPS_PROXY=", 12);
		set[len] = '\0';
		READ(&p, set);
		assert_true((p.https.problem == NULL) == (len - 12 < OUTPROXY_HOST_MAX));
	}
}

static void test_no_proxy(void **state)
{
	static const struct {
		const char *list, *host;
		uint16_t port;
		bool is_excepted;
	} cases[] = {
		{ "", "example.com", 443, false },
		{ "*", "example.com", 443, true },
		{ "a.test,*", "example.com", 443, true },
		{ "*,a.test", "10.1.2.3", 443, true },
		{ "example.com", "example.com", 443, true },
		{ "example.com", "a.b.example.com", 443, true },
		{ "example.com", "badexample.com", 443, false },
		{ "example.com", "example.com.evil.test", 443, false },
		{ "EXAMPLE.com", "Control.Example.COM", 443, true },
		{ "example.com.", "example.com", 443, true },
		{ "example.com", "example.com.", 443, true },
		{ ".example.com", "a.example.com", 443, true },
		{ ".example.com", "example.com", 443, false },
		{ "*.example.com", "a.example.com", 443, true },
		{ "*.example.com", "example.com", 443, false },
		{ "ex*", "example.com", 443, false },
		{ "com", "example.com", 443, true },
		{ "a.test, example.com ,b.test", "example.com", 443, true },
		{ "a.test example.com\tb.test", "example.com", 443, true },
		{ ",,example.com,,", "example.com", 443, true },
		{ "example.com:443", "example.com", 443, true },
		{ "example.com:443", "a.example.com", 443, true },
		{ "example.com:8443", "example.com", 443, false },
		{ "example.com:", "example.com", 443, true },
		{ "example.com:https", "example.com", 443, false },
		{ ":443", "example.com", 443, false },
		{ ".", "example.com", 443, false },
		{ "https://example.com", "example.com", 443, false },
		{ "10.1.2.3", "10.1.2.3", 443, true },
		{ "10.1.2.3", "10.1.2.30", 443, false },
		{ "10.1.2.3:443", "10.1.2.3", 443, true },
		{ "10.1.2.3:80", "10.1.2.3", 443, false },
		{ "10.0.0.0/8", "10.200.3.4", 443, true },
		{ "10.9.9.9/8", "10.200.3.4", 443, true },
		{ "10.0.0.0/8", "11.0.0.1", 443, false },
		{ "10.0.0.0/8", "example.com", 443, false },
		{ "0.0.0.0/0", "192.0.2.1", 443, true },
		{ "0.0.0.0/0", "fd00::1", 443, false },
		{ "10.0.0.0/33", "10.0.0.0", 443, false },
		{ "10.0.0.0/", "10.0.0.0", 443, false },
		{ "fd00::/8", "fdff::1", 443, true },
		{ "fd00::/8", "10.0.0.1", 443, false },
		{ "fd00::1", "fd00::1", 443, true },
		{ "fd00:0:0::1", "fd00::1", 443, true },
		{ "[fd00::1]", "fd00::1", 443, true },
		{ "[fd00::1]:443", "fd00::1", 443, true },
		{ "[fd00::1]:80", "fd00::1", 443, false },
		{ "[fd00::1]x", "fd00::1", 443, false },
		{ "[", "fd00::1", 443, false },
		{ "[]", "fd00::1", 443, false },
		/* What is on this machine needs no entry. */
		{ "", "localhost", 443, true },
		{ "", "LocalHost", 443, true },
		{ "", "localhost.", 443, true },
		{ "", "127.0.0.1", 443, true },
		{ "", "127.77.0.1", 443, true },
		{ "", "::1", 443, true },
		{ "", "localhost.example.com", 443, false },
		{ "", "notlocalhost", 443, false },
	};
	struct outproxies p;
	char set[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *way;

		snprintf(set, sizeof(set), "NO_PROXY=%s", cases[i].list);
		READ(&p, "HTTPS_PROXY=http://p:1", set);
		way = way_to(&p, cases[i].host, cases[i].port, true);
		if (strcmp(way, cases[i].is_excepted ? "straight" : "p:1") != 0)
			fail_msg("NO_PROXY=%s: %s:%u is reached %s", cases[i].list, cases[i].host,
				 cases[i].port, way);
	}
	READ(&p, "HTTPS_PROXY=http://p:1", "no_proxy=a.test", "NO_PROXY=b.test");
	assert_string_equal(way_to(&p, "a.test", 443, true), "p:1");
	assert_string_equal(way_to(&p, "b.test", 443, true), "straight");
	READ(&p, "HTTPS_PROXY=http://p:1", "no_proxy=a.test");
	assert_string_equal(way_to(&p, "a.test", 443, true), "straight");
}

static void test_an_entry_without_end_is_passed_over(void **state)
{
	static char set[5000];
	struct outproxies p;

	(void)state;
	memset(set, 'x', sizeof(set) - 1);
	memcpy(set, "NO_PROXY=", 9);
	strcpy(set + 4000, ",example.com");
	READ(&p, "HTTPS_PROXY=http://p:1", set);
	assert_string_equal(way_to(&p, "example.com", 443, true), "straight");
	assert_string_equal(way_to(&p, "other.com", 443, true), "p:1");
}

static void test_its_own_proxy_leads_nowhere(void **state)
{
	static const struct {
		const char *listen, *value;
		bool is_own;
	} cases[] = {
		{ "127.0.0.1:1055", "http://localhost:1055", true },
		{ "localhost:1055", "http://127.0.0.1:1055", true },
		{ "localhost:1055", "socks5://localhost:1055/", true },
		{ "localhost:1080", "socks5://localhost", true },
		{ "[::1]:1055", "http://[::1]:1055", true },
		{ "[::1]:1055", "http://127.0.0.1:1055", true },
		{ ":1055", "localhost:1055", true },
		{ "0.0.0.0:1055", "localhost:1055", true },
		{ "192.0.2.1:1055", "http://192.0.2.1:1055", true },
		{ "127.0.0.1:1055", "http://localhost:1056", false },
		{ "127.0.0.1:1055", "http://proxy:1055", false },
		{ "192.0.2.1:1055", "http://localhost:1055", false },
		{ ":1055", "http://192.0.2.1:1055", false },
		{ "1055", "http://localhost:1055", false },
		{ ":", "http://localhost:1055", false },
		{ "", "http://localhost:1055", false },
	};
	struct outproxies p;
	char set[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool is_straight;

		snprintf(set, sizeof(set), "HTTPS_PROXY=%s", cases[i].value);
		READ(&p, set, "HTTP_PROXY=http://other:1");
		assert_int_equal(outproxies_forget(&p, cases[i].listen), cases[i].is_own);
		is_straight = strcmp(way_to(&p, "h", 443, true), "straight") == 0;
		assert_int_equal(is_straight, cases[i].is_own);
		assert_string_equal(way_to(&p, "h", 80, false), "other:1");
	}
	READ(&p, "NO_PROXY=x");
	assert_false(outproxies_forget(&p, ":0"));
}

/* ---- what is said ---- */

static void expect_request(const struct outproxy *proxy, const char *server, const char *wanted)
{
	char text[OUTPROXY_REQUEST_MAX];
	int len = outproxy_request(proxy, server, text);

	assert_string_equal(text, wanted);
	assert_int_equal(len, strlen(wanted));
}

static void test_the_request(void **state)
{
	struct outproxy proxy = { .variable = "HTTPS_PROXY", .host = "p", .port = 1 };
	char text[OUTPROXY_REQUEST_MAX], server[OUTPROXY_AUTHORITY_MAX];

	(void)state;
	expect_request(&proxy, SERVER, "CONNECT " SERVER " HTTP/1.1\r\nHost: " SERVER "\r\n\r\n");
	strcpy(proxy.login, "dXNlcjpzZWNyZXQ=");
	expect_request(&proxy, outproxy_authority("fd00::1", 8443, server),
		       "CONNECT [fd00::1]:8443 HTTP/1.1\r\nHost: [fd00::1]:8443\r\n"
		       "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n");
	assert_int_equal(outproxy_request(&proxy, "a\r\nX: y:443", text), -EINVAL);
	assert_int_equal(outproxy_request(&proxy, "a b:443", text), -EINVAL);
	/* The longest there can be. */
	memset(proxy.login, 'x', sizeof(proxy.login) - 1);
	proxy.login[sizeof(proxy.login) - 1] = '\0';
	memset(server, 'h', sizeof(server) - 1);
	server[sizeof(server) - 1] = '\0';
	assert_true(outproxy_request(&proxy, server, text) > 0);
	assert_memory_equal(text + strlen(text) - 5, "x\r\n\r\n", 5);
}

/* Each beginning first, as it may come in pieces; exactly as many bytes as there are. */
static int answer(const struct outproxy *proxy, const char *bytes, size_t len, size_t *used,
		  char sentence[static OUTPROXY_SENTENCE_MAX])
{
	int err = -EAGAIN;

	for (size_t n = 0; n <= len && err == -EAGAIN; n++) {
		char *copy = malloc(n ? n : 1);

		assert_non_null(copy);
		memcpy(copy, bytes, n);
		err = outproxy_answer(proxy, SERVER, copy, n, used, sentence);
		assert_true(err != 0 || *used == n); /* as soon as it is whole */
		free(copy);
	}
	return err;
}

static void test_a_connection_stands_after_any_2xx(void **state)
{
	static const char *const heads[] = {
		"HTTP/1.1 200 Connection established\r\n\r\n",
		"HTTP/1.0 200 OK\r\nProxy-agent: Apache\r\n\r\n",
		"HTTP/1.1 200\r\n\r\n",
		"HTTP/1.1 200 \r\nContent-Length: 10\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	};
	const struct outproxy proxy = { .variable = "HTTPS_PROXY", .host = "p", .port = 1 };
	char sentence[OUTPROXY_SENTENCE_MAX], bytes[512];
	size_t used;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		size_t len = strlen(heads[i]);

		assert_int_equal(answer(&proxy, heads[i], len, &used, sentence), 0);
		assert_int_equal(used, len);
		/* What follows is the server's, whatever it looks like. */
		snprintf(bytes, sizeof(bytes), "%sHTTP/1.1 403 No\r\n\r\n", heads[i]);
		assert_int_equal(
			outproxy_answer(&proxy, SERVER, bytes, strlen(bytes), &used, sentence), 0);
		assert_int_equal(used, len);
	}
}

static void test_a_refusal_is_told(void **state)
{
	static const struct {
		const char *bytes, *login;
		int err;
		const char *sentence;
	} cases[] = {
		{ "HTTP/1.1 403 Forbidden\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 refused control.example.com:443: 403 Forbidden" },
		{ "HTTP/1.1 403\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 refused control.example.com:443: 403" },
		{ "HTTP/1.1 403 \xff\x1b[31m\r\n\r\n", "", -EBADMSG,
		  "proxy:3128 is no HTTP proxy: it does not answer in HTTP" },
		{ "HTTP/1.1 403 \xc3\xbc\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 refused control.example.com:443: 403 ??" },
		{ "HTTP/1.1 502 Bad Gateway\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 did not reach control.example.com:443: 502 Bad Gateway" },
		{ "HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 refused control.example.com:443: 302 Found" },
		{ "HTTP/1.1 101 Switching Protocols\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 refused control.example.com:443: 101 Switching Protocols" },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 refused control.example.com:443: 403 No" },
		{ "HTTP/1.1 407 Proxy Authentication Required\r\n"
		  "Proxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
		  "", -ECONNREFUSED,
		  "the proxy proxy:3128 asks for user and password: give them as in "
		  "HTTPS_PROXY=http://user:password@proxy:3128" },
		{ "HTTP/1.1 407 Log in\r\n\r\n", "", -ECONNREFUSED,
		  "the proxy proxy:3128 asks for user and password: give them as in "
		  "HTTPS_PROXY=http://user:password@proxy:3128" },
		{ "HTTP/1.1 407 Wrong\r\nProxy-Authenticate: Negotiate, bAsIc\r\n\r\n", "c2VjcmV0",
		  -ECONNREFUSED,
		  "the proxy proxy:3128 does not take the user and password in HTTPS_PROXY: "
		  "407 Wrong" },
		{ "HTTP/1.1 407 X\r\nProxy-Authenticate: NTLM\r\n"
		  "Proxy-Authenticate: Negotiate realm=notbasic\r\n\r\n",
		  "c2VjcmV0", -ECONNREFUSED,
		  "the proxy proxy:3128 wants another login than user and password (it offers no "
		  "Basic)" },
		{ "SSH-2.0-OpenSSH_9.2\r\n", "", -EBADMSG,
		  "proxy:3128 is no HTTP proxy: it does not answer in HTTP" },
		{ "\x15\x03\x01", "", -EBADMSG,
		  "proxy:3128 is no HTTP proxy: it does not answer in HTTP" },
		{ "HTTP/2 200 OK\r\n\r\n", "", -EBADMSG,
		  "proxy:3128 is no HTTP proxy: it does not answer in HTTP" },
		{ "HTTP/1.1 20 OK\r\n\r\n", "", -EBADMSG,
		  "proxy:3128 is no HTTP proxy: it does not answer in HTTP" },
		{ "HTTP/1.1 200 OK\r\nno header\r\n\r\n", "", -EBADMSG,
		  "proxy:3128 is no HTTP proxy: it does not answer in HTTP" },
	};
	struct outproxy proxy = { .variable = "HTTPS_PROXY", .host = "proxy", .port = 3128 };
	char sentence[OUTPROXY_SENTENCE_MAX];
	size_t used;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		strcpy(proxy.login, cases[i].login);
		assert_int_equal(
			answer(&proxy, cases[i].bytes, strlen(cases[i].bytes), &used, sentence),
			cases[i].err);
		assert_string_equal(sentence, cases[i].sentence);
	}
}

static void test_a_head_without_end_is_refused_in_time(void **state)
{
	const struct outproxy proxy = { .variable = "HTTPS_PROXY", .host = "p", .port = 1 };
	static const char again[] = "HTTP/1.1 100 Continue\r\n\r\n";
	static char bytes[HTTP1_HEAD_MAX];
	char sentence[OUTPROXY_SENTENCE_MAX];
	size_t used, at = 0;

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	memcpy(bytes, "HTTP/1.1 200 OK\r\nX: ", 20);
	assert_int_equal(outproxy_answer(&proxy, SERVER, bytes, sizeof(bytes) - 1, &used, sentence),
			 -EAGAIN);
	assert_int_equal(outproxy_answer(&proxy, SERVER, bytes, sizeof(bytes), &used, sentence),
			 -EMSGSIZE);
	assert_string_equal(sentence, "the proxy p:1 answers with too long a head");
	/* Nor may it go on with 1xx for ever. */
	for (; at + sizeof(again) <= sizeof(bytes); at += sizeof(again) - 1)
		memcpy(bytes + at, again, sizeof(again) - 1);
	memcpy(bytes + at, again, sizeof(bytes) - at);
	assert_int_equal(outproxy_answer(&proxy, SERVER, bytes, sizeof(bytes), &used, sentence),
			 -EMSGSIZE);
}

/* The longest names there can be, and the reason still shows. */
static void test_sentences_have_room(void **state)
{
	struct outproxy proxy = { .variable = "HTTPS_PROXY", .port = 65535 };
	static const char bytes[] = "HTTP/1.1 403 Forbidden\r\n\r\n";
	char sentence[OUTPROXY_SENTENCE_MAX], server[OUTPROXY_AUTHORITY_MAX], host[256];
	size_t used;

	(void)state;
	memset(host, 'h', sizeof(host) - 1);
	host[sizeof(host) - 1] = '\0';
	memcpy(proxy.host, host, sizeof(host));
	outproxy_authority(host, 65535, server);
	assert_int_equal(outproxy_answer(&proxy, server, bytes, strlen(bytes), &used, sentence),
			 -ECONNREFUSED);
	assert_non_null(strstr(sentence, ": 403 Forbidden"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_variable_of_the_servers_kind_names_it),
		cmocka_unit_test(test_an_all_proxy_of_another_kind_is_ignored_and_told),
		cmocka_unit_test(test_what_cgi_could_forge_is_not_believed),
		cmocka_unit_test(test_urls_of_proxies),
		cmocka_unit_test(test_what_cannot_be_used_is_said_and_shows_no_password),
		cmocka_unit_test(test_long_values_are_refused_whole),
		cmocka_unit_test(test_no_proxy),
		cmocka_unit_test(test_an_entry_without_end_is_passed_over),
		cmocka_unit_test(test_its_own_proxy_leads_nowhere),
		cmocka_unit_test(test_the_request),
		cmocka_unit_test(test_a_connection_stands_after_any_2xx),
		cmocka_unit_test(test_a_refusal_is_told),
		cmocka_unit_test(test_a_head_without_end_is_refused_in_time),
		cmocka_unit_test(test_sentences_have_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
