/*
 * Fuzzes path choice as a hostile peer would: each record of the input becomes a
 * sealed message of one of three peers, by UDP or relay, or time that passes.
 *
 *     record: what(1) len(1) bytes
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "daemon/path/disco.h"
#include "daemon/path/paths.h"
#include "shared/util.h"

#define PEERS   3
#define RECORDS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
	struct paths *paths;
	uint8_t own[32], private[PEERS][32], public[PEERS][32], key[PEERS][32];
	struct path_peer *peer[PEERS];
	uint64_t now_ns;
	unsigned sent;
};

static void send_udp(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len,
		     size_t segment_len)
{
	struct run *r = owner;

	(void)to;
	(void)bytes;
	assert(len > 0 && segment_len > 0);
	r->sent++;
}

static void send_relay(void *owner, int region, const uint8_t dst[static PATHS_KEY_LEN],
		       const uint8_t *bytes, size_t len, size_t segment_len)
{
	(void)dst;
	assert(region > 0);
	send_udp(owner, NULL, bytes, len, segment_len);
}

static void wireguard(void *owner, struct udp_datagram *d, unsigned count)
{
	(void)owner;
	assert(d && count > 0);
}

static void resolve(void *owner, const char *host, uint64_t token)
{
	(void)owner;
	(void)host;
	(void)token;
}

static void nothing(void *owner)
{
	(void)owner;
}

static void home(void *owner, int region)
{
	(void)owner;
	(void)region;
}

static void pong(void *owner, uint32_t ticket, const struct paths_pong *p)
{
	(void)owner;
	(void)ticket;
	assert(p->latency_ns > 0);
}

static void netcheck(void *owner, uint32_t ticket, const struct netcheck_report *report)
{
	(void)owner;
	(void)ticket;
	(void)report;
}

static void start(struct run *r)
{
	const struct paths_callbacks callbacks = { .send_udp = send_udp,
						   .send_relay = send_relay,
						   .wireguard = wireguard,
						   .resolve = resolve,
						   .self_changed = nothing,
						   .home_changed = home,
						   .pong = pong,
						   .netcheck = netcheck };
	struct paths_config config = { .node_key = { 1 }, .udp_port = 1 };
	struct endpoint ep = { ip_from_v4(0xcb007109), 9 };

	r->now_ns = NS_PER_S;
	r->paths = paths_create(&config, &callbacks, r);
	assert(r->paths);
	paths_disco_key(r->paths, r->own);
	for (unsigned i = 0; i < PEERS; i++) {
		struct path_peer_config c = { .endpoints = &ep,
					      .endpoint_count = 1,
					      .home_region = (int)i };

		memset(r->private[i], (int)i + 1, 32);
		crypto_scalarmult_base(r->public[i], r -> private[i]);
		memset(r->key[i], (int)i + 1, 32);
		memcpy(c.node_key, r->key[i], 32);
		memcpy(c.disco_key, r->public[i], 32);
		assert(paths_add_peer(r->paths, &c, &r->peer[i]) == 0);
	}
}

static void give(struct run *r, unsigned what, const uint8_t *plain, size_t len)
{
	unsigned i = what % PEERS;
	uint8_t packet[DISCO_OVERHEAD + 256] = "TS\xf0\x9f\x92\xac";
	size_t packet_len = DISCO_BOX_AT + DISCO_TAG_LEN + len;
	struct udp_datagram d = { packet,
				  (uint32_t)packet_len,
				  { ip_from_v4(0xcb007100 + what), (uint16_t)what } };

	memcpy(packet + 6, r->public[i], 32);
	assert(crypto_box_easy(packet + DISCO_BOX_AT, plain, len, packet + 38, r->own,
			       r->private[i]) == 0);
	if (what & 0x80)
		paths_received_relay(r->paths, (int)i + 1, r->key[i], packet, packet_len,
				     r->now_ns);
	else
		paths_received_udp(r->paths, &d, 1, r->now_ns);
}

static void step(struct run *r, unsigned what, const uint8_t *bytes, size_t len)
{
	uint8_t data[32] = { 4 };

	if ((what & 0x70) == 0x70) {
		r->now_ns += (uint64_t)len * 100 * NS_PER_MS;
		paths_expire(r->paths, r->now_ns);
	} else if ((what & 0x70) == 0x60) {
		paths_send(r->paths, r->peer[what % PEERS], data, sizeof(data), sizeof(data),
			   r->now_ns);
	} else {
		give(r, what, bytes, len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run r = { 0 };

	assert(sodium_init() >= 0);
	start(&r);
	for (unsigned n = 0; size >= 2 && n < RECORDS; n++) {
		size_t len = MIN(data[1], size - 2);

		step(&r, data[0], data + 2, len);
		data += 2 + len;
		size -= 2 + len;
	}
	/* At most: an answer to each record, and all candidates for each call. */
	assert(r.sent <= RECORDS * 120);
	paths_destroy(r.paths);
	return 0;
}
