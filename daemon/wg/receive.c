/*
 * The way in: by message type, index and keypair; open in place; deliver.
 *
 * Consecutive transport packets of one peer form a run. Per packet: look-up,
 * open, replay window, source address. Per run: timers, byte counts, endpoint,
 * one callback. Callbacks happen only when a run ends, where nothing is held
 * that a callback could free, except the peer itself, whose memory stays
 * until the device is left.
 *
 * With workers, what can be opened is opened before, by all of them; then everything
 * goes its way in order as without. A keypair may come or go on that way: what was
 * not opened before is opened then, what was opened by another keypair is lost.
 *
 * Handshake messages are first checked for a mac1, which costs little; only
 * then do they count as load (load.h) and cost a Diffie-Hellman.
 */
#include "daemon/wg/state.h"

#include <assert.h>
#include <string.h>

#include "daemon/crypto/workers.h"
#include "shared/wire.h"

struct opening {
	struct wg_device *dev;
	const struct wg_datagram *datagrams;
	unsigned count;
};

struct run {
	struct wg_peer *peer;
	struct endpoint from; /* of the last authentic datagram */
	uint64_t bytes;
	unsigned count;
	bool is_authentic, has_data, is_confirmed;
};

static void roam(struct wg_peer *peer, const struct endpoint *from)
{
	if (!peer->dev->is_roaming)
		return;
	peer->endpoint = *from;
	peer->has_endpoint = true;
}

/* As initiator we ask in time for new keys, once, even if we only receive. */
static void keep_fresh(struct wg_peer *peer, uint64_t now_ns)
{
	const struct wg_keypair *k = peer->keypairs.current;

	if (peer->timers.asked_before_expiry || !k || !k->is_initiator ||
	    now_ns - k->created_ns <= WG_REKEY_RECEIVING_TIME)
		return;
	peer->timers.asked_before_expiry = true;
	wg_peer_initiate(peer, false, now_ns);
}

static void end_run(struct wg_device *dev, struct run *run, uint64_t now_ns)
{
	struct run r = *run;

	*run = (struct run){ 0 };
	if (!r.is_authentic)
		return;
	r.peer->rx_bytes += r.bytes;
	roam(r.peer, &r.from);
	wg_timers_authentic_received(&r.peer->timers, now_ns);
	if (r.has_data)
		wg_timers_data_received(&r.peer->timers, now_ns);
	if (r.is_confirmed)
		wg_peer_session_confirmed(r.peer, now_ns);
	if (r.peer->is_removed)
		return;
	keep_fresh(r.peer, now_ns);
	wg_peer_rearm(r.peer);
	if (r.count)
		dev->callbacks.receive(dev->owner, r.peer, dev->inbox, r.count);
}

/* The true length and the source of an inner packet; 0 when it is not a whole one. */
static size_t inner_packet(const uint8_t *data, size_t len, struct ip_addr *source)
{
	size_t total = 0;

	if (len >= 20 && data[0] >> 4 == 4) {
		total = load_be16(data + 2);
		*source = ip_from_v4(load_be32(data + 12));
		if (total < 20)
			return 0;
	} else if (len >= 40 && data[0] >> 4 == 6) {
		total = 40 + (size_t)load_be16(data + 4);
		memcpy(source->byte, data + 8, sizeof(source->byte));
	}
	return total <= len ? total : 0;
}

static void take_packet(struct wg_device *dev, struct run *run, uint8_t *data, size_t len)
{
	struct ip_addr source;
	size_t inner_len = inner_packet(data, len, &source);

	if (!inner_len)
		run->peer->dropped_invalid++;
	else if (wg_route_cached(dev, &dev->source, &source) != run->peer)
		run->peer->dropped_source++;
	else
		dev->inbox[run->count++] = (struct packet){ data, (uint32_t)inner_len };
}

static uint32_t type_of(const struct wg_datagram *d)
{
	return d->len >= 4 ? load_le32(d->data) : 0;
}

static bool is_transport(const struct wg_datagram *d)
{
	return type_of(d) == WG_TRANSPORT && d->len >= WG_TRANSPORT_MIN;
}

static bool open_transport(const struct wg_keypair *k, unsigned lane, const struct wg_datagram *d)
{
	return aead_open_in(k->receiving, lane,
			    load_le64(d->data + offsetof(struct wg_transport, counter)),
			    d->data + sizeof(struct wg_transport), d->len - WG_TRANSPORT_MIN);
}

static void open_piece(void *arg, unsigned lane, unsigned piece)
{
	const struct opening *o = arg;
	unsigned end = MIN((piece + 1) * WG_PIECE, o->count);

	for (unsigned i = piece * WG_PIECE; i < end; i++) {
		struct wg_ahead *ahead = &o->dev->ahead[i];

		if (ahead->keypair)
			ahead->is_good = open_transport(ahead->keypair, lane, &o->datagrams[i]);
	}
}

static void open_ahead(struct wg_device *dev, const struct wg_datagram *datagrams, unsigned count,
		       uint64_t now_ns)
{
	struct opening o = { dev, datagrams, count };

	for (unsigned i = 0; i < count; i++) {
		const struct wg_datagram *d = &datagrams[i];
		struct wg_index_entry *e = NULL;

		if (is_transport(d))
			e = wg_index_find(
				&dev->indices,
				load_le32(d->data + offsetof(struct wg_transport, receiver)));
		dev->ahead[i].keypair = e && e->keypair && wg_keypair_is_alive(e->keypair, now_ns)
						? e->keypair
						: NULL;
	}
	workers_run(dev->workers, open_piece, &o, (count + WG_PIECE - 1) / WG_PIECE);
}

static bool is_opened(const struct wg_keypair *k, const struct wg_ahead *ahead,
		      const struct wg_datagram *d)
{
	if (!ahead || !ahead->keypair)
		return open_transport(k, 0, d);
	return ahead->keypair == k && ahead->is_good;
}

static void receive_transport(struct wg_device *dev, struct run *run, const struct wg_datagram *d,
			      const struct wg_ahead *ahead, uint64_t now_ns)
{
	uint32_t index = load_le32(d->data + offsetof(struct wg_transport, receiver));
	uint64_t counter = load_le64(d->data + offsetof(struct wg_transport, counter));
	uint8_t *data = d->data + sizeof(struct wg_transport);
	size_t len = d->len - WG_TRANSPORT_MIN;
	struct wg_index_entry *e = wg_index_find(&dev->indices, index);
	struct wg_keypair *k;

	if (e && (e->peer != run->peer || run->count == WG_RECEIVE_RUN)) {
		end_run(dev, run, now_ns);
		e = wg_index_find(&dev->indices, index); /* a callback may have changed it */
	}
	if (!e || !e->keypair)
		return;
	run->peer = e->peer;
	k = e->keypair;
	if (counter >= WG_REJECT_AFTER_MESSAGES || !wg_keypair_is_alive(k, now_ns) ||
	    !is_opened(k, ahead, d) || !wg_replay_accept(&k->replay, counter)) {
		run->peer->dropped_invalid++;
		return;
	}
	if (k == run->peer->keypairs.next) {
		wg_keypairs_confirm(&run->peer->keypairs, &dev->indices);
		run->is_confirmed = true;
	}
	run->is_authentic = true;
	run->bytes += d->len;
	run->from = d->from;
	if (!len)
		return; /* a keepalive */
	run->has_data = true;
	take_packet(dev, run, data, len);
}

static bool is_admitted(struct wg_device *dev, const struct wg_datagram *d, uint64_t now_ns)
{
	struct wg_cookie_reply reply;

	if (!wg_checker_mac1_is_valid(&dev->checker, dev->engine, d->data, d->len))
		return false;
	if (!wg_load_message(&dev->load, now_ns))
		return true;
	if (wg_checker_mac2_is_valid(&dev->checker, dev->engine, d->data, d->len, &d->from, now_ns))
		return wg_ratelimit_allow(dev->ratelimit, &d->from.addr, now_ns);
	wg_checker_reply(&dev->checker, dev->engine, d->data, d->len, &d->from, now_ns, &reply);
	wg_transmit(dev, NULL, &d->from, &reply, sizeof(reply), sizeof(reply));
	return false;
}

static void handshake_received(struct wg_peer *peer, const struct wg_datagram *d, uint64_t now_ns)
{
	peer->rx_bytes += d->len;
	roam(peer, &d->from);
	wg_timers_authentic_received(&peer->timers, now_ns);
}

static void receive_initiation(struct wg_device *dev, const struct wg_datagram *d, uint64_t now_ns)
{
	struct wg_opened_initiation opened;
	struct wg_initiation msg;
	struct wg_peer *peer = NULL;

	memcpy(&msg, d->data, sizeof(msg));
	if (!is_admitted(dev, d, now_ns))
		return;
	if (wg_initiation_open(&opened, dev->engine, dev->identity, &msg))
		peer = wg_device_find_peer(dev, &opened.remote_static);
	if (peer) {
		if (wg_handshake_consume_initiation(&peer->handshake, dev->engine, &opened, &msg,
						    now_ns)) {
			handshake_received(peer, d, now_ns);
			wg_peer_respond(peer, &d->from, now_ns);
		} else {
			peer->dropped_invalid++;
		}
	}
	wg_initiation_wipe(&opened);
}

static void receive_response(struct wg_device *dev, const struct wg_datagram *d, uint64_t now_ns)
{
	struct wg_index_entry *e;
	struct wg_response msg;
	struct wg_peer *peer;

	memcpy(&msg, d->data, sizeof(msg));
	if (!is_admitted(dev, d, now_ns))
		return;
	e = wg_index_find(&dev->indices, load_le32(msg.receiver));
	if (!e || e->keypair)
		return;
	peer = e->peer;
	if (wg_handshake_consume_response(&peer->handshake, dev->engine, dev->identity, &msg)) {
		handshake_received(peer, d, now_ns);
		wg_peer_session_initiated(peer, now_ns);
	} else {
		peer->dropped_invalid++;
	}
}

static void receive_cookie(struct wg_device *dev, const struct wg_datagram *d, uint64_t now_ns)
{
	struct wg_cookie_reply msg;
	struct wg_index_entry *e;

	memcpy(&msg, d->data, sizeof(msg));
	e = wg_index_find(&dev->indices, load_le32(msg.receiver));
	if (!e)
		return;
	/* Not sent again now: the retry will carry the cookie. */
	if (wg_macs_take_cookie(&e->peer->macs, &msg, now_ns))
		e->peer->rx_bytes += d->len;
	else
		e->peer->dropped_invalid++;
}

/* ahead: what is known of it, or NULL. */
static void receive_one(struct wg_device *dev, struct run *run, const struct wg_datagram *d,
			const struct wg_ahead *ahead, uint64_t now_ns)
{
	uint32_t type = type_of(d);

	if (is_transport(d)) {
		receive_transport(dev, run, d, ahead, now_ns);
		return;
	}
	end_run(dev, run, now_ns);
	if (type == WG_INITIATION && d->len == sizeof(struct wg_initiation))
		receive_initiation(dev, d, now_ns);
	else if (type == WG_RESPONSE && d->len == sizeof(struct wg_response))
		receive_response(dev, d, now_ns);
	else if (type == WG_COOKIE_REPLY && d->len == sizeof(struct wg_cookie_reply))
		receive_cookie(dev, d, now_ns);
}

void wg_device_receive(struct wg_device *dev, struct wg_datagram *datagrams, unsigned count,
		       uint64_t now_ns)
{
	struct run run = { 0 };

	wg_enter(dev, now_ns);
	assert(!dev->is_receiving);
	dev->is_receiving = true;
	while (count > 0) {
		unsigned part = MIN(count, WG_AHEAD);
		bool is_shared = dev->workers && part >= WG_SHARED_MIN;

		if (is_shared)
			open_ahead(dev, datagrams, part, now_ns);
		for (unsigned i = 0; i < part; i++)
			receive_one(dev, &run, &datagrams[i], is_shared ? &dev->ahead[i] : NULL,
				    now_ns);
		datagrams += part;
		count -= part;
	}
	end_run(dev, &run, now_ns);
	dev->is_receiving = false;
	wg_leave(dev);
}
