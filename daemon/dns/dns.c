/*
 * The one entrance: table first, then the resolvers that the name belongs to.
 *
 * A route whose resolvers are all of a kind that is not spoken here (DoH)
 * fails, since asking others would tell them names that are not theirs; only
 * for the default route the system's resolvers step in.
 */
#include "daemon/dns/dns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/dns/answer.h"
#include "daemon/dns/dns_private.h"
#include "daemon/dns/forwarder.h"
#include "daemon/dns/message.h"
#include "daemon/dns/system.h"
#include "daemon/dns/table.h"
#include "daemon/loop.h"
#include "shared/log.h"
#include "shared/util.h"

/* A query on its way to others. */
struct forwarded {
	struct dns *dns;
	dns_done *done;
	void *arg;
	size_t limit; /* a longer answer is marked as truncated */
};

static void system_changed(void *owner)
{
	struct dns *dns = owner;

	if (dns->watcher.changed)
		dns->watcher.changed(dns->watcher.owner);
}

struct dns *dns_create(struct loop *loop, const struct dns_config_paths *paths)
{
	struct dns *dns = calloc(1, sizeof(*dns));

	if (!dns)
		return NULL;
	dns->loop = loop;
	dns->forwarder = forwarder_create(loop);
	dns->system =
		dns_system_create(loop, paths ? paths->resolv_conf : NULL, system_changed, dns);
	dns->table = dns_table_create();
	if (!dns->forwarder || !dns->system || !dns->table || dns_table_finish(dns->table) != 0) {
		dns_destroy(dns);
		return NULL;
	}
	return dns;
}

void dns_destroy(struct dns *dns)
{
	if (!dns)
		return;
	forwarder_destroy(dns->forwarder);
	dns_system_destroy(dns->system);
	dns_table_destroy(dns->table);
	free(dns);
}

void dns_set_tunnel(struct dns *dns, const struct dns_tunnel *tunnel)
{
	forwarder_set_tunnel(dns->forwarder, tunnel);
}

void dns_set_dialler(struct dns *dns, const struct dns_dialler *dialler)
{
	forwarder_set_dialler(dns->forwarder, dialler);
}

void dns_watch(struct dns *dns, const struct dns_watcher *watcher)
{
	dns->watcher = *watcher;
}

static void warn_of_doh(struct dns *dns, const struct dns_resolver *resolvers, unsigned count)
{
	for (unsigned i = 0; i < count && !dns->has_warned; i++) {
		if (resolvers[i].endpoint.port)
			continue;
		dns->has_warned = true;
		log_warn("dns: %.200s: resolvers by HTTP are not supported, it is not asked",
			 resolvers[i].addr);
	}
}

int dns_set(struct dns *dns, const struct dns_source *source)
{
	unsigned unfit = 0;
	struct dns_table *table = dns_table_build(source, &unfit);

	if (!table)
		return -ENOMEM;
	if (unfit)
		log_limited(&dns->unfit_gate, loop_now(dns->loop), LOG_WARN,
			    "dns: %u names or domains of the map are not fit to be used: left out",
			    unfit);
	if (source->self && source->config && !source->refuse_resolvers) {
		const struct dns_config *c = source->config;

		warn_of_doh(dns, c->resolvers, c->resolver_count);
		for (unsigned i = 0; i < c->route_count; i++)
			warn_of_doh(dns, c->routes[i].resolvers, c->routes[i].resolver_count);
	}
	dns_table_destroy(dns->table);
	dns->table = table;
	system_changed(dns);
	return 0;
}

const struct dns_table *dns_names(const struct dns *dns)
{
	return dns->table;
}

unsigned dns_servers(const struct dns *dns, struct ip_addr servers[static DNS_SERVERS_MAX])
{
	const struct ip_addr *known;
	unsigned count = dns_system_servers(dns->system, &known);

	memcpy(servers, known, count * sizeof(*known));
	return count;
}

void dns_get_stats(const struct dns *dns, struct dns_stats *stats)
{
	*stats = dns->stats;
	stats->in_flight = forwarder_in_flight(dns->forwarder);
	stats->spoofed = forwarder_spoofed(dns->forwarder);
}

bool dns_tunnel_received(struct dns *dns, const struct endpoint *from, uint16_t local_port,
			 const uint8_t *data, size_t len)
{
	return forwarder_tunnel_received(dns->forwarder, from, local_port, data, len);
}

/* ---- queries ---- */

static uint32_t wall_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint32_t)t.tv_sec;
}

/* Whom to ask; 0: nobody. Those of the system are outside: providers have some in 100.64/10. */
static unsigned choose_upstreams(const struct dns *dns, const struct dns_suffix *suffix,
				 struct endpoint upstream[static DNS_SERVERS_MAX])
{
	const struct ip_addr *servers;
	unsigned count;

	static_assert(DNS_SERVERS_MAX >= DNS_RESOLVERS_MAX, "a route's resolvers fit");
	if (suffix && (suffix->resolver_count || suffix->name[0])) {
		count = 0;
		for (unsigned i = 0; i < suffix->resolver_count; i++)
			count += forwarder_find(dns->forwarder, &suffix->resolvers[i],
						&upstream[count]);
		return count;
	}
	count = dns_system_servers(dns->system, &servers);
	for (unsigned i = 0; i < count; i++) {
		const struct endpoint server = { servers[i], DNS_PORT };

		upstream[i] = server;
		if (forwarder_place(dns->forwarder, &servers[i]) == DNS_OWN)
			(void)forwarder_find(dns->forwarder, &server, &upstream[i]);
	}
	return count;
}

static void came_back(void *arg, uint8_t *answer, size_t len)
{
	struct forwarded *fw = arg;

	if (answer) {
		dns_message_clamp_opt(answer, len);
		if (len > fw->limit)
			dns_message_set_flags(answer, dns_message_flags(answer) | DNS_FLAG_TC);
		/* One that came by TCP; what a resolver sends by UDP goes on as it is. */
		if (len > fw->limit && len > DNS_UDP_MAX)
			len = dns_message_cut(answer, len);
	}
	fw->done(fw->arg, answer, len);
	free(fw);
}

static int forward(struct dns *dns, const struct dns_suffix *suffix, const uint8_t *query,
		   size_t len, bool is_tcp, dns_done *done, void *arg)
{
	struct endpoint upstream[DNS_SERVERS_MAX];
	unsigned count = choose_upstreams(dns, suffix, upstream);
	struct forwarded *fw = malloc(sizeof(*fw));
	int err;

	if (!fw)
		return -ENOMEM;
	*fw = (struct forwarded){ dns, done, arg,
				  is_tcp ? DNS_ANSWER_MAX : dns_message_udp_limit(query, len) };
	err = forwarder_ask(dns->forwarder, query, len, is_tcp, upstream, count, came_back, fw);
	if (err)
		free(fw);
	return err;
}

void dns_query(struct dns *dns, const uint8_t *query, size_t len, bool is_tcp, dns_done *done,
	       void *arg)
{
	struct dns_answer a;
	int err;

	dns->stats.queries++;
	if (len > DNS_QUERY_MAX) {
		dns->stats.dropped++;
		done(arg, NULL, 0);
		return;
	}
	dns_answer(dns->table, query, len, wall_s(), &a);
	if (a.verdict == DNS_FORWARD) {
		err = forward(dns, a.suffix, query, len, is_tcp, done, arg);
		if (err == 0) {
			dns->stats.forwarded++;
			return;
		}
		if (err == -EBUSY) {
			dns->stats.dropped++;
			log_limited(&dns->busy_gate, loop_now(dns->loop), LOG_WARN,
				    "dns: %u queries wait for resolvers: further ones are dropped",
				    forwarder_in_flight(dns->forwarder));
			done(arg, NULL, 0);
			return;
		}
		dns->stats.failed++;
		dns_answer_failure(query, len, &a);
	} else {
		dns->stats.local += a.verdict == DNS_LOCAL;
		dns->stats.bad += a.verdict == DNS_MALFORMED;
	}
	if (!is_tcp)
		dns_answer_mark_truncated(query, len, a.bytes, a.len);
	done(arg, a.bytes, a.len);
}
