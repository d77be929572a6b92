/* Any bytes as a WireGuard file: a verdict, a sentence when it is bad, no key in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config;
	char error[256];
	int err = config_parse((const char *)data, size, &config, error);

	if ((err == 0) != (error[0] == '\0') || !memchr(error, '\0', sizeof(error)))
		abort();
	if (err == 0 && (config.own_count == 0 || config.mtu < 576))
		abort();
	config_finish(&config);
	return 0;
}
