/* Spans of addresses: what a prefix covers, and lists that are made disjoint. */
#include "daemon/edge/spans.h"

#include <errno.h>
#include <stdlib.h>

struct ip_addr span_next_address(struct ip_addr ip)
{
	for (int i = 15; i >= 0 && ++ip.byte[i] == 0; i--)
		;
	return ip;
}

struct ip_addr span_previous_address(struct ip_addr ip)
{
	for (int i = 15; i >= 0 && ip.byte[i]-- == 0; i--)
		;
	return ip;
}

struct span span_of(const struct ip_addr *addr, unsigned len)
{
	unsigned bits = ip_is_v4(addr) ? 96 + len : len;
	struct span s = { *addr, *addr };

	for (unsigned i = 0; i < 16; i++) {
		uint8_t host = bits >= 8 * (i + 1) ? 0 : bits <= 8 * i ? 0xff : 0xff >> (bits % 8);

		s.first.byte[i] &= (uint8_t)~host;
		s.last.byte[i] |= host;
	}
	return s;
}

int spans_add(struct spans *spans, struct span s)
{
	if (spans->count == spans->room) {
		size_t room = spans->room ? 2 * spans->room : 64;
		struct span *grown = realloc(spans->at, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		spans->at = grown;
		spans->room = room;
	}
	spans->at[spans->count++] = s;
	return 0;
}

int span_compare(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	int order = ip_compare(&x->first, &y->first);

	return order ? order : ip_compare(&y->last, &x->last);
}

void spans_normalise(struct spans *spans)
{
	size_t kept = 0;

	if (spans->count == 0)
		return;
	qsort(spans->at, spans->count, sizeof(*spans->at), span_compare);
	for (size_t i = 1; i < spans->count; i++) {
		struct span *last = &spans->at[kept], s = spans->at[i];
		struct ip_addr after = span_next_address(last->last);

		if (ip_compare(&s.first, &after) > 0)
			spans->at[++kept] = s;
		else if (ip_compare(&s.last, &last->last) > 0)
			last->last = s.last;
	}
	spans->count = kept + 1;
}

void spans_drop_doubles(struct spans *single)
{
	size_t kept = 0;

	qsort(single->at, single->count, sizeof(*single->at), span_compare);
	for (size_t i = 0; i < single->count; i++)
		if (kept == 0 || !ip_equal(&single->at[kept - 1].first, &single->at[i].first))
			single->at[kept++] = single->at[i];
	single->count = kept;
}
