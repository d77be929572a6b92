/*
 * Requests to the coordination server.
 *
 * A field that is not known is left out, as the servers want it: an empty or
 * half-filled one can make them refuse the whole body. The auth key never
 * enters the JSON library, whose copies cannot be wiped: it is checked to need
 * no escapes and put into the finished text.
 */
#include "daemon/control/messages.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "daemon/crypto/keytext.h"
#include "shared/util.h"

#define LOGOUT_EXPIRY "1970-01-01T00:02:03Z"

void messages_host_label(const char *text, char label[static MESSAGES_HOST_MAX])
{
	static const char *const suffixes[] = { ".local", ".localdomain", ".lan" };
	size_t len = strlen(text), out = 0;

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		size_t suffix_len = strlen(suffixes[i]);

		if (len > suffix_len && strcasecmp(text + len - suffix_len, suffixes[i]) == 0) {
			len -= suffix_len;
			break;
		}
	}
	for (size_t i = 0; i < len && out < MESSAGES_HOST_MAX - 1; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 0x80 && isalnum(c))
			label[out++] = (char)tolower(c);
		else if (out > 0 && label[out - 1] != '-' && strchr("-_. @", c))
			label[out++] = '-';
	}
	while (out > 0 && label[out - 1] == '-')
		out--;
	label[out] = '\0';
	if (out == 0)
		memcpy(label, "meshwrap", sizeof("meshwrap"));
}

bool messages_auth_key_ok(const char *key, size_t len)
{
	if (len == 0 || len > CONTROL_AUTH_KEY_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (key[i] <= ' ' || key[i] >= 0x7f || key[i] == '"' || key[i] == '\\')
			return false;
	return true;
}

/* ---- building ---- */

static void add(struct json_object *to, const char *key, struct json_object *value)
{
	if (!value || json_object_object_add(to, key, value) != 0)
		json_object_put(value);
}

static void add_text(struct json_object *to, const char *key, const char *text)
{
	add(to, key, json_object_new_string(text));
}

static void add_key(struct json_object *to, const char *key, enum keytext_kind kind,
		    const uint8_t bytes[KEY_LEN])
{
	char text[KEYTEXT_MAX];

	add_text(to, key, keytext_format(kind, bytes, text));
}

static void add_flag(struct json_object *to, const char *key, enum control_tristate value)
{
	if (value != CONTROL_UNKNOWN)
		add(to, key, json_object_new_boolean(value == CONTROL_YES));
}

static void add_net_info(struct json_object *hostinfo, const struct control_self *self)
{
	struct json_object *info = json_object_new_object();
	struct json_object *latencies = json_object_new_object();

	add_flag(info, "MappingVariesByDestIP", self->mapping_varies_by_dst);
	add_flag(info, "WorkingIPv6", self->working_ipv6);
	add_flag(info, "OSHasIPv6", self->os_has_ipv6);
	add_flag(info, "WorkingUDP", self->working_udp);
	if (self->preferred_derp > 0)
		add(info, "PreferredDERP", json_object_new_int(self->preferred_derp));
	for (unsigned i = 0; i < MIN(self->latency_count, CONTROL_LATENCIES_MAX); i++) {
		char name[32], seconds[32];
		double value = (double)self->latencies[i].latency_ns / (double)NS_PER_S;

		snprintf(name, sizeof(name), "%d-v%c", self->latencies[i].region,
			 self->latencies[i].is_v6 ? '6' : '4');
		snprintf(seconds, sizeof(seconds), "%.9g", value);
		add(latencies, name, json_object_new_double_s(value, seconds));
	}
	if (self->latency_count > 0)
		add(info, "DERPLatency", latencies);
	else
		json_object_put(latencies);
	add(hostinfo, "NetInfo", info);
}

static void add_routes(struct json_object *hostinfo, const struct control_self *self)
{
	struct json_object *routes = json_object_new_array();

	for (unsigned i = 0; i < MIN(self->route_count, CONTROL_ROUTES_MAX); i++) {
		char addr[IP_TEXT_MAX], text[IP_TEXT_MAX + 8];

		snprintf(text, sizeof(text), "%s/%u", ip_format(&self->routes[i].addr, addr),
			 self->routes[i].len);
		json_object_array_add(routes, json_object_new_string(text));
	}
	add(hostinfo, "RoutableIPs", routes);
}

static const char *architecture(void)
{
#if defined(__x86_64__)
	return "amd64";
#elif defined(__aarch64__)
	return "arm64";
#else
	return NULL;
#endif
}

static struct json_object *make_hostinfo(const struct messages_node *node,
					 const struct control_self *self)
{
	struct json_object *info = json_object_new_object();
	struct json_object *tags;
	bool is_renamed = self && self->host_name[0];
	char label[MESSAGES_HOST_MAX];

	if (is_renamed)
		messages_host_label(self->host_name, label);
	add_text(info, "IPNVersion", node->version);
	add_text(info, "OS", "linux");
	add_text(info, "Hostname", is_renamed ? label : node->host_name);
	if (architecture())
		add_text(info, "GoArch", architecture());
	add(info, "Userspace", json_object_new_boolean(true));
	if (node->tag_count > 0) {
		tags = json_object_new_array();
		for (unsigned i = 0; i < node->tag_count; i++)
			json_object_array_add(tags, json_object_new_string(node->tags[i]));
		add(info, "RequestTags", tags);
	}
	if (!self)
		return info;
	if (self->shields_up)
		add(info, "ShieldsUp", json_object_new_boolean(true));
	if (self->route_count > 0)
		add_routes(info, self);
	add_net_info(info, self);
	return info;
}

static const char *text_of(struct json_object *object, size_t *len)
{
	return json_object_to_json_string_length(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, len);
}

/* text is "{...}" with at least one member. */
static char *with_auth_key(const char *text, size_t len, const char *auth_key, size_t *out_len)
{
	size_t room = len + strlen(auth_key) + sizeof("{\"Auth\":{\"AuthKey\":\"\"},");
	char *out = secret_alloc(room);

	if (!out)
		return NULL;
	*out_len = (size_t)snprintf(out, room, "{\"Auth\":{\"AuthKey\":\"%s\"},%s", auth_key,
				    text + 1);
	return out;
}

char *messages_make_register(const struct messages_node *node, const struct control_self *self,
			     const struct messages_register *ask, size_t *len)
{
	struct json_object *object = json_object_new_object();
	const char *text;
	char *out;

	if (!object)
		return NULL;
	add(object, "Version", json_object_new_int(node->capability_version));
	add_key(object, "NodeKey", KEYTEXT_NODE, ask->node_key->byte);
	if (ask->old_node_key)
		add_key(object, "OldNodeKey", KEYTEXT_NODE, ask->old_node_key->byte);
	if (ask->is_logout)
		add_text(object, "Expiry", LOGOUT_EXPIRY);
	if (ask->followup)
		add_text(object, "Followup", ask->followup);
	add(object, "Hostinfo", make_hostinfo(node, self));
	if (node->is_ephemeral)
		add(object, "Ephemeral", json_object_new_boolean(true));
	text = text_of(object, len);
	if (text && ask->auth_key) {
		out = with_auth_key(text, *len, ask->auth_key, len);
	} else {
		out = text ? secret_alloc(*len + 1) : NULL;
		if (out)
			memcpy(out, text, *len);
	}
	json_object_put(object);
	return out;
}

static void add_endpoints(struct json_object *object, const struct control_self *self)
{
	struct json_object *endpoints = json_object_new_array();
	struct json_object *types = json_object_new_array();

	for (unsigned i = 0; i < MIN(self->endpoint_count, CONTROL_ENDPOINTS_MAX); i++) {
		char text[ENDPOINT_TEXT_MAX];

		endpoint_format(&self->endpoints[i].ep, text);
		json_object_array_add(endpoints, json_object_new_string(text));
		json_object_array_add(types, json_object_new_int((int)self->endpoints[i].type));
	}
	add(object, "Endpoints", endpoints);
	add(object, "EndpointTypes", types);
}

char *messages_make_map(const struct messages_node *node, const struct control_self *self,
			const struct public_key *node_key, bool is_stream, size_t *len)
{
	struct json_object *object = json_object_new_object();
	const char *text;
	char *out;

	if (!object)
		return NULL;
	add(object, "Version", json_object_new_int(node->capability_version));
	if (is_stream) {
		add_text(object, "Compress", "zstd");
		add(object, "KeepAlive", json_object_new_boolean(true));
		add(object, "Stream", json_object_new_boolean(true));
	} else {
		add(object, "OmitPeers", json_object_new_boolean(true));
	}
	add_key(object, "NodeKey", KEYTEXT_NODE, node_key->byte);
	if (self && !key_is_zero(self->disco_key))
		add_key(object, "DiscoKey", KEYTEXT_DISCO, self->disco_key);
	add(object, "Hostinfo", make_hostinfo(node, self));
	if (self && self->endpoint_count > 0)
		add_endpoints(object, self);
	text = text_of(object, len);
	out = text ? strdup(text) : NULL;
	json_object_put(object);
	return out;
}

/* ---- pings ---- */

static void add_some_text(struct json_object *object, const char *key, const char *text)
{
	if (text && *text)
		add(object, key, json_object_new_string(text));
}

char *messages_pong(const char *type, const struct ip_addr *ip, const struct pong *pong)
{
	struct json_object *object = json_object_new_object();
	char text[IP_TEXT_MAX], *json;

	if (!object)
		return NULL;
	add_some_text(object, "Type", type);
	add_some_text(object, "IP", ip_format(ip, text));
	add_some_text(object, "NodeIP", pong->node_ip);
	add_some_text(object, "NodeName", pong->node_name);
	add_some_text(object, "Err", pong->error);
	if (pong->latency_s > 0)
		add(object, "LatencySeconds", json_object_new_double(pong->latency_s));
	add_some_text(object, "Endpoint", pong->endpoint);
	if (pong->derp_region) {
		add(object, "DERPRegionID", json_object_new_int(pong->derp_region));
		add_some_text(object, "DERPRegionCode", pong->derp_code);
	}
	if (pong->peerapi_port)
		add(object, "PeerAPIPort", json_object_new_int(pong->peerapi_port));
	if (pong->is_local)
		add(object, "IsLocalIP", json_object_new_boolean(true));
	json = strdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
	json_object_put(object);
	return json;
}
