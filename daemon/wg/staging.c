/*
 * Staging happens only without a session, which is rare and slow anyway: here
 * packets are copied and allocated one by one. The bound counts what the
 * allocator sees, so that a flood of tiny packets is bounded too.
 */
#include "daemon/wg/staging.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/wg/message.h"

struct wg_staged {
	struct wg_staged *next;
	uint32_t len;
	uint8_t data[];
};

static size_t cost(uint32_t len)
{
	return sizeof(struct wg_staged) + len + 16;
}

void wg_staging_init(struct wg_staging *s)
{
	s->first = NULL;
	s->end = &s->first;
	s->bytes = 0;
}

bool wg_staging_is_empty(const struct wg_staging *s)
{
	return !s->first;
}

static void drop_first(struct wg_staging *s, struct wg_staging_total *total)
{
	struct wg_staged *p = s->first;

	s->first = p->next;
	if (!s->first)
		s->end = &s->first;
	s->bytes -= cost(p->len);
	total->bytes -= cost(p->len);
	free(p);
}

unsigned wg_staging_add(struct wg_staging *s, struct wg_staging_total *total,
			const struct packet *packet)
{
	size_t need = cost(packet->len);
	struct wg_staged *p;
	unsigned lost = 0;

	static_assert(WG_STAGED_BYTES > 2 * PACKET_MAX, "one packet always fits");
	while (s->first &&
	       (s->bytes + need > WG_STAGED_BYTES || total->bytes + need > WG_STAGED_BYTES_TOTAL)) {
		drop_first(s, total);
		lost++;
	}
	if (total->bytes + need > WG_STAGED_BYTES_TOTAL)
		return lost + 1;
	p = malloc(sizeof(*p) + packet->len);
	if (!p)
		return lost + 1;
	p->next = NULL;
	p->len = packet->len;
	if (packet->len)
		memcpy(p->data, packet->data, packet->len);
	*s->end = p;
	s->end = &p->next;
	s->bytes += need;
	total->bytes += need;
	return lost;
}

bool wg_staging_take(struct wg_staging *s, struct wg_staging_total *total,
		     struct packet_batch *batch)
{
	while (s->first) {
		struct wg_staged *p = s->first;
		uint8_t *room = batch_reserve(batch, p->len);

		if (!room)
			break;
		memcpy(room, p->data, p->len);
		batch_commit(batch, p->len);
		drop_first(s, total);
	}
	return batch->count > 0;
}

unsigned wg_staging_drop_all(struct wg_staging *s, struct wg_staging_total *total)
{
	unsigned lost = 0;

	for (; s->first; lost++)
		drop_first(s, total);
	return lost;
}
