/* Fuzzes meshctl's view of an HTTP answer. */
#include <assert.h>
#include <stdint.h>

#include "daemon/ctl/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t off;
	int status;

	if (http_parse_answer((const char *)data, size, &status, &off) == 0)
		assert(off <= size && status >= 0 && status <= 999);
	return 0;
}
