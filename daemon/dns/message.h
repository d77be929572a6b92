/* DNS messages as bytes (RFC 1035, and the OPT record of RFC 6891). Pure; every input may be
 * hostile. */
#ifndef MESHWRAP_DAEMON_DNS_MESSAGE_H
#define MESHWRAP_DAEMON_DNS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/dns/table.h"

#define DNS_HEADER_LEN  12
#define DNS_UDP_PLAIN   512
#define DNS_UDP_MAX     4095  /* what we take from a resolver, and ask for */
#define DNS_UDP_LARGEST 65507 /* what a datagram carries, by IPv4 */

enum dns_flag {
	DNS_FLAG_QR = 0x8000,
	DNS_FLAG_OPCODE = 0x7800,
	DNS_FLAG_AA = 0x0400,
	DNS_FLAG_TC = 0x0200,
	DNS_FLAG_RD = 0x0100,
	DNS_FLAG_RA = 0x0080,
	DNS_FLAG_AD = 0x0020,
	DNS_FLAG_CD = 0x0010,
	DNS_FLAG_RCODE = 0x000f
};

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5
};

enum dns_type {
	DNS_TYPE_A = 1,
	DNS_TYPE_NS = 2,
	DNS_TYPE_CNAME = 5,
	DNS_TYPE_SOA = 6,
	DNS_TYPE_PTR = 12,
	DNS_TYPE_HINFO = 13,
	DNS_TYPE_AAAA = 28,
	DNS_TYPE_OPT = 41,
	DNS_TYPE_AXFR = 252,
	DNS_TYPE_ANY = 255
};
#define DNS_CLASS_IN 1

/* The first question. */
struct dns_question {
	char name[DNS_NAME_MAX + 1];  /* as it came, without trailing dot; "" is the root */
	char lower[DNS_NAME_MAX + 1]; /* the same in lower case */
	uint16_t type, class;
	size_t end; /* where it ends in the message */
};

/* These need at least DNS_HEADER_LEN bytes. */
uint16_t dns_message_id(const uint8_t *bytes);
uint16_t dns_message_flags(const uint8_t *bytes);
void dns_message_set_flags(uint8_t *bytes, uint16_t flags);

/*
 * The name at *at as text, *at moves behind it. False: it leaves the message,
 * is longer than 255 bytes, or holds what is no text (a dot or a NUL within a
 * label). Pointers must lead to before where the name they are in began, so
 * reading ends.
 */
bool dns_message_name(const uint8_t *bytes, size_t len, size_t *at,
		      char name[static DNS_NAME_MAX + 1]);
/* False: no header, no question, or one that cannot be read. */
bool dns_message_question(const uint8_t *bytes, size_t len, struct dns_question *q);
/* How long an answer by UDP may be: what OPT says, within what a datagram carries; else 512. */
size_t dns_message_udp_limit(const uint8_t *query, size_t len);
/* An OPT that asks for more than DNS_UDP_MAX asks for that. */
void dns_message_clamp_opt(uint8_t *bytes, size_t len);
/* Leaves the header and the question of an answer; its new length. */
size_t dns_message_cut(uint8_t *bytes, size_t len);

/*
 * The addresses of this type (A or AAAA) that an answer gives for the name,
 * also by way of CNAMEs. Returns how many were put into ips.
 */
unsigned dns_message_addresses(const uint8_t *bytes, size_t len, const char *name, uint16_t type,
			       struct ip_addr *ips, unsigned max);

/* Appends to a buffer; what does not fit any more fails it for good. */
struct dns_writer {
	uint8_t *bytes;
	size_t len, room;
	bool failed;
};
void dns_put_u16(struct dns_writer *w, uint16_t value);
void dns_put_u32(struct dns_writer *w, uint32_t value);
void dns_put_bytes(struct dns_writer *w, const void *bytes, size_t len);
/* A header with these counts. */
void dns_put_header(struct dns_writer *w, uint16_t id, uint16_t flags, unsigned questions,
		    unsigned answers, unsigned authorities);
/* Uncompressed. Fails for what is no name. */
void dns_put_name(struct dns_writer *w, const char *name);
void dns_put_question(struct dns_writer *w, const char *name, uint16_t type, uint16_t class);

#endif
