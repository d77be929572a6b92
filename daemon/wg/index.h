/* Whose a receiver index is: one table for the handshakes and keypairs of all peers. */
#ifndef MESHWRAP_DAEMON_WG_INDEX_H
#define MESHWRAP_DAEMON_WG_INDEX_H

#include <stdint.h>

struct wg_keypair;
struct wg_peer;

/* At most: one handshake and three keypairs. */
#define WG_INDICES_PER_PEER 4

struct wg_index_entry {
	uint32_t index;             /* never 0 */
	struct wg_peer *peer;       /* NULL: a free slot */
	struct wg_keypair *keypair; /* NULL: a handshake under way */
};

struct wg_index_table {
	struct wg_index_entry *slot;
	uint32_t mask; /* slots - 1 */
	uint32_t count;
};

/* Makes room for so many peers, so that inserting never fails. 0 or -ENOMEM. */
int wg_index_reserve(struct wg_index_table *t, uint32_t peers);
void wg_index_finish(struct wg_index_table *t);
/* A new random index for a handshake of the peer. */
uint32_t wg_index_insert(struct wg_index_table *t, struct wg_peer *peer);
/* The index now is a keypair's. */
void wg_index_set_keypair(struct wg_index_table *t, uint32_t index, struct wg_keypair *keypair);
/* 0 is fine: no index. */
void wg_index_remove(struct wg_index_table *t, uint32_t index);
/* NULL when nobody has it. Valid until the table changes. */
struct wg_index_entry *wg_index_find(const struct wg_index_table *t, uint32_t index);

#endif
