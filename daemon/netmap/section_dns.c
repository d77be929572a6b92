/*
 * DNSConfig. An entry with an invalid name or address is left out by itself. A
 * route whose resolvers are all invalid is left out, too: without resolvers it
 * would say that nobody else may be asked.
 */
#include <stdlib.h>
#include <string.h>

#include "daemon/netmap/read.h"
#include "daemon/netmap/sections.h"
#include "daemon/netmap/text.h"
#include "shared/util.h"

#define DNS_PORT      53
#define RESOLVERS_MAX 64

static bool read_resolver(struct arena *a, struct json_object *o, struct dns_resolver *out)
{
	out->addr = read_text(a, o, "Addr");
	if (read_addr(out->addr, &out->endpoint.addr)) {
		out->endpoint.port = DNS_PORT;
		return true;
	}
	if (endpoint_parse(out->addr, &out->endpoint) == 0)
		return out->endpoint.port != 0;
	return strncmp(out->addr, "https://", 8) == 0 || strncmp(out->addr, "http://", 7) == 0;
}

static struct dns_resolver *read_resolvers(struct arena *a, struct json_object *list,
					   unsigned *count, unsigned *ignored)
{
	unsigned len = read_length(list, RESOLVERS_MAX);
	struct dns_resolver *out = len ? arena_alloc(a, len, sizeof(*out)) : NULL;

	*count = 0;
	for (unsigned i = 0; out && i < len; i++) {
		struct dns_resolver resolver = { .addr = "" };

		if (read_resolver(a, json_object_array_get_idx(list, i), &resolver))
			out[(*count)++] = resolver;
		else
			++*ignored;
	}
	return out;
}

/* "" and "." are everything. NULL: no name. */
static const char *read_suffix(struct arena *a, const char *text)
{
	char name[READ_NAME_MAX + 1];

	if (*text == '\0' || strcmp(text, ".") == 0)
		return "";
	if (!read_name(text, strlen(text), false, name) || read_is_localhost(name))
		return NULL;
	return arena_text(a, name, strlen(name));
}

static void read_routes(struct arena *a, struct json_object *map, struct dns_config *c,
			unsigned *ignored)
{
	size_t len = map ? MIN((size_t)json_object_object_length(map), (size_t)SECTION_ROUTES_MAX)
			 : 0;

	c->routes = len ? arena_alloc(a, len, sizeof(*c->routes)) : NULL;
	if (!c->routes)
		return;
	json_object_object_foreach(map, key, value)
	{
		struct dns_route route = { .suffix = read_suffix(a, key) };

		if (route.suffix && (!value || json_object_is_type(value, json_type_array)))
			route.resolvers = read_resolvers(a, value, &route.resolver_count, ignored);
		else
			route.suffix = NULL;
		if (c->route_count == len || !route.suffix ||
		    (route.resolver_count == 0 && read_length(value, 1) > 0))
			++*ignored;
		else
			c->routes[c->route_count++] = route;
	}
}

static bool read_record(struct arena *a, struct json_object *o, struct dns_record *out)
{
	struct json_object *value = read_member(o, "Value", json_type_string);
	const char *type = read_text(a, o, "Type");

	out->name = read_name_value(a, read_member(o, "Name", json_type_string));
	return *out->name && !read_is_localhost(out->name) &&
	       (*type == '\0' || strcmp(type, "A") == 0 || strcmp(type, "AAAA") == 0) && value &&
	       read_addr(json_object_get_string(value), &out->addr);
}

static void read_records(struct arena *a, struct json_object *list, struct dns_config *c,
			 unsigned *ignored)
{
	unsigned len = read_length(list, SECTION_RECORDS_MAX);

	c->records = len ? arena_alloc(a, len, sizeof(*c->records)) : NULL;
	for (unsigned i = 0; c->records && i < len; i++) {
		struct dns_record record = { .name = "" };

		if (read_record(a, json_object_array_get_idx(list, i), &record))
			c->records[c->record_count++] = record;
		else
			++*ignored;
	}
}

static void derive(struct arena *a, struct json_object *o, struct dns_config *c, unsigned *ignored)
{
	c->is_proxied = read_bool(o, "Proxied");
	c->domains = read_texts(a, read_member(o, "Domains", json_type_array), read_name_value,
				&c->domain_count);
	c->cert_domains = read_texts(a, read_member(o, "CertDomains", json_type_array),
				     read_name_value, &c->cert_domain_count);
	c->resolvers = read_resolvers(a, read_member(o, "Resolvers", json_type_array),
				      &c->resolver_count, ignored);
	c->fallbacks = read_resolvers(a, read_member(o, "FallbackResolvers", json_type_array),
				      &c->fallback_count, ignored);
	read_routes(a, read_member(o, "Routes", json_type_object), c, ignored);
	read_records(a, read_member(o, "ExtraRecords", json_type_array), c, ignored);
}

struct section_dns *section_dns_create(struct json_object *o, unsigned *ignored)
{
	struct section_dns *s = calloc(1, sizeof(*s));
	const char *text = o ? json_object_to_json_string_ext(o, TEXT_FLAGS) : "{}";

	if (!s)
		return NULL;
	if (text)
		s->json = arena_text(&s->arena, text, strlen(text));
	derive(&s->arena, o, &s->config, ignored);
	if (!s->json || s->arena.failed) {
		section_dns_destroy(s);
		return NULL;
	}
	return s;
}

void section_dns_destroy(struct section_dns *s)
{
	if (!s)
		return;
	arena_finish(&s->arena);
	free(s);
}
