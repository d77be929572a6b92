/*
 * ICMP for both families in one shape: an echo has id, sequence and data, an
 * error has an errno and the packet it quotes.
 *
 * What an error means is decided by the errno Linux would give its sender, so
 * that a program sees over the mesh what it would see on a wire.
 */
#include "daemon/stack/icmp.h"

#include <errno.h>
#include <string.h>

#include "daemon/tcp/sum.h"
#include "shared/wire.h"

enum {
	V4_ECHO_REPLY = 0,
	V4_UNREACHABLE = 3,
	V4_ECHO = 8,
	V4_TIME_EXCEEDED = 11,
	V6_UNREACHABLE = 1,
	V6_TOO_BIG = 2,
	V6_TIME_EXCEEDED = 3,
	V6_PARAMETER_PROBLEM = 4,
	V6_ECHO = 128,
	V6_ECHO_REPLY = 129
};

#define V4_CODE_NETWORK      0
#define V4_CODE_PROTOCOL     2
#define V4_CODE_PORT         3
#define V4_CODE_TOO_BIG      4
#define V6_CODE_NO_ROUTE     0
#define V6_CODE_PORT         4
#define V6_CODE_UNKNOWN_NEXT 1
#define V4_ERROR_PACKET_MAX  576u /* RFC 1812, 4.3.2.3 */
#define V6_ERROR_PACKET_MAX  1280u

static int v4_error(uint8_t code)
{
	switch (code) {
	case V4_CODE_NETWORK:
		return ENETUNREACH;
	case V4_CODE_PROTOCOL:
	case V4_CODE_PORT:
		return ECONNREFUSED;
	case V4_CODE_TOO_BIG:
		return EMSGSIZE;
	default:
		return EHOSTUNREACH;
	}
}

static void parse_v4(const uint8_t *b, struct icmp_message *out)
{
	switch (b[0]) {
	case V4_ECHO:
		out->kind = ICMP_ECHO;
		break;
	case V4_ECHO_REPLY:
		out->kind = ICMP_ECHO_REPLY;
		break;
	case V4_UNREACHABLE:
		out->kind = ICMP_ERROR;
		out->error = v4_error(b[1]);
		if (b[1] == V4_CODE_TOO_BIG)
			out->mtu = load_be16(b + 6);
		break;
	case V4_TIME_EXCEEDED:
		out->kind = ICMP_ERROR;
		out->error = EHOSTUNREACH;
		break;
	}
}

static void parse_v6(const uint8_t *b, struct icmp_message *out)
{
	out->kind = b[0] < 128 ? ICMP_ERROR : ICMP_OTHER;
	out->error = EHOSTUNREACH;
	switch (b[0]) {
	case V6_ECHO:
		out->kind = ICMP_ECHO;
		break;
	case V6_ECHO_REPLY:
		out->kind = ICMP_ECHO_REPLY;
		break;
	case V6_UNREACHABLE:
		if (b[1] == V6_CODE_NO_ROUTE)
			out->error = ENETUNREACH;
		else if (b[1] == V6_CODE_PORT)
			out->error = ECONNREFUSED;
		break;
	case V6_TOO_BIG:
		out->error = EMSGSIZE;
		out->mtu = load_be32(b + 4);
		break;
	case V6_PARAMETER_PROBLEM:
		out->error = ECONNREFUSED; /* it does not know the protocol */
		break;
	}
}

int icmp_parse(const struct ip_packet *p, struct icmp_message *out)
{
	const uint8_t *b = ip_payload(p);
	uint64_t sum = 0;

	memset(out, 0, sizeof(*out));
	if (p->payload_len < ICMP_HEADER)
		return -EBADMSG;
	if (p->is_v6)
		sum = ip_pseudo_sum(&p->src, &p->dst, IP_PROTOCOL_ICMPV6, p->payload_len);
	if (tcp_sum_fold(sum + tcp_sum(b, p->payload_len)) != 0xffff)
		return -EBADMSG;
	out->id = load_be16(b + 4);
	out->seq = load_be16(b + 6);
	out->data = b + ICMP_HEADER;
	out->data_len = p->payload_len - ICMP_HEADER;
	if (p->is_v6)
		parse_v6(b, out);
	else
		parse_v4(b, out);
	return 0;
}

/* Completes head (type, code and rest are set) with the checksum and sends it. */
static int send_message(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
			uint8_t head[static ICMP_HEADER], const struct output_payload *payload)
{
	uint8_t protocol = ip_is_v4(src) ? IP_PROTOCOL_ICMP : IP_PROTOCOL_ICMPV6;
	size_t len = payload->head_len + payload->data_len;
	uint64_t sum = 0;
	uint16_t checksum;

	if (protocol == IP_PROTOCOL_ICMPV6)
		sum = ip_pseudo_sum(src, dst, protocol, len);
	sum += tcp_sum(payload->head, payload->head_len) +
	       tcp_sum(payload->data, payload->data_len);
	checksum = (uint16_t)~tcp_sum_fold(sum);
	memcpy(head + 2, &checksum, sizeof(checksum));
	return output_datagram(o, src, dst, protocol, payload);
}

int icmp_send_echo(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
		   bool is_reply, const struct icmp_message *echo)
{
	uint8_t head[ICMP_HEADER] = { 0 };
	struct output_payload payload = { head, sizeof(head), echo->data, echo->data_len };

	if (ip_is_v4(src))
		head[0] = is_reply ? V4_ECHO_REPLY : V4_ECHO;
	else
		head[0] = is_reply ? V6_ECHO_REPLY : V6_ECHO;
	store_be16(head + 4, echo->id);
	store_be16(head + 6, echo->seq);
	return send_message(o, src, dst, head, &payload);
}

int icmp_send_error(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
		    enum icmp_reason reason, uint32_t pointer, const struct output_payload *quoted)
{
	bool is_v4 = ip_is_v4(src);
	size_t max = is_v4 ? V4_ERROR_PACKET_MAX - IPV4_HEADER : V6_ERROR_PACKET_MAX - IPV6_HEADER;
	uint8_t head[ICMP_HEADER + IPV6_HEADER + ICMP_HEADER] = { 0 };
	struct output_payload payload = { head, ICMP_HEADER + quoted->head_len, quoted->data, 0 };

	if (payload.head_len > sizeof(head))
		return -EMSGSIZE;
	if (is_v4) {
		head[0] = V4_UNREACHABLE;
		head[1] = reason == ICMP_PORT_UNREACHABLE ? V4_CODE_PORT : V4_CODE_PROTOCOL;
	} else if (reason == ICMP_PORT_UNREACHABLE) {
		head[0] = V6_UNREACHABLE;
		head[1] = V6_CODE_PORT;
	} else {
		head[0] = V6_PARAMETER_PROBLEM;
		head[1] = V6_CODE_UNKNOWN_NEXT;
		store_be32(head + 4, pointer);
	}
	memcpy(head + ICMP_HEADER, quoted->head, quoted->head_len);
	payload.data_len = MIN(quoted->data_len, max - payload.head_len);
	return send_message(o, src, dst, head, &payload);
}

bool icmp_gate_pass(struct icmp_gate *gate, uint64_t now_ns)
{
	uint64_t earned = (now_ns - gate->filled_ns) / (NS_PER_S / ICMP_RATE);

	if (earned >= ICMP_RATE_BURST - gate->tokens) {
		gate->tokens = ICMP_RATE_BURST;
		gate->filled_ns = now_ns;
	} else {
		gate->tokens += (uint32_t)earned;
		gate->filled_ns += earned * (NS_PER_S / ICMP_RATE);
	}
	if (gate->tokens == 0)
		return false;
	gate->tokens--;
	return true;
}
