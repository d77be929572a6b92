/*
 * HTTP/1 responses, for clients.
 *
 * The head is parsed only when it is whole, from the bytes as they lie in the
 * caller's buffer: nothing is copied, and the caller's bound on that buffer is
 * the bound on everything. Strict where leniency lets two parties see two
 * messages in the same bytes: line ends are CRLF, no folded lines, no space
 * before a colon, one length at most, and never a length beside chunks.
 *
 * Bodies are decoded again from the start whenever more has come. They are at
 * most some ten KiB here, so a decoder that remembers would buy nothing.
 */
#include "daemon/http1.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "shared/util.h"

static bool is_token(const char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)at[i] <= ' ' || (unsigned char)at[i] >= 0x7f ||
		    strchr("()<>@,;:\\\"/[]?={}", at[i]))
			return false;
	return len > 0;
}

static bool is_field_text(const char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)at[i] < ' ' && at[i] != '\t') || at[i] == 0x7f)
			return false;
	return true;
}

static bool text_is(const struct http1_text *text, const char *what)
{
	return text->len == strlen(what) && strncasecmp(text->at, what, text->len) == 0;
}

/* Digits only; saturates far above anything we accept. False: not a number. */
static bool parse_number(const char *at, size_t len, unsigned base, uint64_t *number)
{
	uint64_t n = 0;

	if (len == 0 || len > 15)
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned digit;

		if (at[i] >= '0' && at[i] <= '9')
			digit = (unsigned)(at[i] - '0');
		else if (base == 16 && (at[i] | 0x20) >= 'a' && (at[i] | 0x20) <= 'f')
			digit = (unsigned)((at[i] | 0x20) - 'a') + 10;
		else
			return false;
		n = n * base + digit;
	}
	*number = n;
	return true;
}

static struct http1_text trimmed(const char *at, size_t len)
{
	while (len > 0 && (at[0] == ' ' || at[0] == '\t'))
		at++, len--;
	while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
		len--;
	return (struct http1_text){ at, len };
}

/* "HTTP/1.x NNN[ reason]" */
static int parse_status(const char *line, size_t len, int *status)
{
	uint64_t number;

	if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
	    line[8] != ' ' || !parse_number(line + 9, 3, 10, &number) || number < 100 ||
	    number > 599 || (len > 12 && line[12] != ' ') || !is_field_text(line, len))
		return -EBADMSG;
	*status = (int)number;
	return 0;
}

static int parse_header(const char *line, size_t len, struct http1_head *head)
{
	const char *colon = memchr(line, ':', len);
	struct http1_text name, value;

	if (!colon || !is_token(line, (size_t)(colon - line)) || !is_field_text(line, len))
		return -EBADMSG;
	if (head->header_count == HTTP1_HEADERS_MAX)
		return -EMSGSIZE;
	name = (struct http1_text){ line, (size_t)(colon - line) };
	value = trimmed(colon + 1, len - name.len - 1);
	if (text_is(&name, "content-length")) {
		if (head->has_length ||
		    !parse_number(value.at, value.len, 10, &head->content_length))
			return -EBADMSG;
		head->has_length = true;
	} else if (text_is(&name, "transfer-encoding")) {
		if (head->is_chunked || !text_is(&value, "chunked"))
			return -EBADMSG;
		head->is_chunked = true;
	}
	head->headers[head->header_count].name = name;
	head->headers[head->header_count++].value = value;
	return 0;
}

int http1_parse_head(const char *bytes, size_t len, struct http1_head *head)
{
	static const char start[] = "HTTP/1.";
	const char *end, *line = bytes;

	head->header_count = 0;
	head->status = 0;
	head->is_chunked = head->has_length = false;
	head->content_length = 0;
	if (memcmp(bytes, start, MIN(len, sizeof(start) - 1)) != 0)
		return -EBADMSG; /* some other protocol would never send an empty line */
	end = memmem(bytes, MIN(len, HTTP1_HEAD_MAX), "\r\n\r\n", 4);
	if (!end)
		return len >= HTTP1_HEAD_MAX ? -EMSGSIZE : -EAGAIN;
	head->len = (size_t)(end + 4 - bytes);
	while (line < end + 2) {
		const char *line_end = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
		size_t line_len;
		int err;

		if (!line_end)
			return -EBADMSG;
		line_len = (size_t)(line_end - line);
		err = line == bytes ? parse_status(line, line_len, &head->status)
				    : parse_header(line, line_len, head);
		if (err != 0)
			return err;
		line = line_end + 2;
	}
	return head->is_chunked && head->has_length ? -EBADMSG : 0;
}

static bool list_has(const struct http1_text *list, const char *token)
{
	const char *at = list->at, *end = list->at + list->len;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		const char *stop = comma ? comma : end;
		struct http1_text item = trimmed(at, (size_t)(stop - at));

		if (text_is(&item, token))
			return true;
		at = stop + 1;
	}
	return false;
}

/* Whether a header of this name has token in its comma list, cases ignored. */
static bool header_has(const struct http1_head *head, const char *name, const char *token)
{
	for (unsigned i = 0; i < head->header_count; i++)
		if (text_is(&head->headers[i].name, name) &&
		    list_has(&head->headers[i].value, token))
			return true;
	return false;
}

bool http1_is_upgrade(const struct http1_head *head, const char *protocol)
{
	return head->status == 101 && header_has(head, "upgrade", protocol) &&
	       header_has(head, "connection", "upgrade");
}

static int append(char *body, size_t room, size_t *len, const char *bytes, size_t more)
{
	if (more > room - *len)
		return -EMSGSIZE;
	memcpy(body + *len, bytes, more);
	*len += more;
	return 0;
}

/* Extensions of chunks are skipped, trailers not waited for: nobody reads them. */
static int read_chunks(const char *bytes, size_t len, char *body, size_t room, size_t *body_len)
{
	const char *at = bytes, *end = bytes + len;

	for (;;) {
		const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
		const char *digits_end;
		uint64_t size;
		int err;

		if (!line_end)
			return end - at > 256 ? -EBADMSG : -EAGAIN;
		digits_end = memchr(at, ';', (size_t)(line_end - at));
		if (!parse_number(at, (size_t)((digits_end ? digits_end : line_end) - at), 16,
				  &size))
			return -EBADMSG;
		if (size == 0)
			return 0;
		at = line_end + 2;
		if (size > room - *body_len)
			return -EMSGSIZE;
		if ((uint64_t)(end - at) < size + 2)
			return -EAGAIN;
		err = append(body, room, body_len, at, (size_t)size);
		at += size;
		if (err != 0 || memcmp(at, "\r\n", 2) != 0)
			return err != 0 ? err : -EBADMSG;
		at += 2;
	}
}

int http1_read_body(const struct http1_head *head, const char *bytes, size_t len, bool is_end,
		    char *body, size_t *body_len)
{
	size_t room = *body_len;
	int err;

	*body_len = 0;
	if (head->status == 204 || head->status == 304 || head->status < 200)
		return 0;
	if (head->is_chunked) {
		err = read_chunks(bytes, len, body, room, body_len);
		return err == -EAGAIN && is_end ? -EBADMSG : err;
	}
	if (!head->has_length) {
		err = append(body, room, body_len, bytes, len);
		return err != 0 || is_end ? err : -EAGAIN;
	}
	if (head->content_length > room)
		return -EMSGSIZE;
	if (len < head->content_length)
		return is_end ? -EBADMSG : -EAGAIN;
	return append(body, room, body_len, bytes, (size_t)head->content_length);
}

/* Splits "host", "host:port", "[v6]" or "[v6]:port"; port 0 when there is none. */
static int parse_authority(const char *at, size_t len, struct http1_url *url)
{
	const char *host = at, *port = NULL, *end = at + len;
	size_t host_len;
	uint64_t number = 0;

	if (len > 0 && at[0] == '[') {
		const char *close = memchr(at, ']', len);

		if (!close)
			return -EINVAL;
		host = at + 1;
		host_len = (size_t)(close - host);
		if (close + 1 < end) {
			if (close[1] != ':')
				return -EINVAL;
			port = close + 2;
		}
		if (strspn(host, "0123456789abcdefABCDEF:.") < host_len)
			return -EINVAL;
	} else {
		const char *colon = memchr(at, ':', len);

		host_len = colon ? (size_t)(colon - at) : len;
		port = colon ? colon + 1 : NULL;
		if (strspn(host,
			   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") <
		    host_len)
			return -EINVAL;
	}
	if (host_len == 0 || host_len >= sizeof(url->host))
		return -EINVAL;
	if (port && (end - port > 5 || !parse_number(port, (size_t)(end - port), 10, &number) ||
		     number == 0 || number > UINT16_MAX))
		return -EINVAL;
	memcpy(url->host, host, host_len);
	url->host[host_len] = '\0';
	url->port = (uint16_t)number;
	return 0;
}

int http1_parse_url(const char *text, struct http1_url *url)
{
	struct http1_url parsed = { 0 };
	const char *rest, *slash;
	size_t authority_len, path_len;

	if (strncasecmp(text, "http://", 7) == 0)
		rest = text + 7;
	else if (strncasecmp(text, "https://", 8) == 0)
		rest = text + 8, parsed.is_tls = true;
	else
		return -EINVAL;
	authority_len = strcspn(rest, "/?#");
	slash = rest + authority_len;
	path_len = strlen(slash);
	if (authority_len >= sizeof(parsed.authority) || path_len >= sizeof(parsed.path) ||
	    (path_len > 0 && slash[0] != '/') || strchr(slash, '#'))
		return -EINVAL;
	for (size_t i = 0; i < path_len; i++)
		if ((unsigned char)slash[i] <= ' ' || (unsigned char)slash[i] >= 0x7f)
			return -EINVAL;
	if (parse_authority(rest, authority_len, &parsed) != 0)
		return -EINVAL;
	if (parsed.port == 0)
		parsed.port = parsed.is_tls ? 443 : 80;
	memcpy(parsed.authority, rest, authority_len);
	memcpy(parsed.path, slash, path_len);
	*url = parsed;
	return 0;
}
