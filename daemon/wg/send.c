/*
 * The way out: route, seal in place, hand over in trains.
 *
 * A train is a stretch of memory in which datagrams of one size (the last may
 * be shorter) stand back to back, as one send with UDP_SEGMENT takes them.
 * The batch's layout (daemon/packet.h) makes every run of equal packets one.
 *
 * Per packet: a compare for the route, header, padding, seal. Timers, counters
 * of bytes and the check for new keys are per run, that is, per peer and batch.
 */
#include "daemon/wg/state.h"

#include <assert.h>
#include <string.h>

#include "daemon/crypto/workers.h"
#include "shared/wire.h"

struct train {
	uint8_t *start, *end;
	size_t segment_len;
	bool is_closed; /* a shorter one was the last */
};

void wg_transmit(struct wg_device *dev, struct wg_peer *peer, const struct endpoint *to,
		 const void *bytes, size_t len, size_t segment_len)
{
	if (peer)
		peer->tx_bytes += len;
	dev->is_transmitting = true;
	dev->callbacks.transmit(dev->owner, peer, to, bytes, len, segment_len);
	dev->is_transmitting = false;
}

static void depart(struct wg_peer *peer, const struct train *t)
{
	if (t->start)
		wg_transmit(peer->dev, peer, &peer->endpoint, t->start, (size_t)(t->end - t->start),
			    t->segment_len);
}

static void couple(struct wg_peer *peer, struct train *t, uint8_t *datagram, size_t len)
{
	if (datagram != t->end || t->is_closed || len > t->segment_len) {
		depart(peer, t);
		*t = (struct train){ .start = datagram, .segment_len = len };
	}
	t->end = datagram + len;
	t->is_closed = len < t->segment_len;
}

static size_t datagram_len(const struct packet *p, uint32_t mtu)
{
	return PACKET_HEADER + packet_padded(p->len, mtu) + PACKET_TAG;
}

/* The datagram starts PACKET_HEADER before the packet. */
static void seal(struct wg_keypair *k, unsigned lane, uint64_t counter, const struct packet *p,
		 uint32_t mtu)
{
	size_t padded = packet_padded(p->len, mtu);
	uint8_t *header = p->data - PACKET_HEADER;

	store_le32(header, WG_TRANSPORT);
	store_le32(header + offsetof(struct wg_transport, receiver), k->remote_index);
	store_le64(header + offsetof(struct wg_transport, counter), counter);
	memset(p->data + p->len, 0, padded - p->len);
	aead_seal_in(k->sending, lane, counter, p->data, padded);
}

struct sealing {
	struct wg_keypair *keypair;
	uint64_t counter; /* of the first */
	const struct packet *packets;
	unsigned count;
	uint32_t mtu;
};

static void seal_piece(void *arg, unsigned lane, unsigned piece)
{
	const struct sealing *s = arg;
	unsigned end = MIN((piece + 1) * WG_PIECE, s->count);

	for (unsigned i = piece * WG_PIECE; i < end; i++)
		seal(s->keypair, lane, s->counter + i, &s->packets[i], s->mtu);
}

/* Seals what the counter still allows of them; how many that is. */
static unsigned seal_all(struct wg_device *dev, struct wg_keypair *k, const struct packet *packets,
			 unsigned count, uint32_t mtu)
{
	struct sealing s = { k, k->send_counter, packets, 0, mtu };

	s.count = (unsigned)MIN((uint64_t)count, WG_REJECT_AFTER_MESSAGES - k->send_counter);
	k->send_counter += s.count;
	if (dev->workers && s.count >= WG_SHARED_MIN)
		workers_run(dev->workers, seal_piece, &s, (s.count + WG_PIECE - 1) / WG_PIECE);
	else
		for (unsigned i = 0; i < s.count; i++)
			seal(k, 0, s.counter + i, &packets[i], mtu);
	return s.count;
}

static bool wants_new_keys(const struct wg_keypair *k, uint64_t now_ns)
{
	return k->send_counter > WG_REKEY_AFTER_MESSAGES ||
	       (k->is_initiator && now_ns - k->created_ns > WG_REKEY_AFTER_TIME);
}

/* Under the current keypair, which can send. Returns how many went. */
static unsigned send_sealed(struct wg_peer *peer, const struct packet *packets, unsigned count,
			    uint32_t mtu, uint64_t now_ns)
{
	struct wg_keypair *k = peer->keypairs.current;
	struct train train = { 0 };
	bool has_data = false;
	unsigned sealed = seal_all(peer->dev, k, packets, count, mtu);

	for (unsigned i = 0; i < sealed; i++) {
		has_data |= packets[i].len > 0;
		couple(peer, &train, packets[i].data - PACKET_HEADER,
		       datagram_len(&packets[i], mtu));
	}
	depart(peer, &train);
	wg_timers_authentic_sent(&peer->timers, now_ns);
	if (has_data)
		wg_timers_data_sent(&peer->timers, now_ns, wg_jitter(peer->dev));
	if (wants_new_keys(k, now_ns))
		wg_peer_initiate(peer, false, now_ns);
	return sealed;
}

void wg_peer_send_staged(struct wg_peer *peer, uint64_t now_ns)
{
	struct wg_device *dev = peer->dev;
	struct packet_batch *b = &dev->scratch;

	while (!wg_staging_is_empty(&peer->staging)) {
		if (!wg_peer_can_send(peer, now_ns)) {
			wg_peer_initiate(peer, false, now_ns);
			break;
		}
		b->mtu = dev->mtu;
		batch_reset(b);
		wg_staging_take(&peer->staging, &dev->staged, b);
		peer->dropped_staged +=
			b->count - send_sealed(peer, b->packet, b->count, b->mtu, now_ns);
	}
	wg_peer_rearm(peer);
}

/* The packets of one peer, in order; those that cannot go are staged. */
static void send_to_peer(struct wg_peer *peer, const struct packet *packets, unsigned count,
			 uint32_t mtu, uint64_t now_ns)
{
	unsigned sent = 0;

	if (!peer->has_endpoint) {
		peer->dropped_staged += count;
		return;
	}
	if (wg_staging_is_empty(&peer->staging) && wg_peer_can_send(peer, now_ns))
		sent = send_sealed(peer, packets, count, mtu, now_ns);
	for (unsigned i = sent; i < count; i++)
		peer->dropped_staged +=
			wg_staging_add(&peer->staging, &peer->dev->staged, &packets[i]);
	if (sent < count)
		wg_peer_initiate(peer, false, now_ns);
	wg_peer_rearm(peer);
}

struct wg_peer *wg_route_cached(const struct wg_device *dev, struct wg_route_cache *cache,
				const struct ip_addr *addr)
{
	if (!cache->is_valid || !ip_equal(&cache->addr, addr)) {
		cache->addr = *addr;
		cache->peer = wg_allowedips_lookup(&dev->allowed, addr);
		cache->is_valid = true;
	}
	return cache->peer;
}

static struct wg_peer *route(struct wg_device *dev, const struct packet *p)
{
	struct ip_addr to;

	if (p->len >= 20 && p->data[0] >> 4 == 4)
		to = ip_from_v4(load_be32(p->data + 16));
	else if (p->len >= 40 && p->data[0] >> 4 == 6)
		memcpy(to.byte, p->data + 24, sizeof(to.byte));
	else
		return NULL;
	return wg_route_cached(dev, &dev->destination, &to);
}

void wg_device_send(struct wg_device *dev, struct packet_batch *batch, uint64_t now_ns)
{
	struct wg_peer *peer, *next;
	unsigned first = 0, end;

	wg_enter(dev, now_ns);
	next = batch->count ? route(dev, &batch->packet[0]) : NULL;
	while (first < batch->count) {
		peer = next;
		for (end = first + 1; end < batch->count; end++) {
			next = route(dev, &batch->packet[end]);
			if (next != peer)
				break;
		}
		if (peer)
			send_to_peer(peer, batch->packet + first, end - first, batch->mtu, now_ns);
		first = end;
	}
	wg_leave(dev);
}

struct wg_peer *wg_device_route(const struct wg_device *dev, const struct ip_addr *inner)
{
	return wg_allowedips_lookup(&dev->allowed, inner);
}
