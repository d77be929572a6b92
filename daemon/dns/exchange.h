/*
 * Judging what came for a query, and what the client is told when several
 * resolvers said different things. Pure.
 */
#ifndef MESHWRAP_DAEMON_DNS_EXCHANGE_H
#define MESHWRAP_DAEMON_DNS_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum exchange_verdict {
	EXCHANGE_FOREIGN, /* not an answer to this query: keep waiting */
	EXCHANGE_GOOD,
	EXCHANGE_TRUNCATED, /* good, but cut off */
	EXCHANGE_SERVFAIL,
	EXCHANGE_REFUSED
};

enum exchange_verdict exchange_judge(const uint8_t *query, size_t query_len, const uint8_t *answer,
				     size_t len);

#endif
