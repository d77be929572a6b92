/*
 * Datagrams from the mesh on their way to programs.
 *
 * Which socket takes those for port p is found by sending to one target after
 * the other (targets.c). A port that nobody has is refused by the kernel at
 * once, before sendto() returns, so the error queue is asked right after a first
 * datagram; what worked is remembered, and later datagrams are just sent. Their
 * errors come as events: the route is forgotten, and the far side is told. Where a program
 * connects a socket that was on any address, the kernel gives it 127.0.0.1, and the route that was
 * found before leads nowhere; so after a pause the error queue is asked again.
 *
 * A program that has sent from port p is its own proof: the route is known.
 *
 * To find that nobody has a port takes a socket, bound, used and closed again, some ten
 * times what a datagram takes that has a route. So a peer that tries many such ports is
 * looked after for some of them only, in each tenth of a second; then what it sends to
 * ports without a route is lost until the next one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/errqueue.h> /* needs struct timespec */

#include "daemon/edge/dgram_private.h"
#include "shared/log.h"
#include "shared/util.h"

#define ERRORS_PER_EVENT 64
#define QUOTE_MAX        1024
#define ROUTE_SURE_NS    NS_PER_MS /* since it was used */

struct refusal {
	struct endpoint to; /* where our datagram went */
	size_t len;
	uint8_t quote[QUOTE_MAX]; /* the beginning of it */
};

/* ---- routes ---- */

static struct dgram_route *find_route(struct dgrams *all, const struct dgram_route_key *key)
{
	struct dgram_route *route;

	HASH_FIND(hh, all->routes, key, sizeof(*key), route);
	return route;
}

static void remove_route(struct dgrams *all, struct dgram_route *route)
{
	HASH_DELETE(hh, all->routes, route);
	free(route);
}

static void set_route(struct dgrams *all, const struct dgram_route_key *key, enum target target)
{
	struct dgram_route *route = find_route(all, key);

	if (!route) {
		/* The table keeps the order of insertion: the first is the oldest. */
		if (HASH_COUNT(all->routes) >= DGRAM_ROUTES_MAX)
			remove_route(all, all->routes);
		route = calloc(1, sizeof(*route));
		if (!route)
			return; /* it is found anew with each datagram */
		route->key = *key;
		HASH_ADD(hh, all->routes, key, sizeof(route->key), route);
		if (!route->hh.tbl) {
			free(route);
			return;
		}
	}
	route->target = target;
}

void dgram_forget_routes(struct dgrams *all)
{
	while (all->routes)
		remove_route(all, all->routes);
}

void dgram_learn_route(struct dgram *d, const struct endpoint *user, const struct map_own *own)
{
	struct dgram_route_key key = { d->key.mirror, own->mirror, d->key.port, user->port };

	set_route(d->dgrams, &key,
		  !ip_is_v4(&user->addr)              ? TARGET_LOOPBACK6
		  : ip_v4(&user->addr) == own->mirror ? TARGET_MIRROR
						      : TARGET_LOOPBACK);
}

/* ---- what the kernel says ---- */

/* One refusal from the error queue; false when there is none. */
static bool next_refusal(int fd, struct refusal *r)
{
	char control[CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6))];
	struct sockaddr_storage to;
	struct iovec at = { r->quote, sizeof(r->quote) };
	struct msghdr msg = { .msg_name = &to,
			      .msg_namelen = sizeof(to),
			      .msg_iov = &at,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);

	if (n < 0 || endpoint_from_sockaddr(&to, msg.msg_namelen, &r->to) != 0)
		return false;
	r->len = (size_t)n;
	return true;
}

static enum target target_of(const struct dgram *d, const struct endpoint *to)
{
	uint32_t v4 = ip_is_v4(&to->addr) ? ip_v4(&to->addr) : 0;

	if (d->key.v6only)
		return TARGET_LOOPBACK6;
	return v4 == INADDR_LOOPBACK ? TARGET_LOOPBACK : TARGET_MIRROR;
}

/* A route has died: the next datagram looks for a listener again, this one is refused. */
static void late_refusal(struct dgram *d, const struct refusal *r)
{
	struct edge *edge = d->dgrams->edge;
	enum target target = target_of(d, &r->to);
	struct dgram_route_key key = { d->key.mirror, 0, d->key.port, r->to.port };
	struct dgram_route *route;
	struct map_own own;
	struct endpoint local;

	if (d->is_service)
		return; /* the asker has not waited */
	if (!edge_own_address(edge, ip_is_v4(&r->to.addr) ? ip_v4(&r->to.addr) : 0,
			      !ip_is_v4(&d->remote.addr), &own))
		return;
	key.own_mirror = own.mirror;
	route = find_route(d->dgrams, &key);
	if (route && route->target == target)
		remove_route(d->dgrams, route);
	local = (struct endpoint){ own.addr, r->to.port };
	if (edge->ns)
		netstack_refuse_udp(edge->ns, &local, &d->remote, r->quote, r->len,
				    loop_now(edge->loop));
}

void dgram_read_errors(struct dgram *d)
{
	struct refusal r;

	for (int i = 0; i < ERRORS_PER_EVENT && next_refusal(d->fd, &r); i++)
		late_refusal(d, &r);
}

/* Was it this datagram that was refused? Older refusals are handled on the way. */
static bool was_refused(struct dgram *d, const struct endpoint *to)
{
	struct refusal r;

	for (int i = 0; i < ERRORS_PER_EVENT && next_refusal(d->fd, &r); i++) {
		if (endpoint_equal(&r.to, to))
			return true;
		late_refusal(d, &r);
	}
	return false;
}

/* ---- delivery ---- */

static bool send_to(struct dgram *d, const struct endpoint *to, const uint8_t *data, size_t len)
{
	struct sockaddr_storage ss;
	socklen_t ss_len = endpoint_to_sockaddr(to, d->key.v6only ? AF_INET6 : AF_INET, &ss);

	for (int i = 0; i < 2; i++) {
		if (sendto(d->fd, data, len, MSG_DONTWAIT, (struct sockaddr *)&ss, ss_len) >= 0)
			return true;
		if (errno != ECONNREFUSED)
			break;
		dgram_read_errors(d); /* an older one's refusal stood before us */
	}
	/* The kernel's buffers are full: UDP loses it. */
	return false;
}

/* Is there a socket of our own at ::1 and this port? Nothing of the mesh may reach it. */
static bool is_ours(const struct edge *edge, uint16_t port)
{
	uint32_t addr;
	uint16_t value;

	return map_find_pair(mapfile_map(edge->mapfile), MAP_UDP_IN, 0, port, &addr, &value);
}

/* The endpoint that reaches a target. 0; -ENOENT: it is none; -errno. */
static int reach(struct dgrams *all, const struct endpoint *to, const struct endpoint *remote,
		 struct dgram **d)
{
	bool v6 = !ip_is_v4(&to->addr);

	if (v6 && is_ours(all->edge, to->port))
		return -ENOENT;
	return dgram_get(all, remote, v6, d);
}

/* ---- who tries closed ports ---- */

/* The peer's; else one that is free, or the last, which those share who find none. */
static struct dgram_refusals *refusals_of(struct dgrams *all, const struct endpoint *remote)
{
	struct dgram_refusals *r, *place = &all->refusals[DGRAM_SCANNERS - 1];
	const void *peer = edge_peer_of(all->edge, &remote->addr);
	uint64_t now_ns = loop_now(all->edge->loop);

	for (r = all->refusals; r < all->refusals + DGRAM_SCANNERS; r++) {
		if (now_ns - r->since_ns >= DGRAM_REFUSALS_MS * NS_PER_MS)
			*(place = r) = (struct dgram_refusals){ .since_ns = 0 };
		else if (r->peer == peer)
			return r;
	}
	return place;
}

static bool is_scanning(struct dgrams *all, const struct endpoint *remote)
{
	return refusals_of(all, remote)->count >= DGRAM_REFUSALS;
}

static void count_refusal(struct dgrams *all, const struct endpoint *remote)
{
	struct dgram_refusals *r = refusals_of(all, remote);

	if (r->count++ > 0)
		return;
	r->peer = edge_peer_of(all->edge, &remote->addr);
	r->since_ns = loop_now(all->edge->loop);
}

/* Looks for who takes it. False: nobody does. */
static bool find_listener(struct dgrams *all, const struct dgram_route_key *key,
			  const struct endpoint *local, const struct endpoint *remote,
			  const uint8_t *data, size_t len)
{
	struct dgram *tried[TARGETS_MAX], *d;
	struct targets targets;
	unsigned count = 0;
	bool is_taken = false;

	targets_find(&targets, all->edge->socket_table, SOCK_DGRAM, local, key->own_mirror);
	for (unsigned i = 0; i < targets.count && !is_taken; i++) {
		struct endpoint to =
			target_endpoint(targets.target[i], key->own_mirror, local->port);
		int err = reach(all, &to, remote, &d);

		if (err == -ENOENT)
			continue;
		if (err == 0 && (count == 0 || tried[count - 1] != d))
			tried[count++] = d;
		/* What we lack is not the peer's fault: lost, not refused. */
		is_taken = err || !send_to(d, &to, data, len);
		if (!is_taken && !was_refused(d, &to)) {
			dgram_used(d, &to);
			set_route(all, key, targets.target[i]);
			is_taken = true;
		}
	}
	while (count > 0)
		dgram_drop_unused(tried[--count]);
	return is_taken;
}

/* False: it leads nowhere any more, and is forgotten. */
static bool send_by_route(struct dgrams *all, struct dgram_route *route,
			  const struct endpoint *remote, const uint8_t *data, size_t len)
{
	struct dgram_route_key key = route->key; /* an older refusal may end the route on the way */
	struct endpoint to = target_endpoint(route->target, key.own_mirror, key.local_port);
	uint64_t now_ns = loop_now(all->edge->loop);
	bool is_sure = now_ns - route->used_ns < ROUTE_SURE_NS;
	struct dgram *d;

	route->used_ns = now_ns;
	if (reach(all, &to, remote, &d) != 0 || !send_to(d, &to, data, len))
		return true; /* lost, as UDP is */
	if (!is_sure && was_refused(d, &to)) {
		route = find_route(all, &key);
		if (route)
			remove_route(all, route);
		return false;
	}
	dgram_used(d, &to);
	return true;
}

void dgram_received(struct dgrams *all, const struct endpoint *local, const struct endpoint *remote,
		    const uint8_t *data, size_t len)
{
	const struct map *map = mapfile_map(all->edge->mapfile);
	struct dgram_route_key key = { 0, 0, remote->port, local->port };
	struct dgram_route *route;

	dgrams_reap(all);
	if (map_to_mirror(map, &local->addr, &key.own_mirror) != MAP_OWN ||
	    map_to_mirror(map, &remote->addr, &key.peer_mirror) != MAP_PEER || local->port == 0 ||
	    remote->port == 0)
		return;
	route = find_route(all, &key);
	if (route && send_by_route(all, route, remote, data, len))
		return;
	if (is_scanning(all, remote)) {
		all->ignored++;
	} else if (!find_listener(all, &key, local, remote, data, len)) {
		count_refusal(all, remote);
		netstack_refuse_udp(all->edge->ns, local, remote, data, len,
				    loop_now(all->edge->loop));
	}
}

void dgram_failed(struct dgrams *all, const struct endpoint *local, const struct endpoint *remote)
{
	uint32_t mirror;

	if (map_to_mirror(mapfile_map(all->edge->mapfile), &remote->addr, &mirror) != MAP_PEER)
		return;
	for (int v6only = 0; v6only < 2; v6only++) {
		struct dgram *d = dgram_find(all, mirror, remote->port, v6only);

		if (d && d->fd >= 0 && dgram_live_users(d) == 1 && d->user[0].port == local->port)
			dgram_sulk(d);
	}
}
