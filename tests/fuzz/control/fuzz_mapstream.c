/* Map messages out of a stream: the first byte chooses zstd and the portions. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/control/mapstream.h"
#include "daemon/control/messages.h"

#define DECODED_MAX (1u << 20)

static int message(void *owner, const char *text, size_t len)
{
	struct messages_notes notes;
	struct messages_ping ping;

	(void)owner;
	if (len > DECODED_MAX || text[len] != '\0')
		abort();
	messages_read_notes(text, len, &notes, &ping);
	messages_ping_free(&ping);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mapstream_callbacks callbacks = { .message = message };
	struct mapstream *ms;
	size_t portion;

	if (size < 1)
		return 0;
	portion = 1 + (data[0] >> 1) * 8u;
	ms = mapstream_create(data[0] & 1, DECODED_MAX, &callbacks);
	if (!ms)
		return 0;
	for (size_t i = 1; i < size; i += portion)
		if (mapstream_receive(ms, data + i, size - i < portion ? size - i : portion) != 0)
			break;
	mapstream_destroy(ms);
	return 0;
}
