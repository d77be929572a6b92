/*
 * Bytes from a server, by the first byte: on a channel that waits for its response, or
 * plain, as HTTP/2 with two requests under way. Fixed keys, so that inputs mean the
 * same in each run.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/control/channel.h"
#include "daemon/control/h2.h"

static int opened(void *owner, const uint8_t *bytes, size_t len)
{
	return h2_receive(owner, bytes, len);
}

static int body(void *owner, const uint8_t *bytes, size_t len)
{
	(void)owner, (void)bytes, (void)len;
	return 0;
}

static void ended(void *owner, int err)
{
	(void)owner, (void)err;
}

static void feed_h2(const uint8_t *data, size_t size)
{
	static const struct h2_handler handler = { .body = body, .ended = ended };
	struct h2_request request = { .method = "POST", .path = "/m", .body = "{}", .body_len = 2 };
	struct h2 *h2 = h2_create("h");
	const uint8_t *bytes;

	if (!h2)
		return;
	h2_request(h2, &request, &handler, NULL);
	h2_request(h2, &request, &handler, NULL);
	while (h2_send(h2, &bytes) > 0)
		;
	if (h2_receive(h2, data, size) == 0)
		while (h2_send(h2, &bytes) > 0)
			;
	h2_destroy(h2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct private_key machine = { { 1, 2, 3 } }, ephemeral = { { 4, 5, 6 } };
	struct private_key server_private = { { 7, 8, 9 } };
	struct public_key server;
	struct channel_callbacks callbacks = { .opened = opened };
	struct channel *ch;
	struct h2 *h2;

	if (size < 1 || crypto_init() != 0)
		return 0;
	if (data[0] & 1) {
		feed_h2(data + 1, size - 1);
		return 0;
	}
	private_key_public(&server_private, &server);
	h2 = h2_create("h");
	callbacks.owner = h2;
	ch = h2 ? channel_create(&machine, &server, 119, &ephemeral, &callbacks) : NULL;
	if (ch)
		channel_receive(ch, data + 1, size - 1);
	channel_destroy(ch);
	h2_destroy(h2);
	return 0;
}
