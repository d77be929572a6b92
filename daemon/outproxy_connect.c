/*
 * CONNECT: what the proxy is asked, and what it answers (RFC 9110, section 9.3.6).
 *
 * It is asked for http:// servers, too: what is said to them is an upgrade to a protocol that no
 * proxy would pass on. The server's name goes to the proxy as it is, since this machine may have no
 * name server for the outside. Only Basic is known as a login.
 */
#include "daemon/outproxy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "daemon/http1.h"

char *outproxy_authority(const char *host, uint16_t port, char text[static OUTPROXY_AUTHORITY_MAX])
{
	snprintf(text, OUTPROXY_AUTHORITY_MAX, strchr(host, ':') ? "[%.255s]:%u" : "%.255s:%u",
		 host, (unsigned)port);
	return text;
}

int outproxy_request(const struct outproxy *proxy, const char *server,
		     char text[static OUTPROXY_REQUEST_MAX])
{
	int len;

	for (const char *c = server; *c; c++)
		if (*c <= ' ' || *c > '~')
			return -EINVAL;
	len = snprintf(text, OUTPROXY_REQUEST_MAX, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n%s%s%s\r\n",
		       server, server, proxy->login[0] ? "Proxy-Authorization: Basic " : "",
		       proxy->login, proxy->login[0] ? "\r\n" : "");
	return len < OUTPROXY_REQUEST_MAX ? len : -EINVAL;
}

/* Whether one of the ways to log in that the proxy offers is ours; or it says nothing of them. */
static bool offers_basic(const struct http1_head *head)
{
	static const char name[] = "proxy-authenticate", basic[] = "basic";
	bool offers_any = false;

	for (unsigned i = 0; i < head->header_count; i++) {
		const struct http1_text *n = &head->headers[i].name, *v = &head->headers[i].value;

		if (n->len != sizeof(name) - 1 || strncasecmp(n->at, name, n->len) != 0)
			continue;
		offers_any = true;
		for (size_t at = 0; at + sizeof(basic) - 1 <= v->len; at++)
			if (strncasecmp(v->at + at, basic, sizeof(basic) - 1) == 0 &&
			    (at == 0 || strchr(", ", v->at[at - 1])))
				return true;
	}
	return !offers_any;
}

/* "403 Forbidden", as far as it may be shown. */
static void status_text(const char *line, char text[static 64])
{
	size_t len = strcspn(line, "\r");
	unsigned i = 0;

	for (size_t at = strlen("HTTP/1.1 "); at < len && i < 63; at++)
		text[i++] = line[at] >= ' ' && line[at] <= '~' ? line[at] : '?';
	while (i > 0 && text[i - 1] == ' ')
		i--;
	text[i] = '\0';
}

static void refused(const struct outproxy *p, const char *server, const struct http1_head *head,
		    const char *line, char sentence[static OUTPROXY_SENTENCE_MAX])
{
	char name[OUTPROXY_AUTHORITY_MAX], status[64];

	outproxy_authority(p->host, p->port, name);
	status_text(line, status);
	if (head->status == 407 && !offers_basic(head))
		snprintf(sentence, OUTPROXY_SENTENCE_MAX,
			 "the proxy %.80s wants another login than user and password (it offers no "
			 "Basic)",
			 name);
	else if (head->status == 407 && !p->login[0])
		snprintf(sentence, OUTPROXY_SENTENCE_MAX,
			 "the proxy %.60s asks for user and password: give them as in "
			 "%s=http://user:password@%.60s",
			 name, p->variable, name);
	else if (head->status == 407)
		snprintf(sentence, OUTPROXY_SENTENCE_MAX,
			 "the proxy %.60s does not take the user and password in %s: %s", name,
			 p->variable, status);
	else
		snprintf(sentence, OUTPROXY_SENTENCE_MAX, "the proxy %.60s %s %.80s: %s", name,
			 head->status >= 500 ? "did not reach" : "refused", server, status);
}

int outproxy_answer(const struct outproxy *proxy, const char *server, const char *bytes, size_t len,
		    size_t *used, char sentence[static OUTPROXY_SENTENCE_MAX])
{
	char name[OUTPROXY_AUTHORITY_MAX];
	struct http1_head head;
	int err;

	*used = 0;
	/* Of 1xx but 101 a final answer follows (RFC 9110, section 15.2). */
	do {
		err = http1_parse_head(bytes + *used, len - *used, &head);
		if (err == 0)
			*used += head.len;
	} while (err == 0 && head.status < 200 && head.status != 101);
	if (err == -EAGAIN && len < HTTP1_HEAD_MAX)
		return -EAGAIN;
	outproxy_authority(proxy->host, proxy->port, name);
	if (err != 0) {
		bool is_long = err != -EBADMSG;

		snprintf(sentence, OUTPROXY_SENTENCE_MAX, "%s%.80s %s", is_long ? "the proxy " : "",
			 name,
			 is_long ? "answers with too long a head"
				 : "is no HTTP proxy: it does not answer in HTTP");
		return is_long ? -EMSGSIZE : -EBADMSG;
	}
	if (head.status >= 200 && head.status <= 299)
		return 0;
	refused(proxy, server, &head, bytes + *used - head.len, sentence);
	return -ECONNREFUSED;
}
