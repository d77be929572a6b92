/* Fuzzes the text parsers of shared/endpoint.c: what parses must print and parse to the same. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/endpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), printed[ENDPOINT_TEXT_MAX];
	struct endpoint ep, again;
	struct ip_addr ip, ip_again;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (endpoint_parse(text, &ep) == 0) {
		assert(endpoint_parse(endpoint_format(&ep, printed), &again) == 0);
		assert(endpoint_equal(&ep, &again));
	}
	if (ip_parse(text, &ip) == 0) {
		assert(ip_parse(ip_format(&ip, printed), &ip_again) == 0);
		assert(ip_equal(&ip, &ip_again));
	}
	free(text);
	return 0;
}
