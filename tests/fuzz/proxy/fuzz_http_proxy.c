/*
 * Fuzzes the HTTP side: a head that is taken is rewritten to one that is well formed, and
 * says the same of its body; chunks end at the same place however they are cut.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/proxy/httpproxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_request(const char *bytes, size_t size)
{
	static char out[HTTPPROXY_GROWTH];
	struct httpproxy_request r;
	const char *problem = NULL;
	int n = httpproxy_parse_request(bytes, size, &r, &problem);
	size_t len;

	assert(n <= (int)size && n <= HTTPPROXY_HEAD_MAX);
	if (n <= 0 || r.is_connect)
		return;
	assert(r.place.port != 0);
	len = httpproxy_rewrite_request(bytes, (size_t)n, out);
	assert(len > 4 && len <= sizeof(out) && memcmp(out + len - 4, "\r\n\r\n", 4) == 0);
	assert(memmem(out, len, "\r\n\r\n", 4) == out + len - 4);
}

static void fuzz_response(const char *bytes, size_t size)
{
	static char out[HTTPPROXY_GROWTH];
	size_t consumed;
	bool is_final;
	int n = httpproxy_rewrite_response(bytes, size, out, &consumed, &is_final);

	if (n > 0)
		assert(consumed <= size && n <= (int)sizeof(out) &&
		       memmem(out, (size_t)n, "\r\n\r\n", 4) == out + n - 4);
}

static void fuzz_chunks(const char *bytes, size_t size)
{
	struct httpproxy_chunks whole = { 0 }, cut = { 0 };
	size_t n = httpproxy_take_chunks(&whole, bytes, size), m = 0;

	assert(n <= size && (n == size || whole.is_done || whole.is_bad));
	for (size_t i = 0; i < size; i++)
		m += httpproxy_take_chunks(&cut, bytes + i, 1);
	assert(n == m && whole.is_done == cut.is_done && whole.is_bad == cut.is_bad);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *bytes = malloc(size + 1);

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	fuzz_request(bytes, size);
	fuzz_response(bytes, size);
	fuzz_chunks(bytes, size);
	free(bytes);
	return 0;
}
