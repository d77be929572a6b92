/* Fuzzes what meshrun finds in the daemon's status. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "preload/meshrun_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[24], *json = malloc(size + 1);

	if (!json)
		return 0;
	memcpy(json, data, size);
	status_find(json, size, "AuthURL", text, sizeof(text));
	assert(strlen(text) < sizeof(text));
	status_clean(text);
	for (const char *c = text; *c; c++)
		assert((unsigned char)*c >= ' ');
	free(json);
	return 0;
}
