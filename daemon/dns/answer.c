/*
 * MagicDNS answers, decided in this order: malformed, reverse, .onion, the
 * resolver's own name, 4via6 names, names of the table, names of a zone (which
 * nobody else may be asked for), and the rest is forwarded.
 *
 * One address is given for each question, the first of its family. A single
 * label that is no name is looked up in the search domains, so that programs
 * which ask for a short name without knowing our search list find it.
 *
 * Other than the resolver this one is modelled on, a PTR question for what is
 * no reverse name is not forwarded when the name lies in a zone: names of the
 * mesh do not leave it, whatever the question.
 */
#include "daemon/dns/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/dns/dns.h"
#include "daemon/dns/message.h"
#include "shared/util.h"
#include "shared/wire.h"

#define HOST_TTL      5
#define SOA_TIMES     10
#define RESOLVER_NAME "magicdns.localhost-tailscale-daemon"

static const uint8_t via_prefix[8] = { 0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, 0x0b, 0x1a };

struct reply {
	const struct dns_table *table;
	const struct dns_question *q;
	uint16_t id, flags; /* of the query */
	uint32_t wall_s;
	struct dns_answer *out;
};

static uint16_t local_flags(uint16_t flags, enum dns_rcode rcode)
{
	uint16_t kept = flags &
			(DNS_FLAG_OPCODE | DNS_FLAG_TC | DNS_FLAG_RD | DNS_FLAG_AD | DNS_FLAG_CD);

	return (uint16_t)(kept | DNS_FLAG_QR | DNS_FLAG_AA |
			  (flags & DNS_FLAG_RD ? DNS_FLAG_RA : 0) | (uint16_t)rcode);
}

static struct dns_writer begin(const struct reply *r, uint16_t flags, unsigned answers,
			       unsigned authorities)
{
	struct dns_writer w = { r->out->bytes, 0, sizeof(r->out->bytes), false };

	dns_put_header(&w, r->id, flags, 1, answers, authorities);
	dns_put_question(&w, r->q->name, r->q->type, r->q->class);
	return w;
}

static void end(struct reply *r, const struct dns_writer *w)
{
	r->out->verdict = DNS_LOCAL;
	r->out->len = w->len;
}

static void say(struct reply *r, enum dns_rcode rcode)
{
	struct dns_writer w = begin(r, local_flags(r->flags, rcode), 0, 0);

	end(r, &w);
}

/* The innermost zone around the name; NULL: there is none. */
static const struct dns_suffix *zone_of(const struct dns_table *table, const char *name)
{
	const struct dns_suffix *s = table ? dns_table_suffix(table, name) : NULL;

	return s && s->is_zone ? s : NULL;
}

/* Nothing, and how long that may be remembered. */
static void say_nothing(struct reply *r, enum dns_rcode rcode)
{
	const struct dns_suffix *zone = zone_of(r->table, r->q->lower);
	struct dns_writer w;
	size_t len_at;

	if (!zone) {
		say(r, rcode);
		return;
	}
	w = begin(r, local_flags(r->flags, rcode), 0, 1);
	dns_put_question(&w, zone->name, DNS_TYPE_SOA, DNS_CLASS_IN); /* the same three fields */
	dns_put_u32(&w, SOA_TIMES);
	len_at = w.len;
	dns_put_u16(&w, 0);
	dns_put_name(&w, zone->name);
	dns_put_name(&w, zone->name);
	dns_put_u32(&w, r->wall_s);
	for (int i = 0; i < 4; i++)
		dns_put_u32(&w, SOA_TIMES);
	store_be16(r->out->bytes + len_at, (uint16_t)(w.len - len_at - 2));
	end(r, &w);
}

static void say_address(struct reply *r, const struct ip_addr *ip)
{
	struct dns_writer w = begin(r, local_flags(r->flags, DNS_NOERROR), 1, 0);
	bool v4 = ip_is_v4(ip);

	dns_put_question(&w, r->q->name, v4 ? DNS_TYPE_A : DNS_TYPE_AAAA, DNS_CLASS_IN);
	dns_put_u32(&w, HOST_TTL);
	dns_put_u16(&w, v4 ? 4 : 16);
	dns_put_bytes(&w, ip->byte + (v4 ? 12 : 0), v4 ? 4 : 16);
	end(r, &w);
}

static void say_name(struct reply *r, const char *name)
{
	struct dns_writer w = begin(r, local_flags(r->flags, DNS_NOERROR), 1, 0);
	size_t len_at;

	dns_put_question(&w, r->q->name, DNS_TYPE_PTR, DNS_CLASS_IN);
	dns_put_u32(&w, HOST_TTL);
	len_at = w.len;
	dns_put_u16(&w, 0);
	dns_put_name(&w, name);
	store_be16(r->out->bytes + len_at, (uint16_t)(w.len - len_at - 2));
	end(r, &w);
}

static void say_malformed(const uint8_t *query, size_t len, struct dns_answer *out)
{
	struct dns_writer w = { out->bytes, 0, sizeof(out->bytes), false };
	bool has_header = len >= DNS_HEADER_LEN;

	dns_put_header(&w, has_header ? dns_message_id(query) : 0,
		       local_flags(has_header ? dns_message_flags(query) : 0, DNS_FORMERR), 0, 0,
		       0);
	out->verdict = DNS_MALFORMED;
	out->len = w.len;
}

static void forward(struct reply *r)
{
	r->out->verdict = DNS_FORWARD;
	r->out->suffix = r->table ? dns_table_suffix(r->table, r->q->lower) : NULL;
}

/* One of these addresses, or what is said of a name that has none such. */
static void answer_host(struct reply *r, const struct ip_addr *ips, unsigned count)
{
	switch (r->q->type) {
	case DNS_TYPE_A:
	case DNS_TYPE_AAAA:
	case DNS_TYPE_ANY:
		for (unsigned i = 0; i < count; i++) {
			bool v4 = ip_is_v4(&ips[i]);

			if (r->q->type == DNS_TYPE_ANY || v4 == (r->q->type == DNS_TYPE_A)) {
				say_address(r, &ips[i]);
				return;
			}
		}
		say_nothing(r, DNS_NOERROR);
		break;
	case DNS_TYPE_NS:
	case DNS_TYPE_SOA:
	case DNS_TYPE_AXFR:
	case DNS_TYPE_HINFO:
		say(r, DNS_NOTIMP);
		break;
	default:
		say(r, DNS_NOERROR);
	}
}

/* ---- reverse ---- */

static bool ends_in(const char *name, const char *suffix, size_t *stem_len)
{
	size_t len = strlen(name), suffix_len = strlen(suffix);

	if (len < suffix_len || strcmp(name + len - suffix_len, suffix) != 0)
		return false;
	*stem_len = len - suffix_len;
	return true;
}

static bool parse_reverse_v4(const char *stem, size_t len, struct ip_addr *ip)
{
	uint32_t v4 = 0;
	size_t at = 0;

	for (int i = 0; i < 4; i++) {
		unsigned byte = 0, digits = 0;

		for (; at < len && stem[at] >= '0' && stem[at] <= '9' && digits < 3; at++, digits++)
			byte = byte * 10 + (unsigned)(stem[at] - '0');
		if (digits == 0 || byte > 255 || (at < len && stem[at++] != '.'))
			return false;
		v4 |= byte << (8 * i);
	}
	*ip = ip_from_v4(v4);
	return at == len;
}

static int nibble_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_reverse_v6(const char *stem, size_t len, struct ip_addr *ip)
{
	if (len != 63)
		return false;
	memset(ip, 0, sizeof(*ip));
	for (unsigned i = 0; i < 32; i++) {
		int n = nibble_of(stem[2 * i]);

		if (n < 0 || (i < 31 && stem[2 * i + 1] != '.'))
			return false;
		ip->byte[15 - i / 2] |= (uint8_t)(n << (i % 2 ? 4 : 0));
	}
	return true;
}

static bool parse_reverse(const char *name, struct ip_addr *ip)
{
	size_t len;

	if (ends_in(name, ".in-addr.arpa", &len))
		return parse_reverse_v4(name, len, ip);
	return ends_in(name, ".ip6.arpa", &len) && parse_reverse_v6(name, len, ip);
}

static bool is_resolver(const struct ip_addr *ip)
{
	struct ip_addr own;

	return (ip_parse(DNS_RESOLVER_V4, &own) == 0 && ip_equal(&own, ip)) ||
	       (ip_parse(DNS_RESOLVER_V6, &own) == 0 && ip_equal(&own, ip));
}

/* Browsing for services: upstreams are never asked. */
static bool is_bonjour(const char *name)
{
	static const char *const first[] = { "b", "db", "r", "dr", "lb" };
	const char *dot = strchr(name, '.');

	if (!dot || strncmp(dot, "._dns-sd._udp.", 14) != 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(first); i++)
		if (strlen(first[i]) == (size_t)(dot - name) &&
		    memcmp(name, first[i], (size_t)(dot - name)) == 0)
			return true;
	return false;
}

static void say_no_service(struct reply *r)
{
	uint16_t flags = local_flags(r->flags, DNS_NXDOMAIN) & (uint16_t)~DNS_FLAG_AA;
	struct dns_writer w = begin(r, flags, 0, 0);

	end(r, &w);
}

/* A name that is not in the table. */
static void answer_unknown(struct reply *r)
{
	if (zone_of(r->table, r->q->lower))
		say_nothing(r, DNS_NXDOMAIN);
	else
		forward(r);
}

static void answer_reverse(struct reply *r)
{
	const struct dns_host *host = NULL;
	struct ip_addr ip;

	if (is_bonjour(r->q->lower)) {
		say_no_service(r);
	} else if (!parse_reverse(r->q->lower, &ip)) {
		if (r->table && zone_of(r->table, r->q->lower) &&
		    dns_table_find(r->table, r->q->lower))
			say(r, DNS_NOERROR);
		else
			answer_unknown(r);
	} else if (is_resolver(&ip)) {
		say_name(r, RESOLVER_NAME);
	} else {
		/* A mapped address is looked up as the IPv4 one behind it. */
		if (memcmp(ip.byte, via_prefix, sizeof(via_prefix)) == 0 && r->table) {
			struct ip_addr v4 = ip_from_v4(load_be32(ip.byte + 12));

			host = dns_table_find_ip(r->table, &v4);
		}
		if (!host && r->table)
			host = dns_table_find_ip(r->table, &ip);
		if (host)
			say_name(r, host->name);
		else
			answer_unknown(r);
	}
}

/* ---- 4via6 ---- */

static bool parse_number(const char *text, uint32_t *n)
{
	unsigned base = strncmp(text, "0x", 2) == 0 ? 16 : 10;
	uint64_t value = 0;

	text += base == 16 ? 2 : 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		int digit = nibble_of(*text);

		if (digit < 0 || (unsigned)digit >= base)
			return false;
		value = value * base + (unsigned)digit;
		if (value > UINT32_MAX)
			return false;
	}
	*n = (uint32_t)value;
	return true;
}

/* a-b-c-d-via-N, alone or below ts.net or tailscale.net. */
static bool parse_via(const char *name, struct ip_addr *ip)
{
	char label[DNS_LABEL_MAX + 1], *via;
	size_t len = strcspn(name, ".");
	const char *domain = name[len] ? name + len + 1 : "";
	struct ip_addr v4;
	uint32_t site;

	if (len > DNS_LABEL_MAX || (*domain && !dns_name_is_below(domain, "ts.net") &&
				    !dns_name_is_below(domain, "tailscale.net")))
		return false;
	memcpy(label, name, len);
	label[len] = '\0';
	via = strstr(label, "-via-");
	if (!via || !parse_number(via + 5, &site))
		return false;
	*via = '\0';
	for (char *c = label; *c; c++) {
		if (*c == '.' || *c == ':')
			return false;
		if (*c == '-')
			*c = '.';
	}
	if (ip_parse(label, &v4) < 0 || !ip_is_v4(&v4))
		return false;
	memcpy(ip->byte, via_prefix, sizeof(via_prefix));
	store_be32(ip->byte + 8, site);
	store_be32(ip->byte + 12, ip_v4(&v4));
	return true;
}

static bool asks_for_address(const struct dns_question *q)
{
	return q->type == DNS_TYPE_A || q->type == DNS_TYPE_AAAA || q->type == DNS_TYPE_ANY;
}

/* ---- all of it ---- */

static void answer_forward(struct reply *r)
{
	const struct dns_host *host;
	struct ip_addr own[2];

	if (dns_name_is_below(r->q->lower, "onion")) {
		say(r, DNS_NXDOMAIN);
		return;
	}
	if (strcmp(r->q->lower, RESOLVER_NAME) == 0 && ip_parse(DNS_RESOLVER_V4, &own[0]) == 0 &&
	    ip_parse(DNS_RESOLVER_V6, &own[1]) == 0) {
		answer_host(r, own, 2);
		return;
	}
	if (asks_for_address(r->q) && parse_via(r->q->lower, &own[0])) {
		answer_host(r, own, 1);
		return;
	}
	host = r->table ? dns_table_find_short(r->table, r->q->lower) : NULL;
	if (host)
		answer_host(r, host->ips, host->answered);
	else
		answer_unknown(r);
}

void dns_answer(const struct dns_table *table, const uint8_t *query, size_t len, uint32_t wall_s,
		struct dns_answer *out)
{
	struct dns_question q;
	struct reply r = { .table = table, .q = &q, .wall_s = wall_s, .out = out };

	out->suffix = NULL;
	out->len = 0;
	if (len < DNS_HEADER_LEN || (dns_message_flags(query) & DNS_FLAG_QR) ||
	    !dns_message_question(query, len, &q)) {
		say_malformed(query, len, out);
		return;
	}
	r.id = dns_message_id(query);
	r.flags = dns_message_flags(query);
	if (q.type == DNS_TYPE_PTR)
		answer_reverse(&r);
	else
		answer_forward(&r);
}

void dns_answer_failure(const uint8_t *query, size_t len, struct dns_answer *out)
{
	struct dns_question q;
	struct reply r = { .q = &q, .out = out };
	struct dns_writer w;

	if (len < DNS_HEADER_LEN || !dns_message_question(query, len, &q)) {
		say_malformed(query, len, out);
		return;
	}
	r.id = dns_message_id(query);
	w = begin(&r, local_flags(dns_message_flags(query), DNS_SERVFAIL) & (uint16_t)~DNS_FLAG_RA,
		  0, 0);
	end(&r, &w);
}

void dns_answer_mark_truncated(const uint8_t *query, size_t query_len, uint8_t *answer, size_t len)
{
	if (len >= DNS_HEADER_LEN && len > dns_message_udp_limit(query, query_len))
		dns_message_set_flags(answer, dns_message_flags(answer) | DNS_FLAG_TC);
}
