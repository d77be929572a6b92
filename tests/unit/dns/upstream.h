/* A name server on loopback with a thread of its own, and with a habit. */
#ifndef MESHWRAP_TESTS_UNIT_DNS_UPSTREAM_H
#define MESHWRAP_TESTS_UNIT_DNS_UPSTREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/endpoint.h"

#define UPSTREAM_LARGE 65520 /* what "large" answers, by TCP only */

struct upstream {
	int udp, tcp;
	struct endpoint at;
	pthread_t thread;
	const char *habit;   /* what it does with a query */
	const char *address; /* of every A; four bytes */
	_Atomic unsigned asked, asked_tcp;
	_Atomic bool stop, is_dead;
};

/* habit: silent, lossy (the first two questions get lost), choosy (not for .corp), servfail,
 * refused, truncates, forger, or anything else for a good one. */
void upstream_open(struct upstream *u, const char *habit);
void upstream_close(struct upstream *u);
/* What u would answer to a query; its length, or 0 for what is no query. */
size_t upstream_reply(const struct upstream *u, const uint8_t *query, size_t len, unsigned rcode,
		      bool truncated, uint8_t *out);

#endif
