/*
 * Messages, one a line, into one map: a refused one changes nothing, and after
 * each the map is what a map that gets everything at once is. An empty line
 * starts a new stream.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char base[] =
	"{\"Node\":{\"ID\":1,\"Name\":\"a.t.example.\",\"Addresses\":[\"100.64.0.1/32\"],\"Key\":"
	"\"nodekey:00000000000000000000000000000000000000000000000000000000000000ff\"}}";

static void step(struct netmap *nm, const char *line, size_t len)
{
	size_t before_len, after_len;
	char *before = netmap_export(nm, &before_len), *after;

	if (len == 0)
		netmap_stream_started(nm);
	if (apply(nm, line, len) < 0) {
		after = netmap_export(nm, &after_len);
		if (!before || !after || strcmp(before, after) != 0)
			abort();
		free(after);
	} else {
		check(nm);
	}
	free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *at = (const char *)data, *end = at + size;
	struct netmap *nm = netmap_create();

	if (apply(nm, base, sizeof(base) - 1) < 0)
		abort();
	while (at < end) {
		const char *eol = memchr(at, '\n', (size_t)(end - at));

		eol = eol ? eol : end;
		step(nm, at, (size_t)(eol - at));
		at = eol < end ? eol + 1 : end;
	}
	netmap_destroy(nm);
	return 0;
}
