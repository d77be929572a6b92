/* How busy handshakes keep us: counts messages in a sliding second. */
#ifndef MESHWRAP_DAEMON_WG_LOAD_H
#define MESHWRAP_DAEMON_WG_LOAD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Handshake messages a second from which cookies are asked for. One costs some
 * 0.2 ms, so this bounds what a flood without cookies takes to a tenth of a core.
 */
#define WG_LOAD_THRESHOLD 512

struct wg_load {
	uint32_t threshold;
	uint32_t current, before; /* messages in this half second and the last */
	uint64_t half;            /* which half second this is */
	uint64_t until_ns;        /* under load until then */
};

void wg_load_init(struct wg_load *l, uint32_t threshold);
/* Counts one message; true: under load, now or within the last second. */
bool wg_load_message(struct wg_load *l, uint64_t now_ns);

#endif
