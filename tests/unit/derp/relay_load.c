/*
 * Load through a real relay: two of these exchange datagrams and check every byte.
 *
 *     relay_load PORT PIN OWN PEER SEND_MB RECEIVE_MB WINDOW
 *
 * OWN and PEER are numbers that keys are made from. Datagrams of 1,280 bytes carry
 * a sequence number and a pattern; a window and a timer bring back what a relay drops,
 * and what is lost while it restarts. Prints goodput and CPU time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/derp/relays.h"
#include "daemon/loop.h"
#include "daemon/netmap/types.h"
#include "daemon/stream.h"
#include "shared/log.h"
#include "shared/wire.h"

#define DATAGRAM  1280
#define HEAD      16 /* what it is, sequence number */
#define IS_DATA   1
#define IS_ACK    2
#define RESEND_NS (100 * NS_PER_MS)
#define LINGER_NS NS_PER_S

static struct load {
	struct loop *loop;
	struct relays *relays;
	struct public_key peer;
	uint64_t to_send, to_receive; /* datagrams */
	uint64_t next, acked, window; /* of ours */
	uint64_t received;            /* of theirs, in order */
	uint64_t progress_ns, started_ns, done_ns, resent, wrong, repeated;
	bool is_blocked, must_ack;
	uint8_t pattern[4096 + DATAGRAM];
	uint8_t batch[BATCH_PACKETS * DATAGRAM];
} l;

static void send_some(void)
{
	while (!l.is_blocked && l.next < l.to_send && l.next < l.acked + l.window) {
		unsigned n = 0;

		for (; n < 48 && l.next < l.to_send && l.next < l.acked + l.window; n++) {
			uint8_t *at = l.batch + (size_t)n * DATAGRAM;

			store_le64(at, IS_DATA);
			store_le64(at + 8, l.next);
			memcpy(at + HEAD, l.pattern + l.next % 4096, DATAGRAM - HEAD);
			l.next++;
		}
		relays_send(l.relays, 900, &l.peer, l.batch, (size_t)n * DATAGRAM, DATAGRAM, false);
	}
}

static void received(void *owner, int region, const struct public_key *from, struct packet *packets,
		     unsigned count)
{
	(void)owner;
	(void)region;
	if (memcmp(from, &l.peer, sizeof(*from)) != 0)
		return;
	for (unsigned i = 0; i < count; i++) {
		uint64_t what, number;

		if (packets[i].len < HEAD) {
			l.wrong++;
			continue;
		}
		what = load_le64(packets[i].data);
		number = load_le64(packets[i].data + 8);
		if (what == IS_ACK) {
			if (number > l.acked) {
				l.acked = number;
				l.progress_ns = loop_now(l.loop);
			}
			continue;
		}
		l.must_ack = true;
		if (number != l.received) {
			l.repeated++;
			continue;
		}
		if (packets[i].len != DATAGRAM ||
		    memcmp(packets[i].data + HEAD, l.pattern + number % 4096, DATAGRAM - HEAD) != 0)
			l.wrong++;
		l.received++;
	}
}

static void blocked(void *owner, bool is_blocked)
{
	(void)owner;
	l.is_blocked = is_blocked;
}

static void state(void *owner, int region, bool is_up, const char *sentence)
{
	(void)owner;
	fprintf(stderr, "region %d %s %s\n", region, is_up ? "up" : "down", sentence);
}

static uint64_t round_end(void *owner, uint64_t now)
{
	(void)owner;
	if (!l.relays)
		return NEVER_NS;
	if (l.must_ack) {
		uint8_t ack[HEAD];

		l.must_ack = false;
		store_le64(ack, IS_ACK);
		store_le64(ack + 8, l.received);
		relays_send(l.relays, 900, &l.peer, ack, sizeof(ack), sizeof(ack), true);
	}
	if (now >= l.progress_ns + RESEND_NS && l.acked < l.next) {
		l.resent += l.next - l.acked;
		l.next = l.acked;
		l.progress_ns = now;
	}
	send_some();
	if (l.acked == l.to_send && l.received == l.to_receive) {
		if (!l.done_ns)
			l.done_ns = now;
		if (now >= l.done_ns + LINGER_NS)
			loop_stop(l.loop);
		return l.done_ns + LINGER_NS;
	}
	return l.progress_ns + RESEND_NS > now ? l.progress_ns + RESEND_NS : now + RESEND_NS;
}

static void key_from(const char *number, struct private_key *key)
{
	crypto_generichash(key->byte, KEY_LEN, (const uint8_t *)number, strlen(number), NULL, 0);
}

int main(int argc, char **argv)
{
	const struct relays_callbacks callbacks = { received, blocked, NULL, state };
	const struct loop_hooks hooks = { round_end, NULL };
	struct private_key own, peer;
	struct derp_node node = { .name = "900a",
				  .host_name = "127.0.0.1",
				  .ipv4 = "127.0.0.1",
				  .ipv6 = "none",
				  .stun_test_ip = "",
				  .region_id = 900 };
	struct derp_region region = {
		.id = 900, .code = "l", .name = "L", .score = 1, .nodes = &node, .node_count = 1
	};
	const struct derp_map map = { &region, 1 };
	struct tls_context *tls;
	struct relays_status status;
	struct rusage use;
	char error[256], pin[80];
	double seconds, cpu, gb;

	if (argc != 8 || crypto_init() != 0)
		return 2;
	snprintf(pin, sizeof(pin), "%s", argv[2]);
	node.derp_port = atoi(argv[1]);
	node.cert_name = pin;
	key_from(argv[3], &own);
	key_from(argv[4], &peer);
	private_key_public(&peer, &l.peer);
	l.to_send = strtoull(argv[5], NULL, 10) * 1000000 / DATAGRAM;
	l.to_receive = strtoull(argv[6], NULL, 10) * 1000000 / DATAGRAM;
	l.window = strtoull(argv[7], NULL, 10);
	for (size_t i = 0; i < sizeof(l.pattern); i++)
		l.pattern[i] = (uint8_t)(i * 2654435761u >> 11);
	l.loop = loop_create(&hooks);
	tls = tls_context_create(NULL, error);
	l.relays = relays_create(l.loop, tls, &own, &callbacks, NULL);
	if (!l.loop || !tls || !l.relays || relays_set_map(l.relays, &map) != 0)
		return 2;
	relays_set_home(l.relays, 900);
	l.started_ns = l.progress_ns = loop_now(l.loop);
	loop_run(l.loop);
	getrusage(RUSAGE_SELF, &use);
	seconds = (double)(l.done_ns - l.started_ns) / 1e9;
	cpu = (double)use.ru_utime.tv_sec + (double)use.ru_stime.tv_sec +
	      (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
	gb = (double)(l.to_send + l.to_receive) * DATAGRAM / 1e9;
	relays_status(l.relays, 0, &status);
	printf("%.3f s, %.2f Gbit/s, CPU %.2f s = %.2f s/GB, wrong %llu, resent %llu, out of order %llu, "
	       "dropped here %llu, connects %llu\n",
	       seconds, gb * 8 / seconds, cpu, cpu / gb, (unsigned long long)l.wrong,
	       (unsigned long long)l.resent, (unsigned long long)l.repeated,
	       (unsigned long long)status.tx_dropped, (unsigned long long)status.connects);
	relays_destroy(l.relays);
	tls_context_destroy(tls);
	loop_destroy(l.loop);
	return l.wrong == 0 ? 0 : 1;
}
