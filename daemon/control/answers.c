/*
 * What a coordination server answers, and asks of us.
 *
 * Words of a server end up on terminals and in logs: they are cut and made
 * printable here, at the one place where they come in. A URL that a user is
 * asked to open must be http or https and consist of printable bytes, else the
 * whole answer is refused.
 *
 * Times that never make sense (a wait of years, sleep without end) are clamped
 * rather than refused: the server may simply be confused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <json-c/json.h>
#include <sodium.h>

#include "daemon/control/messages.h"
#include "daemon/control/scan.h"
#include "daemon/crypto/keytext.h"
#include "shared/util.h"

#define JSON_DEPTH_MAX  32
#define RETRY_MAX_S     300
#define RETRY_DEFAULT_S 5
#define SLEEP_MIN_S     1 /* a wait of nothing would make us ask without end */
#define SLEEP_MAX_S     300
#define C2N_PAYLOAD_MAX (64u << 10)
#define ZERO_TIME       "0001-01-01T00:00:00Z"

void messages_strip(const char *text, size_t len, char *out, size_t room)
{
	size_t n = MIN(len, room - 1);

	for (size_t i = 0; i < n; i++)
		out[i] = text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?';
	while (n > 0 && (out[n - 1] == ' ' || text[n - 1] == '\n'))
		n--;
	out[n] = '\0';
}

/* One whole JSON value. NULL: it is not. */
static struct json_object *parse(const char *text, size_t len)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
	struct json_object *object = NULL;

	if (!tokener || len > INT32_MAX) {
		json_tokener_free(tokener);
		return NULL;
	}
	while (len > 0 && strchr(" \t\r\n", text[len - 1]))
		len--;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tokener, text, (int)len);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		json_object_put(object);
		object = NULL;
	}
	json_tokener_free(tokener);
	return object;
}

static struct json_object *parse_object(const char *text, size_t len)
{
	struct json_object *object = parse(text, len);

	if (object && !json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		object = NULL;
	}
	return object;
}

/* NULL unless it is a string. */
static const char *text_member(struct json_object *object, const char *key, size_t *len)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	*len = (size_t)json_object_get_string_len(value);
	return json_object_get_string(value);
}

static bool flag_member(struct json_object *object, const char *key)
{
	struct json_object *value;

	return json_object_object_get_ex(object, key, &value) &&
	       json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value);
}

static bool is_url(const char *text, size_t len)
{
	if (len >= MESSAGES_URL_MAX || !((len > 7 && strncasecmp(text, "http://", 7) == 0) ||
					 (len > 8 && strncasecmp(text, "https://", 8) == 0)))
		return false;
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] >= 0x7f)
			return false;
	return true;
}

/* "" when absent. False: something that is no URL. */
static bool url_member(struct json_object *object, const char *key, char url[MESSAGES_URL_MAX])
{
	size_t len = 0;
	const char *text = text_member(object, key, &len);

	url[0] = '\0';
	if (len == 0)
		return true;
	if (!is_url(text, len))
		return false;
	memcpy(url, text, len);
	url[len] = '\0';
	return true;
}

int messages_parse_registered(const char *text, size_t len, struct messages_registered *answer)
{
	struct json_object *object = parse_object(text, len), *login, *signature;
	struct messages_registered parsed = { 0 };
	const char *words;
	size_t words_len;
	int err = -EBADMSG;

	if (!object)
		return -EBADMSG;
	parsed.is_key_expired = flag_member(object, "NodeKeyExpired");
	parsed.is_authorized = flag_member(object, "MachineAuthorized");
	parsed.wants_signature =
		json_object_object_get_ex(object, "NodeKeySignature", &signature) &&
		signature != NULL;
	words = text_member(object, "Error", &words_len);
	if (words)
		messages_strip(words, words_len, parsed.error, sizeof(parsed.error));
	if (json_object_object_get_ex(object, "Login", &login) &&
	    json_object_is_type(login, json_type_object)) {
		words = text_member(login, "LoginName", &words_len);
		if (words)
			messages_strip(words, words_len, parsed.login_name,
				       sizeof(parsed.login_name));
	}
	if (url_member(object, "AuthURL", parsed.auth_url)) {
		*answer = parsed;
		err = 0;
	}
	json_object_put(object);
	return err;
}

int messages_parse_server_key(const char *text, size_t len, struct public_key *key)
{
	struct json_object *object;
	struct public_key parsed;
	const char *member;
	size_t member_len;
	int err = -EBADMSG;

	if (len == 0)
		return -EPROTONOSUPPORT; /* the answer to a version below its first with Noise */
	object = parse_object(text, len);
	if (!object)
		return -EBADMSG;
	member = text_member(object, "publicKey", &member_len);
	if (member && keytext_parse(KEYTEXT_MACHINE, member, member_len, parsed.byte)) {
		err = key_is_zero(parsed.byte) ? -EPROTONOSUPPORT : 0;
		if (err == 0)
			*key = parsed;
	}
	json_object_put(object);
	return err;
}

uint64_t messages_retry_after_ns(const char *text, int64_t wall_s, uint32_t random)
{
	struct tm tm = { 0 };
	int64_t seconds = -1;
	const char *rest;

	if (text[0] && strspn(text, "0123456789") == strlen(text)) {
		seconds = strlen(text) > 9 ? INT64_MAX : strtoll(text, NULL, 10);
	} else {
		rest = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
		if (rest && *rest == '\0')
			seconds = (int64_t)timegm(&tm) - wall_s;
	}
	if (seconds <= 0)
		return RETRY_DEFAULT_S * NS_PER_S + random % (RETRY_DEFAULT_S * 1000) * NS_PER_MS;
	return (uint64_t)MIN(seconds, RETRY_MAX_S) * NS_PER_S;
}

static bool digits(const char *at, size_t count, int *number)
{
	*number = 0;
	for (size_t i = 0; i < count; i++) {
		if (at[i] < '0' || at[i] > '9')
			return false;
		*number = *number * 10 + (at[i] - '0');
	}
	return true;
}

/* "Z" or "+hh:mm" to seconds east of Greenwich. */
static bool parse_zone(const char *at, size_t len, int *seconds)
{
	int hours, minutes;

	*seconds = 0;
	if (len == 1 && at[0] == 'Z')
		return true;
	if (len != 6 || (at[0] != '+' && at[0] != '-') || at[3] != ':' ||
	    !digits(at + 1, 2, &hours) || !digits(at + 4, 2, &minutes) || hours > 23 ||
	    minutes > 59)
		return false;
	*seconds = (hours * 60 + minutes) * 60 * (at[0] == '-' ? -1 : 1);
	return true;
}

bool messages_parse_time(const char *text, size_t len, int64_t *seconds)
{
	struct tm tm = { 0 };
	size_t at = 19;
	int zone;

	if (len < 20 || text[4] != '-' || text[7] != '-' || text[10] != 'T' || text[13] != ':' ||
	    text[16] != ':' || !digits(text, 4, &tm.tm_year) || !digits(text + 5, 2, &tm.tm_mon) ||
	    !digits(text + 8, 2, &tm.tm_mday) || !digits(text + 11, 2, &tm.tm_hour) ||
	    !digits(text + 14, 2, &tm.tm_min) || !digits(text + 17, 2, &tm.tm_sec))
		return false;
	if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	if (text[at] == '.')
		for (at++; at < len && text[at] >= '0' && text[at] <= '9'; at++)
			;
	if (!parse_zone(text + at, len - at, &zone))
		return false;
	if (tm.tm_year <= 1) {
		*seconds = 0;
		return true;
	}
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*seconds = (int64_t)timegm(&tm) - zone;
	return true;
}

/* ---- what a map message says besides the map ---- */

/* A JSON string without escapes, as times are. */
static int64_t time_of(const struct scan_text *value)
{
	int64_t seconds;

	if (!scan_has(value) || value->len < 2 || value->at[0] != '"' ||
	    !messages_parse_time(value->at + 1, value->len - 2, &seconds))
		return 0;
	return seconds;
}

static void read_node(const struct scan_text *node, struct messages_notes *notes)
{
	static const char *const keys[] = { "KeyExpiry", "Expired", "MachineAuthorized" };
	struct scan_text values[ARRAY_LEN(keys)];

	if (!scan_has(node) || scan_object(node->at, node->len, keys, values, ARRAY_LEN(keys)) != 0)
		return;
	notes->has_node = true;
	notes->key_expiry = time_of(&values[0]);
	notes->is_expired = scan_is_true(&values[1]);
	notes->is_authorized = scan_is_true(&values[2]);
}

static uint64_t sleep_of(const struct scan_text *debug)
{
	struct json_object *object, *value;
	double seconds = 0;

	object = scan_has(debug) ? parse_object(debug->at, debug->len) : NULL;
	if (object && json_object_object_get_ex(object, "SleepSeconds", &value) &&
	    (json_object_is_type(value, json_type_double) ||
	     json_object_is_type(value, json_type_int)))
		seconds = json_object_get_double(value);
	json_object_put(object);
	if (!(seconds > 0)) /* not a number is no wait either */
		return 0;
	return (uint64_t)(MIN(MAX(seconds, SLEEP_MIN_S), SLEEP_MAX_S) * (double)NS_PER_S);
}

static void read_url(const struct scan_text *value, char url[MESSAGES_URL_MAX])
{
	char wrapped[MESSAGES_URL_MAX + 16];
	struct json_object *object;
	int len;

	url[0] = '\0';
	if (!scan_has(value) || value->len >= MESSAGES_URL_MAX)
		return;
	len = snprintf(wrapped, sizeof(wrapped), "{\"u\":%.*s}", (int)value->len, value->at);
	object = parse_object(wrapped, (size_t)len);
	if (object && !url_member(object, "u", url))
		url[0] = '\0';
	json_object_put(object);
}

static bool read_payload(struct json_object *object, struct messages_ping *ping)
{
	size_t len;
	const char *text = text_member(object, "Payload", &len);

	if (!text || len == 0)
		return true;
	if (len > C2N_PAYLOAD_MAX)
		return false;
	ping->payload = malloc(len);
	return ping->payload &&
	       sodium_base642bin(ping->payload, len, text, len, NULL, &ping->payload_len, NULL,
				 sodium_base64_VARIANT_ORIGINAL) == 0;
}

static bool read_ping(const struct scan_text *value, struct messages_ping *ping)
{
	struct json_object *object = scan_has(value) ? parse_object(value->at, value->len) : NULL;
	const char *text;
	size_t len;
	bool ok;

	memset(ping, 0, sizeof(*ping));
	if (!object)
		return false;
	text = text_member(object, "Types", &len);
	if (text)
		messages_strip(text, len, ping->types, sizeof(ping->types));
	ping->is_noise = flag_member(object, "URLIsNoise");
	text = text_member(object, "IP", &len);
	ping->has_ip = text && ip_parse(text, &ping->ip) == 0;
	ok = url_member(object, "URL", ping->url) && ping->url[0] && read_payload(object, ping);
	if (!ok)
		messages_ping_free(ping);
	json_object_put(object);
	return ok;
}

void messages_ping_free(struct messages_ping *ping)
{
	free(ping->payload);
	ping->payload = NULL;
}

int messages_read_notes(const char *text, size_t len, struct messages_notes *notes,
			struct messages_ping *ping)
{
	enum { KEEP_ALIVE, NODE, TIME, DEBUG, POP, PING, COUNT };
	static const char *const keys[COUNT] = {
		[KEEP_ALIVE] = "KeepAlive", [NODE] = "Node",         [TIME] = "ControlTime",
		[DEBUG] = "Debug",          [POP] = "PopBrowserURL", [PING] = "PingRequest",
	};
	struct scan_text values[COUNT];

	memset(notes, 0, sizeof(*notes));
	memset(ping, 0, sizeof(*ping));
	if (scan_object(text, len, keys, values, COUNT) != 0)
		return -EBADMSG;
	notes->is_keep_alive = scan_is_true(&values[KEEP_ALIVE]);
	read_node(&values[NODE], notes);
	notes->control_time = time_of(&values[TIME]);
	notes->sleep_ns = sleep_of(&values[DEBUG]);
	read_url(&values[POP], notes->pop_url);
	notes->has_ping = read_ping(&values[PING], ping);
	return 0;
}

/* ---- requests that the server sends down ---- */

static char *raw_answer(const char *status, const void *body, size_t body_len, size_t *len)
{
	char head[128];
	int head_len = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n",
				status, body_len);
	char *answer = malloc((size_t)head_len + body_len);

	if (!answer)
		return NULL;
	memcpy(answer, head, (size_t)head_len);
	if (body_len > 0)
		memcpy(answer + head_len, body, body_len);
	*len = (size_t)head_len + body_len;
	return answer;
}

char *messages_answer_c2n(const uint8_t *request, size_t len, size_t *answer_len)
{
	static const char unknown[] = "unknown c2n path";
	const uint8_t *from = request ? request : (const uint8_t *)"";
	const uint8_t *end = memmem(from, request ? len : 0, "\r\n\r\n", 4);
	const uint8_t *path = end ? memchr(from, ' ', (size_t)(end - from)) : NULL;

	if (path && end - path > 7 &&
	    (memcmp(path, " /echo ", 7) == 0 || memcmp(path, " /echo?", 7) == 0))
		return raw_answer("200 OK", end + 4, len - (size_t)(end + 4 - from), answer_len);
	return raw_answer("400 Bad Request", unknown, sizeof(unknown) - 1, answer_len);
}
