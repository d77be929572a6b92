/* Asking the daemon, and finding one's way in its JSON. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/http.h"

static void explain(const struct ctl *ctl, int err)
{
	if (err == -ENOENT || err == -ECONNREFUSED)
		fprintf(stderr,
			"meshctl: no daemon runs in %s; start one with meshd (or name its folder "
			"with --dir)\n",
			ctl->where);
	else if (err == -EACCES || err == -EPERM)
		fprintf(stderr,
			"meshctl: the daemon in %s belongs to another user; run meshctl as that "
			"user or as root\n",
			ctl->where);
	else if (err == -ETIMEDOUT)
		fprintf(stderr, "meshctl: the daemon in %s did not answer in time\n", ctl->where);
	else
		fprintf(stderr, "meshctl: no usable answer from the daemon in %s: %s\n", ctl->where,
			strerror(-err));
}

bool ctl_ask(const struct ctl *ctl, const char *method, const char *path, int timeout_ms,
	     struct ctl_answer *answer, bool *timed_out)
{
	struct http_answer http = { 0 };
	char target[1024];
	int err;

	*answer = (struct ctl_answer){ 0 };
	snprintf(target, sizeof(target), CTL_PREFIX "%s", path);
	err = http_ask(ctl->socket, method, target, timeout_ms, &http);
	if (timed_out)
		*timed_out = err == -ETIMEDOUT;
	if (err) {
		if (err != -ETIMEDOUT || !timed_out)
			explain(ctl, err);
		return false;
	}
	answer->status = http.status;
	answer->body = http.body;
	answer->json = json_tokener_parse(http.body);
	if (answer->json)
		return true;
	explain(ctl, -EPROTO);
	ctl_answer_finish(answer);
	return false;
}

bool ctl_ask_or_tell(const struct ctl *ctl, const char *method, const char *path, int timeout_ms,
		     struct ctl_answer *answer)
{
	if (!ctl_ask(ctl, method, path, timeout_ms, answer, NULL))
		return false;
	if (answer->status == 200)
		return true;
	fprintf(stderr, "%s\n", ctl_text(answer->json, "error"));
	ctl_answer_finish(answer);
	return false;
}

void ctl_answer_finish(struct ctl_answer *answer)
{
	free(answer->body);
	json_object_put(answer->json);
	*answer = (struct ctl_answer){ 0 };
}

json_object *ctl_part(json_object *from, const char *key)
{
	json_object *value = NULL;

	if (!json_object_is_type(from, json_type_object))
		return NULL;
	return json_object_object_get_ex(from, key, &value) ? value : NULL;
}

const char *ctl_text(json_object *from, const char *key)
{
	json_object *value = ctl_part(from, key);

	return value ? json_object_get_string(value) : "";
}

int64_t ctl_number(json_object *from, const char *key)
{
	return json_object_get_int64(ctl_part(from, key));
}

bool ctl_flag(json_object *from, const char *key)
{
	return json_object_get_boolean(ctl_part(from, key));
}

size_t ctl_length(json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

const char *ctl_text_at(json_object *list, size_t i)
{
	const char *text = json_object_get_string(json_object_array_get_idx(list, i));

	return text ? text : "";
}

/* How many bytes the character at s has (RFC 3629, section 4); 0: it is none. */
static size_t utf8_len(const unsigned char *s)
{
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (s[0] > 0xf4 || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* A file's name is any bytes, JSON is not. */
void ctl_print_json(json_object *json)
{
	const int form = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
			 JSON_C_TO_STRING_NOSLASHESCAPE;
	const char *text = json_object_to_json_string_ext(json, form);
	size_t len, good;

	for (;;) {
		for (good = 0; text[good]; good += len) {
			len = utf8_len((const unsigned char *)text + good);
			if (len == 0)
				break;
		}
		fwrite(text, 1, good, stdout);
		if (!text[good])
			return;
		fputs("\\ufffd", stdout);
		text += good + 1;
	}
}

bool ctl_node_has_ip(json_object *node, const struct ip_addr *ip)
{
	json_object *ips = ctl_part(node, "TailscaleIPs");
	struct ip_addr one;

	for (size_t i = 0; i < ctl_length(ips); i++)
		if (ip_parse(ctl_text_at(ips, i), &one) == 0 && ip_equal(&one, ip))
			return true;
	return false;
}

void ctl_clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

void ctl_node_name(json_object *status, json_object *node, char *name, size_t room)
{
	const char *full = ctl_text(node, "DNSName"), *suffix = ctl_text(status, "MagicDNSSuffix");
	size_t len = strlen(full), suffix_len = strlen(suffix);

	while (len && full[len - 1] == '.')
		len--;
	if (suffix_len && len > suffix_len && full[len - suffix_len - 1] == '.' &&
	    strncasecmp(full + len - suffix_len, suffix, suffix_len) == 0)
		len -= suffix_len + 1;
	if (len)
		snprintf(name, room, "%.*s", (int)len, full);
	else
		snprintf(name, room, "(\"%s\")", ctl_text(node, "HostName"));
	ctl_clean(name);
}

static bool is_called(json_object *status, json_object *node, const char *who)
{
	const char *full = ctl_text(node, "DNSName");
	size_t len = strlen(who);
	char name[300];

	if (len && who[len - 1] == '.')
		len--;
	if (!len)
		return false;
	ctl_node_name(status, node, name, sizeof(name));
	return (strlen(name) == len && strncasecmp(name, who, len) == 0) ||
	       (strncasecmp(full, who, len) == 0 && (!full[len] || strcmp(full + len, ".") == 0));
}

static const char *first_ip(json_object *node, const char *who)
{
	json_object *ips = ctl_part(node, "TailscaleIPs");

	if (ctl_length(ips))
		return ctl_text_at(ips, 0);
	fprintf(stderr, "node \"%s\" has no address\n", who);
	return NULL;
}

const char *ctl_find_ip(json_object *status, const char *who, bool *is_self)
{
	json_object *self = ctl_part(status, "Self"), *peers = ctl_part(status, "Peer");
	struct ip_addr ip;

	*is_self = false;
	if (ip_parse(who, &ip) == 0) {
		*is_self = ctl_node_has_ip(self, &ip);
		return who;
	}
	if (is_called(status, self, who)) {
		*is_self = true;
		return first_ip(self, who);
	}
	if (json_object_is_type(peers, json_type_object)) {
		json_object_object_foreach(peers, key, peer)
		{
			(void)key;
			if (is_called(status, peer, who))
				return first_ip(peer, who);
		}
	}
	fprintf(stderr, "error looking up IP of \"%s\": no such host\n", who);
	return NULL;
}
