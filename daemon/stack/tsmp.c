/*
 * The kind is the first byte. What follows a message is ignored, so that later
 * versions may add to it; a pong without the port is one of an older version.
 */
#include "daemon/stack/tsmp.h"

#include <errno.h>
#include <string.h>

#include "shared/wire.h"

#define REJECT_MAYBE_BROKEN 0x01u

static void read_reject(struct wire_reader *r, struct tsmp_message *m)
{
	m->protocol = wire_u8(r);
	m->reason = wire_u8(r);
	m->src_port = wire_be16(r);
	m->dst_port = wire_be16(r);
	if (!r->failed && wire_left(r) > 0)
		m->maybe_broken = wire_u8(r) & REJECT_MAYBE_BROKEN;
}

int tsmp_parse(const uint8_t *bytes, size_t len, struct tsmp_message *out)
{
	struct wire_reader r = wire_reader(bytes, len);
	struct tsmp_message m = { .kind = wire_u8(&r) };
	const uint8_t *p;

	switch (m.kind) {
	case TSMP_PING:
	case TSMP_PONG:
		p = wire_take(&r, sizeof(m.data));
		if (p)
			memcpy(m.data, p, sizeof(m.data));
		if (m.kind == TSMP_PONG && !r.failed && wire_left(&r) >= 2)
			m.peerapi_port = wire_be16(&r);
		break;
	case TSMP_REJECT:
		read_reject(&r, &m);
		break;
	case TSMP_DISCO_KEY:
		p = wire_take(&r, sizeof(m.disco_key));
		if (p)
			memcpy(m.disco_key, p, sizeof(m.disco_key));
		break;
	default:
		return -EBADMSG;
	}
	if (r.failed)
		return -EBADMSG;
	*out = m;
	return 0;
}

size_t tsmp_write(const struct tsmp_message *m, uint8_t out[static TSMP_MAX])
{
	out[0] = (uint8_t)m->kind;
	switch (m->kind) {
	case TSMP_PING:
		memcpy(out + 1, m->data, sizeof(m->data));
		return 1 + sizeof(m->data);
	case TSMP_PONG:
		memcpy(out + 1, m->data, sizeof(m->data));
		store_be16(out + 9, m->peerapi_port);
		return 11;
	case TSMP_REJECT:
		out[1] = m->protocol;
		out[2] = m->reason;
		store_be16(out + 3, m->src_port);
		store_be16(out + 5, m->dst_port);
		out[7] = REJECT_MAYBE_BROKEN;
		return m->maybe_broken ? 8 : 7;
	case TSMP_DISCO_KEY:
		memcpy(out + 1, m->disco_key, sizeof(m->disco_key));
		return 1 + sizeof(m->disco_key);
	}
	return 0;
}
