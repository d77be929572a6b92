/*
 * The state as JSON.
 *
 * Private keys are stored beside their public ones, so that a flipped bit does
 * not make another identity. They never enter the JSON library on the way out,
 * and are wiped from it on the way in.
 */
#include "daemon/state_text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <json-c/json.h>

#include "daemon/crypto/keytext.h"
#include "shared/util.h"

#define VERSION   1
#define DEPTH_MAX 16

int state_fail(char error[STATE_ERROR_MAX], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, STATE_ERROR_MAX, format, args);
	va_end(args);
	return err;
}

/* ---- reading ---- */

static bool get_text(struct json_object *object, const char *key, char *out, size_t room)
{
	struct json_object *value;

	out[0] = '\0';
	if (!json_object_object_get_ex(object, key, &value))
		return true;
	if (!json_object_is_type(value, json_type_string) ||
	    (size_t)json_object_get_string_len(value) >= room ||
	    strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
		return false;
	memcpy(out, json_object_get_string(value), strlen(json_object_get_string(value)) + 1);
	return true;
}

static bool get_flag(struct json_object *object, const char *key, bool *out)
{
	struct json_object *value;

	*out = false;
	if (!json_object_object_get_ex(object, key, &value))
		return true;
	*out = json_object_get_boolean(value);
	return json_object_is_type(value, json_type_boolean);
}

static bool get_key(struct json_object *object, const char *name, enum keytext_kind kind,
		    uint8_t key[KEY_LEN], bool *has)
{
	struct json_object *value;

	*has = json_object_object_get_ex(object, name, &value);
	return !*has || (json_object_is_type(value, json_type_string) &&
			 keytext_parse(kind, json_object_get_string(value),
				       (size_t)json_object_get_string_len(value), key));
}

/* A private key and the public one beside it. */
static bool get_pair(struct json_object *object, const char *name, const char *public_name,
		     enum keytext_kind kind, struct private_key *key, bool *has)
{
	struct public_key stored, computed;
	bool has_public;

	if (!get_key(object, name, KEYTEXT_PRIVATE, key->byte, has) ||
	    !get_key(object, public_name, kind, stored.byte, &has_public) || *has != has_public)
		return false;
	if (!*has)
		return true;
	private_key_public(key, &computed);
	return public_key_equal(&stored, &computed);
}

static bool get_data(struct json_object *object, struct state_data *data)
{
	struct json_object *tai;
	bool has_machine_key;

	if (!get_pair(object, "MachineKey", "MachinePublic", KEYTEXT_MACHINE, &data->machine_key,
		      &has_machine_key) ||
	    !has_machine_key ||
	    !get_pair(object, "NodeKey", "NodePublic", KEYTEXT_NODE, &data->node_key,
		      &data->has_node_key) ||
	    !get_pair(object, "OldNodeKey", "OldNodePublic", KEYTEXT_NODE, &data->old_node_key,
		      &data->has_old_node_key) ||
	    !get_key(object, "ServerKey", KEYTEXT_MACHINE, data->server_key.byte,
		     &data->has_server_key))
		return false;
	if (json_object_object_get_ex(object, "LastTAI64N", &tai)) {
		if (!json_object_is_type(tai, json_type_int) || json_object_get_int64(tai) < 0)
			return false;
		data->tai64n_s = (uint64_t)json_object_get_int64(tai);
	}
	return get_flag(object, "Registered", &data->is_registered) &&
	       get_flag(object, "WantsRunning", &data->prefs.wants_running) &&
	       get_flag(object, "AcceptsRoutes", &data->prefs.accepts_routes) &&
	       get_flag(object, "AcceptsDNS", &data->prefs.accepts_dns) &&
	       get_flag(object, "ShieldsUp", &data->prefs.shields_up) &&
	       get_text(object, "ServerURL", data->server_url, sizeof(data->server_url)) &&
	       get_text(object, "LoginName", data->login_name, sizeof(data->login_name)) &&
	       get_text(object, "Tailnet", data->tailnet, sizeof(data->tailnet)) &&
	       get_text(object, "HostName", data->prefs.host_name, sizeof(data->prefs.host_name)) &&
	       (data->has_node_key || !data->is_registered);
}

static bool get_netmap(struct json_object *object, struct state *state)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, "Netmap", &value))
		return true;
	return json_object_is_type(value, json_type_string) &&
	       state_set_netmap(state, json_object_get_string(value),
				(size_t)json_object_get_string_len(value)) == 0;
}

/* The library's own copies. */
static void wipe_keys(struct json_object *object)
{
	static const char *const names[] = { "MachineKey", "NodeKey", "OldNodeKey" };
	struct json_object *value;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (json_object_object_get_ex(object, names[i], &value) &&
		    json_object_is_type(value, json_type_string))
			secret_wipe((char *)json_object_get_string(value),
				    (size_t)json_object_get_string_len(value));
}

static struct json_object *parse(const char *text, size_t len)
{
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	struct json_object *object = NULL;

	while (len > 0 && strchr(" \t\r\n", text[len - 1]))
		len--;
	if (tokener && len <= STATE_FILE_MAX) {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
		object = json_tokener_parse_ex(tokener, text, (int)len);
		if (json_tokener_get_error(tokener) != json_tokener_success ||
		    !json_object_is_type(object, json_type_object)) {
			json_object_put(object);
			object = NULL;
		}
	}
	json_tokener_free(tokener);
	return object;
}

int state_parse(struct state *state, const char *text, size_t len,
		char error[static STATE_ERROR_MAX])
{
	struct json_object *object = parse(text, len), *version;
	struct state_data *data = secret_alloc(sizeof(*data));
	int err = -EBADMSG;

	if (!data) {
		err = state_fail(error, -ENOMEM, "no memory");
	} else if (!object) {
		state_fail(error, err, "it is torn or damaged");
	} else if (!json_object_object_get_ex(object, "Version", &version) ||
		   !json_object_is_type(version, json_type_int)) {
		state_fail(error, err, "it is not a state file of this program");
	} else if (json_object_get_int64(version) != VERSION) {
		err = state_fail(error, -EPROTONOSUPPORT,
				 "it was written by another version of this program (format %lld)",
				 (long long)json_object_get_int64(version));
	} else if (!get_data(object, data) || !get_netmap(object, state)) {
		state_fail(error, err, "a value in it is damaged");
	} else {
		*state->data = *data;
		err = 0;
	}
	if (object)
		wipe_keys(object);
	json_object_put(object);
	secret_free(data);
	return err;
}

/* ---- writing ---- */

static size_t put_pair(char *out, size_t room, const char *name, const char *public_name,
		       enum keytext_kind kind, const struct private_key *key)
{
	char private_text[KEYTEXT_MAX], public_text[KEYTEXT_MAX];
	struct public_key public;
	int len;

	private_key_public(key, &public);
	len = snprintf(out, room, "\"%s\":\"%s\",\"%s\":\"%s\",", name,
		       keytext_format(KEYTEXT_PRIVATE, key->byte, private_text), public_name,
		       keytext_format(kind, public.byte, public_text));
	assert(len > 0 && (size_t)len < room);
	secret_wipe(private_text, sizeof(private_text));
	return (size_t)len;
}

size_t state_make_head(const struct state_data *data, char head[static STATE_HEAD_MAX])
{
	size_t len = (size_t)snprintf(head, STATE_HEAD_MAX, "{\"Version\":%d,", VERSION);

	len += put_pair(head + len, STATE_HEAD_MAX - len, "MachineKey", "MachinePublic",
			KEYTEXT_MACHINE, &data->machine_key);
	if (data->has_node_key)
		len += put_pair(head + len, STATE_HEAD_MAX - len, "NodeKey", "NodePublic",
				KEYTEXT_NODE, &data->node_key);
	if (data->has_old_node_key)
		len += put_pair(head + len, STATE_HEAD_MAX - len, "OldNodeKey", "OldNodePublic",
				KEYTEXT_NODE, &data->old_node_key);
	return len;
}

static bool put(struct json_object *object, const char *key, struct json_object *value)
{
	if (value && json_object_object_add(object, key, value) == 0)
		return true;
	json_object_put(value);
	return false;
}

struct json_object *state_make_rest(const struct state *state)
{
	const struct state_data *data = state->data;
	struct json_object *object = json_object_new_object();
	char text[KEYTEXT_MAX];
	bool ok;

	ok = object && put(object, "Registered", json_object_new_boolean(data->is_registered)) &&
	     put(object, "WantsRunning", json_object_new_boolean(data->prefs.wants_running)) &&
	     put(object, "AcceptsRoutes", json_object_new_boolean(data->prefs.accepts_routes)) &&
	     put(object, "AcceptsDNS", json_object_new_boolean(data->prefs.accepts_dns)) &&
	     put(object, "ShieldsUp", json_object_new_boolean(data->prefs.shields_up)) &&
	     put(object, "ServerURL", json_object_new_string(data->server_url)) &&
	     put(object, "LoginName", json_object_new_string(data->login_name)) &&
	     put(object, "Tailnet", json_object_new_string(data->tailnet)) &&
	     put(object, "HostName", json_object_new_string(data->prefs.host_name)) &&
	     put(object, "LastTAI64N", json_object_new_int64((int64_t)data->tai64n_s));
	if (ok && data->has_server_key)
		ok = put(object, "ServerKey",
			 json_object_new_string(
				 keytext_format(KEYTEXT_MACHINE, data->server_key.byte, text)));
	if (ok && state->netmap)
		ok = put(object, "Netmap",
			 json_object_new_string_len(state->netmap, (int)state->netmap_len));
	if (ok)
		return object;
	json_object_put(object);
	return NULL;
}
