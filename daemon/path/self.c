/*
 * This node as others see it: own endpoints, STUN, home region.
 *
 * An address that STUN showed stays advertised for some minutes after it was last
 * seen, since a NAT forgets no faster than that; when the network changes it goes
 * at once. Local addresses follow. The owner hears of a change only if the set
 * changed, or what NetInfo says: each telling is a message to control and from
 * there to every peer.
 *
 * STUN runs while any peer is spoken to, so that the mapping is fresh when a
 * call-me-maybe wants it, and not otherwise. A home without a connection is
 * given some seconds; then a report looks for another.
 */
#include <errno.h>
#include <string.h>

#include <sodium.h>

#include "daemon/path/private.h"

/* ---- own endpoints ---- */

static void add_self(struct paths *paths, const struct endpoint *ep, enum paths_endpoint_type type)
{
	for (unsigned i = 0; i < paths->self_count; i++) {
		if (endpoint_equal(&paths->self[i].endpoint, ep))
			return;
	}
	if (paths->self_count < PATHS_SELF_MAX)
		paths->self[paths->self_count++] = (struct paths_endpoint){ *ep, type };
}

static bool is_hard_nat(const struct paths *paths)
{
	return netcheck_last(paths->netcheck)->mapping_varies == NETCHECK_YES;
}

static void build_self(struct paths *paths, uint64_t now_ns)
{
	const struct endpoint *global = &netcheck_last(paths->netcheck)->global_v4;

	paths->self_count = 0;
	for (unsigned i = 0; i < paths->seen_count; i++) {
		if (now_ns - paths->seen[i].at_ns < ENDPOINT_KEEP_NS)
			add_self(paths, &paths->seen[i].endpoint, PATHS_EP_STUN);
	}
	/* A port that is forwarded by hand shows in no mapping. */
	if (is_hard_nat(paths) && paths->has_fixed_port && global->port) {
		struct endpoint ep = { global->addr, paths->udp_port };

		add_self(paths, &ep, PATHS_EP_STUN_LOCAL_PORT);
	}
	for (unsigned i = 0; i < paths->local_count; i++) {
		struct endpoint ep = { paths->local[i], paths->udp_port };

		add_self(paths, &ep, PATHS_EP_LOCAL);
	}
}

static bool is_same_set(const struct paths *paths, const struct paths_endpoint *old, unsigned count)
{
	unsigned same = 0;

	for (unsigned i = 0; i < count; i++) {
		for (unsigned k = 0; k < paths->self_count; k++)
			same += old[i].type == paths->self[k].type &&
				endpoint_equal(&old[i].endpoint, &paths->self[k].endpoint);
	}
	return same == count && count == paths->self_count;
}

/* Rebuilds the list. True when it is another set than before. */
static bool refresh_self(struct paths *paths, uint64_t now_ns)
{
	struct paths_endpoint old[PATHS_SELF_MAX];
	unsigned count = paths->self_count;

	memcpy(old, paths->self, sizeof(old));
	build_self(paths, now_ns);
	return !is_same_set(paths, old, count);
}

/* Newest first; the one seen longest ago makes room. */
static void see(struct paths *paths, const struct endpoint *ep, unsigned place, uint64_t now_ns)
{
	unsigned i = 0;

	while (i < paths->seen_count && !endpoint_equal(&paths->seen[i].endpoint, ep))
		i++;
	if (i == paths->seen_count && paths->seen_count < STUN_SEEN_MAX)
		paths->seen_count++;
	i = MIN(i, STUN_SEEN_MAX - 1);
	place = MIN(place, i);
	memmove(&paths->seen[place + 1], &paths->seen[place], (i - place) * sizeof(paths->seen[0]));
	paths->seen[place] = (struct stun_seen){ *ep, now_ns };
}

static void see_all(struct paths *paths, uint64_t now_ns)
{
	struct endpoint mapped[STUN_SEEN_MAX];
	unsigned count = netcheck_mapped(paths->netcheck, mapped, STUN_SEEN_MAX);

	for (unsigned i = 0; i < count; i++)
		see(paths, &mapped[i], i, now_ns);
}

unsigned self_endpoints(const struct paths *paths, struct endpoint *out, unsigned max)
{
	unsigned count = MIN(paths->self_count, max);

	for (unsigned i = 0; i < count; i++)
		out[i] = paths->self[i].endpoint;
	return count;
}

unsigned paths_self(const struct paths *paths, struct paths_endpoint *out, unsigned max)
{
	unsigned count = MIN(paths->self_count, max);

	memcpy(out, paths->self, count * sizeof(*out));
	return count;
}

const struct netcheck_report *paths_report(const struct paths *paths)
{
	return netcheck_last(paths->netcheck);
}

int paths_home(const struct paths *paths)
{
	return netcheck_home(paths->netcheck);
}

/* ---- STUN ---- */

bool self_stun_is_fresh(const struct paths *paths, uint64_t now_ns)
{
	return paths->stun_ns != 0 && now_ns - paths->stun_ns <= STUN_FRESH_NS;
}

void self_doubt_stun(struct paths *paths, uint64_t now_ns)
{
	if (now_ns - paths->stun_ns >= STUN_DOUBT_NS)
		paths->stun_ns = 0;
}

/* Calls that waited for our address to be known. */
static void send_pending_calls(struct paths *paths, uint64_t now_ns)
{
	struct path_peer *peer, *next;

	paths->stun_ns = now_ns;
	HASH_ITER(hh, paths->peers, peer, next)
	{
		if (peer->is_call_pending)
			peer_send_call(paths, peer, now_ns);
	}
}

void self_stun_received(struct paths *paths, const struct endpoint *from, const uint8_t *bytes,
			size_t len, uint64_t now_ns)
{
	bool was_running = netcheck_is_running(paths->netcheck);

	paths->stats.stun_rx++;
	if (!netcheck_received(paths->netcheck, from, bytes, len, now_ns))
		return;
	/* The end of the report tells it all; until then whoever waits is told what is known. */
	if (!was_running || !netcheck_is_running(paths->netcheck) ||
	    self_stun_is_fresh(paths, now_ns))
		return;
	see_all(paths, now_ns);
	refresh_self(paths, now_ns);
	paths->is_self_untold = true;
	send_pending_calls(paths, now_ns);
}

static void answer_netchecks(struct paths *paths, const struct netcheck_report *report)
{
	unsigned count = paths->netcheck_count;

	paths->netcheck_count = 0;
	for (unsigned i = 0; i < count; i++)
		paths->callbacks.netcheck(paths->owner, paths->netchecks[i], report);
}

void self_restun(struct paths *paths, bool is_full, uint64_t now_ns)
{
	if (netcheck_is_running(paths->netcheck))
		return;
	paths->next_stun_ns =
		now_ns + STUN_MIN_NS +
		randombytes_uniform((uint32_t)(STUN_SPREAD_NS / NS_PER_MS)) * NS_PER_MS;
	/* Without a relay map there is nobody to ask: what is known must do for callers. */
	if (netcheck_start(paths->netcheck, is_full, now_ns) == -ENOENT) {
		paths->stun_ns = now_ns;
		answer_netchecks(paths, netcheck_last(paths->netcheck));
	}
}

void self_watch_home(struct paths *paths, uint64_t now_ns)
{
	int home = paths_home(paths);

	if (home == 0 || paths_relay_is_up(paths, home))
		paths->home_patience_ns = NEVER_NS;
	else if (paths->home_patience_ns == NEVER_NS || home != paths->watched_home)
		paths->home_patience_ns = now_ns + HOME_PATIENCE_NS;
	paths->watched_home = home;
}

static void report_done(void *owner, const struct netcheck_report *report)
{
	struct paths *paths = owner;
	uint64_t now_ns = paths->now_ns;
	bool is_news;

	if (report->has_udp)
		see_all(paths, now_ns);
	is_news = refresh_self(paths, now_ns) || paths->is_self_untold ||
		  report->has_udp != paths->told_udp ||
		  report->mapping_varies != paths->told_varies;
	paths->is_self_untold = false;
	paths->told_udp = report->has_udp;
	paths->told_varies = report->mapping_varies;
	if (report->preferred != paths->told_home) {
		is_news = true;
		paths->told_home = report->preferred;
		paths->callbacks.home_changed(paths->owner, report->preferred);
	}
	self_watch_home(paths, now_ns);
	send_pending_calls(paths, now_ns);
	if (report->is_full)
		answer_netchecks(paths, report);
	if (is_news)
		paths->is_news = true;
}

static void probe(void *owner, const struct endpoint *to, const uint8_t *bytes, size_t len)
{
	struct paths *paths = owner;

	paths->callbacks.send_udp(paths->owner, to, bytes, len, len);
}

static void resolve(void *owner, const char *host, uint64_t token)
{
	struct paths *paths = owner;

	paths->callbacks.resolve(paths->owner, host, token);
}

static void measure(void *owner, int region, uint64_t token)
{
	struct paths *paths = owner;

	paths->callbacks.measure_https(paths->owner, region, token);
}

int self_start(struct paths *paths)
{
	struct netcheck_callbacks callbacks = { probe, resolve,
						paths->callbacks.measure_https ? measure : NULL,
						report_done };

	paths->netcheck = netcheck_create(&callbacks, paths);
	paths->next_stun_ns = paths->home_patience_ns = NEVER_NS;
	return paths->netcheck ? 0 : -ENOMEM;
}

/* ---- what the owner says ---- */

/* The one callback that may call us back, so it comes last in every entry. */
void self_tell(struct paths *paths)
{
	if (!paths->is_news)
		return;
	paths->is_news = false;
	paths->callbacks.self_changed(paths->owner);
}

void paths_set_local(struct paths *paths, const struct ip_addr *addrs, unsigned count,
		     uint64_t now_ns)
{
	bool has_v4 = false, has_v6 = false;

	paths->now_ns = now_ns;
	paths->local_count = MIN(count, PATHS_SELF_MAX);
	memcpy(paths->local, addrs, paths->local_count * sizeof(*addrs));
	paths->has_loopback = false;
	for (unsigned i = 0; i < paths->local_count; i++) {
		const struct ip_addr *ip = &paths->local[i];

		has_v4 |= ip_is_v4(ip);
		has_v6 |= !ip_is_v4(ip) && (ip->byte[0] != 0xfe || (ip->byte[1] & 0xc0) != 0x80);
		paths->has_loopback |= ip_is_loopback(ip);
	}
	netcheck_set_families(paths->netcheck, has_v4, has_v6);
	if (refresh_self(paths, now_ns))
		paths->is_news = true;
	if (netcheck_last_ns(paths->netcheck) == 0)
		self_restun(paths, true, now_ns);
	self_tell(paths);
}

void paths_network_changed(struct paths *paths, uint64_t now_ns)
{
	struct path_peer *peer, *next;

	paths->now_ns = now_ns;
	paths->seen_count = 0;
	paths->stun_ns = 0;
	netcheck_network_changed(paths->netcheck);
	self_restun(paths, true, now_ns);
	HASH_ITER(hh, paths->peers, peer, next)
	{
		peer_clear_best(paths, peer);
		peer_forget_throttles(peer);
		peer->last_call_ns = 0;
		if (peer_is_active(peer, now_ns))
			peer_full_ping(paths, peer, now_ns);
	}
	if (refresh_self(paths, now_ns))
		paths->is_news = true;
	self_tell(paths);
}

void paths_set_connected_to_control(struct paths *paths, bool is_connected)
{
	netcheck_set_connected(paths->netcheck, is_connected);
}

int paths_set_derp_map(struct paths *paths, const struct derp_map *map, uint64_t now_ns)
{
	int err;

	paths->now_ns = now_ns;
	err = netcheck_set_map(paths->netcheck, map);
	if (err < 0)
		return err;
	self_restun(paths, true, now_ns);
	self_tell(paths);
	return 0;
}

void paths_resolved(struct paths *paths, uint64_t token, const struct ip_addr *addrs,
		    unsigned count, uint64_t now_ns)
{
	netcheck_resolved(paths->netcheck, token, addrs, count, now_ns);
}

void paths_https_measured(struct paths *paths, uint64_t token, uint64_t latency_ns, uint64_t now_ns)
{
	paths->now_ns = now_ns;
	netcheck_measured(paths->netcheck, token, latency_ns, now_ns);
	self_tell(paths);
}

int paths_netcheck(struct paths *paths, uint32_t ticket, uint64_t now_ns)
{
	int err;

	if (paths->netcheck_count == TICKETS_MAX)
		return -EAGAIN;
	paths->now_ns = now_ns;
	paths->netchecks[paths->netcheck_count++] = ticket;
	err = netcheck_start(paths->netcheck, true, now_ns);
	/* One that runs is waited for; self_expire() starts a full one then. */
	if (err < 0 && err != -EALREADY) {
		paths->netcheck_count--;
		return err;
	}
	self_tell(paths);
	return 0;
}

/* ---- time ---- */

static bool wants_stun(const struct paths *paths, uint64_t now_ns)
{
	const struct path_peer *peer;

	if (paths->netcheck_count > 0)
		return true;
	TAILQ_FOREACH(peer, &paths->ticking, tick)
	{
		if (peer_is_active(peer, now_ns))
			return true;
	}
	return !netcheck_last(paths->netcheck)->has_udp &&
	       now_ns >= netcheck_last_ns(paths->netcheck) + STUN_RETRY_NS;
}

uint64_t self_deadline(const struct paths *paths)
{
	uint64_t ns = netcheck_deadline(paths->netcheck);

	if (netcheck_is_running(paths->netcheck))
		return ns;
	return paths->netcheck_count > 0 ? 0 : MIN(paths->next_stun_ns, paths->home_patience_ns);
}

void self_expire(struct paths *paths, uint64_t now_ns)
{
	if (now_ns >= netcheck_deadline(paths->netcheck))
		netcheck_expire(paths->netcheck, now_ns);
	if (netcheck_is_running(paths->netcheck))
		return;
	if (paths->netcheck_count > 0)
		self_restun(paths, true, now_ns);
	if (now_ns >= paths->home_patience_ns) {
		paths->home_patience_ns = now_ns + HOME_AGAIN_NS;
		netcheck_home_lost(paths->netcheck, now_ns);
		self_restun(paths, true, now_ns);
	}
	if (now_ns < paths->next_stun_ns)
		return;
	if (wants_stun(paths, now_ns))
		self_restun(paths, false, now_ns);
	else
		paths->next_stun_ns = now_ns + STUN_MIN_NS;
	if (refresh_self(paths, now_ns))
		paths->is_news = true;
}
