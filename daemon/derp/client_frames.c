/*
 * What a relay says, frame by frame: packets are handed on in runs, the rest is
 * obeyed within bounds.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/derp/client_private.h"
#include "daemon/derp/copy.h"
#include "daemon/loop.h"
#include "daemon/netmap/types.h"
#include "shared/util.h"

#define HEALTH_MAX 200

static void hand_on(struct derp_client *c)
{
	unsigned count = c->packet_count;

	c->packet_count = 0;
	if (count > 0)
		c->callbacks.received(c->owner, &c->from, c->packet, count);
}

static void packet_received(struct derp_client *c, const struct derp_frame *frame)
{
	if (c->packet_count == BATCH_PACKETS ||
	    (c->packet_count > 0 && memcmp(c->from.byte, frame->key, KEY_LEN) != 0))
		hand_on(c);
	if (derp_client_is_over(c))
		return;
	if (c->packet_count == 0)
		memcpy(c->from.byte, frame->key, KEY_LEN);
	c->packet[c->packet_count++] =
		(struct packet){ (uint8_t *)frame->bytes, (uint32_t)frame->len };
}

static void peer_gone(struct derp_client *c, const struct derp_frame *frame)
{
	uint64_t now = loop_now(c->loop);
	struct public_key peer;

	if (!bucket_take(&c->gone, 1, now)) {
		log_limited(&c->gate, now, LOG_WARN,
			    "derp: region %d: it reports too many peers gone, ignored",
			    c->region->id);
		return;
	}
	memcpy(peer.byte, frame->key, KEY_LEN);
	c->callbacks.peer_gone(c->owner, &peer, frame->reason);
}

static void health_told(struct derp_client *c, const struct derp_frame *frame)
{
	char text[HEALTH_MAX + 1];
	size_t len = MIN(frame->len, HEALTH_MAX);

	for (size_t i = 0; i < len; i++) /* it goes to logs and terminals */
		text[i] = frame->bytes[i] < ' ' || frame->bytes[i] > '~' ? '?'
									 : (char)frame->bytes[i];
	text[len] = '\0';
	c->callbacks.health(c->owner, text);
}

static void server_info(struct derp_client *c, const struct derp_frame *frame)
{
	struct derp_server_info info;

	if (derp_open_server_info(frame->bytes, frame->len, c->key, &c->relay_key, &info) != 0) {
		derp_client_failed(c, "the relay's answer to our login cannot be opened");
		return;
	}
	c->has_limit = info.bytes_per_second > 0;
	bucket_init(&c->limit, info.bytes_per_second, info.burst, loop_now(c->loop));
	if (c->state != CLIENT_LOGGING_IN)
		return;
	c->state = CLIENT_UP;
	c->sentence[0] = '\0';
	derp_client_arm(c);
	c->callbacks.up(c->owner);
}

static void server_key(struct derp_client *c, const struct derp_frame *frame)
{
	if (c->state != CLIENT_GREETING)
		return; /* after a fast start it is known */
	memcpy(c->relay_key.byte, frame->key, KEY_LEN);
	if (!derp_client_log_in(c))
		derp_client_failed(c, "the relay's key is unusable");
}

static void control_frame(struct derp_client *c, const struct derp_frame *frame)
{
	switch (frame->type) {
	case DERP_SERVER_KEY:
		server_key(c, frame);
		break;
	case DERP_SERVER_INFO:
		if (c->state >= CLIENT_LOGGING_IN)
			server_info(c, frame);
		break;
	case DERP_PEER_GONE:
		peer_gone(c, frame);
		break;
	case DERP_TYPE_PING:
		derp_client_put(c, DERP_TYPE_PONG, frame->bytes, frame->len);
		break;
	case DERP_TYPE_PONG:
		if (memcmp(frame->bytes, c->ping, DERP_PING) == 0)
			c->pong_by_ns = NEVER_NS;
		break;
	case DERP_HEALTH:
		health_told(c, frame);
		break;
	case DERP_RESTARTING:
		c->callbacks.restarting(c->owner, frame->wait_ms);
		break;
	}
}

static void frame_received(struct derp_client *c, const struct derp_frame *frame)
{
	if (frame->is_skipped)
		return;
	if (frame->type == DERP_RECV_PACKET) {
		if (c->state >= CLIENT_LOGGING_IN)
			packet_received(c, frame);
		return;
	}
	hand_on(c); /* in the order of arrival */
	if (!derp_client_is_over(c))
		control_frame(c, frame);
}

size_t derp_client_take_frames(struct derp_client *c, size_t at)
{
	while (!derp_client_is_over(c)) {
		struct net_stream *stream = c->stream;
		struct derp_frame frame;
		size_t need;
		long len = derp_frame_parse(c->buffer + at, c->have - at, &frame, &need);

		if (len == -EPROTO) {
			derp_client_failed(c, "the relay sent an impossible frame");
			return 0;
		}
		if (len == -EAGAIN) {
			if (need == 0 || derp_type_is_known(frame.type))
				break;
			c->skip = need - (c->have - at); /* whatever it is, not for us */
			at = c->have;
			break;
		}
		at += (size_t)len;
		frame_received(c, &frame);
		if (c->stream != stream)
			return 0; /* on to the next node */
	}
	if (!derp_client_is_over(c))
		hand_on(c);
	return at;
}
