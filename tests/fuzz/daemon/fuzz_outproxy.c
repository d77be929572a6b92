/*
 * A proxy on the way out: what the environment says of it (the lines before the empty one: URL,
 * exceptions, server, own listener), then its answer.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/http1.h"
#include "daemon/outproxy.h"

enum { URL, EXCEPT, SERVER, LISTEN, LINES };

static char *lines[LINES];

static const char *lookup(const char *variable)
{
	if (strcmp(variable, "HTTPS_PROXY") == 0)
		return lines[URL];
	return strcmp(variable, "NO_PROXY") == 0 ? lines[EXCEPT] : NULL;
}

/* What is said does not depend on the pieces it comes in, and no byte behind it is used up. */
static void read_answer(const struct outproxy *proxy, const char *bytes, size_t len)
{
	char sentence[OUTPROXY_SENTENCE_MAX];
	size_t used, half_used;
	int err = outproxy_answer(proxy, "server:443", bytes, len, &used, sentence);
	int half = outproxy_answer(proxy, "server:443", bytes, len / 2, &half_used, sentence);

	if (err == 0 && (used == 0 || used > len || memcmp(bytes + used - 4, "\r\n\r\n", 4) != 0))
		abort();
	if (half != -EAGAIN && (half != err || half_used != used))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *at = text, *answer;
	char request[OUTPROXY_REQUEST_MAX];
	const struct outproxy *proxy;
	struct outproxies proxies;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (unsigned i = 0; i < LINES; i++)
		lines[i] = at ? strsep(&at, "\n") : text + size;
	outproxies_read(&proxies, lookup);
	proxy = outproxies_for(&proxies, lines[SERVER], 443, true);
	if (proxy && !proxy->problem && (!proxy->host[0] || proxy->port == 0))
		abort();
	if (proxy && !proxy->problem && outproxy_request(proxy, lines[SERVER], request) > 0 &&
	    strstr(request, "\r\n\r\n") + 4 != request + strlen(request))
		abort();
	outproxies_forget(&proxies, lines[LISTEN]);
	if (at) {
		struct outproxy any = { .variable = "HTTPS_PROXY", .host = "p", .port = 1 };
		size_t len = size - (size_t)(at - text);

		answer = malloc(len ? len : 1);
		if (answer) {
			memcpy(answer, at, len);
			read_answer(&any, answer, len < HTTP1_HEAD_MAX ? len : HTTP1_HEAD_MAX);
		}
		free(answer);
	}
	free(text);
	return 0;
}
