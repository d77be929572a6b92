/* TSMP: the codec against samples, and both stacks with a filter between them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <json.h>
#include <sodium.h>

#include "daemon/stack/filter.h"
#include "daemon/stack/ip.h"
#include "daemon/stack/netstack.h"
#include "daemon/stack/tsmp.h"
#include "daemon/tcp/segment.h"
#include "shared/util.h"
#include "shared/wire.h"

struct node {
	struct netstack *ns;
	struct node *other;
	struct filter_source source; /* as whom the other knows it */
	struct ip_addr v4;
	unsigned pongs, keys, incoming, failed, received;
	uint8_t data[TSMP_KEY_LEN];
	uint16_t port;
	int error;
	struct tcp_conn *conn;
	unsigned events;
};

static struct node a, b;

static void on_output(void *owner, struct packet_batch *batch)
{
	struct node *n = owner;

	netstack_input(n->other->ns, &n->source, batch->packet, batch->count, NS_PER_S);
}

static void on_udp(void *owner, const struct endpoint *local, const struct endpoint *remote,
		   const uint8_t *data, size_t len)
{
	struct node *n = owner;

	(void)local;
	(void)remote;
	(void)data;
	(void)len;
	n->received++;
}

static void on_udp_failed(void *owner, const struct endpoint *local, const struct endpoint *remote,
			  int error)
{
	struct node *n = owner;

	n->failed++;
	n->error = error;
	assert_int_equal(local->port, 5);
	assert_int_equal(remote->port, 6);
}

static void on_incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
			const struct endpoint *remote)
{
	struct node *n = owner;

	(void)local;
	(void)remote;
	n->incoming++;
	tcp_refuse(conn, NS_PER_S);
}

static void on_event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct node *n = owner;

	(void)conn;
	(void)user;
	n->events |= events;
}

static void on_cancelled(void *owner, struct tcp_conn *conn)
{
	(void)owner;
	(void)conn;
}

static void on_pong(void *owner, const struct ip_addr *from,
		    const uint8_t data[static TSMP_PING_DATA], uint16_t peerapi_port)
{
	struct node *n = owner;

	assert_true(ip_equal(from, &n->other->v4));
	n->pongs++;
	n->port = peerapi_port;
	memcpy(n->data, data, TSMP_PING_DATA);
}

static void on_key(void *owner, const struct ip_addr *from, const uint8_t key[static TSMP_KEY_LEN])
{
	struct node *n = owner;

	assert_true(ip_equal(from, &n->other->v4));
	n->keys++;
	memcpy(n->data, key, TSMP_KEY_LEN);
}

static void node_open(struct node *n, struct node *other, uint32_t v4)
{
	const struct netstack_callbacks callbacks = { on_output, on_udp, on_udp_failed, NULL,
						      NULL };
	const struct netstack_tsmp_callbacks tsmp = { on_pong, on_key };
	struct tcp_config config;

	memset(n, 0, sizeof(*n));
	n->other = other;
	n->v4 = ip_from_v4(v4);
	tcp_config_defaults(&config, 1280);
	n->ns = netstack_create(&n->v4, 1, &config, &callbacks, on_incoming, on_event, on_cancelled,
				n);
	assert_non_null(n->ns);
	netstack_set_tsmp(n->ns, &tsmp);
}

static int setup(void **state)
{
	(void)state;
	node_open(&a, &b, 0x64400001);
	node_open(&b, &a, 0x64400002);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	netstack_destroy(a.ns);
	netstack_destroy(b.ns);
	return 0;
}

static void settle(void)
{
	for (int i = 0; i < 6; i++) {
		netstack_flush(a.ns, NS_PER_S);
		netstack_flush(b.ns, NS_PER_S);
	}
}

static void give(struct node *n, uint8_t *packet, size_t len)
{
	struct packet p = { packet, (uint32_t)len };

	netstack_input(n->ns, NULL, &p, 1, NS_PER_S);
	settle();
}

static struct filter *strict_filter(const struct node *n)
{
	static const uint8_t secret[16];
	struct filter *f = filter_create(16, secret);
	struct ip_prefix own = { n->v4, 32 };

	assert_non_null(f);
	assert_int_equal(filter_set(f, NULL, 0, &own, 1), 0);
	return f;
}

static struct netstack_stats stats_of(const struct node *n)
{
	struct netstack_stats stats;

	netstack_get_stats(n->ns, &stats);
	return stats;
}

/* The payload of a sample packet. */
static size_t sample(struct json_object *samples, const char *name, uint8_t *packet,
		     struct ip_packet *p)
{
	const char *hex = json_object_get_string(json_object_object_get(samples, name));
	size_t len;

	assert_int_equal(sodium_hex2bin(packet, 256, hex, strlen(hex), NULL, &len, NULL), 0);
	assert_int_equal(ip_packet_parse(packet, len, p), 0);
	assert_int_equal(p->protocol, TSMP_PROTOCOL);
	return len;
}

static void test_samples_are_read_and_written(void **state)
{
	static const char *const names[] = { "disco_advertisement_v4", "disco_advertisement_v6",
					     "pong_v4_data_3132..38_peerapi_4242",
					     "rejected_tcp_5555_to_80_acl" };
	struct json_object *file = json_object_from_file(VECTORS_DIR "/disco.json");
	struct json_object *samples = json_object_object_get(file, "tsmp");

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		uint8_t packet[256], out[TSMP_MAX];
		struct ip_packet p;
		struct tsmp_message m;

		sample(samples, names[i], packet, &p);
		assert_int_equal(tsmp_parse(ip_payload(&p), p.payload_len, &m), 0);
		assert_int_equal(tsmp_write(&m, out), p.payload_len);
		assert_memory_equal(out, ip_payload(&p), p.payload_len);
		for (uint32_t len = 0; len < (m.kind == TSMP_PONG ? 9 : p.payload_len); len++)
			assert_int_equal(tsmp_parse(ip_payload(&p), len, &m), -EBADMSG);
		if (m.kind == TSMP_REJECT) {
			assert_int_equal(m.src_port, 5555);
			assert_int_equal(m.dst_port, 80);
			assert_int_equal(m.reason, TSMP_REASON_ACL);
		}
	}
	json_object_put(file);
}

static void test_a_ping_is_answered_whatever_the_rules(void **state)
{
	struct filter *f = strict_filter(&b);
	const uint8_t data[TSMP_PING_DATA] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	(void)state;
	netstack_set_filter(b.ns, f);
	a.source.is_jailed = true;
	assert_int_equal(netstack_tsmp_ping(a.ns, &a.v4, &b.v4, data), 0);
	settle();
	assert_int_equal(a.pongs, 1);
	assert_memory_equal(a.data, data, sizeof(data));
	assert_int_equal(a.port, 0);
	assert_int_equal(b.pongs, 0);
	netstack_set_filter(b.ns, NULL);
	filter_destroy(f);
}

static void test_a_refused_connect_fails_at_once(void **state)
{
	struct filter *f = strict_filter(&b);
	const struct endpoint local = { a.v4, 4000 }, remote = { b.v4, 80 };

	(void)state;
	netstack_set_filter(b.ns, f);
	assert_int_equal(tcp_connect(netstack_tcp(a.ns), &local, &remote, &a, NS_PER_S, &a.conn),
			 0);
	settle();
	assert_int_equal(b.incoming, 0);
	assert_int_equal(stats_of(&b).filtered, 1);
	assert_int_equal(stats_of(&b).rejects_out, 1);
	assert_int_equal(stats_of(&a).rejects_in, 1);
	assert_true(a.events & TCP_EVENT_FAILED);
	assert_int_equal(tcp_conn_error(a.conn), ECONNREFUSED);
	netstack_set_filter(b.ns, NULL);
	filter_destroy(f);
}

static void test_answers_to_our_datagrams_pass_the_filter(void **state)
{
	struct filter *f = strict_filter(&a);
	const struct endpoint here = { a.v4, 5 }, there = { b.v4, 6 };

	(void)state;
	netstack_set_filter(a.ns, f);
	assert_int_equal(netstack_send_udp(b.ns, &there, &here, (const uint8_t *)"x", 1, NS_PER_S),
			 0);
	settle();
	assert_int_equal(a.received, 0);
	assert_int_equal(netstack_send_udp(a.ns, &here, &there, (const uint8_t *)"x", 1, NS_PER_S),
			 0);
	assert_int_equal(netstack_send_udp(b.ns, &there, &here, (const uint8_t *)"x", 1, NS_PER_S),
			 0);
	settle();
	assert_int_equal(b.received, 1);
	assert_int_equal(a.received, 1);
	netstack_set_filter(a.ns, NULL);
	filter_destroy(f);
}

static size_t make(uint8_t *packet, const struct tsmp_message *m)
{
	uint8_t payload[TSMP_MAX];
	size_t len = tsmp_write(m, payload);
	size_t header = ip_header_write(packet, &b.v4, &a.v4, TSMP_PROTOCOL, len, NULL);

	memcpy(packet + header, payload, len);
	return header + len;
}

static void test_what_cannot_be_true_changes_nothing(void **state)
{
	struct tsmp_message m = { .kind = TSMP_DISCO_KEY };
	uint8_t packet[128];

	(void)state;
	give(&a, packet, make(packet, &m)); /* the zero key */
	assert_int_equal(a.keys, 0);
	m.disco_key[3] = 1;
	give(&a, packet, make(packet, &m));
	assert_int_equal(a.keys, 1);
	assert_int_equal(a.data[3], 1);
	m = (struct tsmp_message){ .kind = TSMP_REJECT,
				   .protocol = IP_PROTOCOL_UDP,
				   .src_port = 5,
				   .dst_port = 6,
				   .maybe_broken = true };
	give(&a, packet, make(packet, &m));
	assert_int_equal(a.failed, 0);
	m.maybe_broken = false;
	give(&a, packet, make(packet, &m));
	assert_int_equal(a.failed, 1);
	assert_int_equal(a.error, ECONNREFUSED);
	m.protocol = IP_PROTOCOL_TCP; /* no such connection */
	give(&a, packet, make(packet, &m));
	m.kind = TSMP_PONG;
	give(&a, packet, make(packet, &m) - 3); /* too short for its IP header */
	assert_int_equal(a.pongs, 0);
	assert_int_equal(stats_of(&a).tsmp_in, 5);
}

static void test_own_addresses_can_change(void **state)
{
	const uint8_t data[TSMP_PING_DATA] = "x";
	const struct ip_addr moved = ip_from_v4(0x64400009);

	(void)state;
	netstack_set_own(b.ns, &moved, 1);
	netstack_tsmp_ping(a.ns, &a.v4, &b.v4, data);
	settle();
	assert_int_equal(a.pongs, 0);
	b.v4 = moved;
	netstack_tsmp_ping(a.ns, &a.v4, &b.v4, data);
	settle();
	assert_int_equal(a.pongs, 1);
}

#define WITH_NODES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples_are_read_and_written),
		WITH_NODES(test_a_ping_is_answered_whatever_the_rules),
		WITH_NODES(test_a_refused_connect_fails_at_once),
		WITH_NODES(test_answers_to_our_datagrams_pass_the_filter),
		WITH_NODES(test_what_cannot_be_true_changes_nothing),
		WITH_NODES(test_own_addresses_can_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
