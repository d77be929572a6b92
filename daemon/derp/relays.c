/*
 * All relays of the map, and at most one connection to each region.
 *
 * A region is wanted while it is the home, or was written to in the last 60 s. A wanted
 * region without a connection gets one, after a pause that grows with the failures in
 * a row (n^2 x 10 ms, at most 5 s, times 0.5 to 1.5). What is sent while a connection is
 * being made waits in a small queue that drops its oldest datagram; later there is no
 * queue but the stream's own, and blocked() holds the producer back.
 *
 * Back pressure is for queues that move. A relay that has stopped reading would
 * otherwise hold up traffic that has nothing to do with it, so after 100 ms
 * without progress its data is dropped instead, until the queue moves again.
 */
#include "daemon/derp/relays.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <sodium.h>

#include "daemon/derp/client.h"
#include "daemon/derp/copy.h"
#include "daemon/derp/relays_private.h"
#include "daemon/loop.h"
#include "daemon/netmap/types.h"
#include "shared/log.h"

#define IDLE_NS         (60 * NS_PER_S)
#define BACKOFF_UNIT_NS (10 * NS_PER_MS)
#define BACKOFF_MAX_NS  (5 * NS_PER_S)
#define SETTLED_NS      (5 * NS_PER_S) /* a connection that lived so long was a success */
#define RESTART_MAX_MS  5000
#define STALL_NS        (100 * NS_PER_MS)

static void schedule(struct relays *r);

static struct region *find_region(const struct relays *r, int id)
{
	unsigned low = 0, high = r->region_count;

	while (low < high) {
		unsigned at = (low + high) / 2;

		if (r->regions[at]->map->id == id)
			return r->regions[at];
		if (r->regions[at]->map->id < id)
			low = at + 1;
		else
			high = at;
	}
	return NULL;
}

static bool is_wanted(const struct region *g, uint64_t now)
{
	return region_is_home(g) || (g->written_ns != NEVER_USED && now - g->written_ns < IDLE_NS);
}

/* ---- holding back ---- */

static void count_blocked(struct region *g, bool before)
{
	struct relays *r = g->relays;
	bool after = g->is_blocked && !g->is_stalled;

	if (before == after)
		return;
	r->blocked += after ? 1 : -1u;
	if (r->blocked == (after ? 1 : 0) && !r->is_destroyed && r->callbacks.blocked)
		r->callbacks.blocked(r->owner, after);
}

static void set_blocked(struct region *g, bool is_blocked, bool is_stalled)
{
	bool before = g->is_blocked && !g->is_stalled;

	g->is_blocked = is_blocked;
	g->is_stalled = is_blocked && is_stalled;
	count_blocked(g, before);
}

static void look_at_queue(struct region *g, uint64_t now)
{
	uint64_t left = g->committed - derp_client_queued(g->client);

	set_blocked(g, true, left == g->left);
	g->left = left;
	g->looked_ns = now;
}

/* sent: of len bytes; or an error. */
static void count_sent(struct region *g, size_t len, size_t segment_len, long sent)
{
	size_t gone = sent > 0 ? (size_t)sent : 0;
	uint64_t all = (len + segment_len - 1) / segment_len;
	uint64_t count = (gone + segment_len - 1) / segment_len;

	g->status.tx_packets += count;
	g->status.tx_bytes += gone;
	g->status.tx_dropped += all - count;
	g->committed += gone + count * DERP_SEND_EXTRA;
}

static void send_waiting(struct region *g)
{
	while (g->waiting.first) {
		struct waiting_packet *w = g->waiting.first;

		count_sent(g, w->len, w->len,
			   derp_client_send(g->client, &w->to, w->bytes, w->len, w->len));
		waiting_pop(&g->waiting);
	}
}

/* ---- connections ---- */

static void set_sentence(struct region *g, const char *sentence)
{
	snprintf(g->sentence, sizeof(g->sentence), "%s", sentence);
}

static void tell_state(struct region *g, bool is_up)
{
	struct relays *r = g->relays;

	if (r->callbacks.state)
		r->callbacks.state(r->owner, g->map->id, is_up, g->sentence);
}

static void went_up(void *owner)
{
	struct region *g = owner;

	g->up_ns = loop_now(g->relays->loop);
	g->status.connects++;
	g->restart_ms = 0;
	g->was_up = true;
	set_sentence(g, "");
	log_limited(&g->up_gate, g->up_ns, LOG_INFO, "derp: region %d: connected to %s", g->map->id,
		    derp_client_node(g->client));
	send_waiting(g);
	tell_state(g, true);
}

static void close_client(struct region *g)
{
	derp_client_destroy(g->client);
	g->client = NULL;
	g->was_up = false;
	set_blocked(g, false, false);
}

static void set_backoff(struct region *g)
{
	uint64_t n = MIN(g->failures, 64u);
	uint64_t pause = MIN(n * n * BACKOFF_UNIT_NS, BACKOFF_MAX_NS);

	pause = pause / 2 + (uint64_t)randombytes_uniform(1001) * pause / 1000;
	g->retry_ns = loop_now(g->relays->loop) + pause + g->restart_ms * NS_PER_MS;
}

static void went_down(void *owner, const char *sentence)
{
	struct region *g = owner;
	uint64_t now = loop_now(g->relays->loop);
	bool was_up = g->was_up;

	set_sentence(g, sentence);
	if (was_up && now - g->up_ns >= SETTLED_NS)
		g->failures = 0;
	g->failures++;
	g->status.failures++;
	close_client(g);
	if (was_up)
		log_limited(&g->down_gate, now, LOG_INFO, "derp: region %d: %s, connecting again",
			    g->map->id, sentence);
	else
		log_limited(&g->gate, now, LOG_WARN, "derp: region %d: %s", g->map->id, sentence);
	set_backoff(g);
	schedule(g->relays);
	if (was_up || g->failures == 1)
		tell_state(g, false);
}

static void received(void *owner, const struct public_key *from, struct packet *packets,
		     unsigned count)
{
	struct region *g = owner;
	struct relays *r = g->relays;

	for (unsigned i = 0; i < count; i++)
		g->status.rx_bytes += packets[i].len;
	g->status.rx_packets += count;
	r->callbacks.received(r->owner, g->map->id, from, packets, count);
}

static void peer_gone(void *owner, const struct public_key *peer, uint8_t reason)
{
	struct region *g = owner;
	struct relays *r = g->relays;

	if (r->callbacks.peer_gone)
		r->callbacks.peer_gone(r->owner, g->map->id, peer,
				       reason == RELAYS_GONE_NOT_HERE ? RELAYS_GONE_NOT_HERE
								      : RELAYS_GONE_DISCONNECTED);
}

static void health(void *owner, const char *sentence)
{
	struct region *g = owner;

	if (strcmp(sentence, g->sentence) == 0)
		return;
	set_sentence(g, sentence);
	log_limited(&g->gate, loop_now(g->relays->loop), LOG_WARN,
		    "derp: region %d: the relay says: %s", g->map->id,
		    sentence[0] ? sentence : "well again");
	tell_state(g, g->was_up);
}

static void restarting(void *owner, uint32_t wait_ms)
{
	struct region *g = owner;

	g->restart_ms = MIN(wait_ms, RESTART_MAX_MS);
}

static void drained(void *owner)
{
	set_blocked(owner, false, false);
}

static void open_client(struct region *g)
{
	static const struct derp_client_callbacks callbacks = { went_up,  received,   peer_gone,
								health,   restarting, drained,
								went_down };
	struct relays *r = g->relays;

	g->client = derp_client_open(r->loop, r->tls, r->key, g->map, &callbacks, g);
	if (g->client) {
		derp_client_set_preferred(g->client, region_is_home(g));
	} else {
		g->failures++;
		set_backoff(g);
	}
}

/* Opens what is wanted and due, closes what is not; gives when to look again. */
static uint64_t care(struct region *g, uint64_t now)
{
	if (!is_wanted(g, now)) {
		if (g->client) {
			bool was_up = g->was_up;

			log_debug("derp: region %d: idle, closed", g->map->id);
			close_client(g);
			set_sentence(g, "closed, since nothing was sent for a minute");
			if (was_up)
				tell_state(g, false);
		}
		g->status.tx_dropped += waiting_clear(&g->waiting);
		return NEVER_NS;
	}
	if (!g->client && now >= g->retry_ns)
		open_client(g);
	if (!g->client)
		return g->retry_ns;
	if (g->is_blocked && now >= g->looked_ns + STALL_NS)
		look_at_queue(g, now);
	if (g->is_blocked)
		return g->looked_ns + STALL_NS;
	return region_is_home(g) ? NEVER_NS : g->written_ns + IDLE_NS;
}

static void schedule(struct relays *r)
{
	const struct timeval at_once = { 0, 0 };

	r->is_due = true;
	if (!r->is_destroyed)
		evtimer_add(r->timer, &at_once);
}

static void timer_fired(evutil_socket_t fd, short events, void *arg)
{
	struct relays *r = arg;
	uint64_t now = loop_now(r->loop), next = NEVER_NS;

	(void)fd;
	(void)events;
	r->is_due = false;
	for (unsigned i = 0; i < r->region_count && !r->is_destroyed; i++) {
		uint64_t at = care(r->regions[i], now);

		next = MIN(next, at);
	}
	if (!r->is_destroyed && !r->is_due && next != NEVER_NS) {
		uint64_t in = next > now ? next - now : 0;
		const struct timeval tv = { (time_t)(in / NS_PER_S),
					    (suseconds_t)(in % NS_PER_S / NS_PER_US) + 1 };

		evtimer_add(r->timer, &tv);
	}
}

/* ---- the map ---- */

static void free_region(void *arg)
{
	struct region *g = arg;

	g->status.tx_dropped += waiting_clear(&g->waiting);
	free(g->map);
	free(g);
}

/* Its client's callbacks may be running. Where memory is short it leaks. */
static void drop_region(struct region *g)
{
	bool was_up = g->was_up;

	close_client(g);
	if (was_up && !g->relays->is_destroyed) {
		set_sentence(g, "closed, since the map of relays has changed");
		tell_state(g, false);
	}
	loop_defer(g->relays->loop, free_region, g);
}

static struct region *new_region(struct relays *r, const struct derp_region *map)
{
	struct region *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->relays = r;
	g->written_ns = NEVER_USED;
	g->map = derp_region_copy(map);
	if (!g->map) {
		free(g);
		return NULL;
	}
	return g;
}

static int compare_regions(const void *a, const void *b)
{
	const struct region *x = *(struct region *const *)a, *y = *(struct region *const *)b;

	return (x->map->id > y->map->id) - (x->map->id < y->map->id);
}

int relays_set_map(struct relays *r, const struct derp_map *map)
{
	unsigned count = MIN(map->region_count, RELAYS_REGIONS_MAX), old_count = r->region_count;
	struct region **list = calloc(MAX(count, 1), sizeof(struct region *)), **old = r->regions;

	if (!list)
		return -ENOMEM;
	if (count < map->region_count)
		log_warn("derp: the map has %u regions, the first %u are used", map->region_count,
			 count);
	for (unsigned i = 0; i < count; i++) {
		list[i] = new_region(r, &map->regions[i]);
		if (!list[i])
			goto out_of_memory;
	}
	qsort(list, count, sizeof(list[0]), compare_regions);
	/* Regions that are alike stay what they are. */
	for (unsigned i = 0; i < count; i++) {
		struct region *was = find_region(r, list[i]->map->id);

		if (!was || (i > 0 && list[i - 1]->map->id == list[i]->map->id))
			continue;
		if (derp_region_same(was->map, list[i]->map)) {
			free_region(list[i]);
			list[i] = was;
		} else {
			list[i]->written_ns = was->written_ns;
			list[i]->status = was->status;
		}
	}
	r->regions = list;
	r->region_count = count;
	for (unsigned i = 0, k = 0; i < old_count; i++) {
		while (k < count && list[k]->map->id < old[i]->map->id)
			k++;
		if (k == count || list[k] != old[i])
			drop_region(old[i]);
	}
	free(old);
	schedule(r);
	return 0;
out_of_memory:
	for (unsigned i = 0; i < count && list[i]; i++)
		free_region(list[i]);
	free(list);
	return -ENOMEM;
}

void relays_set_home(struct relays *r, int region)
{
	if (r->home == region)
		return;
	r->home = region;
	for (unsigned i = 0; i < r->region_count; i++) {
		struct region *g = r->regions[i];

		if (g->client)
			derp_client_set_preferred(g->client, region_is_home(g));
		if (g->client && !region_is_home(g) && g->written_ns == NEVER_USED)
			g->written_ns =
				loop_now(r->loop); /* the old home may still be written to us */
	}
	schedule(r);
}

/* ---- sending ---- */

static int wait_for_connection(struct region *g, const struct public_key *to, const uint8_t *bytes,
			       size_t len, size_t segment_len)
{
	for (size_t i = 0; i < len; i += segment_len)
		g->status.tx_dropped +=
			waiting_put(&g->waiting, to, bytes + i, MIN(segment_len, len - i));
	if (!g->client)
		schedule(g->relays);
	return 0;
}

int relays_send(struct relays *r, int region, const struct public_key *to, const uint8_t *bytes,
		size_t len, size_t segment_len, bool is_urgent)
{
	struct region *g = find_region(r, region);
	long sent = -ENOBUFS;

	if (!g)
		return -ENOENT;
	if (len == 0 || segment_len == 0 || MIN(len, segment_len) > RELAYS_SEND_MAX)
		return -EMSGSIZE;
	g->written_ns = loop_now(r->loop);
	if (!g->client || !derp_client_is_up(g->client))
		return wait_for_connection(g, to, bytes, len, segment_len);
	if (is_urgent || derp_client_queued(g->client) <= DERP_QUEUE_HIGH)
		sent = derp_client_send(g->client, to, bytes, len, segment_len);
	count_sent(g, len, segment_len, sent);
	if (!g->is_blocked && g->client && derp_client_queued(g->client) > DERP_QUEUE_BLOCK) {
		g->left = g->committed - derp_client_queued(g->client);
		g->looked_ns = g->written_ns;
		set_blocked(g, true, false);
		schedule(r);
	}
	return sent == (long)len ? 0 : -ENOBUFS;
}

void relays_network_changed(struct relays *r)
{
	for (unsigned i = 0; i < r->region_count; i++) {
		struct region *g = r->regions[i];

		if (g->client)
			derp_client_ping(g->client);
		g->failures = 0; /* what failed may work now */
		g->retry_ns = 0;
	}
	schedule(r);
}

/* ---- life ---- */

struct relays *relays_create(struct loop *loop, const struct tls_context *tls,
			     const struct private_key *key,
			     const struct relays_callbacks *callbacks, void *owner)
{
	struct relays *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->loop = loop;
	r->tls = tls;
	r->callbacks = *callbacks;
	r->owner = owner;
	r->key = secret_alloc(sizeof(*r->key));
	r->timer = evtimer_new(loop_base(loop), timer_fired, r);
	if (!r->key || !r->timer) {
		relays_destroy(r);
		return NULL;
	}
	*r->key = *key;
	return r;
}

static void free_relays(void *arg)
{
	struct relays *r = arg;

	free(r->regions);
	free(r);
}

void relays_destroy(struct relays *r)
{
	if (!r || r->is_destroyed)
		return;
	r->is_destroyed = true;
	for (unsigned i = 0; i < r->region_count; i++)
		drop_region(r->regions[i]);
	r->region_count = 0;
	if (r->timer)
		event_free(r->timer);
	r->timer = NULL;
	secret_free(r->key);
	r->key = NULL;
	loop_defer(r->loop, free_relays, r);
}
