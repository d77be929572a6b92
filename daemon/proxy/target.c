/* HOST, HOST:PORT and [IPV6]:PORT. What is no address must look like a host name. */
#include "daemon/proxy/target.h"

#include <string.h>

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_';
}

bool target_set_host(struct target_place *place, const char *host, size_t len)
{
	char text[TARGET_NAME_MAX];

	if (len > 1 && host[len - 1] == '.')
		len--;
	if (len == 0 || len >= sizeof(text))
		return false;
	memcpy(text, host, len);
	text[len] = '\0';
	place->name[0] = '\0';
	place->is_name = false;
	if (strlen(text) == len && ip_parse(text, &place->addr) == 0)
		return true;
	for (size_t i = 0; i < len; i++) {
		if (!is_name_char(text[i]) || (text[i] == '.' && (i == 0 || text[i - 1] == '.')))
			return false;
		if (text[i] >= 'A' && text[i] <= 'Z')
			text[i] = (char)(text[i] - 'A' + 'a');
	}
	place->is_name = true;
	memcpy(place->name, text, len + 1);
	return true;
}

static bool parse_port(const char *text, size_t len, uint16_t *port)
{
	unsigned n = 0;

	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		n = n * 10 + (unsigned)(text[i] - '0');
	}
	*port = (uint16_t)n;
	return n > 0 && n <= UINT16_MAX;
}

bool target_parse(struct target_place *place, const char *text, size_t len, uint16_t default_port)
{
	const char *end = text + len, *host = text, *host_end, *port;

	if (len && text[0] == '[') {
		host = text + 1;
		host_end = memchr(host, ']', len - 1);
		if (!host_end || !memchr(host, ':', (size_t)(host_end - host)))
			return false;
		port = host_end + 1;
		if (port < end && *port != ':')
			return false;
	} else {
		port = memchr(text, ':', len);
		if (!port)
			port = end;
		host_end = port;
	}
	if (!target_set_host(place, host, (size_t)(host_end - host)))
		return false;
	if (port < end)
		return parse_port(port + 1, (size_t)(end - port - 1), &place->port);
	place->port = default_port;
	return default_port != 0;
}
