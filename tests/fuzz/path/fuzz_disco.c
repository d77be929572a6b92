/* Fuzzes disco plaintexts, classification, and opening of packets. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/path/classify.h"
#include "daemon/path/disco.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disco_box_key box = { { 1 } };
	struct disco_message m;
	size_t plain_len;
	uint8_t *copy = malloc(size ? size : 1);

	assert(copy);
	memcpy(copy, data, size);
	if (classify_datagram(data, size) == DATAGRAM_DISCO)
		assert(!disco_open(&box, copy, size, &plain_len));
	free(copy);
	if (disco_parse(data, size, &m) < 0)
		return 0;
	assert((size_t)m.endpoint_count * DISCO_ENDPOINT_LEN <= size);
	for (unsigned i = 0; i < m.endpoint_count; i++) {
		struct endpoint ep;

		disco_endpoint(&m, i, &ep);
		(void)candidate_is_usable(&ep);
	}
	return 0;
}
