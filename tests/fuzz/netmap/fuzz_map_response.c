/* Any text as the first message of a map stream. */
#include <stdint.h>

#include "common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct netmap *nm = netmap_create();

	if (apply(nm, (const char *)data, size) == 0 && netmap_self(nm))
		check(nm);
	netmap_destroy(nm);
	return 0;
}
