/*
 * Addresses as values. The one idea: IPv4 lives v4-mapped inside 16 bytes, so
 * equality, order and hashing are the same for both families. Text goes
 * through inet_pton/inet_ntop, which are async-signal-safe in glibc and musl.
 */
#include "shared/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/wire.h"

struct ip_addr ip_from_v4(uint32_t v4)
{
	struct ip_addr ip;

	/* In two whole words, as ip_equal() reads them: narrower stores would stall it. */
	store_be64(ip.byte, 0);
	store_be64(ip.byte + 8, UINT64_C(0xffff00000000) | v4);
	return ip;
}

uint32_t ip_v4(const struct ip_addr *ip)
{
	return load_be32(ip->byte + 12);
}

bool ip_is_any(const struct ip_addr *ip)
{
	static const struct ip_addr any;

	return ip_is_v4(ip) ? ip_v4(ip) == INADDR_ANY : ip_equal(ip, &any);
}

bool ip_is_loopback(const struct ip_addr *ip)
{
	static const struct ip_addr loopback = { .byte = { [15] = 1 } };

	return ip_is_v4(ip) ? ip_v4(ip) >> 24 == 127 : ip_equal(ip, &loopback);
}

int ip_compare(const struct ip_addr *a, const struct ip_addr *b)
{
	return memcmp(a->byte, b->byte, sizeof(a->byte));
}

bool ip_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	uint64_t x[2], y[2];

	memcpy(x, a->byte, sizeof(x));
	memcpy(y, b->byte, sizeof(y));
	return x[0] == y[0] && x[1] == y[1];
}

int ip_parse(const char *text, struct ip_addr *ip)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		*ip = ip_from_v4(ntohl(v4.s_addr));
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6) == 1) {
		memcpy(ip->byte, &v6, sizeof(ip->byte));
		return 0;
	}
	return -EINVAL;
}

char *ip_format(const struct ip_addr *ip, char text[static IP_TEXT_MAX])
{
	if (ip_is_v4(ip))
		inet_ntop(AF_INET, ip->byte + 12, text, IP_TEXT_MAX);
	else
		inet_ntop(AF_INET6, ip->byte, text, IP_TEXT_MAX);
	return text;
}

/* A decimal port without sign, space or surplus digits. */
static int parse_port(const char *text, uint16_t *port)
{
	uint32_t value = 0;
	size_t i;

	for (i = 0; text[i]; i++) {
		if (text[i] < '0' || text[i] > '9' || i == 5)
			return -EINVAL;
		value = value * 10 + (uint32_t)(text[i] - '0');
	}
	if (i == 0 || value > UINT16_MAX)
		return -EINVAL;
	*port = (uint16_t)value;
	return 0;
}

int endpoint_parse(const char *text, struct endpoint *ep)
{
	char host[IP_TEXT_MAX];
	const char *colon = strrchr(text, ':');
	size_t len;
	bool bracketed = text[0] == '[';

	if (!colon)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (bracketed) {
		if (len < 2 || text[len - 1] != ']')
			return -EINVAL;
		text++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	/* Without brackets a colon would be ambiguous, with them only IPv6 makes sense. */
	if (bracketed != (strchr(host, ':') != NULL))
		return -EINVAL;
	if (ip_parse(host, &ep->addr) < 0)
		return -EINVAL;
	return parse_port(colon + 1, &ep->port);
}

char *endpoint_format(const struct endpoint *ep, char text[static ENDPOINT_TEXT_MAX])
{
	char host[IP_TEXT_MAX];

	ip_format(&ep->addr, host);
	if (ip_is_v4(&ep->addr))
		snprintf(text, ENDPOINT_TEXT_MAX, "%s:%u", host, (unsigned)ep->port);
	else
		snprintf(text, ENDPOINT_TEXT_MAX, "[%s]:%u", host, (unsigned)ep->port);
	return text;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && ip_equal(&a->addr, &b->addr);
}

uint32_t endpoint_hash(const struct endpoint *ep)
{
	uint64_t h = load_le64(ep->addr.byte) * UINT64_C(0x9e3779b97f4a7c15);

	h ^= load_le64(ep->addr.byte + 8) + ep->port;
	h *= UINT64_C(0xbf58476d1ce4e5b9);
	h ^= h >> 29;
	h *= UINT64_C(0x94d049bb133111eb);
	return (uint32_t)(h >> 32);
}

int endpoint_from_sockaddr(const void *sa, socklen_t len, struct endpoint *ep)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	sa_family_t family;

	if (len < sizeof(family))
		return -EINVAL;
	memcpy(&family, sa, sizeof(family));
	if (family == AF_INET) {
		if (len < sizeof(in))
			return -EINVAL;
		memcpy(&in, sa, sizeof(in));
		ep->addr = ip_from_v4(ntohl(in.sin_addr.s_addr));
		ep->port = ntohs(in.sin_port);
		return 0;
	}
	if (family == AF_INET6) {
		/* Without the scope id: what RFC 2133 had, and the kernel still takes. */
		if (len < offsetof(struct sockaddr_in6, sin6_scope_id))
			return -EINVAL;
		memcpy(&in6, sa, offsetof(struct sockaddr_in6, sin6_scope_id));
		memcpy(ep->addr.byte, &in6.sin6_addr, sizeof(ep->addr.byte));
		ep->port = ntohs(in6.sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}

socklen_t endpoint_to_sockaddr(const struct endpoint *ep, int family, struct sockaddr_storage *out)
{
	struct sockaddr_in *in = (struct sockaddr_in *)out;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

	if (family == AF_INET) {
		if (!ip_is_v4(&ep->addr))
			return 0;
		memset(in, 0, sizeof(*in));
		in->sin_family = AF_INET;
		in->sin_port = htons(ep->port);
		in->sin_addr.s_addr = htonl(ip_v4(&ep->addr));
		return sizeof(*in);
	}
	memset(in6, 0, sizeof(*in6));
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(ep->port);
	memcpy(&in6->sin6_addr, ep->addr.byte, sizeof(ep->addr.byte));
	return sizeof(*in6);
}
