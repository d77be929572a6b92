/*
 * Frames: type(1) length(4, big-endian, without these 5) payload.
 *
 * Bytes after the documented fields are tolerated, a payload too short for its
 * type is skipped, and so is an unknown type: the real client behaves so, and new
 * servers rely on it. Only a length beyond 1 MiB is an error, and one beyond
 * what a type that we read can hold.
 */
#include "daemon/derp/frame.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <json-c/json.h>
#include <sodium.h>

#include "shared/wire.h"

#define SERVER_KEY_MAGIC_LEN 8
#define RESTARTING_LEN       8
#define SERVER_INFO_MAX      65536
#define JSON_DEPTH           16
#define CLIENT_INFO_JSON     "{\"version\":2,\"CanAckPings\":true}"

static_assert(DERP_HEADER + KEY_LEN + DERP_NONCE + DERP_TAG + sizeof(CLIENT_INFO_JSON) - 1 <=
		      DERP_INFO_MAX,
	      "a client's frame fits");

bool derp_type_is_known(uint8_t type)
{
	switch (type) {
	case DERP_SERVER_KEY:
	case DERP_SERVER_INFO:
	case DERP_RECV_PACKET:
	case DERP_KEEP_ALIVE:
	case DERP_PEER_GONE:
	case DERP_TYPE_PING:
	case DERP_TYPE_PONG:
	case DERP_HEALTH:
	case DERP_RESTARTING:
		return true;
	}
	return false;
}

static bool read_server_key(struct wire_reader *r, struct derp_frame *frame)
{
	static const uint8_t magic[SERVER_KEY_MAGIC_LEN] = { 0x44, 0x45, 0x52, 0x50,
							     0xf0, 0x9f, 0x94, 0x91 };
	const uint8_t *start = wire_take(r, sizeof(magic));

	frame->key = wire_take(r, KEY_LEN);
	return frame->key && memcmp(start, magic, sizeof(magic)) == 0;
}

static void take_rest(struct wire_reader *r, struct derp_frame *frame)
{
	frame->len = wire_left(r);
	frame->bytes = wire_take(r, frame->len);
}

/* False: the connection must end. */
static bool read_payload(struct wire_reader *r, struct derp_frame *frame)
{
	switch (frame->type) {
	case DERP_SERVER_KEY:
		return read_server_key(r, frame); /* whoever this is, it is no relay */
	case DERP_RECV_PACKET:
		frame->key = wire_take(r, KEY_LEN);
		if (!r->failed)
			take_rest(r, frame);
		return frame->len <= DERP_PACKET_MAX;
	case DERP_PEER_GONE:
		frame->key = wire_take(r, KEY_LEN);
		frame->reason = wire_left(r) > 0 ? wire_u8(r) : 0;
		break;
	case DERP_TYPE_PING:
	case DERP_TYPE_PONG:
		frame->bytes = wire_take(r, DERP_PING);
		frame->len = DERP_PING;
		break;
	case DERP_RESTARTING:
		frame->wait_ms = wire_be32(r);
		frame->try_ms = wire_be32(r);
		break;
	case DERP_HEALTH:
	case DERP_SERVER_INFO:
		take_rest(r, frame);
		break;
	case DERP_KEEP_ALIVE:
		break;
	default:
		frame->is_skipped = true;
	}
	return true;
}

long derp_frame_parse(const uint8_t *bytes, size_t len, struct derp_frame *frame, size_t *need)
{
	struct wire_reader r;
	uint32_t payload;

	*frame = (struct derp_frame){ 0 };
	*need = 0;
	if (len < DERP_HEADER)
		return -EAGAIN;
	frame->type = bytes[0];
	payload = load_be32(bytes + 1);
	if (payload > DERP_FRAME_MAX ||
	    (derp_type_is_known(frame->type) && payload > DERP_KNOWN_MAX))
		return -EPROTO;
	*need = DERP_HEADER + (size_t)payload;
	if (len < *need)
		return -EAGAIN;
	r = wire_reader(bytes + DERP_HEADER, payload);
	if (!read_payload(&r, frame))
		return -EPROTO;
	if (r.failed)
		*frame = (struct derp_frame){ .type = frame->type, .is_skipped = true };
	return (long)*need;
}

void derp_put_header(uint8_t *to, enum derp_type type, size_t len)
{
	to[0] = (uint8_t)type;
	store_be32(to + 1, (uint32_t)len);
}

void derp_put_send(uint8_t to[static DERP_SEND_EXTRA], const struct public_key *peer, size_t len)
{
	derp_put_header(to, DERP_SEND_PACKET, KEY_LEN + len);
	memcpy(to + DERP_HEADER, peer->byte, KEY_LEN);
}

size_t derp_seal_client_info(uint8_t out[static DERP_INFO_MAX], const struct private_key *own,
			     const struct public_key *relay, const uint8_t nonce[static DERP_NONCE])
{
	const size_t json_len = sizeof(CLIENT_INFO_JSON) - 1;
	const size_t payload = KEY_LEN + DERP_NONCE + DERP_TAG + json_len;
	struct public_key public;

	private_key_public(own, &public);
	derp_put_header(out, DERP_CLIENT_INFO, payload);
	memcpy(out + DERP_HEADER, public.byte, KEY_LEN);
	memcpy(out + DERP_HEADER + KEY_LEN, nonce, DERP_NONCE);
	if (crypto_box_easy(out + DERP_HEADER + KEY_LEN + DERP_NONCE,
			    (const uint8_t *)CLIENT_INFO_JSON, json_len, nonce, relay->byte,
			    own->byte) != 0)
		return 0;
	return DERP_HEADER + payload;
}

static uint64_t positive(struct json_object *value)
{
	int64_t number = json_object_get_int64(value);

	return number > 0 ? (uint64_t)number : 0;
}

int derp_parse_server_info(const char *json, size_t len, struct derp_server_info *info)
{
	struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH);
	struct json_object *object;
	int err = -EBADMSG;

	*info = (struct derp_server_info){ 0 };
	if (!tokener)
		return -ENOMEM;
	object = json_tokener_parse_ex(tokener, json, (int)len);
	if (json_object_is_type(object, json_type_object)) {
		json_object_object_foreach(object, name, value)
		{
			if (strcasecmp(name, "TokenBucketBytesPerSecond") == 0)
				info->bytes_per_second = positive(value);
			else if (strcasecmp(name, "TokenBucketBytesBurst") == 0)
				info->burst = positive(value);
		}
		err = 0;
	}
	json_object_put(object);
	json_tokener_free(tokener);
	return err;
}

int derp_open_server_info(const uint8_t *bytes, size_t len, const struct private_key *own,
			  const struct public_key *relay, struct derp_server_info *info)
{
	const uint8_t *box = bytes + DERP_NONCE;
	uint8_t *json;
	size_t json_len;
	int err = -EBADMSG;

	*info = (struct derp_server_info){ 0 };
	if (len < DERP_NONCE + DERP_TAG || len > SERVER_INFO_MAX)
		return -EBADMSG;
	json_len = len - DERP_NONCE - DERP_TAG;
	json = malloc(json_len + 1);
	if (!json)
		return -ENOMEM;
	if (crypto_box_open_easy(json, box, len - DERP_NONCE, bytes, relay->byte, own->byte) == 0)
		err = derp_parse_server_info((const char *)json, json_len, info);
	free(json);
	return err;
}
