/* Fuzzes all that a SOCKS client says. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "daemon/proxy/socks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct target_place *place)
{
	assert(strlen(place->name) < sizeof(place->name));
	assert(place->is_name == (place->name[0] != '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct socks_request request;
	struct target_place place;
	bool no_auth;
	int n;

	n = socks_parse_greeting(data, size, &no_auth);
	assert(n <= (int)size && n <= SOCKS_MESSAGE_MAX);
	n = socks_parse_request(data, size, &request);
	assert(n <= (int)size && n <= SOCKS_MESSAGE_MAX);
	if (n > 0) {
		check(&request.place);
		/* What is less than it is not enough. */
		assert(socks_parse_request(data, (size_t)n - 1, &request) == 0);
	}
	n = socks_parse_datagram(data, size, &place);
	assert(n <= (int)size);
	if (n > 0)
		check(&place);
	return 0;
}
