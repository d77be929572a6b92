/*
 * The segment parser on any bytes: what it returns lies within them, and what
 * it accepts and we write again is read the same.
 */
#include <assert.h>
#include <string.h>

#include "daemon/tcp/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const struct tcp_segment *s)
{
	struct tcp_flow_key key = { s->key.local, s->key.remote, s->key.local_port,
				    s->key.remote_port, 0 };
	struct tcp_options o = { 0 };
	struct tcp_template t;
	struct tcp_segment read;
	uint8_t packet[TCP_MAX_HEADER + 2048];

	if (s->len > 2048 || (s->flags & TCP_SYN && s->sack_count))
		return;
	o.has_timestamp = s->has_timestamp;
	o.ts_value = s->ts_value;
	o.ts_echo = s->ts_echo;
	o.sack_count = s->has_timestamp && s->sack_count > 3 ? 3 : s->sack_count;
	memcpy(o.sack, s->sack, sizeof(o.sack[0]) * o.sack_count);
	tcp_template_init(&t, &key, &o);
	tcp_template_set(&t, s->ack, s->window);
	if (s->len > 0)
		memcpy(packet + t.header_len, s->data, s->len);
	tcp_template_write(&t, packet, s->seq, s->flags, s->len);
	assert(tcp_segment_parse(packet, t.header_len + s->len, true, &read) == 0);
	assert(read.seq == s->seq && read.ack == s->ack && read.len == s->len);
	assert(read.flags == s->flags && read.window == s->window);
	assert(read.has_timestamp == s->has_timestamp && read.sack_count == o.sack_count);
	assert(s->len == 0 || memcmp(read.data, s->data, s->len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tcp_flow_key key;
	struct tcp_segment s;
	uint32_t seq;

	if (tcp_segment_parse(data, size, false, &s) == 0) {
		assert(s.data >= data && s.data + s.len <= data + size);
		assert(s.sack_count <= TCP_MAX_SACK);
		assert(s.scale == TCP_NO_SCALE || s.scale <= TCP_MAX_SCALE);
		write_again(&s);
	}
	(void)tcp_segment_parse(data, size, true, &s);
	(void)tcp_segment_parse_quoted(data, size, &key, &seq);
	return 0;
}
