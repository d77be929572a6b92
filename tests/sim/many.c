/*
 * What many connections cost: memory and time of idle ones, with and without
 * keepalive, and how many short ones a core opens, uses and closes in a second
 * (both ends). Fails when idle ones take too much. "idle" runs only those.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/util.h"
#include "world.h"

#define IDLE_CONNS  10000u
#define SHORT_CONNS 50000u
#define IDLE_S      240u
#define IDLE_MOST   1e-3 /* CPU seconds in a second, of both ends */

struct many {
	struct tcp_conn **accepted, **dialled;
	unsigned accepted_count, connected, closed;
	bool is_short; /* 64 bytes each way, then closed */
	uint64_t keepalive_ns;
};

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void many_incoming(struct side *side, struct tcp_conn *conn, const struct endpoint *local,
			  const struct endpoint *remote)
{
	struct many *many = side->world->app_state;

	(void)local;
	(void)remote;
	many->accepted[many->accepted_count++] = conn;
	tcp_accept(conn, NULL, side->world->now_ns);
}

static void write_64(struct tcp_conn *conn)
{
	struct iovec space[2];

	if (tcp_send_space(conn, space) < 64)
		abort();
	memset(space[0].iov_base, 'x', 64);
	tcp_send_commit(conn, 64);
}

static size_t read_all(struct tcp_conn *conn)
{
	struct iovec data[2];
	unsigned count;
	size_t len = tcp_recv_data(conn, data, 2, &count);

	tcp_recv_consume(conn, len);
	return len;
}

static void many_event(struct side *side, struct tcp_conn *conn, void *user, unsigned events)
{
	struct many *many = side->world->app_state;

	(void)user;
	if (events & TCP_EVENT_FAILED)
		abort();
	if (events & TCP_EVENT_CONNECTED && side->index == 0) {
		many->connected++;
		write_64(conn);
		tcp_flush(side->tcp, side->world->now_ns);
	}
	if (!(events & TCP_EVENT_READABLE))
		return;
	if (read_all(conn) > 0 && side->index == 1)
		write_64(conn);
	else if (side->index == 0 && many->is_short)
		tcp_release(conn, side->world->now_ns);
	if (side->index == 1 && tcp_recv_ended(conn)) {
		tcp_release(conn, side->world->now_ns);
		many->closed++;
	}
}

static const struct world_app many_app = { .incoming = many_incoming, .event = many_event };

static void dial(struct world *w, unsigned i)
{
	struct many *many = w->app_state;
	struct endpoint local = w->side[0].address, remote = w->side[1].address;

	local.port = (uint16_t)(1024 + i % 60000);
	remote.port = (uint16_t)(1 + i / 60000);
	if (tcp_connect(w->side[0].tcp, &local, &remote, NULL, w->now_ns, &many->dialled[i]) < 0)
		abort();
}

/* All dialled, and what they have to say said. */
static void open_all(struct world *w, unsigned count)
{
	struct many *many = w->app_state;

	for (unsigned i = 0; i < count; i++) {
		dial(w, i);
		if (i % 64 != 63)
			continue;
		/* Not a second goes by: nothing of TIME_WAIT ends meanwhile. */
		for (unsigned k = 0; k < 10; k++)
			world_step(w);
	}
	world_flush(w);
	for (uint64_t end = w->now_ns + NS_PER_S; w->now_ns < end && world_step(w);)
		;
	if (many->connected != count || (many->is_short && many->closed != count))
		abort();
}

/* False: they take more of the processor than they may. memory: before them. */
static bool look_at_idle(struct world *w, unsigned count, size_t memory)
{
	const struct many *many = w->app_state;
	double start, share;
	struct tcp_stats stats;
	unsigned steps = 0;

	link_trim(&w->side[0].link);
	link_trim(&w->side[1].link);
	memory = mallinfo2().uordblks - memory;
	tcp_get_stats(w->side[1].tcp, &stats);
	start = cpu_s();
	for (uint64_t end = w->now_ns + IDLE_S * NS_PER_S; w->now_ns < end && world_step(w);)
		steps++;
	share = (cpu_s() - start) / IDLE_S;
	printf("%u idle connections, keepalive %3llu s: %zu bytes each end, %llu of it buffers; "
	       "%.1f wake-ups and %.4f ms of CPU a second\n",
	       count, (unsigned long long)(many->keepalive_ns / NS_PER_S), memory / count / 2,
	       (unsigned long long)stats.memory / count, (double)steps / IDLE_S, share * 1e3);
	tcp_get_stats(w->side[1].tcp, &stats);
	if (stats.conns != count)
		abort();
	return share <= IDLE_MOST;
}

/* False: too dear. */
static bool run(struct many *many, unsigned count)
{
	struct link_config link = { .delay_ns = 25 * NS_PER_US };
	struct tcp_config config;
	struct world w;
	double start = cpu_s();
	size_t memory = mallinfo2().uordblks;
	bool is_good = true;

	many->accepted = calloc(count + 1, sizeof(*many->accepted));
	many->dialled = calloc(count + 1, sizeof(*many->dialled));
	tcp_config_defaults(&config, 1280);
	config.keepalive_ns = many->keepalive_ns;
	world_init(&w, &config, (struct link_config[2]){ link, link }, false, 1);
	w.app = &many_app;
	w.app_state = many;
	open_all(&w, count);
	if (many->is_short)
		printf("short connections: %.0f a second and core, both ends\n",
		       count / (cpu_s() - start));
	else
		is_good = look_at_idle(&w, count, memory);
	world_finish(&w);
	free(many->accepted);
	free(many->dialled);
	return is_good;
}

int main(int argc, char **argv)
{
	struct many idle = { 0 }, kept = { .keepalive_ns = 60 * NS_PER_S };
	struct many brief = { .is_short = true };
	bool is_good = run(&idle, IDLE_CONNS);

	is_good &= run(&kept, IDLE_CONNS);
	if (argc < 2 || strcmp(argv[1], "idle") != 0)
		is_good &= run(&brief, SHORT_CONNS);
	if (!is_good)
		fprintf(stderr, "many: idle connections take more than %.1f ms a second\n",
			IDLE_MOST * 1e3);
	return is_good ? 0 : 1;
}
