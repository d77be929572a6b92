/*
 * Two bulk flows through one virtual bottleneck, by CUBIC and by rate: what
 * share of the link each gets. The later flow starts two seconds after the
 * first; what counts is the time after the first ten seconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"
#include "shared/util.h"
#include "world.h"

#define LATER_NS  (2 * NS_PER_S)
#define SETTLE_NS (10 * NS_PER_S)

static void write_all(struct tcp_conn *conn)
{
	struct iovec space[2];
	size_t room;

	while ((room = tcp_send_space(conn, space)) > 0)
		tcp_send_commit(conn, room);
}

static void incoming(struct side *side, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	uint64_t *received = side->world->app_state;

	(void)local;
	tcp_accept(conn, &received[remote->port - 40000], side->world->now_ns);
}

static void event(struct side *side, struct tcp_conn *conn, void *user, unsigned events)
{
	if (events & TCP_EVENT_FAILED)
		abort();
	if (side->index == 0 && events & (TCP_EVENT_CONNECTED | TCP_EVENT_WRITABLE))
		write_all(conn);
	if (side->index == 1 && events & TCP_EVENT_READABLE) {
		uint64_t *received = user;
		struct iovec data[4];
		unsigned count;
		size_t len;

		while ((len = tcp_recv_data(conn, data, 4, &count)) > 0) {
			*received += len;
			tcp_recv_consume(conn, len);
		}
	}
}

static void cancelled(struct side *side, struct tcp_conn *conn)
{
	(void)side;
	(void)conn;
}

static uint64_t next_ns(struct world *w)
{
	(void)w;
	return NEVER_NS;
}

static const struct world_app app = { incoming, event, cancelled, next_ns, NULL };

static void dial(struct world *w, unsigned which, enum tcp_congestion congestion)
{
	struct endpoint local = w->side[0].address, remote = w->side[1].address;
	struct tcp_conn *conn;

	local.port = (uint16_t)(40000 + which);
	remote.port = 80;
	w->side[0].tcp->config.congestion = congestion;
	if (tcp_connect(w->side[0].tcp, &local, &remote, NULL, w->now_ns, &conn) < 0)
		abort();
	world_flush(w);
}

static void run_until(struct world *w, uint64_t end_ns)
{
	while (w->now_ns < end_ns && world_step(w))
		;
}

struct scenario {
	uint64_t bits_per_s, rtt_ns, queue_ns, for_ns;
	double least, least_rate; /* share that both must get: two by CUBIC, else; 0: only shown */
};

static bool run(const struct scenario *s, enum tcp_congestion first, enum tcp_congestion second)
{
	static const char *const names[] = { "cubic", "rate" };
	struct link_config there = { .bits_per_s = s->bits_per_s,
				     .delay_ns = s->rtt_ns / 2,
				     .queue_bytes = s->bits_per_s / 8 * s->queue_ns / NS_PER_S };
	struct link_config back = { .bits_per_s = s->bits_per_s, .delay_ns = s->rtt_ns / 2 };
	uint64_t received[2] = { 0, 0 }, before[2], start_ns;
	struct tcp_config config;
	struct world w;
	double share[2], least;

	tcp_config_defaults(&config, 1280);
	world_init(&w, &config, (struct link_config[2]){ there, back }, false, 1);
	w.app = &app;
	w.app_state = received;
	start_ns = w.now_ns;
	dial(&w, 0, first);
	run_until(&w, start_ns + LATER_NS);
	dial(&w, 1, second);
	run_until(&w, start_ns + SETTLE_NS);
	memcpy(before, received, sizeof(before));
	run_until(&w, start_ns + SETTLE_NS + s->for_ns);
	for (unsigned i = 0; i < 2; i++)
		share[i] = (double)(received[i] - before[i]) * 8e9 / (double)s->for_ns /
			   (double)s->bits_per_s;
	printf("%5.0f Mbit/s, %3.0f ms, queue %2.0f ms: %-5s %4.1f %%, then %-5s %4.1f %%\n",
	       (double)s->bits_per_s / 1e6, (double)s->rtt_ns / 1e6, (double)s->queue_ns / 1e6,
	       names[first], share[0] * 100, names[second], share[1] * 100);
	world_finish(&w);
	least = first == TCP_CUBIC && second == TCP_CUBIC ? s->least : s->least_rate;
	if (MIN(share[0], share[1]) >= least)
		return true;
	fprintf(stderr, "sharing: one has less than %.0f %%\n", least * 100);
	return false;
}

int main(int argc, char **argv)
{
	static const struct scenario scenarios[] = {
		{ 50000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 60 * NS_PER_S, 0.33, 0.33 },
		{ 50000000, 20 * NS_PER_MS, 80 * NS_PER_MS, 60 * NS_PER_S, 0.33, 0.33 },
		{ 200000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 60 * NS_PER_S, 0.33, 0.33 },
		{ 200000000, 66 * NS_PER_MS, 20 * NS_PER_MS, 60 * NS_PER_S, 0.33, 0.33 },
		{ 200000000, 200 * NS_PER_MS, 20 * NS_PER_MS, 60 * NS_PER_S, 0.33, 0 },
		{ 1000000000, 20 * NS_PER_MS, 20 * NS_PER_MS, 40 * NS_PER_S, 0.33, 0.3 },
		{ 1000000000, 66 * NS_PER_MS, 20 * NS_PER_MS, 40 * NS_PER_S, 0.33, 0.25 },
	};
	static const enum tcp_congestion pairs[][2] = { { TCP_CUBIC, TCP_CUBIC },
							{ TCP_CUBIC, TCP_RATE },
							{ TCP_RATE, TCP_CUBIC },
							{ TCP_RATE, TCP_RATE } };
	size_t from = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	size_t to = argc > 2 ? strtoul(argv[2], NULL, 10) : ARRAY_LEN(scenarios);
	bool is_good = true;

	for (size_t i = from; i < MIN(to, ARRAY_LEN(scenarios)); i++)
		for (size_t p = 0; p < ARRAY_LEN(pairs); p++)
			is_good &= run(&scenarios[i], pairs[p][0], pairs[p][1]);
	return is_good ? 0 : 1;
}
