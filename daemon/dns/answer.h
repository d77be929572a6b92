/* What a query is answered with out of the table, or whom else to ask. Pure. */
#ifndef MESHWRAP_DAEMON_DNS_ANSWER_H
#define MESHWRAP_DAEMON_DNS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/dns/table.h"

#define DNS_LOCAL_MAX 1280 /* no local answer is longer */

enum dns_verdict {
	DNS_LOCAL,     /* bytes holds the answer */
	DNS_MALFORMED, /* the same: FORMERR */
	DNS_FORWARD    /* ask the resolvers of suffix; NULL: the system's */
};

struct dns_answer {
	enum dns_verdict verdict;
	const struct dns_suffix *suffix;
	size_t len;
	uint8_t bytes[DNS_LOCAL_MAX];
};

/* table: NULL knows nothing. wall_s: seconds since 1970, for SOA serials. */
void dns_answer(const struct dns_table *table, const uint8_t *query, size_t len, uint32_t wall_s,
		struct dns_answer *out);
/* SERVFAIL for a query that nobody can be asked. */
void dns_answer_failure(const uint8_t *query, size_t len, struct dns_answer *out);
/* For an answer that goes out by UDP: TC is set if it is longer than the query allows. */
void dns_answer_mark_truncated(const uint8_t *query, size_t query_len, uint8_t *answer, size_t len);

#endif
