/* Packets that wait for a session: copies, in order, bounded by bytes; the oldest go first. */
#ifndef MESHWRAP_DAEMON_WG_STAGING_H
#define MESHWRAP_DAEMON_WG_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct packet;
struct packet_batch;

/* What all peers together hold. */
struct wg_staging_total {
	size_t bytes;
};

struct wg_staged;

struct wg_staging {
	struct wg_staged *first, **end;
	size_t bytes;
};

void wg_staging_init(struct wg_staging *s);
bool wg_staging_is_empty(const struct wg_staging *s);
/* How many packets were lost by it: older ones, or the new one for want of memory. */
unsigned wg_staging_add(struct wg_staging *s, struct wg_staging_total *total,
			const struct packet *packet);
/* Moves the oldest ones into a reset batch, as many as fit. False: there are none. */
bool wg_staging_take(struct wg_staging *s, struct wg_staging_total *total,
		     struct packet_batch *batch);
/* How many packets there were. */
unsigned wg_staging_drop_all(struct wg_staging *s, struct wg_staging_total *total);

#endif
