/*
 * IP addresses and address+port pairs as plain values.
 *
 * Both families share one 16-byte form: an IPv4 address is kept v4-mapped
 * (::ffff:a.b.c.d), so that comparing, hashing and sorting need no family.
 * Ports are in host byte order. Everything here is pure and async-signal-safe.
 */
#ifndef MESHWRAP_SHARED_ENDPOINT_H
#define MESHWRAP_SHARED_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define IP_TEXT_MAX       46 /* with the terminator, as INET6_ADDRSTRLEN */
#define ENDPOINT_TEXT_MAX 56 /* "[v6]:65535" with the terminator */

struct ip_addr {
	uint8_t byte[16];
};

struct endpoint {
	struct ip_addr addr;
	uint16_t port;
};

struct ip_prefix {
	struct ip_addr addr;
	uint8_t len; /* in the address's own family: 0-32 or 0-128 */
};

/* v4 is in host byte order. */
struct ip_addr ip_from_v4(uint32_t v4);
static inline bool ip_is_v4(const struct ip_addr *ip)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(ip->byte, mapped, sizeof(mapped)) == 0;
}
/* The IPv4 address in host byte order; only for ip_is_v4() addresses. */
uint32_t ip_v4(const struct ip_addr *ip);
bool ip_is_any(const struct ip_addr *ip); /* 0.0.0.0 or :: */
bool ip_is_loopback(const struct ip_addr *ip);
int ip_compare(const struct ip_addr *a, const struct ip_addr *b);
bool ip_equal(const struct ip_addr *a, const struct ip_addr *b);

/* Exactly one numeric address in text, no port, no zone. 0 or -EINVAL. */
int ip_parse(const char *text, struct ip_addr *ip);
/* Writes at most IP_TEXT_MAX bytes and returns text. */
char *ip_format(const struct ip_addr *ip, char text[static IP_TEXT_MAX]);

/* "1.2.3.4:5" or "[::1]:5". 0 or -EINVAL. */
int endpoint_parse(const char *text, struct endpoint *ep);
char *endpoint_format(const struct endpoint *ep, char text[static ENDPOINT_TEXT_MAX]);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
/* Not keyed: for tables that an attacker cannot fill. */
uint32_t endpoint_hash(const struct endpoint *ep);

/*
 * From a socket address that may be unaligned and of any length. AF_INET and
 * AF_INET6 (v4-mapped becomes IPv4). 0, -EAFNOSUPPORT, or -EINVAL when len is
 * too short for its family.
 */
int endpoint_from_sockaddr(const void *sa, socklen_t len, struct endpoint *ep);
/*
 * Into a socket address of the given family; an IPv4 endpoint for AF_INET6
 * becomes v4-mapped. Returns its length, or 0 when an IPv6 address is asked
 * for as AF_INET.
 */
socklen_t endpoint_to_sockaddr(const struct endpoint *ep, int family, struct sockaddr_storage *out);

#endif
