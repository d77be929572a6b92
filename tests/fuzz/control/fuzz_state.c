/* The text of a state file. */
#include <stdint.h>
#include <string.h>

#include "daemon/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[STATE_ERROR_MAX], warning[STATE_ERROR_MAX];
	struct state *state = crypto_init() == 0 ? state_open(NULL, error, warning) : NULL;

	if (!state)
		return 0;
	state_parse(state, (const char *)data, size, error);
	state_close(state);
	return 0;
}
