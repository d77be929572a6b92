/*
 * ICMP (RFC 792) and ICMPv6 (RFC 4443): echoes and errors, both ways.
 */
#ifndef MESHWRAP_DAEMON_STACK_ICMP_H
#define MESHWRAP_DAEMON_STACK_ICMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/stack/ip.h"
#include "daemon/stack/output.h"

#define ICMP_HEADER     8u
#define ICMP_RATE       1000 /* errors a second that we send at most */
#define ICMP_RATE_BURST 50

enum icmp_kind { ICMP_OTHER, ICMP_ECHO, ICMP_ECHO_REPLY, ICMP_ERROR };

struct icmp_message {
	enum icmp_kind kind;
	uint16_t id, seq;    /* of echoes */
	const uint8_t *data; /* of echoes: what comes back; of errors: the quoted packet */
	uint32_t data_len;
	int error;    /* of errors: a positive errno */
	uint32_t mtu; /* of EMSGSIZE; 0: the router did not say */
};

/* p is a whole packet with protocol ICMP or ICMPv6. 0, or -EBADMSG (length, checksum). */
int icmp_parse(const struct ip_packet *p, struct icmp_message *out);

/* As output_datagram(). */
int icmp_send_echo(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
		   bool is_reply, const struct icmp_message *echo);

enum icmp_reason { ICMP_PORT_UNREACHABLE, ICMP_PROTOCOL_UNREACHABLE };
/*
 * Tells dst, who sent the quoted packet to src, that it was not taken.
 * pointer: where it names the protocol (ICMPv6 and ICMP_PROTOCOL_UNREACHABLE).
 */
int icmp_send_error(struct output *o, const struct ip_addr *src, const struct ip_addr *dst,
		    enum icmp_reason reason, uint32_t pointer, const struct output_payload *quoted);

/* A token bucket for errors. */
struct icmp_gate {
	uint64_t filled_ns;
	uint32_t tokens;
};
bool icmp_gate_pass(struct icmp_gate *gate, uint64_t now_ns);

#endif
