/*
 * A relay that says anything, in any order, in pieces of any size.
 *
 * First byte: fast start or not, logged in already or not, the size of pieces. Then
 * bytes from the relay. Nothing may leave the buffer, and packets only follow a login.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/derp/client.h"
#include "daemon/loop.h"
#include "daemon/netmap/types.h"
#include "shared/log.h"
#include "tests/unit/derp/mock_stream.h"

#define UPGRADED "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct private_key own, relay;
static struct public_key own_public, relay_public;
static unsigned downs;

static void up(void *owner)
{
	(void)owner;
}

static void received(void *owner, const struct public_key *from, struct packet *packets,
		     unsigned count)
{
	(void)owner;
	(void)from;
	if (count == 0 || count > BATCH_PACKETS)
		abort();
	for (unsigned i = 0; i < count; i++) {
		if (packets[i].len > DERP_PACKET_MAX)
			abort();
		memset(packets[i].data, 0xee, packets[i].len); /* it is ours to write to */
	}
}

static void peer_gone(void *owner, const struct public_key *peer, uint8_t reason)
{
	(void)owner;
	(void)peer;
	(void)reason;
}

static void health(void *owner, const char *sentence)
{
	(void)owner;
	for (; *sentence; sentence++)
		if (*sentence < ' ' || *sentence > '~')
			abort();
}

static void restarting(void *owner, uint32_t wait_ms)
{
	(void)owner;
	(void)wait_ms;
}

static void drained(void *owner)
{
	(void)owner;
}

static void down(void *owner, const char *sentence)
{
	(void)owner;
	if (!sentence[0] || ++downs > 1)
		abort();
}

static void log_in(void)
{
	uint8_t frame[DERP_HEADER + DERP_NONCE + DERP_TAG + 64];
	const char json[] = "{\"version\":2}";

	derp_put_header(frame, DERP_SERVER_INFO, DERP_NONCE + DERP_TAG + sizeof(json) - 1);
	memset(frame + DERP_HEADER, 7, DERP_NONCE);
	if (crypto_box_easy(frame + DERP_HEADER + DERP_NONCE, (const uint8_t *)json,
			    sizeof(json) - 1, frame + DERP_HEADER, own_public.byte,
			    relay.byte) != 0)
		abort();
	mock_received(frame, DERP_HEADER + DERP_NONCE + DERP_TAG + sizeof(json) - 1);
}

static struct loop *start(void)
{
	if (crypto_init() != 0)
		abort();
	log_set_level(LOG_ERR);
	memset(&own, 1, sizeof(own));
	memset(&relay, 2, sizeof(relay));
	private_key_public(&own, &own_public);
	private_key_public(&relay, &relay_public);
	return loop_create(NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct derp_client_callbacks callbacks = { up,     received,   peer_gone,
								health, restarting, drained,
								down };
	static struct loop *loop;
	struct derp_node node = { .name = "a",
				  .host_name = "127.0.0.1",
				  .cert_name = "",
				  .ipv4 = "",
				  .ipv6 = "",
				  .stun_test_ip = "",
				  .derp_port = 443 };
	const struct derp_region region = {
		.id = 1, .code = "", .name = "", .nodes = &node, .node_count = 1
	};
	struct derp_client *client;

	if (size == 0)
		return 0;
	if (!loop)
		loop = start();
	mock_reset();
	downs = 0;
	client = derp_client_open(loop, NULL, &own, &region, &callbacks, NULL);
	if (!client)
		abort();
	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	mock.has_relay_key = data[0] & 1;
	memcpy(mock.relay_key, relay_public.byte, sizeof(mock.relay_key));
	mock_connected();
	if (data[0] & 2) {
		if (!mock.has_relay_key)
			mock_received(UPGRADED, sizeof(UPGRADED) - 1);
		if (mock.has_relay_key)
			log_in();
	}
	mock.piece = data[0] >> 2;
	mock_received(data + 1, size - 1);
	mock_closed("over");
	derp_client_destroy(client);
	loop_stop(loop); /* only what was deferred */
	loop_run(loop);
	return 0;
}
