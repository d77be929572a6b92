#include "tests/unit/stack/two_stacks.h"

#include "daemon/stack/icmp.h"
#include "daemon/stack/ip.h"
#include "daemon/tcp/sum.h"
#include "shared/util.h"
#include "shared/wire.h"

struct ip_addr v4[2], v6[2];
struct node a, b;
uint32_t mtu = MTU;
size_t memory_max;
const struct filter_source *injected_by;

static void on_output(void *owner, struct packet_batch *batch)
{
	struct node *n = owner;

	n->batches++;
	for (unsigned i = 0; i < batch->count; i++) {
		n->packets++;
		n->longest = MAX(n->longest, batch->packet[i].len);
		n->last_len = batch->packet[i].len;
		memcpy(n->last, batch->packet[i].data, n->last_len);
	}
	if (n->other)
		netstack_input(n->other->ns, NULL, batch->packet, batch->count, n->now_ns);
}

static void on_udp(void *owner, const struct endpoint *local, const struct endpoint *remote,
		   const uint8_t *data, size_t len)
{
	struct node *n = owner;

	n->received++;
	n->local = *local;
	n->remote = *remote;
	memcpy(n->data, data, len);
	n->len = len;
}

static void on_udp_failed(void *owner, const struct endpoint *local, const struct endpoint *remote,
			  int error)
{
	struct node *n = owner;

	n->failed++;
	n->local = *local;
	n->remote = *remote;
	n->error = error;
}

static void on_pong(void *owner, const struct ip_addr *from, uint16_t id, uint16_t seq,
		    const uint8_t *data, size_t len)
{
	struct node *n = owner;

	n->pongs++;
	n->remote.addr = *from;
	n->id = id;
	n->seq = seq;
	memcpy(n->data, data, len);
	n->len = len;
}

static bool on_serves(void *owner, const struct filter_source *source, const struct ip_addr *addr)
{
	const struct node *n = owner;

	(void)addr;
	return !n->serving || source == n->serving;
}

static void on_incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
			const struct endpoint *remote)
{
	struct node *n = owner;

	n->incoming++;
	n->local = *local;
	n->remote = *remote;
	n->conn = conn;
}

static void on_event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct node *n = owner;

	(void)conn;
	assert_ptr_equal(user, n);
	n->events |= events;
}

static void on_cancelled(void *owner, struct tcp_conn *conn)
{
	(void)owner;
	(void)conn;
}

static void node_open(struct node *n, int i)
{
	const struct netstack_callbacks callbacks = { on_output, on_udp, on_udp_failed, on_pong,
						      on_serves };
	const struct ip_addr own[2] = { v4[i], v6[i] };
	struct tcp_config config;

	memset(n, 0, sizeof(*n));
	tcp_config_defaults(&config, mtu);
	config.memory_max = memory_max ? memory_max : config.memory_max;
	memset(config.secret, i + 1, sizeof(config.secret));
	n->now_ns = NS_PER_S;
	n->ns = netstack_create(own, 2, &config, &callbacks, on_incoming, on_event, on_cancelled,
				n);
	assert_non_null(n->ns);
}

int setup(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		v4[i] = ip_from_v4(0x64400001u + (uint32_t)i);
		assert_int_equal(ip_parse(i ? "fd7a::2" : "fd7a::1", &v6[i]), 0);
		node_open(i ? &b : &a, i);
	}
	a.other = &b;
	b.other = &a;
	return 0;
}

int teardown(void **state)
{
	(void)state;
	injected_by = NULL;
	netstack_destroy(a.ns);
	netstack_destroy(b.ns);
	netstack_destroy(NULL);
	return 0;
}

/* Lets what is queued travel to and fro. */
void settle(void)
{
	for (int i = 0; i < 8; i++) {
		netstack_flush(a.ns, a.now_ns);
		netstack_flush(b.ns, b.now_ns);
	}
}

void fill(uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8));
}

struct endpoint at(bool is_v6, int node, uint16_t port)
{
	return (struct endpoint){ is_v6 ? v6[node] : v4[node], port };
}

struct netstack_stats stats_of(const struct node *n)
{
	struct netstack_stats stats;

	netstack_get_stats(n->ns, &stats);
	return stats;
}

/* Gives b one packet made by hand. */
void inject(uint8_t *bytes, size_t len)
{
	struct packet packet = { bytes, (uint32_t)len };

	netstack_input(b.ns, injected_by, &packet, 1, b.now_ns);
	settle();
}

/* A UDP packet a -> b with data "hi" behind extension headers; returns its length. */
size_t make_packet(uint8_t *out, bool is_v6, uint8_t protocol)
{
	const struct ip_addr *addr = is_v6 ? v6 : v4;
	size_t header = ip_header_write(out, &addr[0], &addr[1], protocol, 10, NULL);
	uint8_t *udp = out + header;
	uint16_t sum;

	store_be16(udp, 1);
	store_be16(udp + 2, 2);
	store_be16(udp + 4, 10);
	store_be16(udp + 6, 0);
	memcpy(udp + 8, "hi", 2);
	sum = (uint16_t)~tcp_sum_fold(ip_pseudo_sum(&addr[0], &addr[1], IP_PROTOCOL_UDP, 10) +
				      tcp_sum(udp, 10));
	memcpy(udp + 6, &sum, 2);
	return header + 10;
}

void fix_v4_header(uint8_t *p)
{
	uint16_t sum;

	memset(p + 10, 0, 2);
	sum = (uint16_t)~tcp_sum_fold(tcp_sum(p, (p[0] & 15u) * 4u));
	memcpy(p + 10, &sum, 2);
}

/* Puts an extension header of 8 bytes before the payload. */
size_t add_extension(uint8_t *p, size_t len, uint8_t type, uint8_t fourth)
{
	uint8_t header[8] = { p[6], 0, 0, fourth };

	memmove(p + IPV6_HEADER + 8, p + IPV6_HEADER, len - IPV6_HEADER);
	memcpy(p + IPV6_HEADER, header, sizeof(header));
	p[6] = type;
	store_be16(p + 4, (uint16_t)(len + 8 - IPV6_HEADER));
	return len + 8;
}
