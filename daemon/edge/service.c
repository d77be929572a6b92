/*
 * Services.
 *
 * The resolver's addresses are ranges of one address in the map, laid over
 * whatever network they lie in. Name servers are no mesh addresses: the map
 * lists them apart, for port 53 only, so that a program whose daemon has died
 * talks to them directly again.
 *
 * UDP: an endpoint for each is opened beforehand and never idles out, so a
 * program's first query needs no question to us. TCP: the connect of a program is
 * met at once (outbound.c) and served here: messages with a length before
 * each, any number at once, answered as they are ready. A reader that does
 * not read is not read from.
 *
 * An answer may come after its asker has gone: asker and query share a small
 * heap object, which the answer frees.
 */
#include "daemon/edge/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/dns/dns.h"
#include "daemon/edge/dgram_private.h"
#include "daemon/edge/dial.h"
#include "daemon/edge/private.h"
#include "shared/log.h"
#include "shared/util.h"
#include "shared/wire.h"

struct service_conn {
	struct services *services;
	int fd;
	struct event event;
	short watched; /* EV_READ, EV_WRITE; 0: none */
	struct edge_timer idle;
	unsigned pending; /* answers to come */
	bool has_ended;   /* no more queries */
	bool is_dead;     /* waits for its answers to be freed */
	bool is_reading;
	size_t in_len;
	uint8_t in[2 + DNS_QUERY_MAX];
	uint8_t *out;
	size_t out_len, out_room;
	struct service_conn *prev, *next;
};

/* A connection to a resolver behind the tunnel, until it is made. */
struct resolver_dial {
	struct flow *flow;
	void (*opened)(void *arg, int fd);
	void *arg;
};

struct datagram_query {
	struct dgrams *dgrams;
	struct dgram_key key;
	struct endpoint from;
};

/* ---- which addresses ---- */

void services_init(struct services *s, struct edge *edge)
{
	s->edge = edge;
	if (ip_parse(DNS_RESOLVER_V4, &s->resolver[0]) != 0 ||
	    ip_parse(DNS_RESOLVER_V6, &s->resolver[1]) != 0)
		log_err("edge: the resolver's address is none");
}

/* A node with exactly this address keeps it. */
static bool is_nodes_own(const struct map_directory *dir, const struct ip_addr *addr)
{
	for (uint32_t i = 0; i < dir->range_count; i++)
		if (dir->ranges[i].mirror && ip_equal(&dir->ranges[i].first, addr) &&
		    ip_equal(&dir->ranges[i].last, addr))
			return true;
	return false;
}

static bool is_own(const struct map_directory *dir, const struct ip_addr *addr)
{
	for (uint32_t i = 0; i < dir->own_count; i++)
		if (ip_equal(&dir->own[i].addr, addr))
			return true;
	return false;
}

void services_plan_servers(struct services *s, struct map_directory *dir)
{
	struct ip_addr servers[DNS_SERVERS_MAX];
	unsigned count = s->resolver_count ? dns_servers(s->dns, servers) : 0;
	char error[256];

	dir->server_count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct map_server *to = &dir->servers[dir->server_count];
		bool is_resolver = ip_equal(&servers[i], &s->resolver[0]) ||
				   ip_equal(&servers[i], &s->resolver[1]);

		/* A server of this very node is reached as such. */
		if (is_resolver || is_own(dir, &servers[i]) || dir->server_count == MAP_MAX_SERVERS)
			continue;
		if (plan_single(s->edge->plan, &servers[i], &to->mirror, error) != 0) {
			log_warn("edge: a name server is left alone: %s", error);
			continue;
		}
		to->addr = servers[i];
		dir->server_count++;
	}
}

void services_plan(struct services *s, struct map_directory *dir)
{
	char error[256];

	dir->server_count = 0;
	s->resolver_count = 0;
	if (!s->dns || dir->own_count == 0)
		return;
	for (unsigned i = 0; i < SERVICE_RESOLVERS; i++) {
		if (is_nodes_own(dir, &s->resolver[i])) {
			log_warn("edge: a node has the resolver's address: there is no resolver");
			return;
		}
	}
	for (unsigned i = 0; i < SERVICE_RESOLVERS; i++) {
		if (plan_add_single(s->edge->plan, &s->resolver[i], dir, error) != 0) {
			log_warn("edge: programs have no resolver of the mesh: %s", error);
			return;
		}
	}
	s->resolver_count = SERVICE_RESOLVERS;
	services_plan_servers(s, dir);
}

static bool is_resolver(const struct services *s, const struct ip_addr *addr)
{
	for (unsigned i = 0; i < s->resolver_count; i++)
		if (ip_equal(&s->resolver[i], addr))
			return true;
	return false;
}

bool service_find(const struct edge *edge, const struct endpoint *remote, uint32_t *mirror)
{
	const struct map *map = mapfile_map(edge->mapfile);

	if (is_resolver(&edge->services, &remote->addr))
		return map_to_mirror(map, &remote->addr, mirror) == MAP_PEER;
	return edge->services.dns && remote->port == DNS_PORT &&
	       map_server_mirror(map, &remote->addr, mirror);
}

static void open_endpoint(struct services *s, const struct ip_addr *addr)
{
	struct endpoint remote = { *addr, DNS_PORT }, mirror;
	int err = dgram_open(s->edge->dgrams, &remote, false, &mirror);

	if (err)
		log_warn("edge: a name server's endpoint cannot be opened: %s", strerror(-err));
}

void services_open_endpoints(struct services *s)
{
	const struct map_directory *dir = map_dir(mapfile_map(s->edge->mapfile));

	for (unsigned i = 0; i < s->resolver_count; i++)
		open_endpoint(s, &s->resolver[i]);
	for (uint32_t i = 0; i < dir->server_count; i++)
		open_endpoint(s, &dir->servers[i].addr);
}

/* ---- UDP ---- */

static void datagram_answered(void *arg, const uint8_t *answer, size_t len)
{
	struct datagram_query *q = arg;
	struct dgram *d = dgram_find(q->dgrams, q->key.mirror, q->key.port, q->key.v6only);
	struct sockaddr_storage to;
	socklen_t to_len;

	/* A full buffer loses it, as UDP may. */
	if (answer && d && d->fd >= 0) {
		to_len = endpoint_to_sockaddr(&q->from, d->key.v6only ? AF_INET6 : AF_INET, &to);
		if (sendto(d->fd, answer, len, MSG_DONTWAIT, (struct sockaddr *)&to, to_len) < 0)
			log_debug("edge: an answer to a name's query is lost: %s", strerror(errno));
	}
	free(q);
}

void service_datagram(struct dgram *d, const struct endpoint *from, const uint8_t *data, size_t len)
{
	struct services *s = &d->dgrams->edge->services;
	struct datagram_query *q;

	if (d->key.port != DNS_PORT || !s->dns)
		return;
	q = malloc(sizeof(*q));
	if (!q)
		return;
	*q = (struct datagram_query){ d->dgrams, d->key, *from };
	dns_query(s->dns, data, len, false, datagram_answered, q);
}

/* ---- TCP ---- */

static void conn_update(struct service_conn *c);

static void conn_free(struct service_conn *c)
{
	free(c->out);
	free(c);
}

static void conn_close(struct service_conn *c, bool reset)
{
	struct services *s = c->services;

	if (c->is_dead)
		return;
	c->is_dead = true;
	event_del(&c->event);
	edge_timer_cancel(&s->edge->timers, &c->idle);
	if (!reset)
		sock_finish_on_close(c->fd);
	close(c->fd);
	*(c->prev ? &c->prev->next : &s->conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->conn_count--;
}

static void conn_idle(struct edge_timer *timer, uint64_t now_ns)
{
	struct service_conn *c = CONTAINER_OF(timer, struct service_conn, idle);

	(void)now_ns;
	conn_close(c, true);
	if (c->pending == 0)
		conn_free(c);
}

static void conn_touch(struct service_conn *c)
{
	edge_timer_set(&c->services->edge->timers, &c->idle,
		       loop_now(c->services->edge->loop) + SERVICE_IDLE_S * NS_PER_S);
}

static bool conn_put(struct service_conn *c, const uint8_t *answer, size_t len)
{
	size_t need = c->out_len + 2 + len;

	if (need > c->out_room) {
		uint8_t *grown = realloc(c->out, need + 512);

		if (!grown)
			return false;
		c->out = grown;
		c->out_room = need + 512;
	}
	store_be16(c->out + c->out_len, (uint16_t)len);
	memcpy(c->out + c->out_len + 2, answer, len);
	c->out_len = need;
	return true;
}

/* False: the program is gone. */
static bool conn_write(struct service_conn *c)
{
	size_t sent = 0;

	while (sent < c->out_len) {
		ssize_t n =
			send(c->fd, c->out + sent, c->out_len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	if (sent) {
		memmove(c->out, c->out + sent, c->out_len - sent);
		c->out_len -= sent;
	}
	return true;
}

static void conn_answered(void *arg, const uint8_t *answer, size_t len)
{
	struct service_conn *c = arg;

	c->pending--;
	if (c->is_dead) {
		if (c->pending == 0 && !c->is_reading)
			conn_free(c);
		return;
	}
	if (answer && len <= DNS_ANSWER_MAX && !conn_put(c, answer, len))
		conn_close(c, true);
	/* From inside conn_event() it is written there, with others. */
	if (!c->is_reading)
		conn_update(c);
}

/* Every whole query of what was read. An answer may come from inside. */
static void conn_take_queries(struct service_conn *c)
{
	size_t at = 0;

	while (!c->is_dead && c->in_len - at >= 2) {
		size_t len = load_be16(c->in + at);

		if (len > DNS_QUERY_MAX) {
			conn_close(c, true);
			return;
		}
		if (c->in_len - at < 2 + len)
			break;
		c->pending++;
		dns_query(c->services->dns, c->in + at + 2, len, true, conn_answered, c);
		at += 2 + len;
	}
	if (c->is_dead)
		return;
	memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
}

static void conn_read(struct service_conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		conn_close(c, true);
		return;
	}
	if (n == 0) {
		c->has_ended = true;
		return;
	}
	c->in_len += (size_t)n;
	conn_touch(c);
	conn_take_queries(c);
}

static void conn_event(evutil_socket_t fd, short what, void *arg)
{
	struct service_conn *c = arg;

	(void)fd;
	c->is_reading = true;
	if (what & EV_READ)
		conn_read(c);
	c->is_reading = false;
	conn_update(c);
}

/* Writes what there is, and waits for what can come; the end of a finished one. */
static void conn_update(struct service_conn *c)
{
	struct event_base *base = loop_base(c->services->edge->loop);
	short want = 0;

	if (!c->is_dead && !conn_write(c))
		conn_close(c, true);
	if (!c->is_dead && c->has_ended && c->pending == 0 && c->out_len == 0)
		conn_close(c, false);
	if (c->is_dead) {
		if (c->pending == 0)
			conn_free(c);
		return;
	}
	want |= c->out_len ? EV_WRITE : 0;
	want |= !c->has_ended && c->out_len < SERVICE_OUT_MAX ? EV_READ : 0;
	if (want == c->watched)
		return;
	event_del(&c->event);
	c->watched = want;
	if (want && (event_assign(&c->event, base, c->fd, want | EV_PERSIST, conn_event, c) != 0 ||
		     event_add(&c->event, NULL) != 0)) {
		conn_close(c, true);
		if (c->pending == 0)
			conn_free(c);
	}
}

void service_stream(struct edge *edge, int fd)
{
	struct services *s = &edge->services;
	struct service_conn *c = NULL;

	if (s->dns && s->conn_count < SERVICE_CONNS_MAX)
		c = calloc(1, sizeof(*c));
	if (!c || event_assign(&c->event, loop_base(edge->loop), fd, EV_READ | EV_PERSIST,
			       conn_event, c) != 0) {
		free(c);
		close(fd);
		return;
	}
	c->services = s;
	c->fd = fd;
	c->idle.fired = conn_idle;
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	s->conn_count++;
	conn_touch(c);
	conn_update(c);
}

void services_close(struct services *s)
{
	while (s->conns) {
		struct service_conn *c = s->conns;

		conn_close(c, true);
		if (c->pending == 0)
			conn_free(c);
	}
}

/* ---- resolvers behind the tunnel ---- */

static void resolver_dialled(void *arg, int error)
{
	struct resolver_dial *d = arg;
	int pair[2] = { -1, -1 }, fd = -error;

	if (!error) {
		fd = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0
			     ? pair[0]
			     : -errno;
		if (fd >= 0)
			dial_join(d->flow, pair[1]);
		else
			dial_cancel(d->flow);
	}
	d->opened(d->arg, fd);
	free(d);
}

static int dial_resolver(void *owner, const struct endpoint *to, void (*opened)(void *arg, int fd),
			 void *arg, void **dial)
{
	struct services *s = owner;
	struct resolver_dial *d = malloc(sizeof(*d));
	int err;

	if (!d)
		return -ENOMEM;
	*d = (struct resolver_dial){ NULL, opened, arg };
	err = dial_start(s->edge, to, resolver_dialled, d, &d->flow);
	if (err) {
		free(d);
		return -err;
	}
	*dial = d;
	return 0;
}

static void cancel_resolver(void *owner, void *dial)
{
	struct resolver_dial *d = dial;

	(void)owner;
	dial_cancel(d->flow);
	free(d);
}

void services_set_dns(struct services *s, struct dns *dns)
{
	const struct dns_dialler dialler = { dial_resolver, cancel_resolver, s };

	s->dns = dns;
	dns_set_dialler(dns, &dialler);
}

/* ---- look-ups ---- */

static void looked_up(void *arg, int error, const struct ip_addr *ips, unsigned count)
{
	app_answer_lookup(arg, error, ips, count);
}

void service_lookup(struct edge *edge, struct app *app, const struct ipc_lookup *lookup)
{
	unsigned want = DNS_WANT_INSIDE; /* as libc gives them */

	if (!edge->services.dns) {
		app_answer_lookup(app, EAGAIN, NULL, 0);
		return;
	}
	want |= lookup->flags & IPC_LOOKUP_V4 ? DNS_WANT_V4 : 0;
	want |= lookup->flags & IPC_LOOKUP_V6 ? DNS_WANT_V6 : 0;
	dns_lookup(edge->services.dns, lookup->name, want, true, looked_up, app);
}
