/*
 * UDP endpoints: their sockets, their names in the map, their end.
 *
 * An endpoint is bound to (peer's mirror, a port of the daemon's range) and
 * never to the port of the mesh, since that would be in the way of a program's
 * own bind(0.0.0.0:p); the map translates both ways. A program whose socket is
 * IPv6-only reaches a twin on ::1.
 *
 * Nobody tells us when a program is done with UDP. So an endpoint that was idle
 * for long is closed only when no local port that used it is still bound; a program that is
 * connected there would be refused for ever. One that had more users at once than it
 * remembers stays until its place is wanted, where the idle ones go first.
 * Beyond the limit one of the peer that has most goes (fair.h): a peer makes one with each
 * port it asks a server from. Those at mirrors take half of all descriptors at most, those
 * on ::1 a quarter, so that there are some for flows; and where all the ports of a mirror
 * are taken, one there goes, which is the same peer's.
 *
 * When the far side says "port unreachable", the program shall see
 * ECONNREFUSED, and only the kernel can tell it. So an endpoint that just one
 * program uses sulks: its socket is closed for a second, and the kernel
 * itself refuses what the program sends next. Meanwhile the map has no way out
 * for it, so a program that is not connected there asks for one, which wakes
 * it at once; so does a datagram from the far side.
 */
#include "daemon/edge/dgram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <sodium.h>

#include "daemon/dns/dns.h"
#include "daemon/edge/dgram_private.h"
#include "shared/log.h"
#include "shared/util.h"

#define PORT_TRIES     1024 /* at random: enough unless nearly all are ours */
#define PORT_BINDS     64   /* of these, that are not: others have few */
#define RECEIVE_BUFFER (4 << 20)

static struct dgram_kind *kind_of(const struct dgram *d)
{
	return &d->dgrams->kind[d->key.v6only];
}

static uint64_t key_at(const struct endpoint *at)
{
	return map_pack(ip_is_v4(&at->addr) ? ip_v4(&at->addr) : 0, at->port);
}

static enum map_table table_of(const struct dgram *d)
{
	return d->key.v6only ? MAP_UDP_OUT6 : MAP_UDP_OUT;
}

static uint64_t mesh_key(const struct dgram *d)
{
	return map_pack(d->key.mirror, d->key.port);
}

static int publish_way_out(struct dgram *d)
{
	return mapfile_pair_set(d->dgrams->edge->mapfile, table_of(d), mesh_key(d), key_at(&d->at));
}

static void withdraw_way_out(struct dgram *d)
{
	mapfile_pair_remove(d->dgrams->edge->mapfile, table_of(d), mesh_key(d));
}

static int publish(struct dgram *d)
{
	/* The way back first: who finds the way out may be answered at once. */
	int err =
		mapfile_pair_set(d->dgrams->edge->mapfile, MAP_UDP_IN, key_at(&d->at), mesh_key(d));

	return err ? err : publish_way_out(d);
}

static void withdraw(struct dgram *d)
{
	withdraw_way_out(d);
	mapfile_pair_remove(d->dgrams->edge->mapfile, MAP_UDP_IN, key_at(&d->at));
}

/* ---- the socket ---- */

static void close_socket(struct dgram *d)
{
	if (d->has_event)
		event_del(&d->event);
	d->has_event = false;
	if (d->is_paused)
		LIST_REMOVE(d, by_paused);
	d->is_paused = false;
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

static int open_socket(struct dgram *d)
{
	bool v6 = d->key.v6only;
	int one = 1, room = RECEIVE_BUFFER, err = 0;

	d->fd = sock_open(&d->at, SOCK_DGRAM);
	if (d->fd < 0) {
		err = d->fd;
		d->fd = -1;
		return err;
	}
	/* As much as the system allows; refusals of programs come by the error queue. */
	setsockopt(d->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (setsockopt(d->fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_RECVERR : IP_RECVERR, &one,
		       sizeof(one)) != 0 ||
	    (v6 && setsockopt(d->fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) != 0))
		return -errno;
	return 0;
}

static int watch(struct dgram *d)
{
	struct dgrams *all = d->dgrams;

	if (event_assign(&d->event, loop_base(all->edge->loop), d->fd, EV_READ | EV_PERSIST,
			 dgram_event, d) != 0 ||
	    event_add(&d->event, NULL) != 0)
		return -ENOMEM;
	d->has_event = true;
	return 0;
}

/* Is this port of the address one of ours? */
static bool is_ours(const struct dgram *d)
{
	uint32_t addr;
	uint16_t port;

	return map_find_pair(mapfile_map(d->dgrams->edge->mapfile), MAP_UDP_IN,
			     d->key.v6only ? 0 : d->key.mirror, d->at.port, &addr, &port);
}

static int bind_anywhere(struct dgram *d)
{
	struct edge *edge = d->dgrams->edge;
	uint32_t n = randombytes_random();
	int err = -EADDRINUSE;

	for (int i = 0, binds = 0; i < PORT_TRIES && binds < PORT_BINDS && err == -EADDRINUSE;
	     i++) {
		n = n * 1664525u + 1013904223u; /* all over the range, without asking the kernel */
		d->at.port = port_range_at(&edge->ports, n >> 8);
		if (is_ours(d))
			continue;
		err = sock_bind(d->fd, &d->at);
		binds++;
	}
	return err;
}

/* ---- life ---- */

static void set_service(struct dgram *d, bool is_service)
{
	kind_of(d)->service_count += (unsigned)is_service - d->is_service;
	d->is_service = is_service;
}

/* It has left the lists of fair.h. */
static void bury(struct dgram *d)
{
	struct dgrams *all = d->dgrams;

	close_socket(d);
	edge_timer_cancel(&all->edge->timers, &d->timer);
	withdraw(d);
	HASH_DELETE(hh, all->table, d);
	set_service(d, false);
	kind_of(d)->count--;
	d->next_dead = all->dead;
	all->dead = d;
}

static void remove_dgram(struct dgram *d)
{
	fair_leave(&kind_of(d)->fair, &d->fair);
	bury(d);
}

void dgrams_reap(struct dgrams *all)
{
	while (all->dead) {
		struct dgram *d = all->dead;

		all->dead = d->next_dead;
		free(d);
	}
}

unsigned dgram_live_users(struct dgram *d)
{
	unsigned live = 0;

	for (unsigned i = 0; i < d->user_count; i++)
		if (sock_is_bound(&d->user[i], SOCK_DGRAM))
			d->user[live++] = d->user[i];
	d->user_count = live;
	return live;
}

/* Programs count on a name server's endpoint being there, as long as it is one. */
static bool is_wanted_always(const struct dgram *d)
{
	uint32_t mirror;

	return d->is_service && d->key.port == DNS_PORT &&
	       service_find(d->dgrams->edge, &d->remote, &mirror);
}

static void timer_fired(struct edge_timer *timer, uint64_t now_ns)
{
	struct dgram *d = CONTAINER_OF(timer, struct dgram, timer);
	uint64_t idle_ns = DGRAM_IDLE_S * NS_PER_S;

	if (d->fd < 0) {
		(void)dgram_wake(d); /* which says what becomes of it */
		return;
	}
	if (is_wanted_always(d))
		edge_timer_set(&d->dgrams->edge->timers, timer, now_ns + idle_ns);
	else if (now_ns - d->fair.used_ns >= idle_ns && dgram_live_users(d) == 0 &&
		 !d->has_more_users)
		remove_dgram(d);
	else
		edge_timer_set(&d->dgrams->edge->timers, timer,
			       MAX(d->fair.used_ns + idle_ns, now_ns + idle_ns / 4));
}

/* The same port: programs are connected to it. */
static int reopen(struct dgram *d)
{
	int err = open_socket(d);

	if (err == 0)
		err = sock_bind(d->fd, &d->at);
	if (err == 0)
		err = watch(d);
	if (err == 0)
		err = publish_way_out(d);
	if (err)
		close_socket(d);
	return err;
}

static void sulk_for_a_while(struct dgram *d)
{
	edge_timer_set(&d->dgrams->edge->timers, &d->timer,
		       loop_now(d->dgrams->edge->loop) + DGRAM_SULK_MS * NS_PER_MS);
}

int dgram_wake(struct dgram *d)
{
	struct edge *edge = d->dgrams->edge;
	int err = reopen(d);

	if (err == -EMFILE && flows_free_descriptors(&edge->flows))
		err = reopen(d);
	if (err == 0) {
		edge_timer_set(&edge->timers, &d->timer, d->fair.used_ns + DGRAM_IDLE_S * NS_PER_S);
	} else if (err == -EMFILE || err == -ENFILE || err == -ENOBUFS || err == -ENOMEM) {
		sulk_for_a_while(d); /* its programs would be refused for ever */
	} else {
		log_debug("edge: udp: a port is lost: %s", strerror(-err));
		remove_dgram(d);
	}
	return err;
}

void dgram_sulk(struct dgram *d)
{
	withdraw_way_out(d);
	close_socket(d);
	sulk_for_a_while(d);
}

void dgram_used(struct dgram *d, const struct endpoint *user)
{
	fair_used(&kind_of(d)->fair, &d->fair, loop_now(d->dgrams->edge->loop));
	for (unsigned i = 0; i < d->user_count; i++)
		if (endpoint_equal(&d->user[i], user))
			return;
	if (d->user_count == DGRAM_USERS && !d->has_more_users)
		d->has_more_users = dgram_live_users(d) == DGRAM_USERS;
	if (d->user_count < DGRAM_USERS)
		d->user[d->user_count++] = *user;
}

struct dgram *dgram_find(struct dgrams *all, uint32_t mirror, uint16_t port, bool v6only)
{
	struct dgram_key key = { mirror, port, v6only };
	struct dgram *d;

	HASH_FIND(hh, all->table, &key, sizeof(key), d);
	return d;
}

void dgram_drop_unused(struct dgram *d)
{
	/* A program that has asked for it is about to send. */
	if (d->user_count == 0 && !d->is_asked_for)
		remove_dgram(d);
}

static void tell_over_share(struct dgram *d)
{
	char text[IP_TEXT_MAX];

	log_limited(&d->dgrams->share_gate, loop_now(d->dgrams->edge->loop), LOG_WARN,
		    "edge: udp: %s: its peer has the most of %u ports, so its own make way "
		    "for new ones",
		    ip_format(&d->remote.addr, text), kind_of(d)->count);
}

/* One goes; false: there is none that may. */
static bool make_room(struct dgrams *all, struct dgram_kind *kind)
{
	uint64_t now_ns = loop_now(all->edge->loop);
	struct fair_stats before = kind->fair.stats;
	unsigned services = kind->service_count;

	for (;;) {
		struct fair_entry *entry = fair_evict(&kind->fair, now_ns);
		struct dgram *d = entry ? CONTAINER_OF(entry, struct dgram, fair) : NULL;

		if (!d)
			return false;
		if (!is_wanted_always(d)) {
			if (kind->fair.stats.over_share != before.over_share)
				tell_over_share(d);
			bury(d);
			return true;
		}
		/* It is in use all the time. */
		kind->fair.stats = before;
		fair_enter(&kind->fair, entry, NULL, now_ns);
		if (services-- == 0)
			return false;
	}
}

/* Of the peer's at this address the one unused for longest leaves its port. */
static bool take_port(struct dgram_kind *kind, const void *peer, struct endpoint *at)
{
	struct fair_entry *entry;

	TAILQ_FOREACH(entry, fair_list_of(&kind->fair, peer), of_share)
	{
		struct dgram *d = CONTAINER_OF(entry, struct dgram, fair);

		if (!ip_equal(&d->at.addr, &at->addr) || is_wanted_always(d))
			continue;
		*at = d->at;
		kind->fair.stats.evicted++;
		remove_dgram(d);
		return true;
	}
	return false;
}

static int try_open(struct dgram *d, const void *peer)
{
	int err = open_socket(d);

	if (err == 0)
		err = bind_anywhere(d);
	/* A peer that has used up the ports of its mirror. */
	if (err == -EADDRINUSE && take_port(kind_of(d), peer, &d->at))
		err = sock_bind(d->fd, &d->at);
	if (err == 0)
		err = watch(d);
	if (err)
		close_socket(d);
	return err;
}

/* A socket, with a limit kept and, where something is short, one that makes way. */
static int open_for(struct dgrams *all, struct dgram *d, const void *peer)
{
	struct dgram_kind *kind = kind_of(d);
	int err;

	if (kind->count - kind->service_count >= kind->max)
		make_room(all, kind);
	err = try_open(d, peer);
	if (err == -EMFILE && flows_free_descriptors(&all->edge->flows))
		err = try_open(d, peer);
	if ((err == -EMFILE || err == -ENFILE) && make_room(all, kind))
		err = try_open(d, peer);
	return err;
}

static int make(struct dgrams *all, const struct dgram_key *key, const struct endpoint *remote,
		bool is_service, struct dgram **out)
{
	const void *peer = is_service ? NULL : edge_peer_of(all->edge, &remote->addr);
	struct dgram *d = calloc(1, sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	d->dgrams = all;
	d->key = *key;
	d->remote = *remote;
	d->holder = edge_holder_of(all->edge, &remote->addr);
	d->fd = -1;
	d->timer.fired = timer_fired;
	d->at.addr = key->v6only ? (struct ip_addr){ .byte = { [15] = 1 } }
				 : ip_from_v4(key->mirror);
	err = open_for(all, d, peer);
	if (err)
		goto fail;
	HASH_ADD(hh, all->table, key, sizeof(d->key), d);
	if (!d->hh.tbl) {
		err = -ENOMEM;
		goto fail;
	}
	fair_enter(&kind_of(d)->fair, &d->fair, peer, loop_now(all->edge->loop));
	kind_of(d)->count++;
	set_service(d, is_service);
	err = publish(d);
	if (err) {
		remove_dgram(d);
		return err;
	}
	edge_timer_set(&all->edge->timers, &d->timer, d->fair.used_ns + DGRAM_IDLE_S * NS_PER_S);
	*out = d;
	return 0;
fail:
	close_socket(d);
	free(d);
	return err;
}

int dgram_get(struct dgrams *all, const struct endpoint *remote, bool v6only, struct dgram **out)
{
	struct dgram_key key = { 0, remote->port, v6only };
	bool is_service = service_find(all->edge, remote, &key.mirror);

	if (!is_service &&
	    map_to_mirror(mapfile_map(all->edge->mapfile), &remote->addr, &key.mirror) != MAP_PEER)
		return -EHOSTUNREACH;
	*out = dgram_find(all, key.mirror, key.port, v6only);
	if (*out) {
		set_service(*out, is_service);
		return (*out)->fd < 0 ? dgram_wake(*out) : 0;
	}
	return make(all, &key, remote, is_service, out);
}

int dgram_open(struct dgrams *all, const struct endpoint *remote, bool v6only,
	       struct endpoint *mirror)
{
	struct dgram *d;
	uint32_t unused;
	int err = service_find(all->edge, remote, &unused)
			  ? 0
			  : edge_check_peer(all->edge, &remote->addr, &unused);

	if (err)
		return -err;
	dgrams_reap(all);
	err = dgram_get(all, remote, v6only, &d);
	if (err)
		/* No port or descriptor of ours is left: no word that would mislead a program. */
		return err == -EADDRINUSE || err == -EMFILE ? -ENOBUFS : err;
	d->is_asked_for = true;
	*mirror = d->at;
	return 0;
}

void dgram_pause(struct dgram *d)
{
	event_del(&d->event);
	d->is_paused = true;
	LIST_INSERT_HEAD(&d->dgrams->paused, d, by_paused);
}

void dgrams_resume(struct dgrams *all)
{
	struct dgram *d;

	while ((d = LIST_FIRST(&all->paused))) {
		LIST_REMOVE(d, by_paused);
		d->is_paused = false;
		if (event_add(&d->event, NULL) != 0)
			log_err("edge: udp: libevent failed, a port is not read");
	}
}

static unsigned most_endpoints(unsigned part_of_descriptors)
{
	struct rlimit limit;
	rlim_t most = DGRAMS_MAX;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		most = MIN(most, limit.rlim_cur / part_of_descriptors);
	return (unsigned)MAX(most, (rlim_t)1);
}

struct dgrams *dgrams_create(struct edge *edge)
{
	struct dgrams *all = calloc(1, sizeof(*all));
	uint8_t secret[16];

	if (!all)
		return NULL;
	randombytes_buf(secret, sizeof(secret));
	for (unsigned i = 0; i < ARRAY_LEN(all->kind); i++)
		fair_init(&all->kind[i].fair, secret);
	all->kind[0].max = most_endpoints(2);
	/* So that free ports of ::1 are found quickly. */
	all->kind[1].max = MIN(most_endpoints(4), (edge->ports.last - edge->ports.first) * 3u / 4);
	all->edge = edge;
	all->kept_end = &all->kept;
	LIST_INIT(&all->paused);
	all->retry.fired = dgram_retry;
	return all;
}

void dgrams_destroy(struct dgrams *all)
{
	struct fair_entry *newest;

	if (!all)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(all->kind); i++)
		while ((newest = fair_newest(&all->kind[i].fair)))
			remove_dgram(CONTAINER_OF(newest, struct dgram, fair));
	dgrams_reap(all);
	dgram_drop_kept(all);
	edge_timer_cancel(&all->edge->timers, &all->retry);
	dgram_forget_routes(all);
	free(all);
}

bool dgrams_leave_gone_peers(struct dgrams *all, bool at_once)
{
	bool are_missed = false;
	struct dgram *d, *next;

	HASH_ITER(hh, all->table, d, next)
	{
		bool is_over = at_once || d->is_missed;

		d->is_missed = !d->is_service &&
			       edge_holder_of(all->edge, &d->remote.addr) != d->holder;
		if (d->is_missed && is_over)
			remove_dgram(d);
		else if (d->is_missed)
			are_missed = true;
	}
	dgrams_reap(all);
	return are_missed;
}

void dgrams_keep_mirrors(const struct dgrams *all, struct plan *plan)
{
	for (const struct dgram *d = all->table; d; d = d->hh.next)
		plan_keep(plan, d->key.mirror);
}

unsigned dgrams_count(const struct dgrams *all)
{
	unsigned count = 0;

	for (unsigned i = 0; i < ARRAY_LEN(all->kind); i++)
		count += all->kind[i].count - all->kind[i].service_count;
	return count;
}

uint64_t dgrams_ignored(const struct dgrams *all)
{
	return all->ignored;
}

void dgrams_get_evicted(const struct dgrams *all, uint64_t *evicted, uint64_t *over_share)
{
	*evicted = *over_share = 0;
	for (unsigned i = 0; i < ARRAY_LEN(all->kind); i++) {
		*evicted += all->kind[i].fair.stats.evicted;
		*over_share += all->kind[i].fair.stats.over_share;
	}
}
