/*
 * A small HTTP/1.0 client. One request a connection: the daemon closes it
 * after the answer, so the answer is whatever comes until then, and no
 * chunking, keep-alive or redirect needs to be understood.
 */
#include "daemon/ctl/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_MAX 1024
#define LOOK_MS     1000

static int connect_unix(const char *path, int timeout_ms)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
	int fd, err;

	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0 ||
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

bool http_is_served(const char *socket_path)
{
	int fd = connect_unix(socket_path, LOOK_MS);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || (fd != -ENOENT && fd != -ENOTDIR && fd != -ECONNREFUSED);
}

static int send_all(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	while (len) {
		n = send(fd, bytes, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Everything until the end of the stream, zero-terminated. */
static int receive_all(int fd, char **bytes, size_t *len)
{
	size_t room = 0;
	char *grown;
	ssize_t n;

	*bytes = NULL;
	*len = 0;
	for (;;) {
		if (room - *len < 2) {
			room = room ? room * 2 : 16384;
			grown = room > HTTP_MAX_ANSWER ? NULL : realloc(*bytes, room);
			if (!grown)
				return room > HTTP_MAX_ANSWER ? -E2BIG : -ENOMEM;
			*bytes = grown;
		}
		n = recv(fd, *bytes + *len, room - *len - 1, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		*len += (size_t)n;
		(*bytes)[*len] = '\0';
		if (n == 0)
			return 0;
	}
}

#define LENGTH_NONE (-1)
#define LENGTH_BAD  (-2)

/* The decimal number that is all of text but for spaces before and a CR after it. */
static long long parse_length(const char *text, const char *end)
{
	long long value = 0;

	while (text < end && *text == ' ')
		text++;
	if (end > text && end[-1] == '\r')
		end--;
	if (text == end)
		return LENGTH_BAD;
	for (; text < end; text++) {
		if (*text < '0' || *text > '9' || value > HTTP_MAX_ANSWER)
			return LENGTH_BAD;
		value = value * 10 + (*text - '0');
	}
	return value;
}

/* The value of Content-Length in a header block that ends with a line end. */
static long long content_length(const char *headers, size_t len)
{
	static const char name[] = "content-length:";
	const size_t name_len = sizeof(name) - 1;
	const char *line = headers, *end = headers + len, *next;

	for (; line < end; line = next + 1) {
		next = memchr(line, '\n', (size_t)(end - line));
		if (!next)
			break;
		if ((size_t)(next - line) >= name_len && strncasecmp(line, name, name_len) == 0)
			return parse_length(line + name_len, next);
	}
	return LENGTH_NONE;
}

int http_parse_answer(const char *bytes, size_t len, int *status, size_t *body_off)
{
	static const char version[] = "HTTP/1.";
	const char *blank = len ? memmem(bytes, len, "\r\n\r\n", 4) : NULL;
	const char *code = bytes + sizeof(version) + 1; /* past the minor version and a space */
	long long expected;

	if (!blank || (size_t)(blank - bytes) < sizeof(version) + 4 ||
	    memcmp(bytes, version, sizeof(version) - 1) != 0 || code[-1] != ' ')
		return -EPROTO;
	*status = 0;
	for (int i = 0; i < 3; i++) {
		if (code[i] < '0' || code[i] > '9')
			return -EPROTO;
		*status = *status * 10 + (code[i] - '0');
	}
	*body_off = (size_t)(blank - bytes) + 4;
	expected = content_length(bytes, *body_off);
	if (expected == LENGTH_BAD ||
	    (expected != LENGTH_NONE && (size_t)expected != len - *body_off))
		return -EPROTO;
	return 0;
}

int http_escape(const char *text, char *out, size_t out_len)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "-._~:";
	size_t len = 0;

	for (; *text; text++) {
		if (len + 4 > out_len)
			return -E2BIG;
		if (strchr(safe, *text))
			out[len++] = *text;
		else
			len += (size_t)snprintf(out + len, out_len - len, "%%%02X",
						(unsigned char)*text);
	}
	if (len >= out_len)
		return -E2BIG;
	out[len] = '\0';
	return 0;
}

int http_ask(const char *socket_path, const char *method, const char *target, int timeout_ms,
	     struct http_answer *answer)
{
	char request[REQUEST_MAX], *bytes = NULL;
	size_t len, body_off;
	int fd, n, err;

	n = snprintf(request, sizeof(request),
		     "%s %s HTTP/1.0\r\nHost: meshwrap\r\nContent-Length: 0\r\n\r\n", method,
		     target);
	if (n < 0 || (size_t)n >= sizeof(request))
		return -E2BIG;
	fd = connect_unix(socket_path, timeout_ms);
	if (fd < 0)
		return fd;
	err = send_all(fd, request, (size_t)n);
	if (!err)
		err = receive_all(fd, &bytes, &len);
	if (!err)
		err = http_parse_answer(bytes, len, &answer->status, &body_off);
	if (err) {
		free(bytes);
	} else {
		answer->body_len = len - body_off;
		memmove(bytes, bytes + body_off, answer->body_len + 1);
		answer->body = bytes;
	}
	close(fd);
	return err;
}
