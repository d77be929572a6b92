/* Any payload; what is understood can be written and reads the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/tsmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tsmp_message m, again;
	uint8_t out[TSMP_MAX];
	size_t len;

	if (tsmp_parse(data, size, &m) < 0)
		return 0;
	len = tsmp_write(&m, out);
	if (len == 0 || tsmp_parse(out, len, &again) < 0 || again.kind != m.kind ||
	    memcmp(again.data, m.data, sizeof(m.data)) != 0 || again.src_port != m.src_port ||
	    again.dst_port != m.dst_port || again.maybe_broken != m.maybe_broken ||
	    again.peerapi_port != m.peerapi_port ||
	    memcmp(again.disco_key, m.disco_key, sizeof(m.disco_key)) != 0)
		abort();
	return 0;
}
