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
#include "daemon/dns/message.h"
#include "daemon/dns/table.h"
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

static void part_done(void *arg, const uint8_t *answer, size_t len)
{
	struct part *part = arg;
	struct lookup *l = part->lookup;
	bool v4 = part->type == DNS_TYPE_A;
	unsigned rcode = answer && len >= DNS_HEADER_LEN
				 ? dns_message_flags(answer) & DNS_FLAG_RCODE
				 : DNS_SERVFAIL;

	if (rcode == DNS_NOERROR) {
		l->is_known = true;
		*(v4 ? &l->v4_count : &l->v6_count) = dns_message_addresses(
			answer, len, l->current, part->type, v4 ? l->v4 : l->v6, DNS_LOOKUP_MAX);
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
