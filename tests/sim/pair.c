/*
 * Both write as fast as they may into the same virtual link; the far side reads at once.
 */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/conn.h"
#include "kernel_cubic.h"
#include "shared/util.h"
#include "world.h"

#define SHOW_NS (5 * NS_PER_S)

#define FIRST_PORT 40000u

static void write_all(struct tcp_conn *conn)
{
	struct iovec space[2];
	size_t room;

	while ((room = tcp_send_space(conn, space)) > 0)
		tcp_send_commit(conn, room);
}

const char *const pair_names[] = { "cubic", "rate", "kernel" };

struct pair {
	enum pair_kind kind[2];
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

static const struct world_app app = { .incoming = incoming, .event = event };

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

static double share(const struct pair_path *path, uint64_t bytes, uint64_t in_ns)
{
	return (double)bytes * 8e9 / (double)in_ns / (double)path->bits_per_s;
}

void pair_run(const struct pair_path *path, const enum pair_kind kind[2],
	      const struct pair_times *t, double shares[2], bool is_shown)
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
	w.nap_ns = path->nap_ns;
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
	if (is_shown)
		printf("\n");
	world_finish(&w);
}

void pair_print(const struct pair_path *path, const enum pair_kind kind[2],
		const struct pair_times *t, const double shares[2])
{
	printf("%5.0f Mbit/s, %3.0f ms, queue %2.0f ms: %-6s after %g s %4.1f %%, %-6s after %g s %4.1f %%\n",
	       (double)path->bits_per_s / 1e6, (double)path->rtt_ns / 1e6,
	       (double)path->queue_ns / 1e6, pair_names[kind[0]], (double)t->start_ns[0] / 1e9,
	       shares[0] * 100, pair_names[kind[1]], (double)t->start_ns[1] / 1e9, shares[1] * 100);
}
