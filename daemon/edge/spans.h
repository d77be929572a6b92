/* Spans of addresses, and lists of them. */
#ifndef MESHWRAP_DAEMON_EDGE_SPANS_H
#define MESHWRAP_DAEMON_EDGE_SPANS_H

#include <stddef.h>

#include "shared/endpoint.h"

struct span {
	struct ip_addr first, last;
};

/* Zero-initialised; the owner frees at. */
struct spans {
	struct span *at;
	size_t count, room;
};

/* Behind the last address of all is the first. */
struct ip_addr span_next_address(struct ip_addr ip);
struct ip_addr span_previous_address(struct ip_addr ip);
/* All addresses of a prefix; IPv4 in its mapped form, but len counts its own bits. */
struct span span_of(const struct ip_addr *addr, unsigned len);
/* For qsort(): by the first address, the wider one first. */
int span_compare(const void *a, const void *b);

/* 0 or -ENOMEM. */
int spans_add(struct spans *spans, struct span s);
/* Sorted and disjoint; neighbours become one. */
void spans_normalise(struct spans *spans);
/* For single addresses: sorted, and each once. */
void spans_drop_doubles(struct spans *single);

#endif
