/*
 * Reports.
 *
 * A report is a set of probe series, one for each region and family that is
 * worth asking: the tries of a series go out one after another, to the region's
 * nodes in turn, until one is answered. A full report asks every region, a quick
 * one the few fastest and home. It ends when every series has an answer or no
 * hope, soon after three regions have answered, and after three seconds at the
 * latest; when UDP brought nothing at all, the regions are measured over HTTPS
 * for another two.
 *
 * Two IPv4 answers from different servers are needed to know whether the NAT in
 * front maps by destination, so a full report goes on with IPv4 tries to a
 * region's other nodes while that is open.
 *
 * Nodes without an address in the map are looked up by the owner; their tries
 * wait for the answer. Transaction ids are the proof that an answer is one, and
 * each counts once.
 */
#include "daemon/path/netcheck.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <sodium.h>

#include "daemon/path/netcheck_private.h"
#include "shared/util.h"

#define FULL_TRIES     3
#define FULL_GAP_NS    (100 * NS_PER_MS)
#define UNKNOWN_GAP_NS (200 * NS_PER_MS)
#define STUN_MAX_NS    (3 * NS_PER_S)
#define REPORT_MAX_NS  (5 * NS_PER_S)
#define FULL_EVERY_NS  (5 * 60 * NS_PER_S)
#define HEARD_NS       (120 * NS_PER_S)
#define ENOUGH_REGIONS 3
#define QUICK_REGIONS  3
#define HTTPS_MAX      16              /* regions measured over HTTPS in a report */
#define LATENCY_MAX_NS (10 * NS_PER_S) /* what a relay may claim */

/* ---- the end of a report ---- */

static void choose_home(struct netcheck *nc, uint64_t now_ns)
{
	bool is_heard = nc->heard_region == nc->home && nc->heard_ns != 0 &&
			now_ns - nc->heard_ns <= HEARD_NS;
	int home = home_choose(nc->homes, nc->region_count, nc->home, is_heard,
			       randombytes_random(), now_ns);

	/* Nobody would learn of it: peers go on looking for us at the old one. */
	if (nc->is_connected || nc->home == 0)
		nc->home = home;
}

static void finish(struct netcheck *nc, uint64_t now_ns)
{
	struct netcheck_report *r = &nc->current;

	nc->is_running = nc->is_measuring = false;
	nc->generation++;
	for (unsigned i = 0; i < nc->region_count; i++)
		nc->homes[i].latency_ns = 0;
	for (unsigned k = 0; k < r->region_count; k++) {
		for (unsigned i = 0; i < nc->region_count; i++) {
			if (nc->homes[i].id == r->region[k].region)
				home_region_measured(&nc->homes[i], r->region[k].best_ns, now_ns);
		}
	}
	choose_home(nc, now_ns);
	r->preferred = nc->home;
	/* A quick report asks too few to see what the full one saw. */
	if (r->mapping_varies == NETCHECK_UNKNOWN && !r->is_full && r->has_ipv4 &&
	    endpoint_equal(&r->global_v4, &nc->last.global_v4))
		r->mapping_varies = nc->last.mapping_varies;
	nc->last = *r;
	nc->last_ns = now_ns;
	if (r->is_full)
		nc->last_full_ns = now_ns;
	nc->callbacks.done(nc->owner, &nc->last);
}

static struct netcheck_region_latency *latency_of(struct netcheck *nc, unsigned region)
{
	struct netcheck_report *r = &nc->current;
	int id = nc->homes[region].id;

	for (unsigned i = 0; i < r->region_count; i++) {
		if (r->region[i].region == id)
			return &r->region[i];
	}
	assert(r->region_count < NETCHECK_REGIONS_MAX);
	r->region[r->region_count] = (struct netcheck_region_latency){ .region = id };
	return &r->region[r->region_count++];
}

static void measured(uint64_t *at, uint64_t ns)
{
	if (*at == 0 || ns < *at)
		*at = ns;
}

/* UDP brought nothing: ask over HTTPS. False: there is nobody to ask. */
static bool measure_over_https(struct netcheck *nc, uint64_t now_ns)
{
	unsigned asked = 0;

	if (!nc->callbacks.measure)
		return false;
	nc->is_measuring = true;
	nc->stop_ns = nc->start_ns + REPORT_MAX_NS;
	if (nc->stop_ns < now_ns)
		nc->stop_ns = now_ns;
	memset(nc->has_been_measured, 0, sizeof(nc->has_been_measured));
	/* Counted first: an answer may come at once. */
	for (unsigned i = 0; i < nc->region_count && asked < HTTPS_MAX; i++)
		asked += !nc->homes[i].no_measure_no_home;
	nc->measures_open = asked;
	for (unsigned i = 0; i < nc->region_count && asked > 0 && nc->is_measuring; i++) {
		if (nc->homes[i].no_measure_no_home)
			continue;
		asked--;
		nc->callbacks.measure(nc->owner, nc->homes[i].id,
				      (uint64_t)nc->generation << 32 | i);
	}
	return !nc->is_measuring || nc->measures_open > 0;
}

static void stop_stun(struct netcheck *nc, uint64_t now_ns)
{
	for (unsigned i = 0; i < nc->series_count; i++)
		nc->series[i].sent = nc->series[i].tries;
	if (nc->current.has_udp || !measure_over_https(nc, now_ns))
		finish(nc, now_ns);
}

/* ---- probing ---- */

static bool wants_second_server(const struct netcheck *nc, const struct series *s)
{
	return nc->current.is_full && s->family == IPV4 &&
	       nc->current.mapping_varies == NETCHECK_UNKNOWN &&
	       nc->regions[s->region].node_count > 1;
}

static bool is_over(const struct netcheck *nc, const struct series *s)
{
	return s->is_answered && (s->sent >= s->tries || !wants_second_server(nc, s));
}

static void start_resolving(struct netcheck *nc, unsigned region, unsigned i)
{
	struct node *n = &nc->regions[region].node[i];

	if (!n->host[0] || n->is_resolving || n->is_resolved)
		return;
	n->is_resolving = true;
	nc->callbacks.resolve(nc->owner, n->host, (uint64_t)nc->generation << 32 | region << 8 | i);
}

static void send_try(struct netcheck *nc, struct series *s, uint64_t now_ns)
{
	const struct region *region = &nc->regions[s->region];
	struct try *t = &s->try[s->sent];
	uint8_t request[STUN_REQUEST_LEN];

	s->due_ns = now_ns + s->gap_ns;
	for (unsigned i = 0; i < region->node_count; i++) {
		const struct node *n = &region->node[(s->sent + i) % region->node_count];

		if (!n->has[s->family])
			continue;
		randombytes_buf(t->txid, sizeof(t->txid));
		t->sent_ns = now_ns;
		t->to = n->address[s->family];
		s->sent++;
		stun_make_request(t->txid, request);
		nc->callbacks.send(nc->owner, &t->to, request, sizeof(request));
		return;
	}
}

/* Can a try of the series go out now, or soon (a name is being looked up)? */
static bool has_hope(const struct netcheck *nc, const struct series *s, bool *is_ready)
{
	const struct region *region = &nc->regions[s->region];
	bool is_waiting = false;

	*is_ready = false;
	for (unsigned i = 0; i < region->node_count; i++) {
		*is_ready |= region->node[i].has[s->family];
		is_waiting |= region->node[i].is_resolving && region->node[i].is_open[s->family];
	}
	return *is_ready || is_waiting;
}

/* Sends what is due. */
static void go_on(struct netcheck *nc, uint64_t now_ns)
{
	bool is_all_over = true;

	for (unsigned i = 0; i < nc->series_count; i++) {
		struct series *s = &nc->series[i];
		bool is_ready;

		if (is_over(nc, s) || !has_hope(nc, s, &is_ready))
			continue;
		is_all_over = false;
		if (is_ready && s->sent < s->tries && s->due_ns <= now_ns)
			send_try(nc, s, now_ns);
	}
	if (is_all_over || now_ns >= nc->stop_ns)
		stop_stun(nc, now_ns);
}

static void add_series(struct netcheck *nc, unsigned region, unsigned tries, uint64_t now_ns)
{
	uint64_t last_ns = nc->homes[region].latency_ns;
	uint64_t gap_ns = last_ns ? last_ns * 12 / 10 : UNKNOWN_GAP_NS;

	for (int family = 0; family < FAMILIES; family++) {
		bool can = false;

		for (unsigned i = 0; i < nc->regions[region].node_count; i++)
			can |= nc->regions[region].node[i].has[family] ||
			       nc->regions[region].node[i].is_open[family];
		if (!can || !nc->has_family[family])
			continue;
		nc->series[nc->series_count++] = (struct series){
			.region = region,
			.family = family,
			.tries = tries,
			.gap_ns = nc->current.is_full ? FULL_GAP_NS : gap_ns,
			.due_ns = now_ns,
		};
		nc->current.can_send_ipv4 |= family == IPV4;
		nc->current.can_send_ipv6 |= family == IPV6;
	}
}

/* The regions of a quick report: the fastest of the last one, and home. */
static void add_quick(struct netcheck *nc, uint64_t now_ns)
{
	bool taken[NETCHECK_REGIONS_MAX] = { false };

	for (unsigned n = 0; n < QUICK_REGIONS; n++) {
		unsigned best = nc->region_count;

		for (unsigned i = 0; i < nc->region_count; i++) {
			uint64_t ns = nc->homes[i].latency_ns;

			if (!taken[i] && ns &&
			    (best == nc->region_count || ns < nc->homes[best].latency_ns))
				best = i;
		}
		if (best == nc->region_count)
			break;
		taken[best] = true;
		if (nc->homes[best].id != nc->home)
			add_series(nc, best, n < 2 ? 2 : 1, now_ns);
	}
	for (unsigned i = 0; i < nc->region_count; i++) {
		if (nc->homes[i].id == nc->home)
			add_series(nc, i, TRIES_MAX, now_ns);
	}
}

int netcheck_start(struct netcheck *nc, bool is_full, uint64_t now_ns)
{
	if (nc->is_running)
		return -EALREADY;
	if (nc->region_count == 0)
		return -ENOENT;
	if (nc->last_full_ns == 0 || now_ns - nc->last_full_ns >= FULL_EVERY_NS ||
	    !nc->last.has_udp)
		is_full = true;
	memset(&nc->current, 0, sizeof(nc->current));
	nc->current.is_full = is_full;
	nc->current.os_has_ipv6 = nc->has_family[IPV6];
	nc->is_running = true;
	nc->generation++;
	nc->series_count = 0;
	nc->slowest_ns = 0;
	nc->start_ns = now_ns;
	nc->stop_ns = now_ns + STUN_MAX_NS;
	for (unsigned i = 0; is_full && i < nc->region_count; i++) {
		if (!nc->homes[i].no_measure_no_home)
			add_series(nc, i, FULL_TRIES, now_ns);
	}
	if (!is_full)
		add_quick(nc, now_ns);
	for (unsigned i = 0; i < nc->region_count; i++) {
		for (unsigned k = 0; k < nc->regions[i].node_count; k++) {
			nc->regions[i].node[k].is_resolved &= !is_full;
			nc->regions[i].node[k].is_resolving = false;
			if (!nc->homes[i].no_measure_no_home)
				start_resolving(nc, i, k);
		}
	}
	go_on(nc, now_ns);
	return 0;
}

bool netcheck_is_running(const struct netcheck *nc)
{
	return nc->is_running;
}

/* ---- answers ---- */

static void count_mapped(struct netcheck_counter *c, unsigned *count, const struct endpoint *mapped)
{
	for (unsigned i = 0; i < *count; i++) {
		if (endpoint_equal(&c[i].mapped, mapped)) {
			c[i].count++;
			return;
		}
	}
	if (*count < NETCHECK_COUNTERS_MAX)
		c[(*count)++] = (struct netcheck_counter){ *mapped, 1 };
}

static void note_mapped(struct netcheck *nc, int family, const struct endpoint *server,
			const struct endpoint *mapped)
{
	struct netcheck_report *r = &nc->current;

	r->has_udp = true;
	if (family == IPV6) {
		r->has_ipv6 = true;
		count_mapped(r->v6, &r->v6_count, mapped);
		if (r->global_v6.port == 0)
			r->global_v6 = *mapped;
		return;
	}
	r->has_ipv4 = true;
	count_mapped(r->v4, &r->v4_count, mapped);
	if (r->global_v4.port == 0) {
		r->global_v4 = *mapped;
		nc->first_v4_from = *server;
	} else if (!endpoint_equal(&nc->first_v4_from, server)) {
		if (!endpoint_equal(&r->global_v4, mapped))
			r->mapping_varies = NETCHECK_YES;
		else if (r->mapping_varies == NETCHECK_UNKNOWN)
			r->mapping_varies = NETCHECK_NO;
	}
}

static void note_latency(struct netcheck *nc, const struct series *s, uint64_t ns, uint64_t now_ns)
{
	struct netcheck_region_latency *l = latency_of(nc, s->region);
	uint64_t wait_ns;

	measured(s->family == IPV4 ? &l->v4_ns : &l->v6_ns, ns);
	measured(&l->best_ns, ns);
	nc->slowest_ns = MAX(nc->slowest_ns, ns);
	if (nc->current.region_count < ENOUGH_REGIONS)
		return;
	wait_ns = nc->slowest_ns * (nc->current.is_full ? 2 : 1);
	nc->stop_ns = MIN(nc->stop_ns, now_ns + wait_ns);
}

static struct try *find_try(struct netcheck *nc, const uint8_t txid[static STUN_TXID_LEN],
			    struct series **series)
{
	for (unsigned i = 0; i < nc->series_count; i++) {
		struct series *s = &nc->series[i];

		for (unsigned k = 0; k < TRIES_MAX; k++) {
			if (s->try[k].sent_ns && memcmp(s->try[k].txid, txid, STUN_TXID_LEN) == 0) {
				*series = s;
				return &s->try[k];
			}
		}
	}
	return NULL;
}

bool netcheck_received(struct netcheck *nc, const struct endpoint *from, const uint8_t *bytes,
		       size_t len, uint64_t now_ns)
{
	uint8_t txid[STUN_TXID_LEN];
	struct endpoint mapped;
	struct series *s;
	struct try *t;

	(void)from;
	if (!nc->is_running || stun_parse_response(bytes, len, txid, &mapped) < 0)
		return false;
	t = find_try(nc, txid, &s);
	if (!t || mapped.port == 0 || ip_is_v4(&mapped.addr) != (s->family == IPV4))
		return false;
	s->is_answered = true;
	note_mapped(nc, s->family, &t->to, &mapped);
	note_latency(nc, s, MAX(now_ns - t->sent_ns, 1), now_ns);
	t->sent_ns = 0;
	go_on(nc, now_ns);
	return true;
}

void netcheck_resolved(struct netcheck *nc, uint64_t token, const struct ip_addr *addrs,
		       unsigned count, uint64_t now_ns)
{
	unsigned region = (unsigned)(token >> 8 & 0xffffff), i = (unsigned)(token & 0xff);
	struct node *n;

	if (token >> 32 != nc->generation || region >= nc->region_count ||
	    i >= nc->regions[region].node_count)
		return;
	n = &nc->regions[region].node[i];
	if (!n->is_resolving)
		return;
	n->is_resolving = false;
	n->is_resolved = count > 0;
	for (unsigned k = count; k-- > 0;) {
		int family = ip_is_v4(&addrs[k]) ? IPV4 : IPV6;

		if (!n->is_open[family])
			continue;
		n->address[family].addr = addrs[k]; /* the first one stays */
		n->has[family] = true;
	}
	/* What goes out now is due already; the end of the report is for expire() to find. */
	for (unsigned k = 0; k < nc->series_count; k++) {
		bool is_ready;

		if (nc->series[k].region == region && nc->series[k].sent == 0 &&
		    has_hope(nc, &nc->series[k], &is_ready) && is_ready)
			nc->series[k].due_ns = now_ns;
	}
}

void netcheck_measured(struct netcheck *nc, uint64_t token, uint64_t latency_ns, uint64_t now_ns)
{
	unsigned i = (unsigned)(token & 0xffffffff);

	if (!nc->is_measuring || token >> 32 != nc->generation || i >= nc->region_count ||
	    nc->has_been_measured[i])
		return;
	nc->has_been_measured[i] = true;
	if (latency_ns > 0 && latency_ns <= LATENCY_MAX_NS)
		measured(&latency_of(nc, i)->best_ns, latency_ns);
	if (--nc->measures_open == 0)
		finish(nc, now_ns);
}

/* ---- time ---- */

uint64_t netcheck_deadline(const struct netcheck *nc)
{
	uint64_t ns = nc->stop_ns;

	if (!nc->is_running)
		return NEVER_NS;
	if (nc->is_measuring)
		return ns;
	for (unsigned i = 0; i < nc->series_count; i++) {
		const struct series *s = &nc->series[i];
		bool is_ready;

		if (s->sent < s->tries && !is_over(nc, s) && has_hope(nc, s, &is_ready) && is_ready)
			ns = MIN(ns, s->due_ns);
	}
	return ns;
}

void netcheck_expire(struct netcheck *nc, uint64_t now_ns)
{
	if (!nc->is_running)
		return;
	if (!nc->is_measuring)
		go_on(nc, now_ns);
	else if (now_ns >= nc->stop_ns)
		finish(nc, now_ns);
}
