/* Any bytes as a relay's frames, and as what a login answer holds. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "daemon/derp/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct derp_server_info info;
	size_t at = 0, need;

	derp_parse_server_info((const char *)data, size, &info);
	while (at < size) {
		struct derp_frame frame;
		long len = derp_frame_parse(data + at, size - at, &frame, &need);

		if (len < 0 && len != -EAGAIN && len != -EPROTO)
			abort();
		if (len == -EAGAIN && need != 0 && need <= size - at)
			abort();
		if (len < 0)
			break;
		if ((size_t)len > size - at || (size_t)len != need)
			abort();
		if (frame.bytes && (frame.bytes < data + at + DERP_HEADER ||
				    frame.bytes + frame.len > data + at + len))
			abort();
		if (frame.key && (frame.key < data + at || frame.key + KEY_LEN > data + at + len))
			abort();
		at += (size_t)len;
	}
	return 0;
}
