/* A head is cut into lines and these into pieces, which point into its bytes: see the header. */
#include "daemon/proxy/httpproxy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "shared/util.h"

struct piece {
	const char *at;
	size_t len;
};

struct line {
	struct piece name, value;
};

struct head {
	struct piece start; /* the first line */
	struct line line[HTTPPROXY_LINES];
	unsigned count;
	size_t len; /* with the empty line */
};

static bool is(const struct piece *p, const char *text)
{
	return p->len == strlen(text) && strncasecmp(p->at, text, p->len) == 0;
}

static bool is_token(const struct piece *p)
{
	for (size_t i = 0; i < p->len; i++) {
		unsigned char c = (unsigned char)p->at[i];

		if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c))
			return false;
	}
	return p->len > 0;
}

/* Text that cannot end a line or hide from a reader. */
static bool is_clean(const struct piece *p)
{
	for (size_t i = 0; i < p->len; i++)
		if (((unsigned char)p->at[i] < ' ' && p->at[i] != '\t') || p->at[i] == 0x7f)
			return false;
	return true;
}

static struct piece trim(struct piece p)
{
	while (p.len && (p.at[0] == ' ' || p.at[0] == '\t')) {
		p.at++;
		p.len--;
	}
	while (p.len && (p.at[p.len - 1] == ' ' || p.at[p.len - 1] == '\t'))
		p.len--;
	return p;
}

static bool add_line(struct head *head, struct piece text)
{
	const char *colon = memchr(text.at, ':', text.len);
	struct line *line = &head->line[head->count];

	if (!colon || head->count == HTTPPROXY_LINES || !is_clean(&text))
		return false;
	head->count++;
	line->name = (struct piece){ text.at, (size_t)(colon - text.at) };
	line->value = trim((struct piece){ colon + 1, text.len - line->name.len - 1 });
	return is_token(&line->name);
}

/* 1; 0: it is not whole; -EPROTO. */
static int split(const char *bytes, size_t len, struct head *head)
{
	const char *end = bytes + len, *at = bytes, *newline;

	head->count = 0;
	for (bool is_first = true;; is_first = false, at = newline + 1) {
		struct piece text;

		newline = memchr(at, '\n', (size_t)(end - at));
		if (!newline)
			return 0;
		if (newline == at || newline[-1] != '\r')
			return -EPROTO;
		text = (struct piece){ at, (size_t)(newline - at) - 1 };
		if (text.len == 0 && !is_first)
			break;
		if (is_first && is_clean(&text))
			head->start = text;
		else if (is_first || !add_line(head, text))
			return -EPROTO;
	}
	head->len = (size_t)(newline + 1 - bytes);
	return 1;
}

/* The words of a request line; false unless these are three. */
static bool split_start(struct piece start, struct piece word[static 3])
{
	for (int i = 0; i < 3; i++) {
		const char *space = memchr(start.at, ' ', start.len);
		size_t len = space ? (size_t)(space - start.at) : start.len;

		if (len == 0 || (i < 2) != (space != NULL))
			return false;
		word[i] = (struct piece){ start.at, len };
		start.at += len + (space ? 1 : 0);
		start.len -= len + (space ? 1 : 0);
	}
	return true;
}

static bool parse_length(const struct piece *p, uint64_t *n)
{
	*n = 0;
	if (p->len == 0 || p->len > 18)
		return false;
	for (size_t i = 0; i < p->len; i++) {
		if (p->at[i] < '0' || p->at[i] > '9')
			return false;
		*n = *n * 10 + (uint64_t)(p->at[i] - '0');
	}
	return true;
}

/* Does a header that must stay appear in a Connection header? Then that is a trick. */
static bool is_framing(const struct piece *name)
{
	return is(name, "host") || is(name, "content-length") || is(name, "transfer-encoding");
}

/* The next name in a comma-separated list; false at its end. */
static bool next_of_list(struct piece *list, struct piece *item)
{
	const char *comma;
	size_t len;

	if (!list->at)
		return false;
	comma = memchr(list->at, ',', list->len);
	len = comma ? (size_t)(comma - list->at) : list->len;
	*item = trim((struct piece){ list->at, len });
	list->at = comma ? comma + 1 : NULL;
	list->len -= comma ? len + 1 : len;
	return true;
}

static bool names_framing(const struct line *connection)
{
	struct piece list = connection->value, item;

	while (next_of_list(&list, &item))
		if (is_framing(&item))
			return true;
	return false;
}

static const char *check_lines(const struct head *head, struct httpproxy_request *r)
{
	unsigned hosts = 0, lengths = 0, codings = 0;

	for (unsigned i = 0; i < head->count; i++) {
		const struct line *line = &head->line[i];

		if (is(&line->name, "host") && ++hosts > 1)
			return "The request has two Host headers.";
		if (is(&line->name, "connection") && names_framing(line))
			return "The Connection header names a header that must stay.";
		if (is(&line->name, "content-length")) {
			if (++lengths > 1 || !parse_length(&line->value, &r->body_len))
				return "The request's length is not one number.";
			r->body = r->body_len ? BODY_LENGTH : BODY_NONE;
		}
		if (is(&line->name, "transfer-encoding")) {
			if (++codings > 1 || !is(&line->value, "chunked"))
				return "The only transfer coding taken here is chunked.";
			r->body = BODY_CHUNKED;
		}
	}
	return lengths && codings ? "The request has a length and is chunked." : NULL;
}

/* The authority of an absolute URL and what follows it; false for other forms. */
static bool split_url(const struct piece *url, struct piece *authority, struct piece *path)
{
	static const char scheme[] = "http://";
	const size_t skip = sizeof(scheme) - 1;
	size_t len = 0;

	if (url->len <= skip || strncasecmp(url->at, scheme, skip) != 0)
		return false;
	while (skip + len < url->len && !strchr("/?#", url->at[skip + len]))
		len++;
	*authority = (struct piece){ url->at + skip, len };
	*path = (struct piece){ url->at + skip + len, url->len - skip - len };
	return true;
}

static const char *check_request(const struct head *head, struct httpproxy_request *r)
{
	struct piece word[3], authority, path;

	if (!split_start(head->start, word) || !is_token(&word[0]) ||
	    (!is(&word[2], "HTTP/1.1") && !is(&word[2], "HTTP/1.0")))
		return "This is no HTTP/1 request.";
	*r = (struct httpproxy_request){ .is_connect = word[0].len == 7 &&
						       memcmp(word[0].at, "CONNECT", 7) == 0 };
	if (r->is_connect) {
		if (!target_parse(&r->place, word[1].at, word[1].len, 0))
			return "CONNECT takes HOST:PORT.";
	} else if (!split_url(&word[1], &authority, &path)) {
		return "This is a proxy: it takes CONNECT, and URLs that begin with http://.";
	} else if (!target_parse(&r->place, authority.at, authority.len, 80) ||
		   memchr(path.at, '#', path.len)) {
		return "The URL's host is not one.";
	}
	return check_lines(head, r);
}

int httpproxy_parse_request(const char *bytes, size_t len, struct httpproxy_request *request,
			    const char **problem)
{
	struct head head;
	int n = split(bytes, MIN(len, (size_t)HTTPPROXY_HEAD_MAX), &head);

	if (n == 0)
		return len >= HTTPPROXY_HEAD_MAX ? -E2BIG : 0;
	*problem = n < 0 ? "The request's head is not well formed." : check_request(&head, request);
	if (!*problem && request->is_connect && request->body != BODY_NONE)
		*problem = "CONNECT has no body.";
	return *problem ? -EPROTO : (int)head.len;
}

/* ---- what is passed on ---- */

struct output {
	char *at;
	size_t len;
};

static void put(struct output *o, const char *bytes, size_t len)
{
	memcpy(o->at + o->len, bytes, len);
	o->len += len;
}

static void put_text(struct output *o, const char *text)
{
	put(o, text, strlen(text));
}

static bool is_named_by_connection(const struct head *head, const struct piece *name)
{
	struct piece list, item;

	for (unsigned i = 0; i < head->count; i++) {
		if (!is(&head->line[i].name, "connection"))
			continue;
		list = head->line[i].value;
		while (next_of_list(&list, &item))
			if (item.len == name->len && strncasecmp(item.at, name->at, name->len) == 0)
				return true;
	}
	return false;
}

/* Of this hop only, or saying who somebody is, which no proxy may vouch for. */
static bool is_left_out(const struct head *head, const struct piece *name)
{
	static const char *const names[] = { "connection",
					     "keep-alive",
					     "te",
					     "proxy-connection",
					     "trailer",
					     "proxy-authenticate",
					     "upgrade",
					     "proxy-authorization",
					     "forwarded",
					     "proxy-authentication-info",
					     "x-real-ip",
					     "x-forwarded-for",
					     "x-forwarded-user" };
	static const char identity[] = "tailscale-";

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (is(name, names[i]))
			return true;
	if (name->len >= sizeof(identity) - 1 &&
	    strncasecmp(name->at, identity, sizeof(identity) - 1) == 0)
		return true;
	return !is_framing(name) && is_named_by_connection(head, name);
}

static void put_lines(struct output *o, const struct head *head, bool with_host)
{
	for (unsigned i = 0; i < head->count; i++) {
		const struct line *line = &head->line[i];

		if (is_left_out(head, &line->name) || (!with_host && is(&line->name, "host")))
			continue;
		put(o, line->name.at, line->name.len);
		put_text(o, ": ");
		put(o, line->value.at, line->value.len);
		put_text(o, "\r\n");
	}
	put_text(o, "Connection: close\r\n\r\n");
}

size_t httpproxy_rewrite_request(const char *bytes, size_t len, char *out)
{
	struct piece word[3] = { { "", 0 } }, authority = { "", 0 }, path = { "", 0 };
	struct output o = { out, 0 };
	struct head head;

	if (split(bytes, len, &head) != 1 || !split_start(head.start, word) ||
	    !split_url(&word[1], &authority, &path))
		return 0;
	put(&o, word[0].at, word[0].len);
	put_text(&o, path.len && path.at[0] == '/' ? " " : " /");
	put(&o, path.at, path.len);
	put_text(&o, " ");
	put(&o, word[2].at, word[2].len);
	put_text(&o, "\r\nHost: ");
	put(&o, authority.at, authority.len);
	put_text(&o, "\r\n");
	put_lines(&o, &head, false);
	return o.len;
}

int httpproxy_rewrite_response(const char *bytes, size_t len, char *out, size_t *consumed,
			       bool *is_final)
{
	static const char version[] = "HTTP/1.";
	struct output o = { out, 0 };
	struct head head;
	const char *code;
	int n = split(bytes, MIN(len, (size_t)HTTPPROXY_HEAD_MAX), &head);

	if (n == 0)
		return len >= HTTPPROXY_HEAD_MAX ? -EPROTO : 0;
	if (n < 0 || head.start.len < sizeof(version) + 4 ||
	    memcmp(head.start.at, version, sizeof(version) - 1) != 0)
		return -EPROTO;
	code = head.start.at + sizeof(version) + 1;
	if (code[-1] != ' ')
		return -EPROTO;
	for (int i = 0; i < 3; i++)
		if (code[i] < '0' || code[i] > '9')
			return -EPROTO;
	/* Nobody here has asked for another protocol. */
	if (memcmp(code, "101", 3) == 0)
		return -EPROTO;
	*is_final = code[0] != '1';
	*consumed = head.len;
	put(&o, head.start.at, head.start.len);
	put_text(&o, "\r\n");
	put_lines(&o, &head, true);
	return (int)o.len;
}

/* ---- chunks ---- */

enum chunk_state {
	CHUNK_SIZE,      /* digits */
	CHUNK_EXTENSION, /* up to the CR */
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER, /* the beginning of a line */
	CHUNK_TRAILER_TEXT,
	CHUNK_TRAILER_LF,
	CHUNK_LAST_LF
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A byte of a chunk's first line. The next state, or -1. */
static int take_size(struct httpproxy_chunks *c, char byte)
{
	int digit = hex_value(byte);

	if (digit >= 0 && c->digits < 15) {
		c->left = c->left * 16 + (uint64_t)digit;
		c->digits++;
		return CHUNK_SIZE;
	}
	if (c->digits == 0 || digit >= 0)
		return -1;
	if (byte == ';' || byte == ' ' || byte == '\t')
		return CHUNK_EXTENSION;
	return byte == '\r' ? CHUNK_SIZE_LF : -1;
}

/* The next state, or -1. Data is not taken here. */
static int take_byte(struct httpproxy_chunks *c, char byte)
{
	switch ((enum chunk_state)c->state) {
	case CHUNK_SIZE:
		return take_size(c, byte);
	case CHUNK_EXTENSION:
		return byte == '\r' ? CHUNK_SIZE_LF : byte == '\n' ? -1 : CHUNK_EXTENSION;
	case CHUNK_SIZE_LF:
		c->digits = 0;
		return byte != '\n' ? -1 : c->left ? CHUNK_DATA : CHUNK_TRAILER;
	case CHUNK_DATA_CR:
		return byte == '\r' ? CHUNK_DATA_LF : -1;
	case CHUNK_DATA_LF:
		return byte == '\n' ? CHUNK_SIZE : -1;
	case CHUNK_TRAILER:
		return byte == '\r' ? CHUNK_LAST_LF : byte == '\n' ? -1 : CHUNK_TRAILER_TEXT;
	case CHUNK_TRAILER_TEXT:
		return byte == '\r' ? CHUNK_TRAILER_LF : byte == '\n' ? -1 : CHUNK_TRAILER_TEXT;
	case CHUNK_TRAILER_LF:
		return byte == '\n' ? CHUNK_TRAILER : -1;
	case CHUNK_LAST_LF:
		c->is_done = byte == '\n';
		return byte == '\n' ? CHUNK_LAST_LF : -1;
	case CHUNK_DATA:
		break;
	}
	return -1;
}

size_t httpproxy_take_chunks(struct httpproxy_chunks *c, const char *bytes, size_t len)
{
	size_t at = 0;

	while (at < len && !c->is_done && !c->is_bad) {
		int next;

		if (c->state == CHUNK_DATA) {
			size_t n = (size_t)MIN((uint64_t)(len - at), c->left);

			at += n;
			c->left -= n;
			if (c->left == 0)
				c->state = CHUNK_DATA_CR;
			continue;
		}
		next = take_byte(c, bytes[at]);
		c->is_bad = next < 0;
		if (c->is_bad)
			break;
		c->state = (unsigned)next;
		at++;
	}
	return at;
}
