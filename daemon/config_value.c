/*
 * Values of the WireGuard file. Strict where a slip would be dangerous (keys,
 * prefixes, ports); as lenient as wg(8) where both spellings mean one thing.
 */
#include "daemon/config_value.h"

#include <errno.h>
#include <string.h>

#include <sodium.h>

#define KEY_TEXT_LEN 44
#define LABEL_MAX    63
#define DOMAIN_MAX   253

int config_value_key(const char *text, uint8_t key[static WG_KEY_LEN])
{
	size_t len;
	const char *end;

	/* libsodium decodes in constant time and refuses unused bits that are not zero. */
	if (strlen(text) != KEY_TEXT_LEN ||
	    sodium_base642bin(key, WG_KEY_LEN, text, KEY_TEXT_LEN, NULL, &len, &end,
			      sodium_base64_VARIANT_ORIGINAL) != 0 ||
	    len != WG_KEY_LEN || *end != '\0' || sodium_is_zero(key, WG_KEY_LEN))
		return -EINVAL;
	return 0;
}

int config_value_number(const char *text, uint32_t max, uint32_t *number)
{
	uint64_t value = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value > max)
			return -EINVAL;
	}
	*number = (uint32_t)value;
	return 0;
}

int config_value_prefix(const char *text, struct ip_prefix *prefix)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char address[IP_TEXT_MAX];
	uint32_t bits, max;

	if (len >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, len);
	address[len] = '\0';
	if (ip_parse(address, &prefix->addr) < 0)
		return -EINVAL;
	/* ::ffff:1.2.3.4 is IPv4 in our form; as IPv6 text its length would mean something else. */
	if (ip_is_v4(&prefix->addr) && strchr(address, ':'))
		return -EINVAL;
	max = ip_is_v4(&prefix->addr) ? 32 : 128;
	bits = max;
	if (slash && config_value_number(slash + 1, max, &bits) < 0)
		return -EINVAL;
	prefix->len = (uint8_t)bits;
	return 0;
}

void config_value_mask(struct ip_prefix *prefix)
{
	unsigned bits = prefix->len + (ip_is_v4(&prefix->addr) ? 96u : 0u);

	for (unsigned i = 0; i < sizeof(prefix->addr.byte); i++) {
		unsigned keep = bits > 8 * i ? bits - 8 * i : 0;

		if (keep < 8)
			prefix->addr.byte[i] &= (uint8_t)(0xff00u >> keep);
	}
}

static int copy_host(const char *text, size_t len, char host[static 256])
{
	if (len == 0 || len > 255)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	return 0;
}

int config_value_endpoint(const char *text, char host[static 256], uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	struct ip_addr ip;
	uint32_t number;
	char name[256];

	if (!colon || config_value_number(colon + 1, UINT16_MAX, &number) < 0 || number == 0)
		return -EINVAL;
	if (text[0] == '[') {
		if (colon < text + 2 || colon[-1] != ']' ||
		    copy_host(text + 1, (size_t)(colon - text) - 2, host) < 0 ||
		    ip_parse(host, &ip) < 0 || !strchr(host, ':'))
			return -EINVAL;
	} else if (copy_host(text, (size_t)(colon - text), host) < 0 ||
		   config_value_domain(host, name) < 0) {
		return -EINVAL; /* also an IPv6 address without brackets */
	} else if (strspn(host, "0123456789.") == strlen(host) && ip_parse(host, &ip) < 0) {
		return -EINVAL; /* 300.1.2.3 is no name */
	}
	*port = (uint16_t)number;
	return 0;
}

static bool is_label_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* One label at text, lower-cased into out; its length, or 0. */
static size_t take_label(const char *text, char *out)
{
	size_t len = 0;

	for (;; len++) {
		char c = text[len];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!is_label_byte(c))
			break;
		if (len == LABEL_MAX)
			return 0;
		out[len] = c;
	}
	if (len == 0 || out[0] == '-' || out[len - 1] == '-')
		return 0;
	out[len] = '\0';
	return len;
}

int config_value_label(const char *text, char label[static 64])
{
	size_t len = take_label(text, label);

	return len > 0 && text[len] == '\0' ? 0 : -EINVAL;
}

int config_value_domain(const char *text, char domain[static 256])
{
	char label[LABEL_MAX + 1];
	size_t used = 0;

	for (;;) {
		size_t len = take_label(text, label);

		if (len == 0 || used + len > DOMAIN_MAX)
			return -EINVAL;
		memcpy(domain + used, label, len);
		used += len;
		text += len;
		if (text[0] == '.' && text[1] != '\0') {
			domain[used++] = '.';
			text++;
			continue;
		}
		domain[used] = '\0';
		/* One dot at the end means the same name. */
		return text[0] == '\0' || text[0] == '.' ? 0 : -EINVAL;
	}
}
