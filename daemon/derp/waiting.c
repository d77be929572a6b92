/*
 * A list, since it is short, used seldom, and empty most of the time. The newest are
 * worth more than the oldest: they are retries.
 */
#include "daemon/derp/waiting.h"

#include <stdlib.h>
#include <string.h>

void waiting_pop(struct waiting *w)
{
	struct waiting_packet *first = w->first;

	w->first = first->next;
	if (!w->first)
		w->last = NULL;
	w->count--;
	w->bytes -= first->len;
	free(first);
}

unsigned waiting_clear(struct waiting *w)
{
	unsigned count = w->count;

	while (w->first)
		waiting_pop(w);
	return count;
}

unsigned waiting_put(struct waiting *w, const struct public_key *to, const uint8_t *bytes,
		     size_t len)
{
	struct waiting_packet *packet = malloc(sizeof(*packet) + len);
	unsigned dropped = 0;

	if (!packet)
		return 1;
	packet->next = NULL;
	packet->to = *to;
	packet->len = len;
	memcpy(packet->bytes, bytes, len);
	if (w->last)
		w->last->next = packet;
	else
		w->first = packet;
	w->last = packet;
	w->count++;
	w->bytes += len;
	for (; w->count > WAITING_PACKETS || w->bytes > WAITING_BYTES; dropped++)
		waiting_pop(w);
	return dropped;
}
