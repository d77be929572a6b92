/*
 * Look-ups by name. Candidates are tried one after another: a name without a
 * dot in each search domain, then as it is. A name of the table gives all its
 * addresses (a query gives one); any other is asked for both families at
 * once, as a client with long answers would.
 *
 * A candidate that does not exist, or has no address that is wanted, leads to
 * the next; resolvers that do not answer end it, since the next candidate would be
 * another name than the one that was meant.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "daemon/dns/dns_private.h"
#include "daemon/dns/forwarder.h"
#include "daemon/dns/message.h"
#include "daemon/dns/table.h"
#include "daemon/loop.h"
#include "shared/util.h"

struct lookup;

struct part {
	struct lookup *lookup;
	uint16_t type;
};

struct lookup {
	struct dns *dns;
	dns_found *found;
	void *arg;
	unsigned want, next; /* candidate */
	bool is_short;
	bool is_asking;
	char name[DNS_NAME_MAX + 1], current[DNS_NAME_MAX + 1];
	struct part part[2];
	unsigned pending;
	bool is_known, has_failed; /* the current candidate */
	bool may_be_mesh;          /* who answers for it may name mesh addresses */
	bool was_known;            /* some candidate exists, but without addresses */
	struct ip_addr v4[DNS_LOOKUP_MAX], v6[DNS_LOOKUP_MAX];
	unsigned v4_count, v6_count;
};

static void try_next(struct lookup *l);

static void finish(struct lookup *l, int error)
{
	struct ip_addr ips[DNS_LOOKUP_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < l->v4_count && count < DNS_LOOKUP_MAX; i++)
		ips[count++] = l->v4[i];
	for (unsigned i = 0; i < l->v6_count && count < DNS_LOOKUP_MAX; i++)
		ips[count++] = l->v6[i];
	/* Room for at least one of each family. */
	if (l->v4_count && l->v6_count && count == DNS_LOOKUP_MAX && ip_is_v4(&ips[count - 1]))
		ips[count - 1] = l->v6[0];
	l->found(l->arg, count ? 0 : error, ips, count);
	free(l);
}

static void candidate_done(struct lookup *l)
{
	l->was_known |= l->is_known;
	if (l->v4_count || l->v6_count)
		finish(l, 0);
	else if (l->has_failed)
		finish(l, EAGAIN);
	else
		try_next(l);
}

/* Addresses that outsiders have no say in. */
static bool is_mesh(const struct dns *dns, const struct ip_addr *ip)
{
	static const uint8_t usual_v6[] = { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0 };

	if (ip_is_v4(ip) ? (ip_v4(ip) & 0xffc00000u) == 0x64400000u
			 : memcmp(ip->byte, usual_v6, sizeof(usual_v6)) == 0)
		return true;
	return forwarder_place(dns->forwarder, ip) != DNS_OUTSIDE ||
	       dns_table_find_ip(dns->table, ip);
}

/* This host, in all its forms. Nobody but it can say what is there. */
static bool is_this_host(const struct ip_addr *ip)
{
	if (ip_is_v4(ip))
		return ip_v4(ip) >> 24 == 127 || ip_v4(ip) >> 24 == 0;
	return ip_is_loopback(ip) || ip_is_any(ip);
}

/* Leaves out what an upstream must not lead to; how many are left. */
static unsigned leave_out_inside(struct lookup *l, struct ip_addr *ips, unsigned count)
{
	unsigned kept = 0;

	if (l->want & DNS_WANT_INSIDE)
		return count;
	for (unsigned i = 0; i < count; i++)
		if (!is_this_host(&ips[i]) && (l->may_be_mesh || !is_mesh(l->dns, &ips[i])))
			ips[kept++] = ips[i];
	if (kept < count)
		log_limited(&l->dns->rebind_gate, loop_now(l->dns->loop), LOG_WARN,
			    "dns: %.200s: a resolver outside the mesh gave it an address of the "
			    "mesh or of this host, which is left out",
			    l->current);
	return kept;
}

/* Routes are the mesh's own word, and so is a resolver inside it, on this node, too. */
static bool may_be_mesh(const struct lookup *l)
{
	const struct dns_suffix *suffix = dns_table_suffix(l->dns->table, l->current);
	bool all = suffix && suffix->resolver_count;

	for (unsigned i = 0; all && i < suffix->resolver_count; i++)
		all = forwarder_place(l->dns->forwarder, &suffix->resolvers[i].addr) != DNS_OUTSIDE;
	return suffix && (suffix->name[0] || all);
}

static void part_done(void *arg, const uint8_t *answer, size_t len)
{
	struct part *part = arg;
	struct lookup *l = part->lookup;
	bool v4 = part->type == DNS_TYPE_A;
	struct ip_addr *ips = v4 ? l->v4 : l->v6;
	unsigned n, rcode = DNS_SERVFAIL;

	if (answer && len >= DNS_HEADER_LEN)
		rcode = dns_message_flags(answer) & DNS_FLAG_RCODE;
	if (rcode == DNS_NOERROR) {
		l->is_known = true;
		n = dns_message_addresses(answer, len, l->current, part->type, ips, DNS_LOOKUP_MAX);
		*(v4 ? &l->v4_count : &l->v6_count) = leave_out_inside(l, ips, n);
	} else if (rcode != DNS_NXDOMAIN) {
		l->has_failed = true;
	}
	if (--l->pending == 0 && !l->is_asking)
		candidate_done(l);
}

static void ask(struct lookup *l, struct part *part, uint16_t type)
{
	uint8_t bytes[DNS_UDP_PLAIN];
	struct dns_writer w = { bytes, 0, sizeof(bytes), false };
	uint16_t id;

	part->lookup = l;
	part->type = type;
	if (getrandom(&id, sizeof(id), 0) != sizeof(id))
		w.failed = true;
	else
		dns_put_header(&w, id, DNS_FLAG_RD, 1, 0, 0);
	dns_put_question(&w, l->current, type, DNS_CLASS_IN);
	if (w.failed)
		l->has_failed = true;
	else {
		l->pending++;
		dns_query(l->dns, bytes, w.len, true, part_done, part);
	}
}

static bool take_host(struct lookup *l, const struct dns_host *host)
{
	for (unsigned i = 0; i < host->answered; i++) {
		bool v4 = ip_is_v4(&host->ips[i]);

		if (v4 && (l->want & DNS_WANT_V4) && l->v4_count < DNS_LOOKUP_MAX)
			l->v4[l->v4_count++] = host->ips[i];
		if (!v4 && (l->want & DNS_WANT_V6) && l->v6_count < DNS_LOOKUP_MAX)
			l->v6[l->v6_count++] = host->ips[i];
	}
	return l->v4_count || l->v6_count;
}

/* False: there is no further one. */
static bool choose_candidate(struct lookup *l)
{
	const struct dns_table *t = l->dns->table;
	unsigned n = l->next++, searched = l->is_short ? dns_table_search_count(t) : 0;

	if (n > searched)
		return false;
	l->is_known = false;
	memcpy(l->current, l->name, strlen(l->name) + 1);
	if (n < searched) {
		size_t len = strlen(l->name), more = strlen(dns_table_search(t, n));

		if (len + 1 + more > DNS_NAME_MAX)
			return choose_candidate(l);
		l->current[len] = '.';
		memcpy(l->current + len + 1, dns_table_search(t, n), more + 1);
	}
	return true;
}

static void try_next(struct lookup *l)
{
	for (;;) {
		const struct dns_host *host;

		if (!choose_candidate(l)) {
			finish(l, l->was_known ? ENODATA : ENOENT);
			return;
		}
		host = dns_table_find(l->dns->table, l->current);
		if (host && take_host(l, host)) {
			finish(l, 0);
			return;
		}
		l->was_known |= host != NULL;
		if (host)
			continue;
		l->may_be_mesh = may_be_mesh(l);
		l->is_asking = true;
		if (l->want & DNS_WANT_V4)
			ask(l, &l->part[0], DNS_TYPE_A);
		if (l->want & DNS_WANT_V6)
			ask(l, &l->part[1], DNS_TYPE_AAAA);
		l->is_asking = false;
		if (l->pending)
			return;
		l->was_known |= l->is_known;
		if (l->v4_count || l->v6_count || l->has_failed) {
			finish(l, EAGAIN);
			return;
		}
	}
}

void dns_lookup(struct dns *dns, const char *name, unsigned want, bool is_absolute,
		dns_found *found, void *arg)
{
	struct lookup *l = calloc(1, sizeof(*l));

	if (!l) {
		found(arg, EAGAIN, NULL, 0);
		return;
	}
	*l = (struct lookup){ .dns = dns, .found = found, .arg = arg, .want = want };
	if (!dns_name_normalise(name, l->name) || l->name[0] == '\0') {
		finish(l, ENOENT);
		return;
	}
	l->is_short = !is_absolute && !strchr(l->name, '.') && name[strlen(name) - 1] != '.';
	try_next(l);
}
