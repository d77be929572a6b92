/*
 * A look at GET /localapi/v0/status for some strings and two numbers, without a library: a walk
 * over the text that counts braces and knows strings is all it takes.
 *
 * A text is read as it is, since a file's name is any bytes, and must be found to be the same. What
 * goes to a terminal is cleaned first: it may be a server's.
 */
#include "preload/meshrun_status.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared/paths.h"
#include "shared/util.h"

#define ANSWER_MAX 65536

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The escape after a backslash at p as one character; '?' where it is none of ASCII. */
static char unescape(const char *p, const char *end, size_t *used)
{
	int value = 0;

	*used = 1;
	switch (*p) {
	case 'n':
		return '\n';
	case 't':
		return '\t';
	case 'r':
		return '\r';
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'u':
		if (end - p < 5)
			return '?';
		for (int i = 1; i <= 4; i++)
			value = hex_value(p[i]) < 0 ? 0x10000 : value * 16 + hex_value(p[i]);
		*used = 5;
		return value > 0 && value < 0x80 ? (char)value : '?';
	default:
		return *p;
	}
}

/* Reads the string after a quote at p into text, as far as it fits. Returns where it ends. */
static const char *read_string(const char *p, const char *end, char *text, size_t room)
{
	size_t len = 0, used;

	while (p < end && *p != '"') {
		char c = *p++;

		if (c == '\\' && p < end) {
			c = unescape(p, end, &used);
			p += used;
		}
		if (len + 1 < room)
			text[len++] = c;
	}
	text[len] = '\0';
	return p < end ? p + 1 : end;
}

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && strchr(" \t\r\n", *p) && *p)
		p++;
	return p;
}

/* Where the value under key begins, at the top level of the object. NULL: there is none. */
static const char *find_member(const char *json, size_t len, const char *key)
{
	const char *p = json, *end = json + len;
	char name[64];
	int depth = 0;

	while (p < end) {
		char c = *p++;

		if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && --depth <= 0)
			break;
		if (c != '"')
			continue;
		p = skip_space(read_string(p, end, name, sizeof(name)), end);
		if (depth == 1 && p < end && *p == ':' && strcmp(name, key) == 0)
			return skip_space(p + 1, end);
	}
	return NULL;
}

bool status_find(const char *json, size_t len, const char *key, char *text, size_t room)
{
	const char *value = find_member(json, len, key), *end = json + len;

	text[0] = '\0';
	if (!value || value == end || *value != '"')
		return false;
	read_string(value + 1, end, text, room);
	return true;
}

char *status_clean(char *text)
{
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
	return text;
}

/* The object under key, and what follows it; rest 0: there is none. */
static const char *find_object(const char *json, size_t len, const char *key, size_t *rest)
{
	const char *value = find_member(json, len, key), *end = json + len;
	bool is_object = value && value < end && *value == '{';

	*rest = is_object ? (size_t)(end - value) : 0;
	return is_object ? value : "";
}

static int connect_api(const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = 1 };
	int fd;

	if (paths_join(dir, PATHS_API, addr.sun_path, sizeof(addr.sun_path)) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -1;
}

static size_t exchange(int fd, char *answer, size_t room)
{
	static const char question[] = "GET /localapi/v0/status?peers=false HTTP/1.0\r\n"
				       "Host: meshwrap\r\n\r\n";
	size_t len = 0;
	ssize_t n;

	if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) != sizeof(question) - 1)
		return 0;
	while (len < room && (n = recv(fd, answer + len, room - len, 0)) > 0)
		len += (size_t)n;
	return len;
}

/* The answer's body, in answer. NULL: there is none. */
static const char *fetch(int fd, char *answer, size_t room, size_t *len)
{
	const char *body;

	*len = exchange(fd, answer, room);
	body = memmem(answer, *len, "\r\n\r\n", 4);
	if (body)
		*len -= (size_t)(body - answer);
	return body;
}

/* The first number under key, at whatever level; negative: there is none. */
static long find_number(const char *json, size_t len, const char *key)
{
	const char *found = memmem(json, len, key, strlen(key));

	return found ? strtol(found + strlen(key), NULL, 10) : -1;
}

bool status_ask_traffic(const char *dir, struct traffic *traffic)
{
	char *answer = malloc(ANSWER_MAX + 1);
	int fd = answer ? connect_api(dir) : -1;
	socklen_t room = sizeof(struct ucred);
	struct ucred who = { 0 };
	const char *body = NULL;
	size_t len;

	memset(traffic, 0, sizeof(*traffic));
	if (fd >= 0) {
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &room) == 0)
			body = fetch(fd, answer, ANSWER_MAX, &len);
		close(fd);
	}
	if (body) {
		answer[(size_t)(body - answer) + len] = '\0'; /* for strtol() */
		traffic->daemon = who.pid;
		traffic->connections = find_number(body, len, "\"Connections\":");
		traffic->bytes = find_number(body, len, "\"BufferBytes\":");
	}
	free(answer);
	return body && traffic->connections >= 0 && traffic->bytes >= 0;
}

bool status_ask(const char *dir, struct login_status *status)
{
	char *answer = malloc(ANSWER_MAX);
	int fd = answer ? connect_api(dir) : -1;
	const char *body = NULL;
	size_t len;

	memset(status, 0, sizeof(*status));
	if (fd >= 0) {
		body = fetch(fd, answer, ANSWER_MAX, &len);
		close(fd);
	}
	if (body) {
		status_find(body, len, "BackendState", status->state, sizeof(status->state));
		status_find(body, len, "AuthURL", status->url, sizeof(status->url));
		status_find(body, len, "LoginError", status->error, sizeof(status->error));
		status_clean(status->state);
		status_clean(status->url);
		status_clean(status->error);
	}
	free(answer);
	return body != NULL;
}

bool status_ask_origin(const char *dir, struct daemon_origin *origin)
{
	char *answer = malloc(ANSWER_MAX);
	int fd = answer ? connect_api(dir) : -1;
	const char *body = NULL, *object;
	size_t len, rest;

	memset(origin, 0, sizeof(*origin));
	if (fd >= 0) {
		body = fetch(fd, answer, ANSWER_MAX, &len);
		close(fd);
	}
	if (body) {
		status_find(body, len, "ConfigFile", origin->config, sizeof(origin->config));
		object = find_object(body, len, "Control", &rest);
		if (!origin->config[0])
			status_find(object, rest, "Server", origin->server, sizeof(origin->server));
		object = find_object(body, len, "Options", &rest);
		rest = MIN(rest, sizeof(origin->options) - 1);
		memcpy(origin->options, object, rest);
	}
	free(answer);
	return body != NULL;
}
