/*
 * Any packets into the whole stack, TCP behind it.
 *
 * The input is records: one byte of flags, two of length, then a packet. Flags
 * may ask for addresses and checksums to be made right, so that the fuzzer gets
 * behind those checks; for time to pass; for the node to act. What leaves must
 * be whole IP packets within the MTU, from our address, that our own parser takes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stack/ip.h"
#include "daemon/stack/netstack.h"
#include "daemon/tcp/sum.h"
#include "shared/util.h"
#include "shared/wire.h"

#define MTU 1280

enum { REPAIR = 1, PASS_TIME = 2, FLUSH = 4, DIAL = 8, SEND_UDP = 16, BLOCK = 32, REFUSE = 64 };

struct node {
	struct netstack *ns;
	struct ip_addr own[2], other[2];
	uint64_t now_ns;
	struct tcp_conn *conn;
	bool refuses;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_output(void *owner, struct packet_batch *batch)
{
	struct node *n = owner;

	for (unsigned i = 0; i < batch->count; i++) {
		struct ip_packet p;

		if (batch->packet[i].len > MTU ||
		    ip_packet_parse(batch->packet[i].data, batch->packet[i].len, &p) < 0 ||
		    (!ip_equal(&p.src, &n->own[0]) && !ip_equal(&p.src, &n->own[1])))
			abort();
	}
}

static void on_udp(void *owner, const struct endpoint *local, const struct endpoint *remote,
		   const uint8_t *data, size_t len)
{
	struct node *n = owner;

	netstack_refuse_udp(n->ns, local, remote, data, len, n->now_ns);
}

static void on_udp_failed(void *owner, const struct endpoint *local, const struct endpoint *remote,
			  int error)
{
	(void)owner;
	if (error <= 0 || !ip_is_v4(&local->addr) != !ip_is_v4(&remote->addr))
		abort();
}

static void on_incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
			const struct endpoint *remote)
{
	struct node *n = owner;

	(void)local;
	(void)remote;
	if (n->refuses)
		tcp_refuse(conn, n->now_ns);
	else
		tcp_accept(conn, n, n->now_ns);
}

/* Sends back what comes, and lets go when the other side has ended. */
static void on_event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct node *n = owner;
	struct iovec in[4], out[2];
	unsigned count;
	size_t len;

	(void)user;
	if (events & TCP_EVENT_FAILED) {
		tcp_release(conn, n->now_ns);
		return;
	}
	len = tcp_recv_data(conn, in, 4, &count);
	if (len > 0) {
		size_t room = tcp_send_space(conn, out);

		if (room > 0) {
			size_t part = MIN(MIN(in[0].iov_len, out[0].iov_len), len);

			memcpy(out[0].iov_base, in[0].iov_base, part);
			tcp_send_commit(conn, part);
		}
		tcp_recv_consume(conn, len);
	}
	if (tcp_recv_ended(conn))
		tcp_release(conn, n->now_ns);
}

static void on_cancelled(void *owner, struct tcp_conn *conn)
{
	(void)owner;
	(void)conn;
}

/* The packet, from the other node to us, with right lengths and checksums. */
static void repair(const struct node *n, uint8_t *p, size_t len)
{
	bool is_v6 = p[0] & 0x10;
	size_t header = is_v6 ? IPV6_HEADER : IPV4_HEADER, at;
	uint8_t protocol = len > 9 ? p[is_v6 ? 6 : 9] : 0;
	uint16_t sum, fragment = 0;

	if (len < header + 8)
		return;
	if (!is_v6)
		fragment = load_be16(p + 6);
	ip_header_write(p, &n->other[is_v6], &n->own[is_v6], protocol, len - header, NULL);
	if (!is_v6) {
		store_be16(p + 6, fragment);
		memset(p + 10, 0, 2);
		sum = (uint16_t)~tcp_sum_fold(tcp_sum(p, IPV4_HEADER));
		memcpy(p + 10, &sum, 2);
	}
	at = protocol == IP_PROTOCOL_TCP ? 16 : protocol == IP_PROTOCOL_UDP ? 6 : 2;
	if (header + at + 2 > len)
		return;
	if (protocol == IP_PROTOCOL_UDP)
		store_be16(p + header + 4, (uint16_t)(len - header));
	memset(p + header + at, 0, 2);
	sum = (uint16_t)~tcp_sum_fold((protocol == IP_PROTOCOL_ICMP
					       ? 0
					       : ip_pseudo_sum(&n->other[is_v6], &n->own[is_v6],
							       protocol, len - header)) +
				      tcp_sum(p + header, len - header));
	memcpy(p + header + at, &sum, 2);
}

static void act(struct node *n, uint8_t flags)
{
	struct endpoint local = { n->own[flags & 1], 1000 }, remote = { n->other[flags & 1], 80 };

	n->refuses = flags & REFUSE;
	netstack_set_blocked(n->ns, flags & BLOCK);
	if (flags & DIAL && !n->conn &&
	    tcp_connect(netstack_tcp(n->ns), &local, &remote, n, n->now_ns, &n->conn) != 0)
		n->conn = NULL;
	if (flags & SEND_UDP)
		(void)netstack_send_udp(n->ns, &local, &remote, (const uint8_t *)n, sizeof(*n),
					n->now_ns);
	if (flags & PASS_TIME) {
		uint64_t next = netstack_deadline(n->ns);

		if (next != NEVER_NS && next > n->now_ns)
			n->now_ns = next;
		netstack_expire(n->ns, n->now_ns);
	}
	if (flags & FLUSH)
		netstack_flush(n->ns, n->now_ns);
}

static void run(struct node *n, const uint8_t *data, size_t size)
{
	while (size >= 3) {
		uint8_t flags = data[0], *copy;
		size_t len = MIN((size_t)load_be16(data + 1), size - 3);
		struct packet packet;

		copy = malloc(len ? len : 1); /* of its own, so that a read beyond it is seen */
		if (!copy)
			return;
		memcpy(copy, data + 3, len);
		if (flags & REPAIR && len > 0)
			repair(n, copy, len);
		packet = (struct packet){ copy, (uint32_t)len };
		netstack_input(n->ns, NULL, &packet, 1, n->now_ns);
		free(copy);
		act(n, flags);
		data += 3 + len;
		size -= 3 + len;
	}
	netstack_set_blocked(n->ns, false);
	netstack_flush(n->ns, n->now_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct netstack_callbacks callbacks = { on_output, on_udp, on_udp_failed, NULL,
						      NULL };
	struct node n = { .now_ns = NS_PER_S };
	struct tcp_config config;

	n.own[0] = ip_from_v4(0x64400001u);
	n.other[0] = ip_from_v4(0x64400002u);
	if (ip_parse("fd7a::1", &n.own[1]) != 0 || ip_parse("fd7a::2", &n.other[1]) != 0)
		abort();
	tcp_config_defaults(&config, MTU);
	config.max_conns = 64;
	config.max_parked = 16;
	n.ns = netstack_create(n.own, 2, &config, &callbacks, on_incoming, on_event, on_cancelled,
			       &n);
	if (!n.ns)
		return 0;
	run(&n, data, size);
	netstack_destroy(n.ns);
	return 0;
}
