/*
 * Telling datagrams apart, and addresses.
 *
 * The tests go in the order of what must not be mistaken: STUN and Geneve have
 * two clear bits in front where WireGuard has a small type, so a WireGuard
 * datagram fails the first look at them, which is the hot path.
 */
#include "daemon/path/classify.h"

#include <string.h>

#include "daemon/path/disco.h"
#include "daemon/path/stun.h"
#include "shared/wire.h"

#define GENEVE_LEN       8
#define GENEVE_DISCO     0x7a11
#define GENEVE_WIREGUARD 0x7a12

static bool is_geneve(const uint8_t *b, size_t len)
{
	uint16_t protocol;

	if (len < GENEVE_LEN || (b[0] & 0xc0) != 0 || (b[1] & 0x3f) != 0 || b[7] != 0)
		return false;
	protocol = load_be16(b + 2);
	if (protocol == GENEVE_DISCO)
		return disco_is_packet(b + GENEVE_LEN, len - GENEVE_LEN);
	return protocol == GENEVE_WIREGUARD;
}

enum datagram_class classify_datagram(const uint8_t *bytes, size_t len)
{
	if (stun_is_packet(bytes, len))
		return DATAGRAM_STUN;
	if (is_geneve(bytes, len))
		return DATAGRAM_GENEVE;
	return classify_relayed(bytes, len);
}

enum datagram_class classify_relayed(const uint8_t *bytes, size_t len)
{
	return disco_is_packet(bytes, len) ? DATAGRAM_DISCO : DATAGRAM_WIREGUARD;
}

bool candidate_is_usable(const struct endpoint *ep)
{
	if (ep->port == 0 || ip_is_any(&ep->addr))
		return false;
	if (ip_is_v4(&ep->addr))
		return ip_v4(&ep->addr) >> 28 < 14 && ip_v4(&ep->addr) >> 24 != 0;
	return ep->addr.byte[0] != 0xff;
}

static bool is_private(const struct ip_addr *ip)
{
	uint32_t v4;

	if (!ip_is_v4(ip))
		return (ip->byte[0] & 0xfe) == 0xfc;
	v4 = ip_v4(ip);
	return v4 >> 24 == 10 || v4 >> 20 == 0xac1 || v4 >> 16 == 0xc0a8;
}

static bool is_link_local(const struct ip_addr *ip)
{
	if (ip_is_v4(ip))
		return ip_v4(ip) >> 16 == 0xa9fe;
	return ip->byte[0] == 0xfe && (ip->byte[1] & 0xc0) == 0x80;
}

static int place_points(const struct ip_addr *ip)
{
	int points = ip_is_v4(ip) ? 0 : 10;

	if (ip_is_loopback(ip))
		return points + 50;
	if (is_link_local(ip))
		return points + 30;
	return is_private(ip) ? points + 20 : points;
}

/* The faster one gets 1 point for each percent it is faster. */
static void latency_points(uint64_t a_ns, uint64_t b_ns, int *a, int *b)
{
	if (a_ns == b_ns || a_ns == 0 || b_ns == 0)
		return;
	if (a_ns < b_ns)
		*a += 100 - (int)(a_ns * 100 / b_ns);
	else
		*b += 100 - (int)(b_ns * 100 / a_ns);
}

bool address_is_better(const struct measured_address *a, const struct measured_address *b)
{
	int points_a, points_b;

	if (b->endpoint.port == 0 || a->endpoint.port == 0)
		return a->endpoint.port != 0;
	if (endpoint_equal(&a->endpoint, &b->endpoint))
		return false;
	points_a = place_points(&a->endpoint.addr);
	points_b = place_points(&b->endpoint.addr);
	latency_points(a->latency_ns, b->latency_ns, &points_a, &points_b);
	/* Changing for next to nothing would flap. */
	if (points_a <= 1 && points_b == 0)
		return false;
	return points_a > points_b;
}
