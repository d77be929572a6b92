/*
 * The WireGuard file, parsed in one pass over a private copy of its text.
 *
 * A line is a section, "key = value", a comment, or empty. Of the comments only
 * "# Name = ..." and "# Domain = ..." inside a section mean something, so the
 * file stays one that wg-quick reads as well. The copy holds the private key
 * and is wiped.
 *
 * A message must help without telling a secret: values are quoted only when
 * they can be nothing but an address, keys only when they are a short word, so
 * that a key pasted into the wrong place does not end up in a log.
 */
#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "daemon/config_check.h"
#include "daemon/config_value.h"
#include "shared/util.h"

#define MTU_DEFAULT    1420
#define MTU_MIN        576
#define MTU_MAX        65440 /* with WireGuard's header and padding still one UDP datagram */
#define DOMAIN_DEFAULT "mesh"

enum section { SECTION_NONE, SECTION_INTERFACE, SECTION_PEER };

struct parser {
	struct config *config;
	char *error;
	unsigned line, interface_line;
	enum section section;
	uint32_t seen; /* bit i: key_table[i] was in this section already */
	unsigned peer_room;
	struct config_allowed *allowed;
	unsigned allowed_count, allowed_room;
};

struct key {
	const char *name;
	enum section section;
	enum { KEY_ONCE, KEY_MANY, KEY_COMMENT, KEY_UNUSED } kind;
	int (*set)(struct parser *p, char *value);
};

#define fail(p, ...) config_fail((p)->error, (p)->line, __VA_ARGS__)

static int fail_memory(struct parser *p)
{
	return config_fail_memory(p->error);
}

/* The value if it can only be (part of) an address, else "this value". */
static const char *quotable(const char *value)
{
	size_t len = strlen(value);

	return len > 0 && len < 56 && strspn(value, "0123456789abcdefABCDEF.:/[]") == len
		       ? value
		       : "this value";
}

static struct config_peer *current_peer(struct parser *p)
{
	return &p->config->peers[p->config->peer_count - 1];
}

/* ---- the keys of [Interface] ---- */

static int set_private_key(struct parser *p, char *value)
{
	if (config_value_key(value, p->config->private_key) < 0)
		return fail(
			p,
			"PrivateKey is not a key; paste the 44 characters that 'wg genkey' prints");
	return 0;
}

static bool is_usable_address(const struct ip_addr *ip)
{
	if (ip_is_any(ip) || ip_is_loopback(ip))
		return false;
	if (ip_is_v4(ip))
		return ip_v4(ip) >> 28 < 14 && ip_v4(ip) >> 24 != 0;
	return ip->byte[0] != 0xff;
}

static int add_address(struct parser *p, const char *text)
{
	struct config *c = p->config;
	struct ip_prefix own;

	if (config_value_prefix(text, &own) < 0)
		return fail(
			p,
			"Address: %s is not an IP address; write it as 100.64.0.1/10 or fd00::1/64",
			quotable(text));
	if (!is_usable_address(&own.addr))
		return fail(
			p,
			"Address: %s cannot be a node's address; give one of the mesh's own range",
			quotable(text));
	for (unsigned i = 0; i < c->own_count; i++) {
		if (ip_equal(&c->own[i].addr, &own.addr))
			return fail(p, "Address: %s is there twice; remove one", quotable(text));
	}
	if (c->own_count == CONFIG_MAX_OWN)
		return fail(p, "more than %d addresses; remove some", CONFIG_MAX_OWN);
	c->own[c->own_count++] = own;
	return 0;
}

/* Calls add for each item of a comma list; empty items are refused, an empty list is not. */
static int each_item(struct parser *p, char *list, int (*add)(struct parser *p, const char *text))
{
	char *at = list;

	if (*list == '\0')
		return 0;
	while (at) {
		char *comma = strchr(at, ','), *end;
		int err;

		if (comma)
			*comma = '\0';
		at += strspn(at, " \t");
		end = at + strlen(at);
		while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
			*--end = '\0';
		if (*at == '\0')
			return fail(p, "an empty item in the list; remove the comma too much");
		err = add(p, at);
		if (err < 0)
			return err;
		at = comma ? comma + 1 : NULL;
	}
	return 0;
}

static int set_address(struct parser *p, char *value)
{
	if (*value == '\0')
		return fail(p, "Address has no value; write it as Address = 100.64.0.1/10");
	return each_item(p, value, add_address);
}

static int set_listen_port(struct parser *p, char *value)
{
	uint32_t port;

	if (config_value_number(value, UINT16_MAX, &port) < 0)
		return fail(p, "ListenPort must be a number from 0 to 65535 (0: any free port)");
	p->config->listen_port = (uint16_t)port;
	return 0;
}

static int set_mtu(struct parser *p, char *value)
{
	uint32_t mtu;

	if (config_value_number(value, MTU_MAX, &mtu) < 0 || mtu < MTU_MIN)
		return fail(p, "MTU must be a number from %d to %d; without the line it is %d",
			    MTU_MIN, MTU_MAX, MTU_DEFAULT);
	p->config->mtu = mtu;
	return 0;
}

/* Adds "WHAT (line N)" to a line of 512 bytes, as far as there is room. */
static void note(const struct parser *p, char *line, const char *begin, const char *what)
{
	size_t used = strlen(line), room = sizeof(p->config->unused);

	if (used == 0)
		used = (size_t)snprintf(line, room, "%s: ", begin);
	else if (room - used < 64)
		return; /* the reader has got the point */
	else
		used += (size_t)snprintf(line + used, room - used, ", ");
	snprintf(line + used, room - used, "%s (line %u)", what, p->line);
}

/* To others it is a comment, which says what its writer likes: no reason to refuse the file. */
static int set_name(const struct parser *p, const char *value, char name[static CONFIG_NAME_MAX])
{
	if (config_value_label(value, name) == 0)
		return 0;
	name[0] = '\0';
	note(p, p->config->bad_names,
	     "no host name (up to 63 letters, digits and hyphens), so taken for a plain comment",
	     "Name");
	return 0;
}

static int set_own_name(struct parser *p, char *value)
{
	return set_name(p, value, p->config->name);
}

static int set_domain(struct parser *p, char *value)
{
	if (config_value_domain(value, p->config->domain) < 0)
		return fail(p, "the Domain is not a domain name; write it as mesh or mesh.example");
	return 0;
}

/* ---- the keys of [Peer] ---- */

static int set_public_key(struct parser *p, char *value)
{
	if (config_value_key(value, current_peer(p)->public_key) < 0)
		return fail(
			p,
			"PublicKey is not a key; paste the 44 characters that 'wg pubkey' prints");
	return 0;
}

static int set_preshared_key(struct parser *p, char *value)
{
	if (config_value_key(value, current_peer(p)->preshared_key) < 0)
		return fail(
			p,
			"PresharedKey is not a key; paste the 44 characters that 'wg genpsk' prints");
	return 0;
}

static int add_allowed(struct parser *p, const char *text)
{
	struct ip_prefix prefix;

	if (config_value_prefix(text, &prefix) < 0)
		return fail(
			p,
			"AllowedIPs: %s is not an IP range; write it as 100.64.0.2/32 or fd00::2/128",
			quotable(text));
	config_value_mask(&prefix);
	if (p->allowed_count == CONFIG_MAX_ALLOWED)
		return fail(p, "more than %d ranges in AllowedIPs; merge some", CONFIG_MAX_ALLOWED);
	if (p->allowed_count == p->allowed_room) {
		unsigned room = p->allowed_room ? 2 * p->allowed_room : 64;
		struct config_allowed *grown = realloc(p->allowed, room * sizeof(*grown));

		if (!grown)
			return fail_memory(p);
		p->allowed = grown;
		p->allowed_room = room;
	}
	p->allowed[p->allowed_count++] =
		(struct config_allowed){ prefix, p->config->peer_count - 1, p->line };
	return 0;
}

static int set_allowed(struct parser *p, char *value)
{
	return each_item(p, value, add_allowed);
}

static int set_endpoint(struct parser *p, char *value)
{
	struct config_peer *peer = current_peer(p);

	if (config_value_endpoint(value, peer->endpoint_host, &peer->endpoint_port) < 0)
		return fail(p,
			    "Endpoint: %s is not HOST:PORT; write it as 192.0.2.7:51820, "
			    "[2001:db8::7]:51820 or host.example:51820",
			    quotable(value));
	return 0;
}

static int set_keepalive(struct parser *p, char *value)
{
	uint32_t seconds = 0;

	if (strcasecmp(value, "off") != 0 && config_value_number(value, UINT16_MAX, &seconds) < 0)
		return fail(p,
			    "PersistentKeepalive must be off or a number of seconds up to 65535");
	current_peer(p)->keepalive_s = (uint16_t)seconds;
	return 0;
}

static int set_peer_name(struct parser *p, char *value)
{
	return set_name(p, value, current_peer(p)->name);
}

/* ---- lines ---- */

static const struct key key_table[] = {
	{ "PrivateKey", SECTION_INTERFACE, KEY_ONCE, set_private_key },
	{ "Address", SECTION_INTERFACE, KEY_MANY, set_address },
	{ "ListenPort", SECTION_INTERFACE, KEY_ONCE, set_listen_port },
	{ "MTU", SECTION_INTERFACE, KEY_ONCE, set_mtu },
	{ "Name", SECTION_INTERFACE, KEY_COMMENT, set_own_name },
	{ "Domain", SECTION_INTERFACE, KEY_COMMENT, set_domain },
	{ "DNS", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "Table", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "FwMark", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "PreUp", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "PostUp", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "PreDown", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "PostDown", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "SaveConfig", SECTION_INTERFACE, KEY_UNUSED, NULL },
	{ "PublicKey", SECTION_PEER, KEY_ONCE, set_public_key },
	{ "PresharedKey", SECTION_PEER, KEY_ONCE, set_preshared_key },
	{ "AllowedIPs", SECTION_PEER, KEY_MANY, set_allowed },
	{ "Endpoint", SECTION_PEER, KEY_ONCE, set_endpoint },
	{ "PersistentKeepalive", SECTION_PEER, KEY_ONCE, set_keepalive },
	{ "Name", SECTION_PEER, KEY_COMMENT, set_peer_name },
};

static const char *const section_text[] = { "", "[Interface]", "[Peer]" };

/* The key of this name, preferably one of this section. */
static const struct key *find_key(const char *name, enum section section)
{
	const struct key *found = NULL;

	for (size_t i = 0; i < ARRAY_LEN(key_table); i++) {
		if (strcasecmp(key_table[i].name, name) == 0 &&
		    (!found || key_table[i].section == section))
			found = &key_table[i];
	}
	return found;
}

static int set_key(struct parser *p, const struct key *key, char *value)
{
	uint32_t bit = 1u << (key - key_table);

	if (key->kind == KEY_UNUSED) {
		note(p, p->config->unused, "no effect here", key->name);
		return 0;
	}
	if (key->kind != KEY_MANY && p->seen & bit)
		return fail(p, "%s is there a second time in this section; remove one", key->name);
	p->seen |= bit;
	return key->set(p, value);
}

/* Cuts blanks off both ends. */
static char *trim(char *text)
{
	char *end;

	text += strspn(text, " \t\r\f\v");
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text;
}

static bool is_word(const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++) {
		if (!isalpha((unsigned char)text[i]))
			return false;
	}
	return len > 0 && len <= 24;
}

static int parse_pair(struct parser *p, char *line)
{
	char *equals = strchr(line, '='), *name, *value;
	const struct key *key;

	if (!equals)
		return fail(p,
			    "neither a [section] nor 'key = value'; correct it, or begin it with # "
			    "to make it a comment");
	*equals = '\0';
	name = trim(line);
	value = trim(equals + 1);
	key = find_key(name, p->section);
	if (!key)
		return fail(p,
			    "%s%s%s is not a key of a WireGuard file; correct or remove the line",
			    is_word(name) ? "'" : "", is_word(name) ? name : "this",
			    is_word(name) ? "'" : "");
	if (key->kind == KEY_COMMENT)
		return fail(p,
			    "%s is written as a comment, so that wg-quick can read the file: "
			    "'# %s = ...'",
			    key->name, key->name);
	if (p->section == SECTION_NONE)
		return fail(p, "%s stands before any section; put %s above it", key->name,
			    section_text[key->section]);
	if (key->section != p->section)
		return fail(p, "%s belongs into %s, not into %s", key->name,
			    section_text[key->section], section_text[p->section]);
	return set_key(p, key, value);
}

/* A comment: names of nodes, or nothing to us. */
static int parse_comment(struct parser *p, char *text)
{
	char *equals = strchr(text, '=');
	const struct key *key;

	if (!equals)
		return 0;
	*equals = '\0';
	key = find_key(trim(text), p->section);
	if (!key || key->kind != KEY_COMMENT || key->section != p->section)
		return 0;
	return set_key(p, key, trim(equals + 1));
}

static int begin_peer(struct parser *p)
{
	struct config *c = p->config;

	if (c->peer_count == CONFIG_MAX_PEERS)
		return fail(p, "more than %d peers; remove some", CONFIG_MAX_PEERS);
	if (c->peer_count == p->peer_room) {
		unsigned room = p->peer_room ? 2 * p->peer_room : 16;
		struct config_peer *grown = calloc(room, sizeof(*grown));

		if (!grown)
			return fail_memory(p);
		/* Not realloc(): it may leave preshared keys behind. */
		if (c->peers) {
			memcpy(grown, c->peers, c->peer_count * sizeof(*grown));
			sodium_memzero(c->peers, c->peer_count * sizeof(*grown));
			free(c->peers);
		}
		c->peers = grown;
		p->peer_room = room;
	}
	c->peers[c->peer_count++].line = p->line;
	return 0;
}

static int parse_section(struct parser *p, const char *line)
{
	p->seen = 0;
	if (strcasecmp(line, "[Interface]") == 0) {
		if (p->interface_line)
			return fail(
				p,
				"a second [Interface] section (the first is in line %u); merge them",
				p->interface_line);
		p->interface_line = p->line;
		p->section = SECTION_INTERFACE;
		return 0;
	}
	if (strcasecmp(line, "[Peer]") == 0) {
		p->section = SECTION_PEER;
		return begin_peer(p);
	}
	return fail(p, "not a section of a WireGuard file; there are only [Interface] and [Peer]");
}

static int parse_line(struct parser *p, char *line)
{
	char *comment;

	line = trim(line);
	if (*line == '#')
		return parse_comment(p, line + 1);
	comment = strchr(line, '#');
	if (comment) {
		*comment = '\0';
		line = trim(line);
	}
	if (*line == '\0')
		return 0;
	return *line == '[' ? parse_section(p, line) : parse_pair(p, line);
}

static int parse_lines(struct parser *p, char *text)
{
	while (text) {
		char *newline = strchr(text, '\n');
		int err;

		if (newline)
			*newline = '\0';
		p->line++;
		err = parse_line(p, text);
		if (err < 0)
			return err;
		text = newline ? newline + 1 : NULL;
	}
	return 0;
}

int config_parse(const char *text, size_t len, struct config *config, char error[static 256])
{
	struct parser p = { .config = config, .error = error };
	char *copy;
	int err;

	memset(config, 0, sizeof(*config));
	config->mtu = MTU_DEFAULT;
	snprintf(config->domain, sizeof(config->domain), DOMAIN_DEFAULT);
	error[0] = '\0';
	if (len > CONFIG_MAX_BYTES)
		return config_fail(error, 1, "the file is larger than %u bytes; split the mesh",
				   CONFIG_MAX_BYTES);
	if (memchr(text, '\0', len))
		return config_fail(error, 1,
				   "the file holds zero bytes; save it as plain text (UTF-8)");
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3; /* a byte order mark, as some editors leave */
		len -= 3;
	}
	copy = malloc(len + 1);
	if (!copy)
		return fail_memory(&p);
	memcpy(copy, text, len);
	copy[len] = '\0';
	err = parse_lines(&p, copy);
	if (err == 0)
		err = config_check(config, p.interface_line, p.allowed, p.allowed_count, error);
	sodium_memzero(copy, len);
	free(copy);
	free(p.allowed);
	return err;
}

void config_finish(struct config *config)
{
	for (unsigned i = 0; i < config->peer_count; i++)
		free(config->peers[i].allowed);
	if (config->peers)
		sodium_memzero(config->peers, config->peer_count * sizeof(*config->peers));
	free(config->peers);
	sodium_memzero(config, sizeof(*config));
}
