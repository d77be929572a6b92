/* The head and body of an HTTP/1 response; and a URL. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *bytes = malloc(size + 1), body[512];
	struct http1_head head;
	struct http1_url url;
	size_t body_len = sizeof(body);

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	bytes[size] = '\0';
	http1_parse_url(bytes, &url);
	if (http1_parse_head(bytes, size, &head) == 0) {
		if (head.len > size || head.status < 100 || head.status > 599)
			abort();
		http1_is_upgrade(&head, "DERP");
		http1_read_body(&head, bytes + head.len, size - head.len, size % 2, body,
				&body_len);
		if (body_len > sizeof(body))
			abort();
	}
	free(bytes);
	return 0;
}
