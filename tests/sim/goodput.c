/*
 * Bulk transfers over virtual links: a table of goodput by CUBIC and by rate,
 * and with --bench the cost of a data packet for both ends together.
 *
 * One flow, side 0 sends as fast as it may, side 1 reads at once. Shown are the
 * goodput of the whole transfer and that after its first 25 round trips, or what the
 * scenario says, which is the one that is held against the scenario's bound. A part of a scenario's
 * name as an argument runs only those. The cost is a bound, too, where the scenario
 * has one: the least of some goes, since the machine may be busy with others. Others may
 * also take the caches and the memory of a shared machine, which slows everything down
 * for long. So each go is held against how long plain copies take at the same time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/tcp/sum.h"
#include "shared/util.h"
#include "world.h"

#define SETTLE_ROUNDS 25
#define PAYLOAD_SHARE (1228.0 / 1280) /* of the link: the rest is headers */
#define GOES          100             /* for a quiet moment of the machine */
#define REFERENCE_NS  120.0
#define ACCESS_NS     60.0

#define LINE_BITS_PER_S UINT64_C(1000000000) /* before a shaper */
#define HICCUP_EVERY_NS (3 * NS_PER_S)       /* on average */

struct bulk {
	uint64_t to_send, sent, received;
	struct tcp_conn *sender;
	bool ended;
};

static void bulk_write(struct world *w, struct tcp_conn *conn)
{
	struct bulk *bulk = w->app_state;
	struct iovec space[2];
	size_t room;

	while (bulk->sent < bulk->to_send && (room = tcp_send_space(conn, space)) > 0) {
		room = MIN(room, bulk->to_send - bulk->sent);
		tcp_send_commit(conn, room);
		bulk->sent += room;
	}
	if (bulk->sent == bulk->to_send)
		tcp_send_finish(conn);
}

static void bulk_incoming(struct side *side, struct tcp_conn *conn, const struct endpoint *local,
			  const struct endpoint *remote)
{
	(void)local;
	(void)remote;
	tcp_accept(conn, NULL, side->world->now_ns);
}

static void bulk_event(struct side *side, struct tcp_conn *conn, void *user, unsigned events)
{
	struct bulk *bulk = side->world->app_state;

	(void)user;
	if (events & TCP_EVENT_FAILED) {
		fprintf(stderr, "goodput: the connection failed: %s\n",
			strerror(tcp_conn_error(conn)));
		exit(1);
	}
	if (side->index == 0 && events & (TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE))
		bulk_write(side->world, conn);
	if (side->index == 1 && events & TCP_EVENT_READABLE) {
		struct iovec data[4];
		unsigned count;
		size_t len;

		while ((len = tcp_recv_data(conn, data, 4, &count)) > 0) {
			bulk->received += len;
			tcp_recv_consume(conn, len);
		}
		bulk->ended = tcp_recv_ended(conn);
	}
}

static const struct world_app bulk_app = { .incoming = bulk_incoming, .event = bulk_event };

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct scenario {
	const char *name;
	uint64_t bits_per_s;
	uint64_t rtt_ns, queue_ns;
	uint64_t settle_ns;     /* 0: SETTLE_ROUNDS */
	uint64_t burst_bytes;   /* a token bucket of a shaper: passes at 1 Gbit/s */
	uint32_t loss, reorder; /* in a million; late by up to 5 ms */
	uint64_t nap_ns;        /* a busy machine, see world.h */
	uint64_t hiccup_ns;     /* every HICCUP_EVERY_NS */
	uint64_t bytes;
	double least[2]; /* share of the link that must be reached: by CUBIC, by rate */
	double whole;    /* by either, slow start included */
	double most_ns;  /* with --bench: what a data packet may cost. 0: only shown */
};

static const char *const names[] = { [TCP_CUBIC] = "cubic", [TCP_RATE] = "rate" };

static struct endpoint with_port(struct endpoint e, uint16_t port)
{
	e.port = port;
	return e;
}

/* False: less than the scenario asks for. *packet_ns: of CPU time, of both ends. */
static bool run(const struct scenario *s, enum tcp_congestion congestion, bool is_bench,
		double *packet_ns)
{
	struct link_config there = { .bits_per_s = s->bits_per_s,
				     .delay_ns = s->rtt_ns / 2,
				     .queue_bytes = s->bits_per_s / 8 * s->queue_ns / NS_PER_S,
				     .burst_bytes = s->burst_bytes,
				     .burst_bits_per_s = LINE_BITS_PER_S,
				     .loss = s->loss,
				     .reorder = s->reorder,
				     .reorder_ns = 5 * NS_PER_MS };
	struct link_config back = { .bits_per_s = s->bits_per_s, .delay_ns = s->rtt_ns / 2 };
	struct bulk bulk = { .to_send = s->bytes };
	struct endpoint local, remote;
	struct tcp_conn_info info;
	struct tcp_config config;
	struct tcp_stats stats;
	struct world w;
	uint64_t start_ns, settled_ns, settled_bytes = 0;
	double cpu, mbit, settled_mbit, seconds;

	tcp_config_defaults(&config, 1280);
	config.congestion = congestion;
	world_init(&w, &config, (struct link_config[2]){ there, back }, false, 1);
	w.app = &bulk_app;
	w.nap_ns = s->nap_ns;
	w.hiccup_ns = s->hiccup_ns;
	w.hiccup_every_ns = HICCUP_EVERY_NS;
	w.app_state = &bulk;
	local = with_port(w.side[0].address, 40000);
	remote = with_port(w.side[1].address, 80);
	start_ns = w.now_ns;
	cpu = cpu_s();
	if (tcp_connect(w.side[0].tcp, &local, &remote, NULL, w.now_ns, &bulk.sender) < 0)
		abort();
	world_flush(&w);
	settled_ns = start_ns + (s->settle_ns > 0 ? s->settle_ns : SETTLE_ROUNDS * s->rtt_ns);
	while (!bulk.ended && world_step(&w))
		if (w.now_ns <= settled_ns)
			settled_bytes = bulk.received;
	cpu = cpu_s() - cpu;
	seconds = (double)(w.now_ns - start_ns) / 1e9;
	mbit = (double)bulk.received * 8 / seconds / 1e6;
	settled_mbit =
		(double)(bulk.received - settled_bytes) * 8e3 / (double)(w.now_ns - settled_ns);
	tcp_get_stats(w.side[0].tcp, &stats);
	tcp_conn_info(bulk.sender, &info);
	*packet_ns = cpu * 1e9 / ((double)bulk.received / info.mss);
	if (is_bench)
		printf("%-28s %-5s %6.2f Gbit/s a core, %4.0f ns a data packet (both ends)\n",
		       s->name, names[congestion], (double)bulk.received * 8 / cpu / 1e9,
		       *packet_ns);
	else
		printf("%-29s %-5s %6.1f, then %6.1f Mbit/s  %6llu resent  %6llu dropped  "
		       "%4llu recoveries  %3llu timeouts\n",
		       s->name, names[congestion], mbit, settled_mbit,
		       (unsigned long long)stats.retransmitted,
		       (unsigned long long)(w.side[0].link.stats.queue_drops +
					    w.side[0].link.stats.losses),
		       (unsigned long long)stats.fast_recoveries,
		       (unsigned long long)stats.timeouts);
	if (bulk.received != s->bytes) {
		fprintf(stderr, "goodput: %s: the transfer stopped\n", s->name);
		exit(1);
	}
	world_finish(&w);
	if (settled_mbit * 1e6 >= s->least[congestion] * (double)s->bits_per_s &&
	    mbit * 1e6 >= s->whole * (double)s->bits_per_s)
		return true;
	fprintf(stderr, "goodput: %s, %s: below %.1f %% of the link, or %.1f %% with slow start\n",
		s->name, names[congestion], s->least[congestion] * 100, s->whole * 100);
	return false;
}

/*
 * CPU time of finding, copying and summing one packet of 1,228 bytes, where each tells where the
 * next one is, among as many as fill windows of 8 MiB: what memory and caches are worth now.
 * REFERENCE_NS on a quiet machine.
 */
static double reference_ns(void)
{
	enum {
		ROOM = 2048,
		SLOTS = 4096,
		PACKETS = 50000,
		STEP = 2731 /* odd: meets every slot */
	};
	static uint8_t slot[SLOTS][ROOM];
	static volatile uint64_t sink;
	uint32_t at = 0, next;
	uint8_t packet[1228];
	uint64_t sum = 0;
	double cpu;

	for (uint32_t i = 0; i < SLOTS; i++) {
		next = (i + STEP) % SLOTS;
		memset(slot[i], 1, ROOM);
		memcpy(slot[i], &next, sizeof(next));
	}
	cpu = cpu_s();
	for (unsigned i = 0; i < PACKETS; i++) {
		memcpy(packet, slot[at], sizeof(packet));
		memcpy(slot[at] + 4, packet + 4, sizeof(packet) - 4);
		sum += tcp_sum(packet, sizeof(packet));
		memcpy(&at, packet, sizeof(at));
	}
	sink = sum;
	(void)sink;
	return (cpu_s() - cpu) * 1e9 / PACKETS;
}

/*
 * CPU time of reading a word that tells where the next one is, anywhere in 16 MiB: others who
 * take the caches make this slower before they make copies slower. ACCESS_NS on a quiet machine.
 */
static double access_ns(void)
{
	enum {
		LINE = 16, /* words */
		LINES = 16 << 20 >> 6,
		READS = 300000,
		STEP = 1103515245 /* with 12345 it meets every line, in no order that is foreseen */
	};
	static uint32_t word[LINES * LINE];
	static volatile uint32_t sink;
	uint32_t at = 0;
	double cpu;

	if (word[0] == 0)
		for (uint32_t i = 0; i < LINES; i++)
			word[i * LINE] = (i * STEP + 12345) % LINES;
	cpu = cpu_s();
	for (unsigned i = 0; i < READS; i++)
		at = word[at * LINE];
	sink = at;
	(void)sink;
	return (cpu_s() - cpu) * 1e9 / READS;
}

/* How much slower than a quiet one this machine is at the moment; at least 1. */
static double slowness(void)
{
	return MAX(MAX(reference_ns() / REFERENCE_NS, access_ns() / ACCESS_NS), 1.0);
}

/* The least cost of some goes, as it would be on a quiet machine, is held against the bound. */
static bool run_bench(const struct scenario *s, enum tcp_congestion congestion)
{
	double packet_ns = 0, least_ns = 0, before = slowness();

	for (unsigned i = 0; i < GOES; i++) {
		double after, slow;

		run(s, congestion, true, &packet_ns);
		after = slowness();
		slow = (before + after) / 2;
		if (slow > 1)
			printf("%-28s %-5s the machine is slower than a quiet one by %.1f: %.0f ns\n",
			       s->name, names[congestion], slow, packet_ns / slow);
		before = after;
		least_ns = i == 0 ? packet_ns / slow : MIN(least_ns, packet_ns / slow);
		if (s->most_ns == 0 || least_ns <= s->most_ns)
			return true;
	}
	fprintf(stderr, "goodput: %s, %s: a data packet costs more than %.0f ns\n", s->name,
		names[congestion], s->most_ns);
	return false;
}

#define KIB  (UINT64_C(1) << 10)
#define MIB  (UINT64_C(1) << 20)
#define MBIT UINT64_C(1000000)
#define GBIT (1000 * MBIT)

static const struct scenario scenarios[] = {
	{ .name = "50 Mbit/s, 20 ms, queue 10 ms",
	  .bits_per_s = 50 * MBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 10 * NS_PER_MS,
	  .bytes = 100 * MIB,
	  .least = { 0.90, 0.90 } },
	{ .name = "200 Mbit/s, 20 ms",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 400 * MIB,
	  .least = { 0.90, 0.90 },
	  .whole = 0.92 },
	{ .name = "200 Mbit/s, 66 ms",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 66 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 400 * MIB,
	  .least = { 0.93, 0.93 },
	  .whole = 0.92 },
	{ .name = "200 Mbit/s, 200 ms",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 600 * MIB,
	  .least = { 0.90, 0.93 },
	  .whole = 0.865 },
	/* A minute and more: what ordinary losses cost. */
	{ .name = "200 Mbit/s, 200 ms, a minute",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .settle_ns = 5 * NS_PER_S,
	  .bytes = 1800 * MIB,
	  .least = { 0.98 * PAYLOAD_SHARE, 0.98 * PAYLOAD_SHARE },
	  .whole = 0.92 },
	{ .name = "1 Gbit/s, 200 ms, a minute",
	  .bits_per_s = GBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .settle_ns = 5 * NS_PER_S,
	  .bytes = 9000 * MIB,
	  .least = { 0.98 * PAYLOAD_SHARE, 0.98 * PAYLOAD_SHARE },
	  .whole = 0.92 },
	/* The same on a machine that is taken away for up to 60 ms now and then. */
	{ .name = "200 Mbit/s, 200 ms, a minute with hiccups",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .settle_ns = 5 * NS_PER_S,
	  .nap_ns = NS_PER_MS,
	  .hiccup_ns = 60 * NS_PER_MS,
	  .bytes = 1800 * MIB,
	  .least = { 0.90, 0.80 } },
	{ .name = "1 Gbit/s, 200 ms, a minute with hiccups",
	  .bits_per_s = GBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .settle_ns = 5 * NS_PER_S,
	  .nap_ns = NS_PER_MS,
	  .hiccup_ns = 60 * NS_PER_MS,
	  .bytes = 9000 * MIB,
	  .least = { 0.90, 0.80 } },
	{ .name = "1 Gbit/s, 20 ms",
	  .bits_per_s = GBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 2000 * MIB,
	  .least = { 0.93, 0.93 },
	  .whole = 0.92 },
	{ .name = "1 Gbit/s, 66 ms",
	  .bits_per_s = GBIT,
	  .rtt_ns = 66 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 2000 * MIB,
	  .least = { 0.93, 0.93 },
	  .whole = 0.915 },
	{ .name = "1 Gbit/s, 200 ms",
	  .bits_per_s = GBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 4000 * MIB,
	  .least = { 0.90, 0.92 },
	  .whole = 0.885 },
	{ .name = "1 Gbit/s, 20 ms, 0.1 % lost",
	  .bits_per_s = GBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .loss = 1000,
	  .bytes = 400 * MIB,
	  .least = { 0.02, 0.85 } },
	{ .name = "1 Gbit/s, 20 ms, 1 % lost",
	  .bits_per_s = GBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .loss = 10000,
	  .bytes = 400 * MIB,
	  .least = { 0.005, 0.80 } },
	{ .name = "1 Gbit/s, 20 ms, 0.1 % lost, busy",
	  .bits_per_s = GBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .loss = 1000,
	  .nap_ns = 4 * NS_PER_MS,
	  .bytes = 1000 * MIB,
	  .least = { 0.02, 0.70 } },
	{ .name = "1 Gbit/s, 20 ms, 1 % lost, busy",
	  .bits_per_s = GBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .loss = 10000,
	  .nap_ns = 4 * NS_PER_MS,
	  .bytes = 1000 * MIB,
	  .least = { 0.005, 0.70 } },
	{ .name = "200 Mbit/s, 66 ms, 1 % lost",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 66 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .loss = 10000,
	  .bytes = 400 * MIB,
	  .least = { 0.005, 0.80 } },
	{ .name = "10 Mbit/s, 20 ms, 1 % lost",
	  .bits_per_s = 10 * MBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .loss = 10000,
	  .bytes = 20 * MIB,
	  .least = { 0.20, 0.80 } },
	{ .name = "200 Mbit/s, 20 ms, 1 % late",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .reorder = 10000,
	  .bytes = 400 * MIB,
	  .least = { 0.90, 0.90 } },
	{ .name = "1 Gbit/s, 20 ms, 1 % late",
	  .bits_per_s = GBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .reorder = 10000,
	  .bytes = 1000 * MIB,
	  .least = { 0.90, 0.90 } },
	{ .name = "shaped, 50 Mbit/s, 20 ms, 64 KiB",
	  .bits_per_s = 50 * MBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .burst_bytes = 64 * KIB,
	  .bytes = 100 * MIB,
	  .least = { 0.85, 0.85 } },
	{ .name = "shaped, 200 Mbit/s, 20 ms, 256 KiB",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .burst_bytes = 256 * KIB,
	  .bytes = 400 * MIB,
	  .least = { 0.85, 0.85 } },
	{ .name = "shaped, 200 Mbit/s, 66 ms, 1024 KiB",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 66 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .burst_bytes = 1024 * KIB,
	  .bytes = 400 * MIB,
	  .least = { 0.85, 0.85 } },
	{ .name = "shaped, 200 Mbit/s, 200 ms, 1024 KiB",
	  .bits_per_s = 200 * MBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .burst_bytes = 1024 * KIB,
	  .bytes = 600 * MIB,
	  .least = { 0.85, 0.65 } },
	{ .name = "shaped, 100 Mbit/s, 66 ms, 4096 KiB",
	  .bits_per_s = 100 * MBIT,
	  .rtt_ns = 66 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .burst_bytes = 4096 * KIB,
	  .bytes = 200 * MIB,
	  .least = { 0.85, 0.85 } },
	{ .name = "short, 1 Gbit/s, 200 ms, 1 MB",
	  .bits_per_s = GBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 1000000,
	  .whole = 0.0080 },
	{ .name = "short, 1 Gbit/s, 200 ms, 10 MB",
	  .bits_per_s = GBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 10000000,
	  .whole = 0.056 },
	{ .name = "short, 1 Gbit/s, 200 ms, 100 MB",
	  .bits_per_s = GBIT,
	  .rtt_ns = 200 * NS_PER_MS,
	  .queue_ns = 20 * NS_PER_MS,
	  .bytes = 100000000,
	  .whole = 0.34 },
	{ .name = "2.5 Gbit/s, 20 ms, no loss",
	  .bits_per_s = 2500 * MBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = NS_PER_S,
	  .bytes = 1000 * MIB,
	  .least = { 0.50, 0.50 } },
};

static const struct scenario bench[] = {
	{ .name = "no loss, RTT 50 us",
	  .bits_per_s = 10 * GBIT,
	  .rtt_ns = 50 * NS_PER_US,
	  .queue_ns = NS_PER_S,
	  .bytes = 400 * MIB,
	  .most_ns = 700 },
	{ .name = "no loss, RTT 1 ms",
	  .bits_per_s = 10 * GBIT,
	  .rtt_ns = NS_PER_MS,
	  .queue_ns = NS_PER_S,
	  .bytes = 2000 * MIB },
	{ .name = "no loss, RTT 20 ms",
	  .bits_per_s = 2 * GBIT,
	  .rtt_ns = 20 * NS_PER_MS,
	  .queue_ns = NS_PER_S,
	  .bytes = 2000 * MIB },
	{ .name = "0.1 % loss, RTT 1 ms",
	  .bits_per_s = 10 * GBIT,
	  .rtt_ns = NS_PER_MS,
	  .queue_ns = NS_PER_S,
	  .loss = 1000,
	  .bytes = 1000 * MIB },
};

int main(int argc, char **argv)
{
	bool is_bench = argc > 1 && strcmp(argv[1], "--bench") == 0, is_good = true;
	double packet_ns;
	const struct scenario *list = is_bench ? bench : scenarios;
	size_t count = is_bench ? ARRAY_LEN(bench) : ARRAY_LEN(scenarios);
	const char *part = argc > 1 + is_bench ? argv[1 + is_bench] : "";

	for (size_t i = 0; i < count; i++)
		for (enum tcp_congestion c = TCP_CUBIC; c <= TCP_RATE; c++)
			if (strstr(list[i].name, part))
				is_good &= is_bench ? run_bench(&list[i], c)
						    : run(&list[i], c, false, &packet_ns);
	return is_good ? 0 : 1;
}
