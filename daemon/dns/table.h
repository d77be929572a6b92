/*
 * The names of a mesh, in the form in which they are looked up. Pure.
 *
 * All names are lower case without trailing dot; a suffix contains itself and
 * what is below it, label by label; "" is everything. A table is built once
 * and then only read.
 *
 * The rule of families: a node's name stands for its IPv4 addresses alone if
 * it has any, unless we ourselves have only IPv6 (then for its IPv6 ones
 * alone) or have the capability "magicdns-aaaa". What is left out is still
 * answered in reverse. Extra records are not touched by it.
 */
#ifndef MESHWRAP_DAEMON_DNS_TABLE_H
#define MESHWRAP_DAEMON_DNS_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/netmap/types.h"
#include "shared/endpoint.h"

#define DNS_NAME_MAX      254 /* of text without trailing dot, without terminator */
#define DNS_LABEL_MAX     63
#define DNS_HOSTS_MAX     65536
#define DNS_HOST_IPS_MAX  64
#define DNS_SUFFIXES_MAX  16384
#define DNS_RESOLVERS_MAX 8  /* of one route; more are ignored */
#define DNS_SEARCH_MAX    32 /* domains */

struct dns_table;
struct dns_source;

struct dns_host {
	const char *name;
	const struct ip_addr *ips; /* first the answered ones, then those for reverse alone */
	uint16_t answered, count;
	bool is_node, is_self;
	bool has_subdomains; /* every name below it is the same host */
};

struct dns_suffix {
	const char *name;
	unsigned order; /* of being added */
	bool is_zone;   /* nobody else knows names below: never forwarded */
	uint8_t resolver_count;
	const struct endpoint *resolvers;
};

/* ---- building ---- */

struct dns_table *dns_table_create(void);
void dns_table_destroy(struct dns_table *table);
/* 0, -EINVAL for a bad name (nothing added), -E2BIG, -ENOMEM. Adds up for a name given twice. */
int dns_table_add_host(struct dns_table *table, const struct dns_host *host);
/* With resolvers: names below are theirs. Without: a zone. The later of two wins. */
int dns_table_add_suffix(struct dns_table *table, const char *suffix,
			 const struct dns_resolver *resolvers, unsigned count);
int dns_table_add_search(struct dns_table *table, const char *domain);
/* Ends building: sorts. -ENOMEM. */
int dns_table_finish(struct dns_table *table);
/* All of it from the mesh. NULL without memory; names that are not fit are left out and counted. */
struct dns_table *dns_table_build(const struct dns_source *source, unsigned *unfit);

/* ---- reading ---- */

/* By name; also by the nearest parent that has_subdomains. */
const struct dns_host *dns_table_find(const struct dns_table *table, const char *name);
/* As dns_table_find(); a single label is also looked for in each search domain. */
const struct dns_host *dns_table_find_short(const struct dns_table *table, const char *name);
const struct dns_host *dns_table_find_ip(const struct dns_table *table, const struct ip_addr *ip);
/* The longest suffix that contains the name, or NULL. */
const struct dns_suffix *dns_table_suffix(const struct dns_table *table, const char *name);

unsigned dns_table_host_count(const struct dns_table *table);
const struct dns_host *dns_table_host(const struct dns_table *table, unsigned i); /* by name */
unsigned dns_table_suffix_count(const struct dns_table *table);
const struct dns_suffix *dns_table_suffix_at(const struct dns_table *table, unsigned i);
unsigned dns_table_search_count(const struct dns_table *table);
const char *dns_table_search(const struct dns_table *table, unsigned i);

/* Lower case, no trailing dot; labels of 1 to 63 bytes, no blanks or controls. False: not fit. */
bool dns_name_normalise(const char *text, char out[static DNS_NAME_MAX + 1]);
/* Is name the suffix itself or below it? */
bool dns_name_is_below(const char *name, const char *suffix);

#endif
