/*
 * The start of one stream on long paths: how much of the path's time is lost
 * until it is full, by CUBIC and by rate.
 *
 *     start [NAME [trace]]    paths that have NAME in theirs; a line for each round trip
 *
 * Time lost is what has passed since the dial, less the time that the bytes which
 * have arrived take at full rate; one and a half round trips of it are the handshake
 * and the way. Counted for long enough that what a start's end costs is in it. A busy
 * machine naps by the seed: held against a path's bounds is the worst of some.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"
#include "shared/util.h"
#include "world.h"

#define MBIT            UINT64_C(1000000)
#define MTU             1280
#define PAYLOAD         1228
#define LINE_BITS_PER_S UINT64_C(1000000000) /* before a shaper */
#define BUSY_NS         (4 * NS_PER_MS)
#define BUSY_SEEDS      4u
#define FULL            0.9 /* of a round trip's bytes */

struct path {
	const char *name;
	uint64_t mbit, rtt_ms, queue_ms;
	uint64_t burst_bytes; /* a token bucket of a shaper: passes at 1 Gbit/s */
	uint64_t nap_ns;      /* see world.h */
	uint64_t for_ms;      /* since the dial */
	/* Bounds by CUBIC, by rate: of the time lost, and of segments that the queue drops. */
	uint64_t most_ms[2], most_drops[2];
};

struct start {
	uint64_t received;
	struct tcp_conn *sender;
};

static const char *const names[] = { [TCP_CUBIC] = "cubic", [TCP_RATE] = "rate" };

static void incoming(struct side *side, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	(void)local;
	(void)remote;
	tcp_accept(conn, NULL, side->world->now_ns);
}

static void event(struct side *side, struct tcp_conn *conn, void *user, unsigned events)
{
	struct start *start = side->world->app_state;
	struct iovec pieces[4];
	unsigned count;
	size_t len;

	(void)user;
	if (events & TCP_EVENT_FAILED)
		abort();
	if (side->index == 0 && events & (TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE))
		while ((len = tcp_send_space(conn, pieces)) > 0)
			tcp_send_commit(conn, len);
	if (side->index == 1 && events & TCP_EVENT_READABLE)
		while ((len = tcp_recv_data(conn, pieces, 4, &count)) > 0) {
			start->received += len;
			tcp_recv_consume(conn, len);
		}
}

static const struct world_app app = { .incoming = incoming, .event = event };

static void dial(struct world *w, struct start *start)
{
	struct endpoint local = w->side[0].address, remote = w->side[1].address;

	local.port = 40000;
	remote.port = 80;
	if (tcp_connect(w->side[0].tcp, &local, &remote, NULL, w->now_ns, &start->sender) < 0)
		abort();
	world_flush(w);
}

static double full_ms(const struct path *path, uint64_t bytes)
{
	return (double)bytes * 8 * MTU / PAYLOAD / (double)(path->mbit * 1000);
}

struct lost {
	double ms;
	double until_full_ms; /* the first round trip that brought so much ended then */
	uint64_t drops;
};

static void trace(const struct world *w, const struct start *start, uint64_t begin_ns, double share)
{
	const struct tcp_cc *cc = &start->sender->cc;
	double wire = (double)MTU / PAYLOAD * 8e3 / (double)start->sender->rack.min_rtt_ns;

	printf("  %6.0f ms: %5.1f %%, window %7.1f Mbit/s, held %7.1f, train %4u, agreed %u%s, dropped %llu\n",
	       (double)(w->now_ns - begin_ns) / 1e6, share * 100, cc->cwnd * wire,
	       cc->start.held * wire, cc->start.train / cc->mss, cc->start.agreed,
	       cc->start.is_full ? ", full" : "",
	       (unsigned long long)w->side[0].link.stats.queue_drops);
}

static struct lost run(const struct path *path, enum tcp_congestion congestion, uint64_t seed,
		       bool is_traced)
{
	uint64_t bits_per_s = path->mbit * MBIT, rtt_ns = path->rtt_ms * NS_PER_MS;
	struct link_config there = { .bits_per_s = bits_per_s,
				     .delay_ns = rtt_ns / 2,
				     .queue_bytes = bits_per_s / 8000 * path->queue_ms,
				     .burst_bytes = path->burst_bytes,
				     .burst_bits_per_s = LINE_BITS_PER_S };
	struct link_config back = { .bits_per_s = bits_per_s, .delay_ns = rtt_ns / 2 };
	struct start start = { 0 };
	struct lost lost = { 0 };
	struct tcp_config config;
	uint64_t begin_ns, end_ns;
	struct world w;

	tcp_config_defaults(&config, MTU);
	config.congestion = congestion;
	world_init(&w, &config, (struct link_config[2]){ there, back }, false, seed);
	w.app = &app;
	w.app_state = &start;
	w.nap_ns = path->nap_ns;
	begin_ns = w.now_ns;
	dial(&w, &start);
	for (end_ns = begin_ns; end_ns < begin_ns + path->for_ms * NS_PER_MS;) {
		uint64_t before = start.received;
		double share;

		end_ns += rtt_ns;
		while (world_step(&w) && w.now_ns < end_ns)
			;
		share = full_ms(path, start.received - before) / (double)path->rtt_ms;
		if (share >= FULL && lost.until_full_ms == 0)
			lost.until_full_ms = (double)(end_ns - begin_ns) / 1e6;
		if (is_traced && start.sender->srtt_ns > 0)
			trace(&w, &start, begin_ns, share);
	}
	lost.ms = (double)(w.now_ns - begin_ns) / 1e6 - full_ms(path, start.received);
	lost.drops = w.side[0].link.stats.queue_drops;
	world_finish(&w);
	return lost;
}

static bool judge(const struct path *path, enum tcp_congestion c, bool is_traced)
{
	unsigned seeds = path->nap_ns > 0 ? BUSY_SEEDS : 1;
	struct lost worst = { 0 };

	for (unsigned seed = 1; seed <= seeds; seed++) {
		struct lost lost = run(path, c, seed, is_traced);

		worst.ms = MAX(worst.ms, lost.ms);
		worst.until_full_ms = MAX(worst.until_full_ms, lost.until_full_ms);
		worst.drops = MAX(worst.drops, lost.drops);
	}
	printf("%-36s %-5s %5.0f of %5llu ms lost, full after %5.0f ms, %5llu dropped\n",
	       path->name, names[c], worst.ms, (unsigned long long)path->for_ms,
	       worst.until_full_ms, (unsigned long long)worst.drops);
	if (worst.ms <= (double)path->most_ms[c] && worst.drops <= path->most_drops[c])
		return true;
	fprintf(stderr, "start: %s, %s: more than %llu ms or %llu segments are lost\n", path->name,
		names[c], (unsigned long long)path->most_ms[c],
		(unsigned long long)path->most_drops[c]);
	return false;
}

static const struct path paths[] = {
	{ .name = "5 Mbit/s, 20 ms, queue 10 ms",
	  .mbit = 5,
	  .rtt_ms = 20,
	  .queue_ms = 10,
	  .for_ms = 2000,
	  .most_ms = { 130, 135 },
	  .most_drops = { 41, 35 } },
	{ .name = "10 Mbit/s, 20 ms",
	  .mbit = 10,
	  .rtt_ms = 20,
	  .queue_ms = 20,
	  .for_ms = 1000,
	  .most_ms = { 45, 85 },
	  .most_drops = { 17, 10 } },
	{ .name = "10 Mbit/s, 66 ms",
	  .mbit = 10,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .for_ms = 2000,
	  .most_ms = { 195, 285 },
	  .most_drops = { 16, 0 } },
	{ .name = "50 Mbit/s, 66 ms",
	  .mbit = 50,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .for_ms = 2000,
	  .most_ms = { 250, 360 },
	  .most_drops = { 44, 0 } },
	{ .name = "50 Mbit/s, 200 ms",
	  .mbit = 50,
	  .rtt_ms = 200,
	  .queue_ms = 20,
	  .for_ms = 4000,
	  .most_ms = { 750, 885 },
	  .most_drops = { 104, 0 } },
	{ .name = "200 Mbit/s, 20 ms",
	  .mbit = 200,
	  .rtt_ms = 20,
	  .queue_ms = 20,
	  .for_ms = 1000,
	  .most_ms = { 95, 135 },
	  .most_drops = { 77, 0 } },
	{ .name = "200 Mbit/s, 66 ms",
	  .mbit = 200,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .for_ms = 2000,
	  .most_ms = { 295, 400 },
	  .most_drops = { 159, 0 } },
	{ .name = "200 Mbit/s, 200 ms",
	  .mbit = 200,
	  .rtt_ms = 200,
	  .queue_ms = 20,
	  .for_ms = 4000,
	  .most_ms = { 880, 1010 },
	  .most_drops = { 398, 0 } },
	{ .name = "200 Mbit/s, 66 ms, busy",
	  .mbit = 200,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .nap_ns = BUSY_NS,
	  .for_ms = 2000,
	  .most_ms = { 450, 535 },
	  .most_drops = { 190, 0 } },
	{ .name = "200 Mbit/s, 200 ms, busy",
	  .mbit = 200,
	  .rtt_ms = 200,
	  .queue_ms = 20,
	  .nap_ns = BUSY_NS,
	  .for_ms = 4000,
	  .most_ms = { 1230, 1305 },
	  .most_drops = { 491, 0 } },
	{ .name = "1 Gbit/s, 66 ms",
	  .mbit = 1000,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .for_ms = 2000,
	  .most_ms = { 340, 445 },
	  .most_drops = { 772, 0 } },
	{ .name = "1 Gbit/s, 200 ms",
	  .mbit = 1000,
	  .rtt_ms = 200,
	  .queue_ms = 20,
	  .for_ms = 4000,
	  .most_ms = { 1170, 1155 },
	  .most_drops = { 1968, 0 } },
	{ .name = "1 Gbit/s, 66 ms, busy",
	  .mbit = 1000,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .nap_ns = BUSY_NS,
	  .for_ms = 2000,
	  .most_ms = { 625, 745 },
	  .most_drops = { 869, 0 } },
	{ .name = "1 Gbit/s, 200 ms, busy",
	  .mbit = 1000,
	  .rtt_ms = 200,
	  .queue_ms = 20,
	  .nap_ns = BUSY_NS,
	  .for_ms = 4000,
	  .most_ms = { 1900, 1820 },
	  .most_drops = { 2095, 0 } },
	{ .name = "shaped, 200 Mbit/s, 66 ms, 256 KiB",
	  .mbit = 200,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .burst_bytes = 256u << 10,
	  .for_ms = 2000,
	  .most_ms = { 225, 300 },
	  .most_drops = { 744, 656 } },
	{ .name = "shaped, 200 Mbit/s, 66 ms, 1 MiB",
	  .mbit = 200,
	  .rtt_ms = 66,
	  .queue_ms = 20,
	  .burst_bytes = 1u << 20,
	  .for_ms = 2000,
	  .most_ms = { 195, 255 },
	  .most_drops = { 2652, 4073 } },
	{ .name = "shaped, 200 Mbit/s, 200 ms, 1 MiB",
	  .mbit = 200,
	  .rtt_ms = 200,
	  .queue_ms = 20,
	  .burst_bytes = 1u << 20,
	  .for_ms = 4000,
	  .most_ms = { 680, 1035 },
	  .most_drops = { 6178, 7925 } },
};

int main(int argc, char **argv)
{
	const char *part = argc > 1 ? argv[1] : "";
	bool is_good = true;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		for (enum tcp_congestion c = TCP_CUBIC; c <= TCP_RATE; c++)
			if (strstr(paths[i].name, part))
				is_good &= judge(&paths[i], c, argc > 2);
	return is_good ? 0 : 1;
}
