/*
 * The variables mean what they mean to the stock client, which is Go's reading: names in upper case
 * before those in lower case; NO_PROXY holds names (with what is below them; of ".name" only what
 * is below), addresses, networks, each with a port if it likes, or "*"; loopback is never asked of
 * a proxy, nor is HTTP_PROXY believed where whoever talks to a web server could set it (CGI).
 * Behind them comes ALL_PROXY, which is curl's.
 *
 * A variable that cannot be used is an error for each server that it is for: whoever set it has no
 * other way, or wants none to be taken. Not so ALL_PROXY, which the stock client does not read: in
 * its containers it names the client's own SOCKS proxy for the programs beside it.
 *
 * A value may hold a password. No sentence has more of it than host and port.
 */
#include "daemon/outproxy.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "daemon/config_value.h"
#include "daemon/http1.h"
#include "shared/util.h"

#define URL_MAX    4096
#define ENTRY_MAX  512 /* of NO_PROXY; a longer one is no name */
#define SEPARATORS ", \t\r\n"

#define NO_URL "is not the URL of a proxy, as http://user:password@host:3128 is one"
#define CGI                                                                                       \
	"is not used where REQUEST_METHOD is set (CGI), since whoever asks the web server could " \
	"have set it; http_proxy is"

static const struct scheme {
	const char *name;
	uint16_t port;
	const char *problem;
} schemes[] = {
	{ "http", 80, NULL },
	{ "https", 443,
	  "names a proxy that wants to be spoken to in TLS (https://), which this daemon does not "
	  "do; name one with http://" },
	{ "socks", 1080, "names a SOCKS proxy, which does not serve here; name one with http://" },
};

/* ---- one variable ---- */

/* "socks5h" and the like are all "socks". NULL: not known. rest: what follows "://". */
static const struct scheme *scheme_of(const char *url, const char **rest)
{
	const char *end = strstr(url, "://");
	size_t len = end ? (size_t)(end - url) : 0;

	*rest = end ? end + 3 : url;
	if (!end)
		return &schemes[0];
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		size_t name = strlen(schemes[i].name);
		bool is_prefix = len >= name && strncasecmp(url, schemes[i].name, name) == 0;

		if (is_prefix && (len == name || schemes[i].port == 1080))
			return &schemes[i];
	}
	return NULL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Appends what the text stands for. False: it is wrong, or too long. */
static bool decode(const char *at, size_t len, char out[static OUTPROXY_LOGIN_MAX], size_t *out_len)
{
	for (size_t i = 0; i < len; i++) {
		int byte = (unsigned char)at[i];

		if (byte == '%') {
			int high = len - i > 2 ? hex_digit(at[i + 1]) : -1;
			int low = len - i > 2 ? hex_digit(at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return false;
			byte = high * 16 + low;
			i += 2;
		}
		if (byte < ' ' || byte == 0x7f || *out_len == OUTPROXY_LOGIN_MAX)
			return false;
		out[(*out_len)++] = (char)byte;
	}
	return true;
}

/* "user:password" or "user", each with percent signs. */
static bool read_login(struct outproxy *p, const char *at, size_t len)
{
	const char *colon = memchr(at, ':', len);
	size_t user = colon ? (size_t)(colon - at) : len, plain_len = 0;
	char plain[OUTPROXY_LOGIN_MAX];
	bool ok = decode(at, user, plain, &plain_len) && plain_len < sizeof(plain);

	if (ok) {
		plain[plain_len++] = ':';
		ok = !colon || decode(colon + 1, len - user - 1, plain, &plain_len);
	}
	if (ok)
		sodium_bin2base64(p->login, sizeof(p->login), (const uint8_t *)plain, plain_len,
				  sodium_base64_VARIANT_ORIGINAL);
	sodium_memzero(plain, sizeof(plain));
	return ok;
}

/* Sets host, port and login. False: it is no URL. */
static bool read_authority(struct outproxy *p, const char *at, uint16_t default_port)
{
	size_t len = strcspn(at, "/?#");
	const char *host = memrchr(at, '@', len), *colon;
	char text[OUTPROXY_AUTHORITY_MAX + 8];
	struct http1_url url;

	if (host && !read_login(p, at, (size_t)(host - at)))
		return false;
	host = host ? host + 1 : at;
	len -= (size_t)(host - at);
	if ((size_t)snprintf(text, sizeof(text), "http://%.*s", (int)MIN(len, URL_MAX), host) >=
		    sizeof(text) ||
	    http1_parse_url(text, &url) != 0)
		return false;
	colon = memrchr(host, ':', len);
	p->port = colon && !memchr(colon, ']', len - (size_t)(colon - host)) ? url.port
									     : default_port;
	memcpy(p->host, url.host, sizeof(p->host));
	return true;
}

static void read_url(struct outproxy *p, const char *value)
{
	const char *rest, *at = value + strspn(value, SEPARATORS);
	char url[URL_MAX];
	size_t len = strlen(at);
	const struct scheme *scheme;

	while (len > 0 && strchr(SEPARATORS, at[len - 1]))
		len--;
	p->problem = NO_URL;
	if (len >= sizeof(url))
		return;
	memcpy(url, at, len);
	url[len] = '\0';
	scheme = scheme_of(url, &rest);
	if (scheme && read_authority(p, rest, scheme->port))
		p->problem = scheme->problem;
	else
		sodium_memzero(p->login, sizeof(p->login));
	sodium_memzero(url, sizeof(url));
}

/* The first that is set. */
static const char *first_of(outproxy_lookup *lookup, const char *const *names, unsigned count,
			    const char **name)
{
	for (unsigned i = 0; i < count; i++) {
		const char *value = lookup(names[i]);

		*name = names[i];
		if (value && *value)
			return value;
	}
	*name = NULL;
	return NULL;
}

/* The third and the fourth are ALL_PROXY. */
static void read_first(struct outproxies *proxies, struct outproxy *p, outproxy_lookup *lookup,
		       const char *const names[4])
{
	const char *value = first_of(lookup, names, 4, &p->variable);

	if (!value)
		return;
	read_url(p, value);
	if (p->problem && (p->variable == names[2] || p->variable == names[3])) {
		proxies->ignored = p->problem;
		sodium_memzero(p, sizeof(*p));
	}
}

void outproxies_read(struct outproxies *proxies, outproxy_lookup *lookup)
{
	static const char *const https[] = { "HTTPS_PROXY", "https_proxy", "ALL_PROXY",
					     "all_proxy" };
	static const char *const http[] = { "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy" };
	static const char *const cgi[] = { "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy" };
	static const char *const except[] = { "NO_PROXY", "no_proxy" };
	const char *method = lookup("REQUEST_METHOD"), *name;
	bool is_cgi = method && *method;

	*proxies = (struct outproxies){ .except = first_of(lookup, except, 2, &name) };
	if (!proxies->except)
		proxies->except = "";
	read_first(proxies, &proxies->https, lookup, https);
	read_first(proxies, &proxies->http, lookup, is_cgi ? cgi : http);
	if (is_cgi && proxies->http.variable && strcmp(proxies->http.variable, "HTTP_PROXY") == 0)
		proxies->http.problem = CGI;
}

/* ---- which one leads to a server ---- */

static bool is_loopback(const char *host)
{
	struct ip_addr ip;

	return strcasecmp(host, "localhost") == 0 ||
	       (ip_parse(host, &ip) == 0 && ip_is_loopback(&ip));
}

static bool forget_at(struct outproxy *p, const char *host, uint16_t port)
{
	struct ip_addr ip;
	bool is_any = !host[0] || (ip_parse(host, &ip) == 0 && ip_is_any(&ip));
	bool is_same = strcasecmp(host, p->host) == 0 ||
		       (is_loopback(p->host) && (is_any || is_loopback(host)));

	if (!p->variable || p->port != port || !is_same)
		return false;
	sodium_memzero(p, sizeof(*p));
	return true;
}

bool outproxies_forget(struct outproxies *proxies, const char *listen)
{
	const char *colon = strrchr(listen, ':'), *start = listen + (listen[0] == '[');
	char host[OUTPROXY_HOST_MAX];
	uint32_t port;
	bool https, http;
	size_t len;

	if (!colon || config_value_number(colon + 1, UINT16_MAX, &port) != 0)
		return false;
	len = (size_t)(colon - start);
	if (len > 0 && colon[-1] == ']')
		len--;
	if (len >= sizeof(host))
		return false;
	memcpy(host, start, len);
	host[len] = '\0';
	https = forget_at(&proxies->https, host, (uint16_t)port);
	http = forget_at(&proxies->http, host, (uint16_t)port);
	return https || http;
}

static bool network_has(const char *text, const struct ip_addr *ip)
{
	struct ip_prefix network, own = { *ip, 0 };

	if (config_value_prefix(text, &network) != 0 || ip_is_v4(&network.addr) != ip_is_v4(ip))
		return false;
	own.len = network.len;
	config_value_mask(&network);
	config_value_mask(&own);
	return ip_equal(&network.addr, &own.addr);
}

/* Cuts ":port" and brackets off. The port, 0 without one; -1: no entry that means anything. */
static int cut_port(char **entry)
{
	char *colon = strrchr(*entry, ':'), *close = strrchr(*entry, ']');
	uint32_t port = 0;

	if (**entry == '[' && close) {
		if (close[1] && close[1] != ':')
			return -1;
		colon = close[1] ? close + 1 : NULL;
		*close = '\0';
		++*entry;
	} else if (colon && strchr(*entry, ':') != colon) {
		colon = NULL; /* an IPv6 address */
	}
	if (colon) {
		*colon = '\0';
		if (colon[1] && config_value_number(colon + 1, UINT16_MAX, &port) != 0)
			return -1;
	}
	return **entry ? (int)port : -1;
}

static bool name_is_below(const char *host, const char *domain)
{
	size_t len = strlen(host), n = strlen(domain);

	return len > n && host[len - n - 1] == '.' && strcasecmp(host + len - n, domain) == 0;
}

/* ip: host's, or NULL. The entry is written to. */
static bool entry_matches(char *entry, const char *host, const struct ip_addr *ip, uint16_t port)
{
	struct ip_addr own;
	size_t len;
	int wanted;

	if (strcmp(entry, "*") == 0)
		return true;
	if (strchr(entry, '/'))
		return ip && network_has(entry, ip);
	wanted = cut_port(&entry);
	if (wanted < 0 || (wanted > 0 && wanted != port))
		return false;
	if (ip_parse(entry, &own) == 0)
		return ip && ip_equal(&own, ip);
	len = strlen(entry);
	if (len > 1 && entry[len - 1] == '.')
		entry[len - 1] = '\0';
	if (strncmp(entry, "*.", 2) == 0)
		entry++;
	if (*entry == '.')
		return name_is_below(host, entry + 1);
	return strcasecmp(host, entry) == 0 || name_is_below(host, entry);
}

static bool is_excepted(const char *list, const char *host, const struct ip_addr *ip, uint16_t port)
{
	while (*(list += strspn(list, SEPARATORS))) {
		size_t len = strcspn(list, SEPARATORS);
		char entry[ENTRY_MAX];

		if (len < sizeof(entry)) {
			memcpy(entry, list, len);
			entry[len] = '\0';
			if (entry_matches(entry, host, ip, port))
				return true;
		}
		list += len;
	}
	return false;
}

const struct outproxy *outproxies_for(const struct outproxies *proxies, const char *host,
				      uint16_t port, bool is_tls)
{
	const struct outproxy *p = is_tls ? &proxies->https : &proxies->http;
	char name[OUTPROXY_HOST_MAX];
	struct ip_addr ip;
	size_t len = strlen(host);

	if (!p->variable)
		return NULL;
	if (len >= sizeof(name))
		return p;
	memcpy(name, host, len + 1);
	if (len > 1 && name[len - 1] == '.')
		name[len - 1] = '\0';
	if (is_loopback(name) ||
	    is_excepted(proxies->except, name, ip_parse(name, &ip) == 0 ? &ip : NULL, port))
		return NULL;
	return p;
}
