/* Two endpoints, two links, one clock: the loop that the simulator programs share. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/tcp/segment.h"
#include "shared/util.h"

#define BATCH 64

static uint8_t *packet_reserve(void *owner, size_t len)
{
	struct side *side = owner;

	if (len > LINK_PACKET_MAX)
		abort();
	if (side->unblock_ns != NEVER_NS)
		return NULL;
	if (side->batch_max && side->in_batch >= side->batch_max) {
		side->unblock_ns =
			side->world->now_ns + link_random(&side->world->random) % (2 * NS_PER_MS);
		return NULL;
	}
	if (!side->reserved)
		side->reserved = link_packet(&side->link);
	return side->reserved->data;
}

static void trace(const struct side *side, const struct link_packet *packet)
{
	struct tcp_segment s;

	if (tcp_segment_parse(packet->data, packet->len, true, &s) < 0) {
		printf("a packet that is no segment\n");
		return;
	}
	printf("%12.6f %u %5u > %5u %s%s%s%s seq %u ack %u len %u win %u",
	       (double)side->world->now_ns / 1e9 - 1000, side->index, s.key.remote_port,
	       s.key.local_port, s.flags & TCP_SYN ? "S" : "", s.flags & TCP_FIN ? "F" : "",
	       s.flags & TCP_RST ? "R" : "", s.flags & TCP_ACK ? "." : "", s.seq, s.ack, s.len,
	       s.window);
	for (unsigned i = 0; i < s.sack_count; i++)
		printf(" sack %u-%u", s.sack[i].start, s.sack[i].end);
	printf("\n");
}

static void packet_commit(void *owner, size_t len)
{
	struct side *side = owner;
	struct link_packet *packet = side->reserved;

	packet->len = len;
	side->reserved = NULL;
	side->in_batch++;
	if (side->world->is_traced)
		trace(side, packet);
	if (side->strict)
		strict_sent(side->strict, side->tcp, packet->data, len);
	link_send(&side->link, packet, side->world->now_ns);
}

static void incoming(void *owner, struct tcp_conn *conn, const struct endpoint *local,
		     const struct endpoint *remote)
{
	struct side *side = owner;

	side->world->app->incoming(side, conn, local, remote);
}

static void event(void *owner, struct tcp_conn *conn, void *user, unsigned events)
{
	struct side *side = owner;

	side->world->app->event(side, conn, user, events);
}

static void cancelled(void *owner, struct tcp_conn *conn)
{
	struct side *side = owner;

	if (side->world->app->cancelled)
		side->world->app->cancelled(side, conn);
}

void world_init(struct world *w, const struct tcp_config *config,
		const struct link_config links[static 2], bool is_v6, uint64_t seed)
{
	static const struct tcp_callbacks callbacks = { packet_reserve, packet_commit, incoming,
							event, cancelled };
	static const char *const text[2][2] = { { "100.64.0.1", "100.64.0.2" },
						{ "fd7a::1", "fd7a::2" } };

	memset(w, 0, sizeof(*w));
	w->now_ns = 1000 * NS_PER_S;
	w->random = seed;
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &w->side[i];

		side->world = w;
		side->index = i;
		side->unblock_ns = NEVER_NS;
		if (ip_parse(text[is_v6][i], &side->address.addr) < 0)
			abort();
		link_init(&side->link, &links[i], link_random(&w->random));
		side->tcp = tcp_create(config, &callbacks, side);
		if (!side->tcp)
			abort();
	}
}

void world_finish(struct world *w)
{
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &w->side[i];

		tcp_destroy(side->tcp);
		free(side->reserved);
		link_finish(&side->link);
	}
}

void world_flush(struct world *w)
{
	tcp_flush(w->side[0].tcp, w->now_ns);
	tcp_flush(w->side[1].tcp, w->now_ns);
}

static void receive(struct side *side, struct link *from, uint64_t now_ns)
{
	struct link_packet *packet;
	unsigned count = 0;

	while (count++ < BATCH && (packet = link_receive(from, now_ns))) {
		if (side->strict)
			packet->len =
				strict_filter(side->strict, side->tcp, packet->data, packet->len);
		tcp_input(side->tcp, packet->data, packet->len, now_ns);
		link_give_back(from, packet);
	}
	if (count > 1)
		tcp_flush(side->tcp, now_ns);
}

static uint64_t side_next_ns(const struct side *side, const struct link *from)
{
	uint64_t next = MIN(link_next_ns(from), tcp_deadline(side->tcp));

	return MAX(MIN(next, side->unblock_ns), side->awake_ns);
}

static uint64_t app_next_ns(struct world *w)
{
	return w->app->next_ns ? w->app->next_ns(w) : NEVER_NS;
}

static void hiccup(struct world *w)
{
	uint64_t for_ns = link_random(&w->random) % w->hiccup_ns;
	struct side *side = &w->side[link_random(&w->random) % 2];

	side->awake_ns = MAX(side->awake_ns, w->now_ns + for_ns);
	w->next_hiccup_ns = w->now_ns + link_random(&w->random) % (2 * w->hiccup_every_ns);
}

bool world_step(struct world *w)
{
	uint64_t next = app_next_ns(w);

	for (unsigned i = 0; i < 2; i++)
		next = MIN(next, side_next_ns(&w->side[i], &w->side[!i].link));
	if (next == NEVER_NS)
		return false;
	w->now_ns = MAX(w->now_ns, next);
	w->steps++;
	for (unsigned i = 0; i < 2; i++) {
		struct side *side = &w->side[i];
		struct link *from = &w->side[!i].link;

		if (side_next_ns(side, from) > w->now_ns)
			continue;
		receive(side, from, w->now_ns);
		if (side->unblock_ns <= w->now_ns) {
			side->unblock_ns = NEVER_NS;
			side->in_batch = 0;
			tcp_flush(side->tcp, w->now_ns);
		}
		if (tcp_deadline(side->tcp) <= w->now_ns)
			tcp_expire(side->tcp, w->now_ns);
		if (w->nap_ns > 0 && side_next_ns(side, from) > w->now_ns)
			side->awake_ns = w->now_ns + link_random(&w->random) % w->nap_ns;
	}
	if (w->hiccup_ns > 0 && w->now_ns >= w->next_hiccup_ns)
		hiccup(w);
	if (app_next_ns(w) <= w->now_ns) {
		w->app->run(w);
		world_flush(w);
	}
	return true;
}
