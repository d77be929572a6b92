/*
 * Output.
 *
 * A full batch is sent on the spot, so that a burst costs one batch of memory
 * however long it is. The callback may block us (the UDP socket is full); then
 * nothing more is written, and the batch, which is empty at that moment, stays so.
 * A datagram that is cut off by that is lost as a whole, like any other lost
 * fragment; its caller hears -EAGAIN.
 */
#include "daemon/stack/output.h"

#include <errno.h>
#include <string.h>

#include "daemon/stack/ip.h"

uint8_t *output_reserve(struct output *o, size_t len)
{
	uint8_t *out;

	if (o->is_blocked)
		return NULL;
	out = batch_reserve(&o->batch, len);
	if (out)
		return out;
	output_flush(o);
	return o->is_blocked ? NULL : batch_reserve(&o->batch, len);
}

void output_commit(struct output *o, size_t len)
{
	batch_commit(&o->batch, len);
	o->packets++;
}

void output_flush(struct output *o)
{
	if (o->batch.count == 0)
		return;
	o->send(o->owner, &o->batch);
	batch_reset(&o->batch);
}

static void copy_payload(uint8_t *out, const struct output_payload *p, size_t offset, size_t len)
{
	if (offset < p->head_len) {
		size_t part = MIN(p->head_len - offset, len);

		memcpy(out, p->head + offset, part);
		out += part;
		offset += part;
		len -= part;
	}
	if (len > 0)
		memcpy(out, p->data + offset - p->head_len, len);
}

static int send_fragments(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
			  uint8_t protocol, const struct output_payload *payload, size_t mtu)
{
	size_t total = payload->head_len + payload->data_len;
	size_t header = ip_is_v4(src) ? IPV4_HEADER : IPV6_HEADER + IPV6_FRAGMENT_HEADER;
	size_t step = (mtu - header) & ~(size_t)7;
	struct ip_fragment fragment = { .id = o->next_id++ };

	for (size_t at = 0; at < total; at += step) {
		size_t len = MIN(step, total - at);
		uint8_t *out = output_reserve(o, header + len);

		if (!out)
			return -EAGAIN;
		fragment.offset = (uint32_t)at;
		fragment.has_more = at + len < total;
		ip_header_write(out, src, dst, protocol, len, &fragment);
		copy_payload(out + header, payload, at, len);
		output_commit(o, header + len);
	}
	return 0;
}

/* IPv6 has nobody on the way who cuts; IPv4 has, and its datagrams allow it. */
static size_t mtu_for(const struct output *o, const struct ip_addr *dst, size_t len)
{
	if (len <= PATH_MTU_LEAST || o->path_mtus.count == 0 || ip_is_v4(dst))
		return o->batch.mtu;
	return MIN(o->batch.mtu, path_mtus_find(&o->path_mtus, dst, o->now_ns));
}

int output_datagram(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
		    uint8_t protocol, const struct output_payload *payload)
{
	size_t total = payload->head_len + payload->data_len;
	size_t header = ip_is_v4(src) ? IPV4_HEADER : IPV6_HEADER;
	size_t mtu = mtu_for(o, dst, header + total);
	uint8_t *out;

	if (ip_is_v4(src) != ip_is_v4(dst))
		return -EAFNOSUPPORT;
	if (total > IP_PACKET_MAX - (ip_is_v4(src) ? IPV4_HEADER : 0))
		return -EMSGSIZE;
	if (header + total > mtu)
		return send_fragments(o, src, dst, protocol, payload, mtu);
	out = output_reserve(o, header + total);
	if (!out)
		return -EAGAIN;
	ip_header_write(out, src, dst, protocol, total, NULL);
	copy_payload(out + header, payload, 0, total);
	output_commit(o, header + total);
	return 0;
}
