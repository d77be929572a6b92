/*
 * Two bulk flows through one virtual bottleneck, by CUBIC and by rate: what
 * share of the link each gets. The later flow starts two seconds after the
 * first; what counts is the time after the first ten seconds. Then one of ours
 * beside the model of the kernel's CUBIC, whoever comes first.
 *
 *     sharing [FROM [TO] | kernel [all]]    cases of the table, or those with the kernel's
 *     sharing MBIT_S RTT_MS QUEUE_MS A B A_AT_S B_AT_S FROM_S TO_S    one that is only shown
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"
#include "kernel_cubic.h"
#include "shared/util.h"
#include "world.h"

#define LATER_NS  (2 * NS_PER_S)
#define SETTLE_NS (10 * NS_PER_S)
#define SHOW_NS   (5 * NS_PER_S)

#define FIRST_PORT 40000u

static void write_all(struct tcp_conn *conn)
{
	struct iovec space[2];
	size_t room;

	while ((room = tcp_send_space(conn, space)) > 0)
		tcp_send_commit(conn, room);
}

enum kind { CUBIC, RATE, KERNEL };

static const char *const names[] = { "cubic", "rate", "kernel" };

struct pair {
	enum kind kind[2];
	uint64_t received[2];
};

static unsigned which_of(uint16_t port)
{
	return port - FIRST_PORT;
}

static void incoming(struct side *side, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	struct pair *pair = side->world->app_state;

	(void)local;
	tcp_accept(conn, &pair->received[which_of(remote->port)], side->world->now_ns);
}

static void event(struct side *side, struct tcp_conn *conn, void *user, unsigned events)
{
	const struct pair *pair = side->world->app_state;

	if (events & TCP_EVENT_FAILED)
		abort();
	if (side->index == 0 && events & TCP_EVENT_CONNECTED &&
	    pair->kind[which_of(conn->flow.key.local_port)] == KERNEL)
		kernel_cubic_use(conn);
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

static void dial(struct world *w, unsigned which)
{
	const struct pair *pair = w->app_state;
	struct endpoint local = w->side[0].address, remote = w->side[1].address;
	struct tcp_conn *conn;

	local.port = (uint16_t)(FIRST_PORT + which);
	remote.port = 80;
	w->side[0].tcp->config.congestion = pair->kind[which] == RATE ? TCP_RATE : TCP_CUBIC;
	if (tcp_connect(w->side[0].tcp, &local, &remote, NULL, w->now_ns, &conn) < 0)
		abort();
	world_flush(w);
}

static void run_until(struct world *w, uint64_t end_ns)
{
	while (w->now_ns < end_ns && world_step(w))
		;
}

struct path {
	uint64_t bits_per_s, rtt_ns, queue_ns;
};

struct times {
	uint64_t start_ns[2], from_ns, to_ns; /* what counts is between the last two */
};

static double share(const struct path *path, uint64_t bytes, uint64_t in_ns)
{
	return (double)bytes * 8e9 / (double)in_ns / (double)path->bits_per_s;
}

static void run(const struct path *path, const enum kind kind[2], const struct times *t,
		double shares[2], bool is_shown)
{
	struct link_config there = { .bits_per_s = path->bits_per_s,
				     .delay_ns = path->rtt_ns / 2,
				     .queue_bytes =
					     path->bits_per_s / 8 * path->queue_ns / NS_PER_S };
	struct link_config back = { .bits_per_s = path->bits_per_s, .delay_ns = path->rtt_ns / 2 };
	unsigned first = t->start_ns[1] < t->start_ns[0];
	struct pair pair = { .kind = { kind[0], kind[1] } };
	struct tcp_config config;
	uint64_t start_ns, forgotten[2], shown[2];
	struct world w;

	tcp_config_defaults(&config, 1280);
	world_init(&w, &config, (struct link_config[2]){ there, back }, false, 1);
	w.app = &app;
	w.app_state = &pair;
	start_ns = w.now_ns;
	run_until(&w, start_ns + t->start_ns[first]);
	dial(&w, first);
	run_until(&w, start_ns + t->start_ns[!first]);
	dial(&w, !first);
	run_until(&w, start_ns + t->from_ns);
	memcpy(forgotten, pair.received, sizeof(forgotten));
	for (uint64_t at = t->from_ns; at < t->to_ns; at += SHOW_NS) {
		memcpy(shown, pair.received, sizeof(shown));
		run_until(&w, start_ns + MIN(at + SHOW_NS, t->to_ns));
		if (is_shown)
			printf(" %.0f:%.0f",
			       share(path, pair.received[0] - shown[0], SHOW_NS) * 100,
			       share(path, pair.received[1] - shown[1], SHOW_NS) * 100);
	}
	for (unsigned i = 0; i < 2; i++)
		shares[i] = share(path, pair.received[i] - forgotten[i], t->to_ns - t->from_ns);
	printf("%s%5.0f Mbit/s, %3.0f ms, queue %2.0f ms: %-6s after %g s %4.1f %%, %-6s after %g s %4.1f %%\n",
	       is_shown ? "\n" : "", (double)path->bits_per_s / 1e6, (double)path->rtt_ns / 1e6,
	       (double)path->queue_ns / 1e6, names[kind[0]], (double)t->start_ns[0] / 1e9,
	       shares[0] * 100, names[kind[1]], (double)t->start_ns[1] / 1e9, shares[1] * 100);
	world_finish(&w);
}

static bool is_fair(const double shares[2], double least)
{
	if (MIN(shares[0], shares[1]) >= least)
		return true;
	fprintf(stderr, "sharing: one has less than %.0f %%\n", least * 100);
	return false;
}

struct scenario {
	struct path path;
	uint64_t for_ns;
	double least, least_rate; /* share that both must get: two by CUBIC, else; 0: only shown */
};

static const struct scenario scenarios[] = {
	{ { 50000000, 20 * NS_PER_MS, 20 * NS_PER_MS }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 50000000, 20 * NS_PER_MS, 80 * NS_PER_MS }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 200000000, 20 * NS_PER_MS, 20 * NS_PER_MS }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 200000000, 66 * NS_PER_MS, 20 * NS_PER_MS }, 60 * NS_PER_S, 0.33, 0.33 },
	{ { 200000000, 200 * NS_PER_MS, 20 * NS_PER_MS }, 60 * NS_PER_S, 0.33, 0 },
	{ { 1000000000, 20 * NS_PER_MS, 20 * NS_PER_MS }, 40 * NS_PER_S, 0.33, 0.3 },
	{ { 1000000000, 66 * NS_PER_MS, 20 * NS_PER_MS }, 40 * NS_PER_S, 0.33, 0.25 },
};

static bool run_ours(size_t from, size_t to)
{
	static const enum kind pairs[][2] = {
		{ CUBIC, CUBIC }, { CUBIC, RATE }, { RATE, CUBIC }, { RATE, RATE }
	};
	bool is_good = true;

	for (size_t i = from; i < MIN(to, ARRAY_LEN(scenarios)); i++) {
		const struct scenario *s = &scenarios[i];
		const struct times t = { { 0, LATER_NS }, SETTLE_NS, SETTLE_NS + s->for_ns };

		for (size_t p = 0; p < ARRAY_LEN(pairs); p++) {
			double shares[2];

			run(&s->path, pairs[p], &t, shares, false);
			is_good &= is_fair(shares, p == 0 ? s->least : s->least_rate);
		}
	}
	return is_good;
}

/*
 * Our CUBIC beside the kernel's, whoever comes first. A start that others have cut needs up to 20 s
 * on the longest path, as it does beside the kernel's own; what counts is the minute after these.
 */
static bool run_kernel(bool is_all)
{
	static const struct {
		struct path path;
		double least; /* of the worst of the starts */
	} beside[] = {
		{ { 50000000, 20 * NS_PER_MS, 20 * NS_PER_MS }, 0.33 },
		{ { 50000000, 66 * NS_PER_MS, 20 * NS_PER_MS }, 0.33 },
		{ { 50000000, 200 * NS_PER_MS, 20 * NS_PER_MS }, 0.33 },
		{ { 200000000, 20 * NS_PER_MS, 20 * NS_PER_MS }, 0.33 },
		{ { 200000000, 66 * NS_PER_MS, 20 * NS_PER_MS }, 0.32 },
		{ { 200000000, 200 * NS_PER_MS, 20 * NS_PER_MS }, 0.33 },
		{ { 1000000000, 20 * NS_PER_MS, 20 * NS_PER_MS }, 0.27 },
		{ { 1000000000, 66 * NS_PER_MS, 20 * NS_PER_MS }, 0.33 },
	};
	static const uint64_t starts_s[][2] = { { 0, 0 }, { 0, 2 }, { 0, 5 }, { 2, 0 }, { 5, 0 } };
	static const enum kind kind[2] = { CUBIC, KERNEL };
	size_t count = is_all ? ARRAY_LEN(beside) : 6;
	bool is_good = true;

	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < ARRAY_LEN(starts_s); k++) {
			uint64_t ours_ns = starts_s[k][0] * NS_PER_S;
			uint64_t other_ns = starts_s[k][1] * NS_PER_S;
			uint64_t from_ns = MAX(ours_ns, other_ns) + 20 * NS_PER_S;
			double shares[2];

			run(&beside[i].path, kind,
			    &(struct times){
				    { ours_ns, other_ns }, from_ns, from_ns + 60 * NS_PER_S },
			    shares, false);
			is_good &= is_fair(shares, beside[i].least);
		}
	return is_good;
}

static enum kind kind_of(const char *name)
{
	for (enum kind k = CUBIC; k <= KERNEL; k++)
		if (strcmp(names[k], name) == 0)
			return k;
	fprintf(stderr, "sharing: %s is none of cubic, rate and kernel\n", name);
	exit(2);
}

static void show(char **argv)
{
	const struct path path = { strtoull(argv[1], NULL, 10) * 1000000,
				   strtoull(argv[2], NULL, 10) * NS_PER_MS,
				   strtoull(argv[3], NULL, 10) * NS_PER_MS };
	const enum kind kind[2] = { kind_of(argv[4]), kind_of(argv[5]) };
	uint64_t at[4];
	double shares[2];

	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint64_t)(strtod(argv[6 + i], NULL) * 1e9);
	run(&path, kind, &(struct times){ { at[0], at[1] }, at[2], at[3] }, shares, true);
}

int main(int argc, char **argv)
{
	if (argc == 10) {
		show(argv);
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "kernel") == 0)
		return run_kernel(argc > 2) ? 0 : 1;
	return run_ours(argc > 1 ? strtoul(argv[1], NULL, 10) : 0,
			argc > 2 ? strtoul(argv[2], NULL, 10) : SIZE_MAX)
		       ? 0
		       : 1;
}
